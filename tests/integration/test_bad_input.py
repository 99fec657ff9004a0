"""Every bad question has one documented outcome, and a record exactly when a decision was made."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID
from pbac.v1 import decision_pb2 as pb
from support.server import Site, make_site, reasons, serving

from policyd import clock
from policyd.identity.pki import Credentials, create_authority, open_authority
from policyd.server import Server

VECTORS = Path(__file__).parents[1] / "vectors" / "bad_input.yaml"
LATE = "1a7e" * 8
"""The trace of questions whose caller does not wait for the answer."""
CASES = yaml.safe_load(VECTORS.read_text("utf-8"))["cases"]
PAGE = Path(__file__).parents[2] / "docs" / "bad-input.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("bad-input") / "data")


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Server]:
    with serving(site) as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_bad_input(case: dict[str, Any], site: Site, server: Server) -> None:
    """The outcome is the one in the table, and the ledger grows by as many decisions as it says."""
    method, message = _message(site, case)
    before = site.count()

    with _caller(site, server.address, case.get("caller", "npd-secure")) as channel:
        call = channel.unary_unary(f"/pbac.v1.DecisionService/{method}")
        metadata = [tuple(map(_expand, pair)) for pair in case.get("metadata", ())]
        timeout_s = case.get("deadline_s", 10)
        if timeout_s == 0:
            metadata.append(("traceparent", f"00-{LATE}-{'1' * 16}-01"))
        try:
            reply = call(message, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            failed: Any = error
            have_error, text, answers = failed.code().name, failed.details(), []
        else:
            have_error, text = "", ""
            if method == "Check":
                answers = [pb.CheckResponse.FromString(reply)]
            else:
                answers = list(pb.BatchCheckResponse.FromString(reply).answers)

    want = case["want"]
    assert have_error == want.get("error", ""), text
    assert want.get("text", "") in text
    for answer in answers:
        _compare(answer, want)
    # What comes in the last microseconds of its deadline is decided and recorded, but may be so later.
    leaves = [leaf for leaf in site.leaves(before) if leaf["trace_id"] != LATE]
    assert len(leaves) == case["records"]
    by_id = {leaf["decision_id"]: leaf for leaf in leaves}
    assert by_id.keys() == {answer.decision_id for answer in answers}
    for answer in answers:
        leaf = by_id[answer.decision_id]
        assert f"OUTCOME_{leaf['outcome'].upper()}" == want["outcome"]
        assert leaf["trace_id"] == answer.trace_id


def test_names_of_cases_are_unique() -> None:
    """A name leads to one case."""
    assert len({case["name"] for case in CASES}) == len(CASES)


def test_the_page_lists_every_case_with_its_outcome() -> None:
    """docs/bad-input.md has one row for each case, in order, with the outcome and whether it is recorded."""
    section = PAGE.read_text("utf-8").split("## Every case\n")[1]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]

    assert rows == [page_row(case) for case in CASES]


def page_row(case: dict[str, Any]) -> str:
    """Return the row of docs/bad-input.md that says what becomes of a case."""
    want = case["want"]
    if "error" in want:
        said = f" “{want['text']}”" if want["text"] else ""
        outcome = f"`{want['error']}`{said}"
    else:
        word = want["outcome"].removeprefix("OUTCOME_").lower()
        parts = list(want.get("reasons", {}).values()) or [want["reason"]]
        detail = ", ".join(dict.fromkeys(f"`{part}`" for part in parts if part != "release"))
        outcome = f"{word} {detail}".strip()
    recorded = {0: "no", 1: "yes"}.get(case["records"], f"{case['records']} records")
    return f"| {case['name']} | {outcome} | {recorded} |"


def _compare(answer: pb.CheckResponse, want: dict[str, Any]) -> None:
    assert pb.Outcome.Name(answer.outcome) == want["outcome"], reasons(answer)
    if "reasons" in want:
        assert reasons(answer) == want["reasons"]
    else:
        assert set(reasons(answer).values()) == {want["reason"]}
    if "rule" in want:
        assert {group.rule for group in answer.verdicts} == {want["rule"]}
    if want.get("trace_id", "new") != "new":
        assert answer.trace_id == want["trace_id"]
    else:
        assert answer.trace_id.casefold()[:16] not in ("4bf92f3577b34da6", "0" * 16)


def _message(site: Site, case: dict[str, Any]) -> tuple[str, bytes]:
    signed = _token(site, case.get("token", "good"))
    if "batch" in case:
        batch = case["batch"]
        if isinstance(batch, dict):
            batch = [{"request_id": f"case-{number}"} for number in range(batch["count"])]
        checks = [_question(site, each, signed) for each in batch]
        encoded = pb.BatchCheckRequest(checks=checks).SerializeToString()
    else:
        encoded = _question(site, case.get("ask", {}), signed).SerializeToString()
    if "bytes" in case:
        encoded = bytes.fromhex(case["bytes"])
    return "BatchCheck" if "batch" in case else "Check", encoded + bytes.fromhex(case.get("append", ""))


def _question(site: Site, changes: dict[str, Any], signed: str) -> pb.CheckRequest:
    parts: dict[str, Any] = {"request_id": "case-1", "requester_token": signed}
    parts.update({name: _expand(value) for name, value in changes.items()})
    if "record_tokens" in parts:
        parts["record_tokens"] = [text.encode("ascii")[:32] for text in parts["record_tokens"]]
    action = parts.pop("action", pb.ACTION_RELEASE)
    return site.question(**{"action": action, **parts})


def _expand(value: Any) -> Any:
    if isinstance(value, list):
        return [_expand(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "repeat" in value:
        return value["text"] * value["repeat"]
    if "number" in value:
        return list(range(value["number"], value["number"] + value["count"]))
    return [f"{value['text']}{number}" for number in range(value["count"])]


def _token(site: Site, kind: str) -> str:
    now = clock.now()
    good = site.token()
    header, payload = ({**json.loads(_decode(part))} for part in good.split(".")[:2])
    stranger = Ed25519PrivateKey.generate()
    match kind:
        case "good":
            return good
        case "missing":
            return ""
        case "malformed":
            return "not-a-token"
        case "not-ascii":
            return good[:-2] + "\u0435\u0435"
        case "too-long":
            return good + "A" * 20_000
        case "expired":
            return site.token(now=now - 900_000, lifetime_s=60)
        case "from-the-future":
            return site.token(now=now + 600_000)
        case "unsigned":
            headers = {"typ": "at+jwt", "kid": header["kid"]}
            return jwt.encode(payload, None, algorithm="none", headers=headers)
        case "hmac":
            public = json.loads((site.data / "issuer" / "jwks.json").read_text())["keys"][0]["x"]
            headers = {"typ": "at+jwt", "kid": header["kid"]}
            return jwt.encode(payload, public, algorithm="HS256", headers=headers)
        case "forged":
            return jwt.encode(payload, stranger, algorithm="EdDSA", headers=header)
        case "another-issuer":
            return jwt.encode({**payload, "iss": "someone"}, stranger, algorithm="EdDSA", headers=header)
        case "another-audience":
            return site.token(audience="another-service")
        case "another-actor":
            return site.token(service="npd-second")
        case "another-type":
            key = _issuer_key(site)
            return jwt.encode(payload, key, algorithm="EdDSA", headers={**header, "typ": "JWT"})
        case "another-certificate":
            return site.token(certificate_der=b"another")
        case "unregistered-person":
            return site.token("researcher-99")
        case "suspended-person":
            return site.token("researcher-2")
        case "another-person":
            return site.token("researcher-3")
    raise AssertionError(kind)


def _issuer_key(site: Site) -> Ed25519PrivateKey:
    from policyd.identity.keys import load_signing_key

    return load_signing_key(site.data / "issuer" / "issuer.key").private


def _decode(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _caller(site: Site, address: str, kind: str) -> grpc.Channel:
    domain = site.config.trust_domain
    own = open_authority(site.data / "tls", trust_domain=domain, now=clock.now())
    spiffe_id, now = site.spiffe_id(), clock.now()
    root = own.certificate_pem
    if kind == "nobody":
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(root))
    if kind == "another-authority":
        return _connect(address, root, create_authority(domain, now=now).client(spiffe_id, now=now))
    if kind == "expired":
        return _connect(address, root, own.client(spiffe_id, now=now - 3 * 24 * 3600 * 1000))
    if kind == "for-a-server":
        return _connect(address, root, own.server(spiffe_id, now=now))
    if kind == "another-trust-domain":
        other = replace(own, trust_domain=f"{domain}.example")
        return _connect(address, root, other.client(f"spiffe://{domain}.example/data-service/x", now=now))
    if kind == "two-names":
        second = x509.UniformResourceIdentifier(site.spiffe_id("npd-second"))
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        leaf = own._leaf(spiffe_id, now=now, lifetime_s=3600, other_names=[second], usage=usage)
        return _connect(address, root, leaf)
    return site.channel(address, service=kind)


def _connect(address: str, root: bytes, own: Credentials) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(root, own.key_pem, own.certificate_pem)
    return grpc.secure_channel(address, credentials)
