"""Listings that a server should never send: the client lists nothing and says what was wrong."""

from __future__ import annotations

from typing import Any

import pytest
from client_rig import GOOD, SIGNED
from google.protobuf.json_format import ParseDict
from pbac.v1 import decision_pb2 as pb
from policyd_client import Outcome
from policyd_client.listing import read_listing

REQUEST = pb.ListFieldsRequest(request_id="q-1", requester_token=SIGNED, at_least_epoch=42)
VERDICT = {"effect": "EFFECT_RELEASE", "reason": "NONE", "rule": "research", "fields": ["KS4.A", "KS4.B"]}
REFUSAL = {"effect": "EFFECT_WITHHOLD", "reason": "PURPOSE_MISSING", "rule": "gate:4:purpose"}


def answer(**changes: Any) -> pb.ListFieldsResponse:
    """Return a good listing, changed as asked."""
    parts = {name: value for name, value in GOOD.items() if name != "valid_for_ms"}
    return ParseDict(
        {**parts, "request_id": "q-1", "verdicts": [VERDICT], **changes}, pb.ListFieldsResponse()
    )


def test_a_good_listing_is_read() -> None:
    """Every part has its place."""
    listed = read_listing(REQUEST, answer())

    assert (listed.unexpected, listed.outcome, list(listed.verdicts)) == (
        "",
        Outcome.RELEASE,
        ["KS4.A", "KS4.B"],
    )
    assert (listed.epoch, listed.ledger_index, listed.sensitivity) == (42, 17, "E")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"request_id": "q-2"}, "it answers question `q-2`, not `q-1`"),
        ({"outcome": "OUTCOME_UNSPECIFIED"}, "outcome 0 is not known"),
        ({"outcome": "OUTCOME_WITHHOLD", "obligations": []}, "does not go with 2 listed fields"),
        ({"verdicts": []}, "does not go with 0 listed fields"),
        ({"verdicts": [VERDICT, VERDICT]}, "two verdicts on `KS4.A`"),
        ({"verdicts": [{**REFUSAL, "fields": ["KS4.A"]}]}, "it lists something that is withheld"),
        ({"verdicts": [REFUSAL, REFUSAL]}, "it lists something that is withheld"),
        ({"verdicts": [VERDICT, REFUSAL]}, "does not go with 2 listed fields"),
        ({"epoch": "41"}, "epoch 42 was seen before"),
        ({"obligations": []}, "`exclude_sealed` is absent"),
        ({"obligations": [{}]}, "an obligation is not known"),
        ({"trace_id": "x"}, "trace id `x` is malformed"),
        ({"receipt": {}}, "it names no place in the ledger"),
    ],
    ids=str,
)
def test_an_unexpected_listing_lists_nothing(changes: dict[str, Any], why: str) -> None:
    """Nothing is listed, the reason says so, and the cause is told."""
    listed = read_listing(REQUEST, answer(**changes))

    assert why in listed.unexpected
    assert (dict(listed.verdicts), listed.reason) == ({}, "UNEXPECTED_ANSWER")
    assert listed.outcome is Outcome.WITHHOLD
