"""Turn a listing from the wire into a ``Listing``, and anything unexpected in it into an empty one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pbac.v1 import decision_pb2 as pb

from policyd_client.expect import Unexpected, quote
from policyd_client.model import UNEXPECTED_ANSWER, Effect, Obligations, Outcome, Receipt, Verdict
from policyd_client.obligations import read_obligations
from policyd_client.reading import (
    DECISION_ID,
    OUTCOMES,
    TRACE_ID,
    check_record,
    or_empty,
    read_verdict,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a requester could have. No permission: ``check`` before each query.

    ``verdicts`` holds every listed field by its id; no verdict is withhold. ``obligations`` are those of
    all of them together. ``reason`` says why the question is refused as a whole, and is empty otherwise.
    ``unexpected`` says what was wrong with an answer that could not be trusted; nothing is listed then.
    """

    request_id: str
    decision_id: str = ""
    trace_id: str = ""
    outcome: Outcome = Outcome.WITHHOLD
    verdicts: Mapping[str, Verdict] = field(default_factory=lambda: MappingProxyType({}))
    obligations: Obligations = field(default_factory=Obligations)
    reason: str = ""
    rule: str = ""
    policy_digest: str = ""
    policy_version: int = 0
    epoch: int = 0
    identification_risk: int = 0
    sensitivity: str = ""
    ledger_origin: str = ""
    ledger_index: int = 0
    unexpected: str = ""
    receipt: Receipt | None = field(default=None, repr=False)


CheckReceipt = Callable[[Listing], Listing]


def read_listing(
    request: pb.ListFieldsRequest,
    answer: pb.ListFieldsResponse,
    *,
    check: CheckReceipt = lambda listing: listing,
) -> Listing:
    """Return the listing in `answer`, or an empty one that says what was unexpected in it.

    `check` raises ``Unexpected`` unless the receipt proves the decision. Never raises for anything that a
    server can send.
    """
    try:
        return check(_read(request, answer))
    except Unexpected as unexpected:
        ours = answer if answer.request_id == request.request_id else pb.ListFieldsResponse()
        return Listing(
            request_id=request.request_id,
            decision_id=or_empty(DECISION_ID, ours.decision_id),
            trace_id=or_empty(TRACE_ID, ours.trace_id),
            reason=UNEXPECTED_ANSWER,
            rule="client",
            unexpected=str(unexpected),
        )


def _read(request: pb.ListFieldsRequest, answer: pb.ListFieldsResponse) -> Listing:
    if answer.request_id != request.request_id:
        raise Unexpected(f"it answers question {quote(answer.request_id)}, not `{request.request_id}`")
    outcome = OUTCOMES.get(answer.outcome)
    if outcome is None:
        raise Unexpected(f"outcome {answer.outcome} is not known")
    check_record(answer, request.at_least_epoch)
    verdicts: dict[str, Verdict] = {}
    refusal: Verdict | None = None
    for group in answer.verdicts:
        verdict = read_verdict(group)
        if verdict.effect is Effect.WITHHOLD:
            if group.fields or refusal is not None:
                raise Unexpected("it lists something that is withheld")
            refusal = verdict
        for name in group.fields:
            if name in verdicts:
                raise Unexpected(f"it has two verdicts on {quote(name)}")
            verdicts[name] = verdict
    if bool(verdicts) is (outcome is Outcome.WITHHOLD) or (verdicts and refusal is not None):
        raise Unexpected(f"outcome {outcome.value} does not go with {len(verdicts)} listed fields")
    return Listing(
        request_id=answer.request_id,
        decision_id=answer.decision_id,
        trace_id=answer.trace_id,
        outcome=outcome,
        verdicts=MappingProxyType(verdicts),
        obligations=read_obligations(answer, outcome),
        reason="" if refusal is None else refusal.reason,
        rule="" if refusal is None else refusal.rule,
        policy_digest=answer.policy_digest,
        policy_version=answer.policy_version,
        epoch=answer.epoch,
        identification_risk=answer.identification_risk,
        sensitivity=answer.sensitivity,
        ledger_origin=answer.receipt.origin,
        ledger_index=answer.receipt.index,
    )
