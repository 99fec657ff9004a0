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
    years: frozenset[int] | None = None
    authorities: frozenset[str] | None = None
    setting: frozenset[str] | None = None
    cells: int | None = None
    base: int | None = None
    days: int | None = None
    epoch: int | None = None
    output_check = publish = False
    for part in distinct.values():
        # Most of it is None in most parts; asking first is cheaper than a call.
        if part.row_years is not None:
            years = _intersect(years, part.row_years)
        if part.row_local_authorities is not None:
            authorities = _intersect(authorities, part.row_local_authorities)
        if part.setting is not None:
            setting = _intersect(setting, part.setting)
        if part.min_cell_count is not None:
            cells = _pick(max, cells, part.min_cell_count)
        if part.round_to is not None:
            base = _pick(lcm, base, part.round_to)
        if part.retention_days is not None:
            days = _pick(min, days, part.retention_days)
        if part.exclude_sealed_epoch is not None:
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


def _intersect(had: frozenset[_T] | None, stated: frozenset[_T]) -> frozenset[_T]:
    return stated if had is None else had & stated


def _pick(choose: Callable[[int, int], int], had: int | None, stated: int) -> int:
    return stated if had is None else choose(had, stated)
