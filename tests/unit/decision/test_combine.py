"""The partition of the catalogue by verdict: complete, without overlap, and the same both ways round."""

from __future__ import annotations

import random

import pytest

from policyd.decision.combine import Grade, Part, cross, refused, spread
from policyd.fieldset import positions
from policyd.model import Effect, Obligations, Step, TransformKind
from policyd.reasons import Reason


def plain(parts: list[Part], size: int) -> list[int]:
    found = [0] * size
    for number, part in enumerate(parts):
        for position in positions(part.mask):
            found[position] = number
    return found


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 63, 64, 65, 400])
@pytest.mark.parametrize("count", [1, 2, 5, 254, 255, 256, 300])
def test_a_partition_turned_round_gives_each_position_its_part(size: int, count: int) -> None:
    """The fast way over big numbers, and the plain one beyond 255 parts, agree with a loop over bits."""
    rng = random.Random(f"{size}/{count}")  # noqa: S311  (cases, not secrets)
    masks = [0] * count
    for position in range(size):
        masks[rng.randrange(count)] |= 1 << position
    parts = [Part(mask, refused(Reason.FIELD_UNKNOWN, "x")) for mask in masks]

    assert list(spread(parts, size)) == plain(parts, size)


def test_no_parts_at_all_spread_to_nothing() -> None:
    """A refused question has no parts; its positions exist and are never looked at."""
    assert list(spread([], 3)) == [0, 0, 0]
    assert list(spread([], 0)) == []


GRADES = [
    Grade(Effect.RELEASE, Reason.NONE, "a1"),
    Grade(Effect.RELEASE, Reason.NONE, "a2", (), Obligations(min_cell_count=5)),
    Grade(Effect.TRANSFORM, Reason.NONE, "a3", (Step(TransformKind.ROUND, amount=5),)),
    Grade(Effect.TRANSFORM, Reason.NONE, "a4", (Step(TransformKind.BAND, amount=5),)),
    refused(Reason.PURPOSE_PROHIBITED, "x"),
    Grade(Effect.WITHHOLD, Reason.DENIED_BY_RULE, "d1"),
    Grade(Effect.WITHHOLD, Reason.DENIED_BY_RULE, "d2"),
    Grade(Effect.WITHHOLD, Reason.RULE_ERROR, "d3"),
]


def test_two_purposes_cross_the_same_in_either_order() -> None:
    """Field by field, reasons, rules, transforms and duties do not depend on which purpose came first."""
    ours = [Part(0b1111 << 4 * at, grade) for at, grade in enumerate(GRADES)]
    theirs = [Part(sum(1 << 4 * at + by for at in range(8)), GRADES[by * 2]) for by in range(4)]

    forward, backward = cross([ours, theirs]), cross([theirs, ours])

    assert {part.mask: part.grade for part in forward} == {part.mask: part.grade for part in backward}
    assert sum(part.mask for part in forward) == (1 << 32) - 1


def test_the_earlier_gate_names_the_reason_of_two_purposes() -> None:
    """PURPOSE_PROHIBITED is gate 8, a deny rule gate 9, and a true deny rule comes before one in error."""
    bit = {grade.rule: [Part(1, grade)] for grade in GRADES}
    prohibited = GRADES[4].rule

    assert cross([bit["d1"], bit[prohibited]])[0].grade.reason is Reason.PURPOSE_PROHIBITED
    assert cross([bit["d3"], bit["d2"]])[0].grade.rule == "d2"
    assert cross([bit["d2"], bit["d1"]])[0].grade.rule == "d1"
    assert cross([bit["a3"], bit["a4"]])[0].grade.reason is Reason.SUPPRESSED
    assert cross([bit["a2"], bit["a3"]])[0].grade == Grade(
        Effect.TRANSFORM,
        Reason.NONE,
        "a3",
        (Step(TransformKind.ROUND, amount=5),),
        Obligations(min_cell_count=5),
    )


def test_the_first_rule_is_named_of_purposes_that_come_to_one_transform() -> None:
    """Of two rules that gave the same verdict the first uid, in whatever order the purposes stand."""
    steps = (Step(TransformKind.ROUND, amount=5),)
    parts = [[Part(1, Grade(Effect.TRANSFORM, Reason.NONE, rule, steps))] for rule in ("a5", "a3", "a4")]

    assert cross(parts)[0].grade.rule == "a3"
