"""Write a decision as protobuf, grouped by verdict; reasons appear as callers may know them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pbac.v1 import decision_pb2 as pb

from policyd.model import Decision, Effect, Obligations, Outcome, Step, TransformKind, VerdictGroup
from policyd.reasons import for_caller

_OUTCOME: Mapping[Outcome, pb.Outcome] = {
    Outcome.RELEASE: pb.OUTCOME_RELEASE,
    Outcome.PARTIAL: pb.OUTCOME_PARTIAL,
    Outcome.WITHHOLD: pb.OUTCOME_WITHHOLD,
}
_EFFECT: Mapping[Effect, pb.Effect] = {
    Effect.RELEASE: pb.EFFECT_RELEASE,
    Effect.TRANSFORM: pb.EFFECT_TRANSFORM,
    Effect.WITHHOLD: pb.EFFECT_WITHHOLD,
}


def write_answer(
    decision: Decision,
    *,
    request_id: str,
    decision_id: str,
    trace_id: bytes,
    valid_for_ms: int,
    receipt: pb.Receipt,
) -> pb.CheckResponse:
    """Return the answer to one question."""
    return pb.CheckResponse(
        request_id=request_id,
        decision_id=decision_id,
        outcome=_OUTCOME[decision.outcome],
        verdicts=[_group(group) for group in decision.groups],
        obligations=list(_obligations(decision.obligations)),
        policy_digest=decision.policy_digest,
        policy_version=decision.policy_version,
        epoch=decision.epoch,
        valid_for_ms=valid_for_ms,
        receipt=receipt,
        trace_id=trace_id.hex(),
        identification_risk=decision.identification_risk,
        sensitivity=decision.sensitivity,
    )


def write_listing(
    decision: Decision, *, request_id: str, decision_id: str, trace_id: bytes, receipt: pb.Receipt
) -> pb.ListFieldsResponse:
    """Return the answer to one question to ListFields."""
    return pb.ListFieldsResponse(
        decision_id=decision_id,
        verdicts=[_group(group) for group in decision.groups],
        obligations=list(_obligations(decision.obligations)),
        request_id=request_id,
        outcome=_OUTCOME[decision.outcome],
        policy_digest=decision.policy_digest,
        policy_version=decision.policy_version,
        epoch=decision.epoch,
        receipt=receipt,
        trace_id=trace_id.hex(),
        identification_risk=decision.identification_risk,
        sensitivity=decision.sensitivity,
    )


def share_checkpoints(answers: Iterable[pb.CheckResponse]) -> list[str]:
    """Take the signed checkpoints out of the receipts of one reply, and return each once.

    Each receipt then says which of them it leads to.
    """
    numbers: dict[str, int] = {}
    for answer in answers:
        receipt = answer.receipt
        if receipt.checkpoint:
            receipt.checkpoint_number = numbers.setdefault(receipt.checkpoint, len(numbers))
            receipt.checkpoint = ""
    return list(numbers)


def _group(group: VerdictGroup) -> pb.VerdictGroup:
    return pb.VerdictGroup(
        effect=_EFFECT[group.effect],
        reason=for_caller(group.reason).value,
        rule=group.rule,
        transform=[_step(step) for step in group.transform],
        fields=group.names,
    )


def _step(step: Step) -> pb.TransformStep:
    match step.kind:
        case TransformKind.PSEUDONYMISE:
            return pb.TransformStep(pseudonymise=pb.Pseudonymise())
        case TransformKind.GENERALISE:
            return pb.TransformStep(generalise=pb.Generalise(to=step.to))
        case TransformKind.BAND:
            return pb.TransformStep(band=pb.Band(width=step.amount))
        case TransformKind.ROUND:
            return pb.TransformStep(round=pb.Round(to=step.amount))
        case TransformKind.TOP_CODE:
            return pb.TransformStep(top_code=pb.TopCode(at=step.amount))
        case TransformKind.SUPPRESS:
            raise AssertionError("a suppressed field is withheld and has no transform")


def _obligations(owed: Obligations) -> Iterator[pb.Obligation]:
    """Yield the obligations in the order that the answer digest uses (docs/digests.md)."""
    if owed.exclude_sealed_epoch is not None:
        yield pb.Obligation(exclude_sealed=pb.ExcludeSealed(epoch=owed.exclude_sealed_epoch))
    if owed.row_years is not None or owed.row_local_authorities is not None:
        yield pb.Obligation(
            rows=pb.Rows(
                years=sorted(owed.row_years or ()),
                local_authorities=sorted(owed.row_local_authorities or ()),
                by_local_authority=owed.row_local_authorities is not None,
            )
        )
    if owed.min_cell_count is not None:
        yield pb.Obligation(min_cell_count=owed.min_cell_count)
    if owed.round_to is not None:
        yield pb.Obligation(round_to=owed.round_to)
    if owed.retention_days is not None:
        yield pb.Obligation(retention_days=owed.retention_days)
    if owed.output_check:
        yield pb.Obligation(output_check=True)
    if owed.publish_in_register:
        yield pb.Obligation(publish_in_register=True)
    for setting in sorted(owed.setting or ()):
        yield pb.Obligation(setting=setting)
