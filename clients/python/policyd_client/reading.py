"""Turn an answer from the wire into a ``Decision``, and anything unexpected in it into a refusal."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType

from pbac.v1 import decision_pb2 as pb

from policyd_client._clock import Clock
from policyd_client.expect import Unexpected, at_least, quote, refuse_unknown
from policyd_client.model import (
    UNEXPECTED_ANSWER,
    Decision,
    Effect,
    Life,
    Obligations,
    Outcome,
    Question,
    Step,
    StepKind,
    Verdict,
)
from policyd_client.obligations import read_obligations

CheckReceipt = Callable[[Decision], Decision]
MAX_VALID_MS = 60_000
UNITS = frozenset({"month", "year", "academic-year", "outward-postcode", "postcode-area"})
"""The units of ``generalise`` that this version knows how to explain to its caller."""

OUTCOMES = {
    pb.OUTCOME_RELEASE: Outcome.RELEASE,
    pb.OUTCOME_PARTIAL: Outcome.PARTIAL,
    pb.OUTCOME_WITHHOLD: Outcome.WITHHOLD,
}
_EFFECTS = {
    pb.EFFECT_RELEASE: Effect.RELEASE,
    pb.EFFECT_TRANSFORM: Effect.TRANSFORM,
    pb.EFFECT_WITHHOLD: Effect.WITHHOLD,
}
DECISION_ID = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}", re.ASCII)
_POLICY_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}", re.ASCII)
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)
_ORIGIN = re.compile(r"[!-~]{1,255}", re.ASCII)
_SENSITIVITY = re.compile(r"A?B?C?D?E?", re.ASCII)


def read_answer(
    question: Question,
    answer: pb.CheckResponse,
    *,
    at_least_epoch: int,
    sent_at_s: float,
    clock: Clock,
    check: CheckReceipt = lambda decision: decision,
    trouble: Callable[[str], str] = lambda _origin: "",
) -> Decision:
    """Return the decision in `answer`, or a refusal that says what was unexpected in it.

    `at_least_epoch` is what was sent with the question, `sent_at_s` the clock just before sending. `check`
    raises ``Unexpected`` unless the receipt proves the decision, and `trouble` says why a log, by its
    origin, is not trusted when the decision is used. Never raises for anything that a server can send.
    """
    life = Life(
        clock,
        sent_at_s + answer.valid_for_ms / 1000,
        trouble=lambda: trouble(answer.receipt.origin),
    )
    try:
        return check(_read(question, answer, at_least_epoch=at_least_epoch, sent_at_s=sent_at_s, life=life))
    except Unexpected as unexpected:
        return refuse(question, str(unexpected), clock=clock, answer=answer)


def refuse(question: Question, why: str, *, clock: Clock, answer: pb.CheckResponse | None = None) -> Decision:
    """Return a decision that withholds everything because of `why`; keep the ids of our own `answer`."""
    ours = answer if answer is not None and answer.request_id == question.request_id else pb.CheckResponse()
    verdict = Verdict(Effect.WITHHOLD, UNEXPECTED_ANSWER, "client")
    now_s = clock()
    return Decision(
        request_id=question.request_id or "",
        decision_id=or_empty(DECISION_ID, ours.decision_id),
        trace_id=or_empty(TRACE_ID, ours.trace_id),
        outcome=Outcome.WITHHOLD,
        verdicts=MappingProxyType(dict.fromkeys(question.names, verdict)),
        obligations=Obligations(),
        policy_digest="",
        policy_version=0,
        epoch=0,
        identification_risk=0,
        sensitivity="",
        ledger_origin="",
        ledger_index=0,
        expires_at_s=now_s,
        life=Life(clock, now_s),
        unexpected=why,
    )


def _read(
    question: Question, answer: pb.CheckResponse, *, at_least_epoch: int, sent_at_s: float, life: Life
) -> Decision:
    if answer.request_id != question.request_id:
        raise Unexpected(f"it answers question {quote(answer.request_id)}, not `{question.request_id}`")
    outcome = OUTCOMES.get(answer.outcome)
    if outcome is None:
        raise Unexpected(f"outcome {answer.outcome} is not known")
    check_record(answer, at_least_epoch)
    verdicts = _read_verdicts(question, answer)
    _check_outcome(question, outcome, verdicts)
    obligations = read_obligations(answer, outcome)
    expires_at_s = sent_at_s + answer.valid_for_ms / 1000
    if outcome is not Outcome.WITHHOLD:
        _check_life(answer.valid_for_ms, elapsed=life.remaining_s() <= 0.0)
    return Decision(
        request_id=answer.request_id,
        decision_id=answer.decision_id,
        trace_id=answer.trace_id,
        outcome=outcome,
        verdicts=verdicts,
        obligations=obligations,
        policy_digest=answer.policy_digest,
        policy_version=answer.policy_version,
        epoch=answer.epoch,
        identification_risk=answer.identification_risk,
        sensitivity=answer.sensitivity,
        ledger_origin=answer.receipt.origin,
        ledger_index=answer.receipt.index,
        expires_at_s=expires_at_s,
        life=life,
    )


def check_record(answer: pb.CheckResponse | pb.ListFieldsResponse, at_least_epoch: int) -> None:
    """Refuse an answer whose ids, digests, class or place in the ledger are not well formed.

    Raises:
        Unexpected: says which one.
    """
    if not DECISION_ID.fullmatch(answer.decision_id):
        raise Unexpected(f"decision id {quote(answer.decision_id)} is malformed")
    if not TRACE_ID.fullmatch(answer.trace_id):
        raise Unexpected(f"trace id {quote(answer.trace_id)} is malformed")
    if not _POLICY_DIGEST.fullmatch(answer.policy_digest):
        raise Unexpected(f"policy digest {quote(answer.policy_digest)} is malformed")
    if answer.policy_version == 0:
        raise Unexpected("it names no policy version")
    if not answer.HasField("receipt") or not _ORIGIN.fullmatch(answer.receipt.origin):
        raise Unexpected("it names no place in the ledger")
    if answer.epoch < at_least_epoch:
        raise Unexpected(f"it is from epoch {answer.epoch}, but epoch {at_least_epoch} was seen before")
    if answer.identification_risk > 5 or not _SENSITIVITY.fullmatch(answer.sensitivity):
        raise Unexpected("its class is malformed")


def _read_verdicts(question: Question, answer: pb.CheckResponse) -> MappingProxyType[str, Verdict]:
    """Return the verdict of every name of the question, in its order."""
    found: dict[str, Verdict] = {}
    asked = frozenset(question.names)
    for group in answer.verdicts:
        verdict = read_verdict(group)
        for name in group.fields:
            if name not in asked:
                raise Unexpected(f"it has a verdict on {quote(name)}, which was not asked")
            if name in found:
                raise Unexpected(f"it has two verdicts on {quote(name)}")
            found[name] = verdict
    missing = [name for name in question.names if name not in found]
    if missing:
        raise Unexpected(f"it has no verdict on {quote(missing[0])} ({len(missing)} missing)")
    return MappingProxyType({name: found[name] for name in question.names})


def read_verdict(group: pb.VerdictGroup) -> Verdict:
    """Return the verdict that a group of names shares.

    Raises:
        Unexpected: a part of it is not known, or two do not go together.
    """
    effect = _EFFECTS.get(group.effect)
    if effect is None:
        raise Unexpected(f"effect {group.effect} is not known")
    refuse_unknown(group, "a verdict")
    if not _REASON.fullmatch(group.reason):
        raise Unexpected(f"reason {quote(group.reason)} is malformed")
    if (group.reason == "NONE") is (effect is Effect.WITHHOLD):
        raise Unexpected(f"effect {effect.value} does not go with reason `{group.reason}`")
    if not group.rule:
        raise Unexpected("a verdict names no rule")
    if bool(group.transform) is not (effect is Effect.TRANSFORM):
        raise Unexpected(f"effect {effect.value} does not go with {len(group.transform)} transform steps")
    return Verdict(effect, group.reason, group.rule, tuple(_read_step(step) for step in group.transform))


def _read_step(step: pb.TransformStep) -> Step:
    refuse_unknown(step, "a transform step")
    kind = step.WhichOneof("kind")
    match kind:
        case "pseudonymise":
            refuse_unknown(step.pseudonymise, "transform step `pseudonymise`")
            return Step(StepKind.PSEUDONYMISE)
        case "generalise":
            refuse_unknown(step.generalise, "transform step `generalise`")
            if step.generalise.to not in UNITS:
                raise Unexpected(f"transform step `generalise` to {quote(step.generalise.to)} is not known")
            return Step(StepKind.GENERALISE, to=step.generalise.to)
        case "band":
            refuse_unknown(step.band, "transform step `band`")
            return Step(StepKind.BAND, amount=at_least(2, step.band.width, "transform step `band`"))
        case "round":
            refuse_unknown(step.round, "transform step `round`")
            return Step(StepKind.ROUND, amount=at_least(2, step.round.to, "transform step `round`"))
        case "top_code":
            refuse_unknown(step.top_code, "transform step `top_code`")
            return Step(StepKind.TOP_CODE, amount=at_least(1, step.top_code.at, "transform step `top_code`"))
        case _:
            raise Unexpected("a transform step is not known")


def _check_outcome(question: Question, outcome: Outcome, verdicts: MappingProxyType[str, Verdict]) -> None:
    """Refuse an answer whose outcome says other than its verdicts, or that lets a withheld name be used."""
    withheld = {name for name, verdict in verdicts.items() if verdict.effect is Effect.WITHHOLD}
    rest = len(verdicts) - len(withheld)
    fits = {
        Outcome.RELEASE: not withheld and rest > 0,
        Outcome.PARTIAL: bool(withheld) and rest > 0,
        Outcome.WITHHOLD: rest == 0,
    }
    if not fits[outcome]:
        raise Unexpected(
            f"outcome {outcome.value} does not go with {len(withheld)} of {len(verdicts)} names withheld"
        )
    if outcome is Outcome.PARTIAL and withheld.intersection(question.used_fields):
        raise Unexpected("a name that the query uses is withheld, but the outcome is partial")


def _check_life(valid_for_ms: int, *, elapsed: bool) -> None:
    if valid_for_ms == 0 or valid_for_ms > MAX_VALID_MS:
        raise Unexpected(f"it is valid for {valid_for_ms} ms; 1 to {MAX_VALID_MS} are allowed")
    if elapsed:
        raise Unexpected(f"its {valid_for_ms} ms were over when it arrived")


def or_empty(pattern: re.Pattern[str], text: str) -> str:
    """Return text from the wire if it has the form it must have."""
    return text if pattern.fullmatch(text) else ""
