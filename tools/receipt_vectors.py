"""Make tests/vectors/receipts from a real node: receipts that hold, and each spoiled in every part.

Run it with `PYTHONPATH=tests` after a change of the protocol or of the record; keys, ids and times are new
each time. The node's key signs forged logs as well: a dishonest node is one of the cases.
"""

from __future__ import annotations

import base64
import copy
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.json_format import MessageToDict
from pbac.v1 import decision_pb2 as pb
from support.server import Site, make_site, serving, stub

from policyd import merkle
from policyd.canonical import canonical_json
from policyd.identity.keys import load_signing_key
from policyd.ledger.note import Checkpoint, Verifier, sign, sign_checkpoint

TARGET = Path(__file__).parents[1] / "tests" / "vectors" / "receipts"
ABOUT = (
    "A receipt that holds, and the same with parts set to other values. `set` maps JSON pointers into this "
    "document to values; null takes a part out. Messages are in the JSON form of protobuf. `log` is the vkey "
    "that the client has pinned, `spiffe_id` the name in its certificate. docs/client.md says what to check."
)
COMPARED = {
    "decision": (
        "v kind rpc decision_id trace_id request_digest answer_digest spiffe_id agreement purposes "
        "action outcome verdicts obligations identification_risk sensitivity policy_digest policy_version "
        "epoch valid_for_ms"
    ),
    "release": "v kind decision_id report_id spiffe_id rows obligations_met result_digest checkpoints",
}
"""The parts of a record that a client compares with what it knows."""
BITS = {"released", "used"}
"""Sets of fields of the catalogue, which a client does not have."""
FIELDS = ["SC_Pupil.Gender_SPR19", "SC_Pupil.DOB_SPR19", "SC_Pupil.UPN_SPR19", "KS4.KS4_ATT8"]

Case = dict[str, Any]


