"""What the tests of the client share: good answers, a servicer that answers from functions, certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from pbac.v1 import decision_pb2 as pb
from pbac.v1 import decision_pb2_grpc

from policyd import clock
from policyd.identity.pki import Authority, Credentials, create_authority

DATA_SERVICE = "spiffe://policyd.test/data-service/npd-secure"
GOOD = {
    "decision_id": "01kb0s5v0g7w3m2n4p5q6r7s8t",
    "outcome": "OUTCOME_RELEASE",
    "obligations": [{"exclude_sealed": {"epoch": "42"}}],
    "policy_digest": "6e" * 32,
    "policy_version": "3",
    "epoch": "42",
    "valid_for_ms": 30000,
    "receipt": {"origin": "policyd.test/node-1", "index": "17"},
    "trace_id": "4b" * 16,
    "identification_risk": 4,
    "sensitivity": "E",
}
SIGNED = "a.b.c"
"""A requester's token as far as the client cares: it never looks inside."""

ASK: dict[str, Any] = {
    "agreement": "DS00101",
    "purposes": ["academic-research"],
    "fields": ["KS4.KS4_ATT8"],
    "requester_token": SIGNED,
}


def good_answer(request: pb.CheckRequest, **changes: Any) -> pb.CheckResponse:
    """Return an answer that releases every name of `request`."""
    verdict = {
        "effect": "EFFECT_RELEASE",
        "reason": "NONE",
        "rule": "research",
        "fields": list(dict.fromkeys((*request.fields, *request.used_fields))),
    }
    return ParseDict(
        {**GOOD, "request_id": request.request_id, "verdicts": [verdict], **changes}, pb.CheckResponse()
    )


class Decisions(decision_pb2_grpc.DecisionServiceServicer):
    """Answers from functions, and keeps what it was asked."""

    def __init__(self, check: Callable[..., Any], batch: Callable[..., Any] | None = None) -> None:
        self.check, self.batch = check, batch
        self.asked: list[pb.CheckRequest] = []
        self.metadata: list[dict[str, Any]] = []

    def Check(self, request: pb.CheckRequest, context: grpc.ServicerContext) -> pb.CheckResponse:  # noqa: N802
        self.asked.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        return self.check(request, context)

    def BatchCheck(  # noqa: N802
        self, request: pb.BatchCheckRequest, context: grpc.ServicerContext
    ) -> pb.BatchCheckResponse:
        self.asked.extend(request.checks)
        assert self.batch is not None
        return self.batch(request, context)


@dataclass(frozen=True)
class Party:
    """One authority, with a server's and a data service's certificate of it."""

    authority: Authority
    server: Credentials
    client: Credentials


def make_party() -> Party:
    """Return a party with an authority of its own."""
    authority = create_authority("policyd.test", now=clock.now())
    return Party(
        authority,
        authority.server("spiffe://policyd.test/policyd/node-1", now=clock.now()),
        authority.client(DATA_SERVICE, now=clock.now()),
    )
