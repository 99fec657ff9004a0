"""Check receipts offline: the record is in a checkpoint of a pinned log, and it is of this very answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pbac.v1 import decision_pb2 as pb

from policyd_client.digest import answer_digest
from policyd_client.expect import Unexpected, quote
from policyd_client.model import Action, Obligations, Outcome, Receipt, Verdict
from policyd_client.note import Pin, open_checkpoint
from policyd_client.reading import read_verdict
from policyd_client.tree import holds_inclusion, leaf_hash

MAX_LEAF_BYTES = 65_534
VERSION = 1
"""The version of the record's format that this client reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a record of a decision must say of the question: how it was asked, what, and by whom."""

    rpc: str
    request_digest: bytes
    spiffe_id: str
    agreement: str
    purposes: tuple[str, ...]
    action: Action


def check_receipt(
    receipt: pb.Receipt, pins: Mapping[str, Pin], *, shared: tuple[str, ...] = ()
) -> tuple[Receipt, dict[str, Any]]:
    """Return the proved place of a record, and what the record says.

    `shared` are the checkpoints of a reply that carries several answers.

    Raises:
        Unexpected: there is no proof, or it does not hold.
    """
    if not receipt.leaf:
        raise Unexpected("it comes without the proof that it is recorded")
    note = receipt.checkpoint
    if receipt.HasField("checkpoint_number"):
        if note or receipt.checkpoint_number >= len(shared):
            raise Unexpected("its receipt names a checkpoint that did not come with it")
        note = shared[receipt.checkpoint_number]
    checkpoint = open_checkpoint(note, pins)
    if checkpoint.origin != receipt.origin:
        raise Unexpected(f"its checkpoint is of log `{checkpoint.origin}`, not of {quote(receipt.origin)}")
    hashed = leaf_hash(receipt.leaf)
    if not holds_inclusion(hashed, receipt.index, checkpoint.size, proof=receipt.proof, root=checkpoint.root):
        raise Unexpected(f"its proof does not lead to the checkpoint of {checkpoint.size} records")
    return Receipt(receipt.index, hashed, checkpoint), _read_leaf(receipt.leaf)


def check_decision(
    leaf: Mapping[str, Any],
    asked: Asked,
    answer: pb.CheckResponse | pb.ListFieldsResponse,
    *,
    outcome: Outcome,
    obligations: Obligations,
) -> None:
    """Compare a record with the question and the answer that it has to be of.

    `outcome` and `obligations` are as they were read from the answer. What a data service cannot know
    (pseudonym, organisation, gateway, bits of fields) is not compared.

    Raises:
        Unexpected: names the part that is not the same.
    """
    try:
        digest = answer_digest(answer).hex()
    except ValueError as error:
        raise Unexpected(f"it has no digest: {error}") from None
    want: dict[str, Any] = {
        "kind": "decision",
        "rpc": asked.rpc,
        "decision_id": answer.decision_id,
        "trace_id": answer.trace_id,
        "request_digest": asked.request_digest.hex(),
        "answer_digest": digest,
        "spiffe_id": asked.spiffe_id,
        "action": asked.action.value,
        "outcome": outcome.value,
        "obligations": _obligations(obligations),
        "identification_risk": answer.identification_risk,
        "sensitivity": answer.sensitivity,
        "policy_digest": answer.policy_digest,
        "policy_version": answer.policy_version,
        "epoch": answer.epoch,
        "valid_for_ms": answer.valid_for_ms if isinstance(answer, pb.CheckResponse) else 0,
    }
    _compare(leaf, want)
    verdicts = [(read_verdict(group), len(group.fields)) for group in answer.verdicts]
    _compare_verdicts(leaf.get("verdicts"), verdicts)
    # The record leaves the agreement out where the caller may not learn whether it exists.
    if leaf.get("agreement") not in ("", asked.agreement) or (
        outcome is not Outcome.WITHHOLD and leaf["agreement"] != asked.agreement
    ):
        raise Unexpected("its record is of another agreement")
    recorded = leaf.get("purposes")
    known = {str(purpose) for purpose in recorded} if isinstance(recorded, list) else {""}
    if not known <= set(asked.purposes) or (outcome is not Outcome.WITHHOLD and known != set(asked.purposes)):
        raise Unexpected("its record is of other purposes")


def check_release(leaf: Mapping[str, Any], report: pb.ReportReleaseRequest, *, spiffe_id: str) -> None:
    """Compare the record of a release with the report that it has to be of.

    Raises:
        Unexpected: names the part that is not the same.
    """
    _compare(
        leaf,
        {
            "kind": "release",
            "decision_id": report.decision_id,
            "report_id": report.report_id,
            "spiffe_id": spiffe_id,
            "rows": report.rows,
            "obligations_met": sorted(report.obligations_met),
            "result_digest": report.result_digest.hex(),
        },
    )
    recorded = leaf.get("checkpoints")
    if not isinstance(recorded, list) or sorted(map(str, recorded)) != sorted(report.checkpoints):
        raise Unexpected("its record holds other `checkpoints`")


def _compare(leaf: Mapping[str, Any], want: Mapping[str, Any]) -> None:
    for name, value in want.items():
        have = leaf.get(name)
        if type(have) is not type(value) or have != value:
            raise Unexpected(f"its record has another `{name}`")


def _compare_verdicts(recorded: object, verdicts: list[tuple[Verdict, int]]) -> None:
    if isinstance(recorded, dict):  # too many for the record: it counts them, and the digest covers them
        want: object = {"groups": len(verdicts), "names": sum(names for _, names in verdicts)}
        if recorded != want:
            raise Unexpected("its record counts other `verdicts`")
        return
    if not isinstance(recorded, list) or len(recorded) != len(verdicts):
        raise Unexpected("its record has another number of `verdicts`")
    for group, (verdict, names) in zip(recorded, verdicts, strict=True):
        if not isinstance(group, dict):
            raise Unexpected("its record has malformed `verdicts`")
        _compare(
            group,
            {
                "effect": verdict.effect.value,
                "reason": verdict.reason,
                "rule": verdict.rule,
                "transform": [str(step) for step in verdict.steps],
                "names": names,
            },
        )


def _obligations(owed: Obligations) -> dict[str, Any]:
    """Return obligations as a record states them: what is not asked is left out."""
    stated: dict[str, Any] = {
        name: getattr(owed, name)
        for name in ("min_cell_count", "round_to", "retention_days", "exclude_sealed_epoch")
        if getattr(owed, name) is not None
    }
    for name in ("row_years", "row_local_authorities"):
        if getattr(owed, name) is not None:
            stated[name] = sorted(getattr(owed, name))
    if owed.settings:
        stated["setting"] = sorted(owed.settings)
    for name in ("output_check", "publish_in_register"):
        if getattr(owed, name):
            stated[name] = True
    return stated


def _read_leaf(leaf: bytes) -> dict[str, Any]:
    """Read a record: an object of the known version, in which no name comes twice."""
    if len(leaf) > MAX_LEAF_BYTES:
        raise Unexpected(f"its record is over {MAX_LEAF_BYTES} bytes")
    try:
        document = json.loads(leaf.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Unexpected(f"its record is not JSON: {error}") from None
    if not isinstance(document, dict) or type(document.get("v")) is not int or document["v"] != VERSION:
        raise Unexpected("its record is of a version that this client does not know")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no number")
