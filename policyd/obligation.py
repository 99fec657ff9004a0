"""Obligations that come from several places become one set: they add up, and the strictest value wins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import lcm
from typing import TypeVar

from policyd.model import NO_OBLIGATIONS, Obligations

_T = TypeVar("_T")


def merge(parts: Iterable[Obligations]) -> Obligations:
    """Return what satisfies every part.

    Larger cells, shorter retention, fewer rows and settings; ``round_to`` becomes the least common
    multiple, so that the result is a multiple of each base.
    """
    result = NO_OBLIGATIONS
    for part in parts:
        if part is result or part == NO_OBLIGATIONS:
            continue
        result = part if result == NO_OBLIGATIONS else _both(result, part)
    return result


def _both(a: Obligations, b: Obligations) -> Obligations:
    return Obligations(
        row_years=_intersect(a.row_years, b.row_years),
        row_local_authorities=_intersect(a.row_local_authorities, b.row_local_authorities),
        min_cell_count=_pick(max, a.min_cell_count, b.min_cell_count),
        round_to=_pick(lcm, a.round_to, b.round_to),
        retention_days=_pick(min, a.retention_days, b.retention_days),
        output_check=a.output_check or b.output_check,
        publish_in_register=a.publish_in_register or b.publish_in_register,
        setting=_intersect(a.setting, b.setting),
        exclude_sealed_epoch=_pick(max, a.exclude_sealed_epoch, b.exclude_sealed_epoch),
    )


def _intersect(a: frozenset[_T] | None, b: frozenset[_T] | None) -> frozenset[_T] | None:
    if a is None or b is None:
        return a if b is None else b
    return a & b


def _pick(choose: Callable[[int, int], int], a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return a if b is None else b
    return choose(a, b)
