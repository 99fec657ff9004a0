"""Decide one question: pure, from one snapshot and one instant to one answer (DESIGN.md section 2).

No I/O, clock, randomness, logging or locks. The work that does not depend on the fields of the
question is an ``Entitlement``, which callers may keep and pass in again (``policyd.decision.cache``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from policyd.decision.combine import Grade, refused
from policyd.decision.entitlement import Entitlement, entitle
from policyd.decision.snapshot import Snapshot
from policyd.fieldset import Column
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
from policyd.obligation import merge
from policyd.purpose import PurposeError
from policyd.reasons import GATE_OF, Reason

Asked = tuple[str, Column | None]
"""A name of the question and what it resolved to; None when it is no field."""

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
    resolve = snapshot.policy.index.resolve
    fields = [(name, resolve(name)) for name in claimed.fields]
    used = [(name, resolve(name)) for name in claimed.used_fields]
    known = _mask(column for _, column in fields + used)
    grading = _Grading(entitlement, claimed)
    whole = entitlement.refusal
    if whole is None and any("*" in name for name, _ in fields + used):
        whole = _WILDCARD
    if whole is None:
        grades_used = [grading.grade(each) for each in used]
        grades = [grading.grade(each) for each in fields]
        if any(grade.effect is Effect.WITHHOLD for grade in grades_used):
            grades = [_withhold(grade, _USED) for grade in grades]
            grades_used = [_withhold(grade, _USED) for grade in grades_used]
        obligations = _obligations(snapshot, claimed, fields + used, grades + grades_used)
        if obligations is None:
            grades = [_withhold(grade, _CONFLICT) for grade in grades]
            grades_used = [_withhold(grade, _CONFLICT) for grade in grades_used]
    else:
        grades, grades_used, obligations = [whole] * len(fields), [whole] * len(used), None
    outcome = _outcome(grades + grades_used)
    if outcome is Outcome.WITHHOLD or obligations is None:
        obligations = Obligations()
    return _assemble(
        snapshot,
        request,
        now,
        entitlement,
        outcome=outcome,
        groups=_group(fields, grades, used, grades_used),
        obligations=obligations,
        known=known,
    )


class _Grading:
    """Gives each name its grade: the entitlement's, unless the name or its year fails before that."""

    def __init__(self, entitlement: Entitlement, claimed: Claimed) -> None:
        self._entitlement = entitlement
        agreement = entitlement.parties.agreement
        self._by_year = agreement.by_year if agreement is not None else {}
        self._stated_years = claimed.years
        self._in_every_year: FieldMask = -1
        for year in claimed.years:
            self._in_every_year &= self._by_year.get(year, 0)

    def grade(self, asked: Asked) -> Grade:
        """Return the grade of one name; the year is part of gate 7, after the field itself."""
        column = asked[1]
        if column is None:
            return _UNKNOWN
        grade = self._entitlement.grades[self._entitlement.by_position[column.position]]
        if grade.gate <= _AGREEMENT_GATE:
            return grade
        if column.year:
            return grade if self._by_year.get(column.year, 0) & column.bit else _OTHER_YEAR
        if not self._stated_years:
            return _NO_YEAR
        return grade if self._in_every_year & column.bit else _OTHER_YEAR


def _withhold(grade: Grade, instead: Grade) -> Grade:
    return grade if grade.effect is Effect.WITHHOLD else instead


def _outcome(grades: list[Grade]) -> Outcome:
    withheld = sum(grade.effect is Effect.WITHHOLD for grade in grades)
    if withheld == 0:
        return Outcome.RELEASE
    return Outcome.WITHHOLD if withheld == len(grades) else Outcome.PARTIAL


def _obligations(
    snapshot: Snapshot, claimed: Claimed, asked: list[Asked], grades: list[Grade]
) -> Obligations | None:
    """Accumulate the obligations of everything that is not withheld; None when none could meet them."""
    owed = {id(grade): grade.obligations for grade in grades if grade.effect is not Effect.WITHHOLD}
    merged = merge(owed.values())
    without_year = any(
        column is not None and not column.year and grade.effect is not Effect.WITHHOLD
        for (_, column), grade in zip(asked, grades, strict=True)
    )
    if without_year:
        merged = merge((merged, Obligations(row_years=frozenset(claimed.years))))
    if merged.setting == frozenset() or merged.row_years == frozenset():
        return None  # no setting, or no row of any year, would meet them all
    return replace(merged, exclude_sealed_epoch=snapshot.epoch)


def _mask(columns: Iterable[Column | None]) -> FieldMask:
    mask = 0
    for column in columns:
        if column is not None:
            mask |= column.bit
    return mask


def _group(
    fields: list[Asked], grades: list[Grade], used: list[Asked], grades_used: list[Grade]
) -> tuple[VerdictGroup, ...]:
    """Group the names by verdict, in the order in which verdicts first appear."""
    groups: dict[tuple[object, ...], _Group] = {}
    for asked, given, leaves in ((fields, grades, True), (used, grades_used, False)):
        for (name, column), grade in zip(asked, given, strict=True):
            key = (grade.effect, grade.reason, grade.rule, grade.transform)
            group = groups.get(key)
            if group is None:
                group = groups[key] = _Group(grade)
            group.add(name, column, leaves=leaves)
    return tuple(group.freeze() for group in groups.values())


class _Group:
    """One verdict group while its names are being collected."""

    def __init__(self, grade: Grade) -> None:
        self._grade = grade
        self._names: dict[str, None] = {}
        self._sets: tuple[dict[tuple[str, int], FieldMask], ...] = ({}, {})

    def add(self, name: str, column: Column | None, *, leaves: bool) -> None:
        self._names[name] = None
        if column is not None:
            sets = self._sets[0 if leaves else 1]
            key = (column.term, column.year)
            sets[key] = sets.get(key, 0) | column.bit

    def freeze(self) -> VerdictGroup:
        released, used = (
            tuple(ColumnSet(term, year, mask) for (term, year), mask in sorted(sets.items()))
            for sets in self._sets
        )
        grade = self._grade
        names = tuple(self._names)
        return VerdictGroup(grade.effect, grade.reason, grade.rule, grade.transform, names, released, used)


def _assemble(
    snapshot: Snapshot,
    request: Request,
    now: Instant,
    entitlement: Entitlement,
    *,
    outcome: Outcome,
    groups: tuple[VerdictGroup, ...],
    obligations: Obligations,
    known: FieldMask,
) -> Decision:
    policy, parties, classes = snapshot.policy, entitlement.parties, snapshot.policy.classes
    agreement = parties.agreement.agreement if parties.agreement else None
    return Decision(
        outcome=outcome,
        groups=groups,
        obligations=obligations,
        identification_risk=next((risk for risk in range(1, 6) if classes.risk[risk] & known), 0),
        sensitivity="".join(letter for letter, mask in sorted(classes.sensitivity.items()) if mask & known),
        requester=parties.requester.id if parties.requester else "",
        organisation=parties.organisation.id if parties.organisation else "",
        data_service=parties.service.id if parties.service else "",
        setting=parties.service.setting if parties.service else "",
        agreement=agreement.id if agreement else "",
        gateway=agreement.gateway if agreement else "",
        purposes=tuple(name for name in request.claimed.purposes if _exists(snapshot, name)),
        action=request.claimed.action,
        policy_digest=policy.digest,
        policy_version=policy.version,
        epoch=snapshot.epoch,
        at=now,
    )


def _exists(snapshot: Snapshot, purpose: str) -> bool:
    try:
        return bool(snapshot.policy.graph.bit(purpose))
    except PurposeError:
        return False
