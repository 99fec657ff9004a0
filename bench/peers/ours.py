"""policyd in four ways: warm, warm with lists never seen, cold, and the step on masks alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from peers.workload import NOW, YEAR, Question, Workload
from policyd.decision.cache import Decider
from policyd.decision.decide import decide
from policyd.decision.entitlement import Entitlement, entitle
from policyd.model import Decision, Effect, FieldMask


def allowed(question: Question, decision: Decision) -> list[bool]:
    """Return of each name whether it may leave, whole or transformed."""
    leaves = {
        name for group in decision.groups if group.effect is not Effect.WITHHOLD for name in group.names
    }
    return [name in leaves for name in question.names]


class Warm:
    """A node that has met these people and agreements before."""

    name = "policyd, warm"

    def __init__(self, workload: Workload) -> None:
        self._decider = Decider(workload.snapshot)

    def answer(self, question: Question) -> Decision:
        """Decide with the entitlement kept."""
        return self._decider.decide(question.request(), NOW)

    allowed = staticmethod(allowed)


class NewList(Warm):
    """The same node, asked for lists of names that it has not met in this order."""

    name = "policyd, warm, new list"

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self._chance = random.Random(workload.seed)  # noqa: S311

    def renew(self, question: Question) -> Question:
        """Shuffle the names: what is kept of a list serves that list alone."""
        names = list(question.fresh().names)
        self._chance.shuffle(names)
        return replace(question, names=tuple(names))


class Cold:
    """A node that meets everybody for the first time."""

    name = "policyd, cold"

    def __init__(self, workload: Workload) -> None:
        self._snapshot = workload.snapshot

    def answer(self, question: Question) -> Decision:
        """Work out the entitlement and decide."""
        return decide(self._snapshot, question.request(), NOW)

    allowed = staticmethod(allowed)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An entitlement as one mask for each verdict, and a question as one mask."""

    leaves: tuple[bool, ...]
    masks: tuple[FieldMask, ...]
    in_year: FieldMask
    asked: FieldMask


class Masks:
    """The step on masks alone: what a caller that speaks in bits would pay."""

    name = "policyd, masks alone"

    def __init__(self, workload: Workload) -> None:
        self._snapshot = workload.snapshot
        self._prepared: dict[tuple[str, int], _Prepared] = {}

    def prepare(self, question: Question) -> None:
        """Turn a question and its entitlement into masks, untimed."""
        entitlement = entitle(self._snapshot, question.request(), now=NOW)
        agreement = entitlement.parties.agreement
        assert agreement is not None
        asked = 0
        for name in question.names:
            column = self._snapshot.policy.index.resolve(name)
            asked |= column.bit if column is not None else 0
        self._prepared[_key(question)] = _Prepared(
            tuple(grade.effect is not Effect.WITHHOLD for grade in entitlement.grades),
            _masks(entitlement),
            agreement.by_year[YEAR],
            asked,
        )

    def answer(self, question: Question) -> list[tuple[int, FieldMask]]:
        """Split the asked mask by verdict."""
        prepared = self._prepared[_key(question)]
        inside = prepared.asked & prepared.in_year
        return [(number, hit) for number, mask in enumerate(prepared.masks) if (hit := mask & inside)]

    def allowed(self, question: Question, answer: list[tuple[int, FieldMask]]) -> list[bool]:
        """Read the masks back."""
        leaves = 0
        for number, hit in answer:
            if self._prepared[_key(question)].leaves[number]:
                leaves |= hit
        resolve = self._snapshot.policy.index.resolve
        columns = [resolve(name) for name in question.names]
        return [column is not None and bool(column.bit & leaves) for column in columns]


def _key(question: Question) -> tuple[str, int]:
    return question.agreement, len(question.names)


def _masks(entitlement: Entitlement) -> tuple[FieldMask, ...]:
    masks = [0] * len(entitlement.grades)
    for position, number in enumerate(entitlement.by_position):
        masks[number] |= 1 << position
    return tuple(masks)
