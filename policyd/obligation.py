"""Obligations that come from several places become one set: they add up, and the strictest value wins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import lcm
from typing import TypeVar

from policyd.model import NO_OBLIGATIONS, Obligations

MAX_ROUND_TO = 2**31 - 1
"""The largest base that counts can be rounded to, on the wire and in sense."""

_T = TypeVar("_T")


def merge(parts: Iterable[Obligations]) -> Obligations:
    """Return what satisfies every part.

    Larger cells, shorter retention, fewer rows and settings; ``round_to`` becomes the least common
    multiple, so that the result is a multiple of each base.
    """
    distinct = {id(part): part for part in parts if part is not NO_OBLIGATIONS}
    if len(distinct) < 2:
        return next(iter(distinct.values()), NO_OBLIGATIONS)
    years = authorities = setting = cells = base = days = epoch = None
    output_check = publish = False
    for part in distinct.values():
        years = _intersect(years, part.row_years)
        authorities = _intersect(authorities, part.row_local_authorities)
        setting = _intersect(setting, part.setting)
        cells = _pick(max, cells, part.min_cell_count)
        base = _pick(lcm, base, part.round_to)
        days = _pick(min, days, part.retention_days)
        epoch = _pick(max, epoch, part.exclude_sealed_epoch)
        output_check = output_check or part.output_check
        publish = publish or part.publish_in_register
    return Obligations(
        row_years=years,
        row_local_authorities=authorities,
        min_cell_count=cells,
        round_to=base,
        retention_days=days,
        output_check=output_check,
        publish_in_register=publish,
        setting=setting,
        exclude_sealed_epoch=epoch,
    )


def unmeetable(owed: Obligations) -> bool:
    """Return whether no data service could meet these and still release anything."""
    no_setting, no_year = owed.setting == frozenset(), owed.row_years == frozenset()
    return no_setting or no_year or (owed.round_to or 0) > MAX_ROUND_TO


def _intersect(a: frozenset[_T] | None, b: frozenset[_T] | None) -> frozenset[_T] | None:
    if a is None or b is None:
        return a if b is None else b
    return a & b


def _pick(choose: Callable[[int, int], int], a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return a if b is None else b
    return choose(a, b)
