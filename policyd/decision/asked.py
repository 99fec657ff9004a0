"""The names of a question: dealt out by verdict, and grouped by it for the answer.

Verdicts are found on masks: a list of names is one mask for each term and year, an entitlement one mask
for each of its parts. Single names are only looked up and dealt out, whatever the rules are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import cast

from policyd.decision.combine import Grade, refused
from policyd.decision.entitlement import Entitlement
from policyd.fieldset import Column, FieldIndex, Sheet
from policyd.model import Claimed, ColumnSet, Effect, FieldMask, VerdictGroup
from policyd.reasons import Reason

UNKNOWN = refused(Reason.FIELD_UNKNOWN, "field")
_NO_YEAR = refused(Reason.YEAR_MISSING, "years")
_OTHER_YEAR = refused(Reason.YEAR_NOT_IN_AGREEMENT, "years")


@dataclass(slots=True)
class Pile:
    """Names of one list that share a grade, in the order in which they were asked, and their fields.

    ``sets`` are in order of term and year; names that are no field have none. ``repeats`` says that some
    name may be there twice.
    """

    grade: Grade
    names: list[str]
    sets: tuple[ColumnSet, ...]
    used: bool
    repeats: bool

    @property
    def withheld(self) -> bool:
        """Whether its names are withheld."""
        return self.grade.effect is Effect.WITHHOLD


def sort_names(index: FieldIndex, entitlement: Entitlement, claimed: Claimed) -> list[Pile]:
    """Sort the names that leave, then those that are used, by grade, in order of their first names.

    Under a refusal the grades mean nothing.
    """
    found: list[Pile] = []
    for used, names in ((False, claimed.fields), (True, claimed.used_fields)):
        if names:
            found += _sort(index, entitlement, claimed, names, used=used)
    return found


def _sort(
    index: FieldIndex, entitlement: Entitlement, claimed: Claimed, names: tuple[str, ...], *, used: bool
) -> list[Pile]:
    asked = index.resolve_all(names)
    by_position, masks = entitlement.by_position, entitlement.masks
    grades = entitlement.grades or (UNKNOWN,)
    dealt: defaultdict[int, list[str]] = defaultdict(list)
    for position, name in zip(asked.positions, asked.columns, strict=True):
        dealt[by_position[position]].append(name)
    piles = [
        Pile(grades[part], several, _column_sets(asked.sheets, masks[part]), used, asked.repeats)
        for part, several in dealt.items()
    ]
    late: dict[Sheet, tuple[Grade, FieldMask]] = {}
    for sheet, mask in asked.sheets:
        grade, outside = year_screen(entitlement, claimed, sheet[1])
        if hit := mask & outside & entitlement.in_agreement:
            late[sheet] = (grade, hit)
    if late:
        piles = [each for pile in piles for each in _withhold_late(index, pile, late)]
    if asked.unknown:
        piles.append(Pile(UNKNOWN, list(asked.unknown), (), used, repeats=True))
    if len(piles) > len(dealt):
        piles.sort(key=lambda pile: names.index(pile.names[0]))
    return piles


def _withhold_late(
    index: FieldIndex, pile: Pile, late: Mapping[Sheet, tuple[Grade, FieldMask]]
) -> list[Pile]:
    """Part a pile in columns of years outside the agreement and the others.

    This is part of gate 7, after the field itself: what that gate or an earlier one withheld stays.
    """
    masks = {(each.term, each.year): each.mask for each in pile.sets}
    outside = {sheet: hit for sheet, (_, fields) in late.items() if (hit := masks.get(sheet, 0) & fields)}
    if not outside:
        return [pile]
    inside = [(sheet, mask & ~outside.get(sheet, 0)) for sheet, mask in masks.items()]
    staying = replace(pile, names=[], sets=_column_sets(inside, -1))
    moved: dict[str, Pile] = {}
    for sheet in masks:
        if hit := outside.get(sheet, 0):
            grade = late[sheet][0]
            to = moved.setdefault(grade.verdict, replace(pile, grade=grade, names=[], sets=()))
            to.sets += (ColumnSet(*sheet, hit),)
    if not staying.sets and len(moved) == 1:
        to.names = pile.names
        return [to]
    for name in pile.names:
        column = cast("Column", index.resolve(name))  # only columns are dealt out by part
        if column.bit & outside.get(column.sheet, 0):
            moved[late[column.sheet][0].verdict].names.append(name)
        else:
            staying.names.append(name)
    return [each for each in (staying, *moved.values()) if each.names]


def _column_sets(sheets: Iterable[tuple[Sheet, FieldMask]], within: FieldMask) -> tuple[ColumnSet, ...]:
    """Return the columns of ``sheets`` whose fields are in ``within``."""
    return tuple([ColumnSet(term, year, hit) for (term, year), mask in sheets if (hit := mask & within)])


def year_screen(entitlement: Entitlement, claimed: Claimed, year: int) -> tuple[Grade, FieldMask]:
    """Return the fields whose columns of ``year`` are withheld for it, with the verdict on them.

    Year 0 stands for columns that name none: those are of the years that the question states.
    """
    agreement = entitlement.parties.agreement
    by_year = agreement.by_year if agreement is not None else {}
    if not year and not claimed.years:
        return _NO_YEAR, -1
    inside: FieldMask = -1
    for each in (year,) if year else claimed.years:
        inside &= by_year.get(each, 0)
    return _OTHER_YEAR, ~inside


def group_names(claimed: Claimed, piles: Sequence[Pile]) -> tuple[VerdictGroup, ...]:
    """Group the names by verdict: groups and names in the order in which they first appear."""
    verdicts: dict[str, list[Pile]] = {}
    for pile in piles:
        verdicts.setdefault(pile.grade.verdict, []).append(pile)
    return tuple([_group(claimed, several) for several in verdicts.values()])


def _group(claimed: Claimed, piles: Sequence[Pile]) -> VerdictGroup:
    first = piles[0]
    names = first.names
    released, used = ((), first.sets) if first.used else (first.sets, ())
    if len(piles) > 1:
        theirs = {name for pile in piles for name in pile.names}
        names = [name for name in claimed.fields + claimed.used_fields if name in theirs]
        released = _together(pile for pile in piles if not pile.used)
        used = _together(pile for pile in piles if pile.used)
    if len(piles) > 1 or first.repeats:
        names = list(dict.fromkeys(names))
    grade = first.grade
    return VerdictGroup(grade.effect, grade.reason, grade.rule, grade.transform, tuple(names), released, used)


def _together(piles: Iterable[Pile]) -> tuple[ColumnSet, ...]:
    masks: dict[Sheet, FieldMask] = {}
    for each in chain.from_iterable(pile.sets for pile in piles):
        sheet = (each.term, each.year)
        masks[sheet] = masks.get(sheet, 0) | each.mask
    return _column_sets(sorted(masks.items()), -1)
