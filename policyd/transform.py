"""Transforms of a value, and the partial order that says which is more protective.

``f`` is at least as protective as ``g`` when what ``f`` leaves can be computed from what ``g`` leaves.
``join(f, g)`` is the least protective transform we know that is at least as protective as both, and
``suppress`` where we know none (docs/adr/0004-transforms.md has the proofs).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from policyd.model import Step, Transform, TransformKind

SUPPRESS: Transform = (Step(TransformKind.SUPPRESS),)
MAX_AMOUNT = 2**31
"""The widest band and the coarsest base; a join beyond it is ``suppress``."""

UNIT_CHAINS: tuple[tuple[str, ...], ...] = (
    ("month", "year"),
    ("outward-postcode", "postcode-area"),
)
"""Units of ``generalise``: within a chain each is coarser than the one before it.

An academic year is not computable from a calendar year, nor the other way round, so it stands in no
chain with them; it is computable from a month.
"""
UNITS: frozenset[str] = frozenset(unit for chain in UNIT_CHAINS for unit in chain) | {"academic-year"}
_COARSER: frozenset[tuple[str, str]] = frozenset(
    {("month", "year"), ("month", "academic-year"), ("outward-postcode", "postcode-area")}
)


def join(first: Transform, second: Transform) -> Transform:
    """Return a transform at least as protective as both; commutative, associative and idempotent.

    The empty transform (leave the value as it is) is the least element, ``suppress`` the greatest.
    """
    if first == second or not second:
        return first
    if not first:
        return second
    if SUPPRESS in (first, second):
        return SUPPRESS
    caps = [step.amount for step in first + second if step.kind is TransformKind.TOP_CODE]
    rest = sorted({step for step in first + second if step.kind is not TransformKind.TOP_CODE})
    if caps and any(step.kind not in _MONOTONE for step in rest):
        return SUPPRESS
    if len({step.kind for step in rest}) > 1:
        return SUPPRESS
    steps = [Step(TransformKind.TOP_CODE, amount=min(caps))] if caps else []
    while len(rest) > 1:
        merged = _merge(rest[0], rest[1])
        if merged is None:
            return SUPPRESS
        rest[:2] = [merged]
    return tuple(steps + rest)


def describe(transform: Transform) -> str:
    """Write a transform as policy tests do: ``generalise:year``, ``top_code:60 then round:5``."""
    return " then ".join(str(step) for step in transform)


def _merge(first: Step, second: Step) -> Step | None:
    return _MERGES[first.kind](first, second)


def _merge_units(first: Step, second: Step) -> Step | None:
    if (first.to, second.to) in _COARSER:
        return second
    return first if (second.to, first.to) in _COARSER else None


def _merge_bands(first: Step, second: Step) -> Step | None:
    width = math.lcm(first.amount, second.amount)
    return Step(TransformKind.BAND, amount=width) if width <= MAX_AMOUNT else None


def _merge_rounds(first: Step, second: Step) -> Step | None:
    # Cells of rounding to b are unions of cells of rounding to a only when b is an odd multiple of a:
    # rounding to 10 tells 4 from 6, which rounding to 5 does not. Halves go up (decision.proto); were
    # they to go to the even multiple, not even odd multiples would do.
    base = math.lcm(first.amount, second.amount)
    odd = base // first.amount % 2 == 1 and base // second.amount % 2 == 1
    return Step(TransformKind.ROUND, amount=base) if odd and base <= MAX_AMOUNT else None


def _same_only(first: Step, second: Step) -> Step | None:
    return first if first == second else None


_MONOTONE = frozenset({TransformKind.BAND, TransformKind.ROUND})
"""Kinds that keep order, so that a cap before them equals a cap after them."""
_MERGES: dict[TransformKind, Callable[[Step, Step], Step | None]] = {
    TransformKind.GENERALISE: _merge_units,
    TransformKind.BAND: _merge_bands,
    TransformKind.ROUND: _merge_rounds,
    TransformKind.PSEUDONYMISE: _same_only,
}
