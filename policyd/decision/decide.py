"""Decide one question: pure, from one snapshot and one instant to one answer (DESIGN.md section 2).

No I/O, clock, randomness or logging; what is remembered between questions (names resolved, rules that a
value settles) changes no answer. It is done in three steps, and callers may keep what the first two gave
(``policyd.decision.cache``): an ``Entitlement`` depends on no field of the question, a ``Ruling`` on its
fields and years too, and the answer adds who asked and when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policyd.decision.asked import UNKNOWN, Pile, group_names, sort_names
from policyd.decision.combine import Grade, refused
from policyd.decision.entitlement import Entitlement, entitle
from policyd.decision.snapshot import Snapshot
from policyd.model import (
    NO_OBLIGATIONS,
    Claimed,
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

_WILDCARD = refused(Reason.FIELD_WILDCARD, "wildcard")
_USED = refused(Reason.USED_FIELD_WITHHELD, "used-fields")
_CONFLICT = refused(Reason.OBLIGATION_CONFLICT, "obligations")


@dataclass(frozen=True, slots=True)
class Ruling:
    """What was ruled on the fields and years of a question, whoever asks and whenever, inside an entitlement.

    ``identification_risk`` is the most severe of its known fields (0: none known), ``sensitivity`` the
    letters of all. ``unknown`` are the names that are no field.
    """

    outcome: Outcome
    groups: tuple[VerdictGroup, ...]
    obligations: Obligations
    identification_risk: int
    sensitivity: str
    unknown: tuple[str, ...]


def decide(
    snapshot: Snapshot, request: Request, now: Instant, *, entitlement: Entitlement | None = None
) -> Decision:
    """Return the decision on ``request`` at ``now``.

    ``entitlement`` must be that of the same snapshot and the same request but for its fields and
    years, with ``now`` inside its validity; without it, it is worked out here.
    """
    if entitlement is None:
        entitlement = entitle(snapshot, request, now=now)
    return answer(snapshot, request, now, entitlement, rule(snapshot, request.claimed, entitlement))


def rule(snapshot: Snapshot, claimed: Claimed, entitlement: Entitlement) -> Ruling:
    """Rule on the fields, used fields and years of a question; of ``claimed`` nothing else is looked at."""
    piles = sort_names(snapshot.policy.index, entitlement, claimed)
    # Only names that are no field have no column.
    unknown = tuple([name for pile in piles if not pile.sets for name in pile.names])
    whole = entitlement.refusal
    if whole is None and any(pile.grade is UNKNOWN and _wildcard(pile) for pile in piles):
        whole = _WILDCARD
    obligations: Obligations | None = None
    if whole is not None:
        for pile in piles:
            pile.grade = whole
    else:
        if claimed.used_fields and any(pile.used and pile.withheld for pile in piles):
            _withhold(piles, _USED)
        obligations = _obligations(snapshot, claimed, piles)
        if obligations is None:
            _withhold(piles, _CONFLICT)
    outcome = _outcome(piles)
    if outcome is Outcome.WITHHOLD or obligations is None:
        obligations = NO_OBLIGATIONS
    known = 0
    for pile in piles:
        for each in pile.sets:
            known |= each.mask
    groups = group_names(claimed, piles)
    return ruling(snapshot, outcome, groups=groups, obligations=obligations, known=known, unknown=unknown)


def _wildcard(pile: Pile) -> bool:
    # Only among unknown names: no column has a `*` (fieldset.pattern_problem).
    return any("*" in name for name in pile.names)


def _withhold(piles: Sequence[Pile], instead: Grade) -> None:
    """Withhold what is not withheld yet."""
    for pile in piles:
        if not pile.withheld:
            pile.grade = instead


def _outcome(piles: Sequence[Pile]) -> Outcome:
    effects = {pile.grade.effect for pile in piles}
    if not effects - {Effect.WITHHOLD}:
        return Outcome.WITHHOLD
    return Outcome.PARTIAL if Effect.WITHHOLD in effects else Outcome.RELEASE


def _obligations(snapshot: Snapshot, claimed: Claimed, piles: Sequence[Pile]) -> Obligations | None:
    """Accumulate the obligations of everything that is not withheld; None when none could meet them."""
    given = [pile for pile in piles if not pile.withheld]
    without_year = any(not each.year for pile in given for each in pile.sets)
    own = Obligations(
        row_years=frozenset(claimed.years) if without_year else None, exclude_sealed_epoch=snapshot.epoch
    )
    merged = merge([*[pile.grade.obligations for pile in given], own])
    return None if unmeetable(merged) else merged


def ruling(
    snapshot: Snapshot,
    outcome: Outcome,
    *,
    groups: tuple[VerdictGroup, ...],
    obligations: Obligations,
    known: FieldMask,
    unknown: tuple[str, ...] = (),
) -> Ruling:
    """Return the ruling with what the catalogue says of the fields that it is about, ``known``."""
    classes = snapshot.policy.classes
    return Ruling(
        outcome=outcome,
        groups=groups,
        obligations=obligations,
        identification_risk=next((risk for risk in range(1, 6) if classes.risk[risk] & known), 0),
        sensitivity="".join([letter for letter, mask in classes.sensitivity.items() if mask & known]),
        unknown=unknown,
    )


def answer(
    snapshot: Snapshot, request: Request, now: Instant, entitlement: Entitlement, ruled: Ruling
) -> Decision:
    """Put together what was ruled and the facts that gave it."""
    policy, parties = snapshot.policy, entitlement.parties
    agreement = parties.agreement.agreement if parties.agreement else None
    return Decision(
        outcome=ruled.outcome,
        groups=ruled.groups,
        obligations=ruled.obligations,
        identification_risk=ruled.identification_risk,
        sensitivity=ruled.sensitivity,
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
        unknown=ruled.unknown,
    )
