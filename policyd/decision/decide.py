"""Decide one question: pure, from one snapshot and one instant to one answer (DESIGN.md section 2).

No I/O, clock, randomness, logging or locks. The work that does not depend on the fields of the
question is an ``Entitlement``, which callers may keep and pass in again (``policyd.decision.cache``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from operator import itemgetter, or_

from policyd.decision.combine import Grade, refused
from policyd.decision.entitlement import Entitlement, entitle
from policyd.decision.snapshot import Snapshot
from policyd.fieldset import NO_SHEET, Sheet
from policyd.model import (
    Claimed,
    ColumnSet,
    Decision,
    Effect,
    FieldMask,
    Instant,
    Obligations,
    Outcome,
    Request,
    VerdictGroup,
)
from policyd.obligation import merge, unmeetable
from policyd.reasons import GATE_OF, Reason

_AGREEMENT_GATE = GATE_OF[Reason.FIELD_NOT_IN_AGREEMENT]
_UNKNOWN = refused(Reason.FIELD_UNKNOWN, "field")
_WILDCARD = refused(Reason.FIELD_WILDCARD, "wildcard")
_NO_YEAR = refused(Reason.YEAR_MISSING, "years")
_OTHER_YEAR = refused(Reason.YEAR_NOT_IN_AGREEMENT, "years")
_USED = refused(Reason.USED_FIELD_WITHHELD, "used-fields")
_CONFLICT = refused(Reason.OBLIGATION_CONFLICT, "obligations")


def decide(
    snapshot: Snapshot, request: Request, now: Instant, *, entitlement: Entitlement | None = None
) -> Decision:
    """Return the decision on ``request`` at ``now``.

    ``entitlement`` must be that of the same snapshot and the same request but for its fields and
    years, with ``now`` inside its validity; without it, it is worked out here.
    """
    if entitlement is None:
        entitlement = entitle(snapshot, request, now=now)
    claimed = request.claimed
    batches = _sort(snapshot, entitlement, claimed)
    unknown = _unknown(claimed, batches)
    whole = entitlement.refusal
    if whole is None and any(_wildcard(claimed, batch) for batch in batches if batch.grade is _UNKNOWN):
        whole = _WILDCARD
    obligations: Obligations | None = None
    if whole is not None:
        batches = [replace(batch, grade=whole) for batch in batches]
    else:
        batches = _pass_years(snapshot, entitlement, claimed, batches)
        if any(batch.used and batch.grade.effect is Effect.WITHHOLD for batch in batches):
            batches = [_withhold(batch, _USED) for batch in batches]
        obligations = _obligations(snapshot, claimed, batches)
        if obligations is None:
            batches = [_withhold(batch, _CONFLICT) for batch in batches]
    outcome = _outcome(batches)
    if outcome is Outcome.WITHHOLD or obligations is None:
        obligations = Obligations()
    known = 0
    for batch in batches:
        known |= batch.mask
    return assemble(
        snapshot,
        request,
        now,
        entitlement,
        outcome=outcome,
        groups=_group(claimed, batches),
        obligations=obligations,
        known=known,
        unknown=unknown,
    )


@dataclass(slots=True)
class _Batch:
    """Names of one question that share a grade, a term and year, and whether they are only used.

    ``places`` are their indexes in the question, fields first, then used fields.
    """

    grade: Grade
    sheet: Sheet
    used: bool
    places: list[int]
    mask: FieldMask


def _sort(snapshot: Snapshot, entitlement: Entitlement, claimed: Claimed) -> list[_Batch]:
    """Resolve the names and sort them by grade, term and year; the one loop over all of them.

    The loop only deals places into piles. The fields of a pile are those of its sheet that the
    entitlement's part has, one `&` a pile.
    """
    by_position, masks = entitlement.by_position, entitlement.masks
    # A refused question has no grades: one pile, whose grade the refusal then replaces.
    grades = entitlement.grades or (_UNKNOWN,)
    found: list[_Batch] = []
    for used, names in ((False, claimed.fields), (True, claimed.used_fields)):
        sheets: dict[Sheet, tuple[list[list[int]], list[FieldMask]]] = {}
        unknown: list[int] = []
        sheet: Sheet | None = None
        piles: list[list[int]] = []
        bits: list[FieldMask] = []
        columns = snapshot.policy.index.resolve_all(names)
        for place, column in enumerate(columns, start=len(claimed.fields) if used else 0):
            if column is None:
                unknown.append(place)
                continue
            if column.sheet is not sheet:  # names of one term and year mostly come together
                sheet = column.sheet
                if sheet not in sheets:
                    sheets[sheet] = ([[] for _ in grades], [])
                piles, bits = sheets[sheet]
            piles[by_position[column.position]].append(place)
            bits.append(column.bit)
        for sheet, (piles, bits) in sheets.items():
            mask = reduce(or_, bits)
            found += [
                _Batch(grades[part], sheet, used, places, mask & masks[part])
                for part, places in enumerate(piles)
                if places
            ]
        if unknown:
            found.append(_Batch(_UNKNOWN, NO_SHEET, used, unknown, 0))
    return found


def _pass_years(
    snapshot: Snapshot, entitlement: Entitlement, claimed: Claimed, batches: list[_Batch]
) -> list[_Batch]:
    """Withhold columns of years outside the agreement: part of gate 7, after the field itself."""
    passed: list[_Batch] = []
    screens: dict[int, tuple[Grade, FieldMask]] = {}
    for batch in batches:
        if batch.grade.gate <= _AGREEMENT_GATE:
            passed.append(batch)
            continue
        year = batch.sheet[1]
        if year not in screens:
            screens[year] = year_screen(entitlement, claimed, year)
        grade, outside = screens[year]
        if not (hit := batch.mask & outside):
            passed.append(batch)
        elif hit == batch.mask:
            passed.append(replace(batch, grade=grade))
        else:
            passed += _split(snapshot, claimed, batch, hit)
    return passed


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


def _split(snapshot: Snapshot, claimed: Claimed, batch: _Batch, outside: FieldMask) -> list[_Batch]:
    """Part a batch in the columns whose year is outside the agreement and the others."""
    names, resolve = claimed.fields + claimed.used_fields, snapshot.policy.index.resolve
    sides: tuple[list[int], list[int]] = ([], [])
    for place in batch.places:
        column = resolve(names[place])
        sides[column is None or bool(column.bit & outside)].append(place)
    inside = replace(batch, places=sides[0], mask=batch.mask & ~outside)
    return [
        *([inside] if inside.places else []),
        replace(batch, grade=_OTHER_YEAR, places=sides[1], mask=outside),
    ]


def _unknown(claimed: Claimed, batches: list[_Batch]) -> tuple[str, ...]:
    # As sorted: only names that are no field have no bit.
    names = claimed.fields + claimed.used_fields
    return tuple([names[place] for batch in batches if not batch.mask for place in batch.places])


def _wildcard(claimed: Claimed, batch: _Batch) -> bool:
    # Only among unknown names: no column has a `*` (fieldset.pattern_problem).
    names = claimed.fields + claimed.used_fields
    return any("*" in names[place] for place in batch.places)


def _withhold(batch: _Batch, instead: Grade) -> _Batch:
    return batch if batch.grade.effect is Effect.WITHHOLD else replace(batch, grade=instead)


def _outcome(batches: list[_Batch]) -> Outcome:
    effects = {batch.grade.effect for batch in batches}
    if not effects - {Effect.WITHHOLD}:
        return Outcome.WITHHOLD
    return Outcome.PARTIAL if Effect.WITHHOLD in effects else Outcome.RELEASE


def _obligations(snapshot: Snapshot, claimed: Claimed, batches: list[_Batch]) -> Obligations | None:
    """Accumulate the obligations of everything that is not withheld; None when none could meet them."""
    given = [batch for batch in batches if batch.grade.effect is not Effect.WITHHOLD]
    owed = list({id(batch.grade): batch.grade.obligations for batch in given}.values())
    if any(not batch.sheet[1] for batch in given):
        owed.append(Obligations(row_years=frozenset(claimed.years)))
    merged = merge([*owed, Obligations(exclude_sealed_epoch=snapshot.epoch)])
    return None if unmeetable(merged) else merged


def _group(claimed: Claimed, batches: list[_Batch]) -> tuple[VerdictGroup, ...]:
    """Group the names by verdict: groups and names in the order in which they first appear."""
    verdicts: dict[str, list[_Batch]] = {}
    for batch in batches:
        verdicts.setdefault(batch.grade.verdict, []).append(batch)
    names = claimed.fields + claimed.used_fields
    found = []
    for several in verdicts.values():
        grade, places = several[0].grade, several[0].places
        if len(several) > 1:
            places = sorted(chain.from_iterable(batch.places for batch in several))
        sets: tuple[dict[Sheet, FieldMask], dict[Sheet, FieldMask]] = ({}, {})
        for batch in several:
            if batch.mask:  # names that are no field have none
                masks = sets[batch.used]
                masks[batch.sheet] = masks.get(batch.sheet, 0) | batch.mask
        group = VerdictGroup(
            grade.effect,
            grade.reason,
            grade.rule,
            grade.transform,
            names=tuple(dict.fromkeys([names[place] for place in places])),
            released=_column_sets(sets[False]),
            used=_column_sets(sets[True]),
        )
        found.append((places[0], group))
    return tuple(group for _, group in sorted(found, key=itemgetter(0)))


def _column_sets(masks: dict[Sheet, FieldMask]) -> tuple[ColumnSet, ...]:
    return tuple([ColumnSet(*sheet, mask) for sheet, mask in sorted(masks.items())]) if masks else ()


def assemble(
    snapshot: Snapshot,
    request: Request,
    now: Instant,
    entitlement: Entitlement,
    *,
    outcome: Outcome,
    groups: tuple[VerdictGroup, ...],
    obligations: Obligations,
    known: FieldMask,
    unknown: tuple[str, ...] = (),
) -> Decision:
    """Put together what was decided and the facts that gave it; ``known`` are all fields it is about."""
    policy, parties, classes = snapshot.policy, entitlement.parties, snapshot.policy.classes
    agreement = parties.agreement.agreement if parties.agreement else None
    return Decision(
        outcome=outcome,
        groups=groups,
        obligations=obligations,
        identification_risk=next((risk for risk in range(1, 6) if classes.risk[risk] & known), 0),
        sensitivity="".join([letter for letter, mask in classes.sensitivity.items() if mask & known]),
        requester=parties.requester.id if parties.requester else "",
        organisation=parties.organisation.id if parties.organisation else "",
        data_service=parties.service.id if parties.service else "",
        setting=parties.service.setting if parties.service else "",
        agreement=agreement.id if agreement else "",
        gateway=agreement.gateway if agreement else "",
        purposes=tuple([name for name in request.claimed.purposes if name in policy.graph.purposes]),
        action=request.claimed.action,
        policy_digest=policy.digest,
        policy_version=policy.version,
        epoch=snapshot.epoch,
        at=now,
        unknown=unknown,
    )
