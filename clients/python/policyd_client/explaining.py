"""Read an explanation from the wire: for people to look at, never for programs to act on."""

from __future__ import annotations

from dataclasses import dataclass

from pbac.v1 import decision_pb2 as pb

from policyd_client.model import Decision


@dataclass(frozen=True, slots=True)
class ExplainedCondition:
    """One condition of a rule, the value it saw and where that comes from.

    The rule needs one alternative of each clause. ``result`` is ``true``, ``false`` or ``error``.
    """

    attribute: str
    condition: str
    value: str
    source: str
    result: str
    clause: int
    alternative: int


@dataclass(frozen=True, slots=True)
class ExplainedCheck:
    """One check of a gate or rule. ``reason`` is ``NONE`` when it withholds nothing.

    ``result`` is ``passed``, ``failed``, ``error`` or ``not-applicable``; ``place`` is ``file:line`` of a
    rule. ``fields`` are how many fail it or, when none does, how many it concerns.
    """

    check: str
    result: str
    reason: str
    why: str
    place: str
    purpose: str
    fields: int
    conditions: tuple[ExplainedCondition, ...]


@dataclass(frozen=True, slots=True)
class ExplainedGroup:
    """Names that share a verdict, and the checks on them in order: the first with a reason decided."""

    names: tuple[str, ...]
    checks: tuple[ExplainedCheck, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and how it came about; of an answer that could not be trusted, nothing is explained.

    ``not_shown`` counts rules that the server left out.
    """

    decision: Decision
    question: tuple[ExplainedCheck, ...] = ()
    groups: tuple[ExplainedGroup, ...] = ()
    not_shown: int = 0


def read_explanation(decision: Decision, answer: pb.ExplainResponse) -> Explanation:
    """Return the explanation in `answer` of the `decision` that was read from it."""
    if decision.unexpected:
        return Explanation(decision)
    return Explanation(
        decision,
        tuple(_check(step) for step in answer.steps),
        tuple(
            ExplainedGroup(tuple(verdict.fields), tuple(_check(step) for step in group.steps))
            for verdict, group in zip(answer.answer.verdicts, answer.groups, strict=False)
        ),
        answer.not_shown,
    )


def _check(step: pb.ExplainStep) -> ExplainedCheck:
    conditions = tuple(
        ExplainedCondition(
            each.attribute,
            each.condition,
            each.value,
            each.source,
            each.result,
            each.clause,
            each.alternative,
        )
        for each in step.conditions
    )
    return ExplainedCheck(
        step.check,
        step.result,
        step.reason,
        step.why,
        step.place,
        step.purpose,
        step.fields,
        conditions,
    )
