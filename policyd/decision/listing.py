"""List what a requester could have: an entitlement as groups of fields, without naming them one by one.

A listing is a decision too: same authentication, same gates, recorded. It shows only what is not
withheld, and says nothing of why other fields are.
"""

from __future__ import annotations

from dataclasses import replace

from policyd.decision.combine import Grade, refused
from policyd.decision.decide import answer, ruling
from policyd.decision.entitlement import Entitlement, entitle
from policyd.decision.snapshot import Snapshot
from policyd.model import (
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
from policyd.reasons import Reason

_CONFLICT = refused(Reason.OBLIGATION_CONFLICT, "obligations")


def list_fields(
    snapshot: Snapshot,
    request: Request,
    now: Instant,
    *,
    table: str = "",
    entitlement: Entitlement | None = None,
) -> Decision:
    """Return the fields that ``request`` could have in some year of its agreement, as verdict groups.

    The fields and years of the request are ignored. ``table`` keeps the listing to one table, ignoring
    case; a table that does not exist lists nothing. Obligations are those of all listed fields
    together. The outcome is RELEASE when every field is listed, WITHHOLD when none is. A question that
    is refused as a whole has one group, without names, that says why.
    """
    if entitlement is None:
        entitlement = entitle(snapshot, request, now=now)
    wanted = _of_table(snapshot, table)
    masks: dict[Grade, FieldMask] = {}
    whole = entitlement.refusal
    if whole is None:
        wanted_in_some_year = wanted & _in_some_year(entitlement)
        for grade, mask in zip(entitlement.grades, entitlement.masks, strict=True):
            if grade.effect is not Effect.WITHHOLD and (hit := mask & wanted_in_some_year):
                masks[grade] = hit  # grades are unique in an entitlement
    obligations = merge(grade.obligations for grade in masks)
    if unmeetable(obligations):
        masks, whole = {}, _CONFLICT
    listed = 0
    for mask in masks.values():
        listed |= mask
    outcome = Outcome.WITHHOLD if not listed else Outcome.RELEASE if listed == wanted else Outcome.PARTIAL
    ruled = ruling(
        snapshot,
        outcome,
        groups=_groups(snapshot, masks) if whole is None else (_without_names(whole),),
        obligations=replace(obligations, exclude_sealed_epoch=snapshot.epoch) if listed else Obligations(),
        known=listed,
    )
    return answer(snapshot, request, now, entitlement, ruled)


def _of_table(snapshot: Snapshot, table: str) -> FieldMask:
    if not table:
        return snapshot.policy.index.all
    mask = 0
    for position, field in enumerate(snapshot.policy.fields):
        if field.table.lower() == table.lower():
            mask |= 1 << position
    return mask


def _in_some_year(entitlement: Entitlement) -> FieldMask:
    agreement = entitlement.parties.agreement
    mask = 0
    for fields in agreement.by_year.values() if agreement is not None else ():
        mask |= fields
    return mask


def _groups(snapshot: Snapshot, masks: dict[Grade, FieldMask]) -> tuple[VerdictGroup, ...]:
    """Merge what differs only in obligations, and order by first field."""
    merged: dict[str, tuple[Grade, FieldMask]] = {}
    for grade, mask in masks.items():
        merged[grade.verdict] = (grade, merged.get(grade.verdict, (grade, 0))[1] | mask)
    return tuple(
        replace(
            _without_names(grade),
            names=snapshot.policy.index.names(mask),
            released=(ColumnSet("", 0, mask),),
        )
        for grade, mask in sorted(merged.values(), key=lambda each: each[1] & -each[1])
    )


def _without_names(grade: Grade) -> VerdictGroup:
    return VerdictGroup(grade.effect, grade.reason, grade.rule, grade.transform, names=())
