"""A receipt proves one answer to one question, and any change to any part of it proves nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict, ParseError
from pbac.v1 import decision_pb2 as pb
from policyd_client import Action, Decision, Listing, Question, Receipt
from policyd_client.digest import listing_digest, request_digest
from policyd_client.expect import Unexpected
from policyd_client.listing import read_listing
from policyd_client.note import read_logs
from policyd_client.reading import read_answer
from policyd_client.receipt import Asked, check_decision, check_receipt, check_release

VECTORS = Path(__file__).parents[2] / "vectors" / "receipts"
FILES = sorted(path.stem for path in VECTORS.glob("*.json"))


def put(document: Any, pointer: str, value: Any) -> None:
    """Set one part of a document, as `set` of a case says; None takes it out."""
    *path, last = pointer.split("/")[1:]
    for name in path:
        document = document[int(name)] if isinstance(document, list) else document[name]
    place: Any = int(last) if isinstance(document, list) else last
    if value is None:
        document.pop(place)
    else:
        document[place] = value


def holds(document: dict[str, Any]) -> str:
    """Return why a client refuses the receipt of a document; empty where it holds."""
    pins = read_logs({document["log"].partition("+")[0]: document["log"]})
    reader = {"ListFields": listing_holds, "ReportRelease": release_holds}.get(
        document["method"], answer_holds
    )
    try:
        return reader(document, pins)
    except (ParseError, ValueError) as error:
        return f"no message: {error}"


def answer_holds(document: dict[str, Any], pins: Any) -> str:
    sent = ParseDict(document["question"], pb.CheckRequest())
    answer = ParseDict(document["answer"], pb.CheckResponse())
    question = Question(
        agreement=sent.agreement_id,
        purposes=sent.purposes,
        fields=sent.fields,
        requester_token=sent.requester_token,
        used_fields=sent.used_fields,
        years=sent.years,
        action=pb.Action.Name(sent.action).removeprefix("ACTION_").lower(),
        record_tokens=sent.record_tokens,
        request_id=sent.request_id,
    )
    asked = asked_of(sent, request_digest(sent), question.action, document)
    decision = read_answer(
        question,
        answer,
        at_least_epoch=sent.at_least_epoch,
        sent_at_s=0.0,
        clock=lambda: 0.0,
        check=lambda found: checked(found, answer, asked, pins, document),
    )
    return decision.unexpected


def listing_holds(document: dict[str, Any], pins: Any) -> str:
    sent = ParseDict(document["question"], pb.ListFieldsRequest())
    answer = ParseDict(document["answer"], pb.ListFieldsResponse())
    action = pb.Action.Name(sent.action).removeprefix("ACTION_").lower()
    asked = asked_of(sent, listing_digest(sent), action, document)
    listing = read_listing(sent, answer, check=lambda found: checked(found, answer, asked, pins, document))
    return listing.unexpected


def release_holds(document: dict[str, Any], pins: Any) -> str:
    sent = ParseDict(document["question"], pb.ReportReleaseRequest())
    answer = ParseDict(document["answer"], pb.ReportReleaseResponse())
    try:
        _, leaf = check_receipt(answer.receipt, pins)
        check_release(leaf, sent, spiffe_id=document["spiffe_id"])
    except Unexpected as unexpected:
        return str(unexpected)
    return ""


def asked_of(sent: Any, digest: bytes, action: str, document: dict[str, Any]) -> Asked:
    return Asked(
        rpc=document["method"],
        request_digest=digest,
        spiffe_id=document["spiffe_id"],
        agreement=sent.agreement_id,
        purposes=tuple(sent.purposes),
        action=Action(action),
    )


def checked(found: Any, answer: Any, asked: Asked, pins: Any, document: dict[str, Any]) -> Any:
    assert isinstance(found, Decision | Listing)
    receipt, leaf = check_receipt(answer.receipt, pins, shared=tuple(document.get("shared", ())))
    assert isinstance(receipt, Receipt)
    check_decision(leaf, asked, answer, outcome=found.outcome, obligations=found.obligations)
    return found


def cases(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for case in document["cases"]:
        changed = copy.deepcopy(document)
        for pointer, value in case["set"].items():
            put(changed, pointer, value)
        yield case, changed


@pytest.mark.parametrize("name", FILES)
def test_a_receipt_holds_or_not_as_its_vector_says(name: str) -> None:
    """Question, answer, leaf, proof, checkpoint, key and name: each part changed or gone is refused."""
    document = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    wrong = [
        f"{case['name']}: {why or 'it holds'}"
        for case, changed in cases(document)
        if (not (why := holds(changed))) is not case["holds"]
    ]

    assert len(document["cases"]) > 50
    assert not wrong, "\n".join(wrong)


def test_every_method_with_receipts_has_vectors() -> None:
    """Check alone and in a batch, withheld, Explain, ListFields and ReportRelease."""
    assert FILES == ["batch", "check", "explain", "listing", "report", "withheld"]


def test_a_proof_of_another_record_of_the_log_does_not_help() -> None:
    """A true receipt, put under another true answer of the same node, is refused for what it says."""
    one, other = (json.loads((VECTORS / f"{name}.json").read_text("utf-8")) for name in ("check", "explain"))
    one["answer"]["receipt"] = other["answer"]["receipt"]

    assert holds(one) == "its record has another `rpc`"