def main() -> None:
    """Write every file."""
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        site = make_site(Path(folder) / "data")
        key = load_signing_key(site.config.keys / "ledger.key").private
        with serving(site) as server, site.channel(server.address) as channel:
            documents = dict(_documents(site, stub(channel)))
            vkey = server.ledger.vkey
    for name, messages in documents.items():
        document: Any = {"about": ABOUT, "log": vkey, "spiffe_id": site.spiffe_id(), **messages}
        document["cases"] = list(_cases(document, key, site.config.origin))
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (TARGET / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(f"{name}: {len(document['cases'])} cases\n")


def _documents(site: Site, node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    def check(number: str, **changes: Any) -> Any:
        return site.question(number, **{"want_receipt": True, "fields": FIELDS, **changes})

    partial = check("partial")
    yield (
        "check",
        {
            "method": "Check",
            "question": _plain(partial),
            "answer": _plain(node.Check(partial, timeout=10)),
        },
    )
    withheld = check("withheld", agreement_id="DS99999", used_fields=["KS4.KS4_ATT8"], action=pb.ACTION_COUNT)
    yield (
        "withheld",
        {
            "method": "Check",
            "question": _plain(withheld),
            "answer": _plain(node.Check(withheld, timeout=10)),
        },
    )
    explained = check("explained", fields=["SC_Pupil.Gender_SPR19"])
    reply = node.Explain(pb.ExplainRequest(check=explained), timeout=10)
    yield "explain", {"method": "Explain", "question": _plain(explained), "answer": _plain(reply.answer)}
    batch = [check(f"batch-{number}", fields=[field]) for number, field in enumerate(FIELDS)]
    answers = node.BatchCheck(pb.BatchCheckRequest(checks=batch), timeout=10)
    yield (
        "batch",
        {
            "method": "Check",
            "question": _plain(batch[0]),
            "answer": _plain(answers.answers[0]),
            "shared": list(answers.checkpoints),
        },
    )
    listing = pb.ListFieldsRequest(
        request_id="listing",
        requester_token=site.token(),
        agreement_id="DS00101",
        purposes=["academic-research"],
        action=pb.ACTION_RELEASE,
        table="KS4",
    )
    yield (
        "listing",
        {
            "method": "ListFields",
            "question": _plain(listing),
            "answer": _plain(node.ListFields(listing, timeout=10)),
        },
    )
    report = pb.ReportReleaseRequest(
        decision_id=answers.answers[0].decision_id,
        report_id="report-1",
        rows=3,
        obligations_met=["rows", "exclude_sealed"],
        result_digest=bytes(range(32)),
        checkpoints=answers.checkpoints,
    )
    yield (
        "report",
        {
            "method": "ReportRelease",
            "question": _plain(report),
            "answer": _plain(node.ReportRelease(report, timeout=10)),
        },
    )


def _cases(document: dict[str, Any], key: Ed25519PrivateKey, origin: str) -> Iterator[Case]:
    yield {"name": "as it came", "set": {}, "holds": True}
    # A report's answer is its receipt alone; of an unknown answer's part nothing is signed.
    for part in ("question", "answer"):
        for pointer, value in _walk(document[part], f"/{part}"):
            yield {"name": f"{pointer} is another", "set": {pointer: _other(pointer, value)}, "holds": False}
            yield {"name": f"{pointer} is gone", "set": {pointer: None}, "holds": False}
    yield {
        "name": "of another data service",
        "set": {"/spiffe_id": document["spiffe_id"] + "-2"},
        "holds": False,
    }
    other = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    stranger = Verifier(origin, other.public_key()).vkey
    yield {"name": "another key is pinned", "set": {"/log": stranger}, "holds": False}
    renamed = Verifier(f"{origin}-2", key.public_key()).vkey
    yield {"name": "another log is pinned", "set": {"/log": renamed}, "holds": False}
    yield from _checkpoints(document, key, other)
    yield from _leaves(document, key, origin)


def _checkpoints(
    document: dict[str, Any], key: Ed25519PrivateKey, other: Ed25519PrivateKey
) -> Iterator[Case]:
    receipt = document["answer"]["receipt"]
    where = "/answer/receipt/checkpoint" if "checkpoint" in receipt else "/shared/0"
    note = receipt.get("checkpoint") or document["shared"][0]
    text, signature = note.split("\n\n")
    origin, size, root = text.split("\n")
    good = f"{text}\n"
    stranger = sign(good, "witness.test/one", key=other).partition("\n\n")[2]
    altered = base64.b64decode(signature.split(" ")[2])
    wrong = base64.b64encode(altered[:-1] + bytes([altered[-1] ^ 1])).decode()
    spoiled = {
        "signed by a stranger alone": f"{good}\n{stranger}",
        "not signed": f"{good}\n",
        "with one byte of its signature changed": f"{good}\n{signature.rsplit(' ', 1)[0]} {wrong}\n",
        "signed once rightly and once wrongly": f"{note}{signature.rsplit(' ', 1)[0]} {wrong}\n",
        "of another log, signed with the same key": sign(
            f"{origin}-2\n{size}\n{root}\n", f"{origin}-2", key=key
        ),
        "of another log, signed under this one's name": sign(
            f"{origin}-2\n{size}\n{root}\n", origin, key=key
        ),
        "with an extension line": sign(f"{good}extension\n", origin, key=key),
        "with a leading zero": sign(f"{origin}\n0{size}\n{root}\n", origin, key=key),
        "of no records": sign(f"{origin}\n0\n{root}\n", origin, key=key),
        "of far more records": sign(f"{origin}\n{size}000\n{root}\n", origin, key=key),
        "of a short root": sign(f"{origin}\n{size}\n{root[:-8]}\n", origin, key=key),
        "with a carriage return": note.replace("\n", "\r\n"),
        "without its last newline": note[:-1],
        "over 64 KiB": note + stranger * 700,
    }
    yield {
        "name": "checkpoint with a stranger's signature too",
        "set": {where: note + stranger},
        "holds": True,
    }
    for what, changed in spoiled.items():
        yield {"name": f"checkpoint {what}", "set": {where: changed}, "holds": False}


def _leaves(document: dict[str, Any], key: Ed25519PrivateKey, origin: str) -> Iterator[Case]:
    """Yield records that say another thing than the answer, each rightly proved in a log of one record."""
    leaf = json.loads(base64.b64decode(document["answer"]["receipt"]["leaf"]))

    def alone(raw: bytes, name: str, *, holds: bool) -> Case:
        root = merkle.leaf_hash(raw)
        receipt = {
            "origin": origin,
            "leaf": base64.b64encode(raw).decode(),
            "checkpoint": sign_checkpoint(Checkpoint(origin, 1, root), key),
        }
        return {"name": name, "set": {"/answer/receipt": receipt}, "holds": holds}

    yield alone(canonical_json(leaf), "the same record alone in its log", holds=True)
    for name in COMPARED[leaf["kind"]].split():
        for pointer, value in _walk({name: leaf[name]}, ""):
            changed = copy.deepcopy(leaf)
            put(changed, pointer, _other(pointer, value) if value != "" else "x")
            if changed != leaf and not BITS.intersection(pointer.split("/")):
                yield alone(canonical_json(changed), f"its record has another {pointer}", holds=False)
        gone = {part: value for part, value in leaf.items() if part != name}
        yield alone(canonical_json(gone), f"its record has no {name}", holds=False)
    if leaf["kind"] == "decision":
        groups, names = len(leaf["verdicts"]), sum(group["names"] for group in leaf["verdicts"])
        for counts in ({"groups": groups, "names": names}, {"groups": groups, "names": names + 1}, {}):
            name = f"its record counts its verdicts: {counts}"
            raw = canonical_json({**leaf, "verdicts": counts})
            yield alone(raw, name, holds=counts.get("names") == names)
    yield alone(b'{"v":1,' + canonical_json(leaf)[1:], "its record has a name twice", holds=False)
    yield alone(canonical_json(leaf)[:-1], "its record is cut short", holds=False)
    yield alone(b"[]", "its record is no object", holds=False)


def _walk(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """Yield every part that is not made of parts, with its pointer."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _walk(part, f"{pointer}/{name}")
    elif isinstance(value, list) and value:
        for number, part in enumerate(value):
            yield from _walk(part, f"{pointer}/{number}")
    else:
        yield pointer, value


def _other(pointer: str, value: Any) -> Any:
    """Return a value of the same kind that is not the same."""
    name = next(part for part in reversed(pointer.split("/")) if not part.isdigit())
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return ["x"]
    if isinstance(value, dict):
        return {"min_cell_count": 9}
    if (
        name in ("proof", "leaf", "result_digest")
        and len(value) % 4 == 0
        and not pointer.startswith("/result")
    ):
        raw = bytearray(base64.b64decode(value))
        raw[len(raw) // 2] ^= 1
        return base64.b64encode(raw).decode()
    if name == "action":
        return "ACTION_LINK" if value.startswith("ACTION") else "link"
    if name == "outcome":
        return "OUTCOME_RELEASE" if value in ("OUTCOME_PARTIAL", "OUTCOME_WITHHOLD") else "OUTCOME_WITHHOLD"
    if name == "effect":
        return "EFFECT_RELEASE" if value == "EFFECT_WITHHOLD" else "EFFECT_WITHHOLD"
    if value.isdigit() and len(value) < 20:
        return str(int(value) + 1)
    return value[:-1] + ("0" if value[-1:] != "0" else "1")


def put(document: Any, pointer: str, value: Any) -> None:
    """Set one part of a document; None takes it out."""
    *path, last = pointer.split("/")[1:]
    for name in path:
        document = document[int(name)] if isinstance(document, list) else document[name]
    place: Any = int(last) if isinstance(document, list) else last
    if value is None:
        document.pop(place)
    else:
        document[place] = value


def _plain(message: Any) -> dict[str, Any]:
    plain: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return plain


if __name__ == "__main__":
    main()
