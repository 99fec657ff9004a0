"""Decide one question: pure, from one snapshot and one instant to one answer (DESIGN.md section 2).

No I/O, clock, randomness or logging; what is remembered between questions (names resolved, rules that a
value settles) changes no answer. The work that does not depend on the fields of the
question is an ``Entitlement``, which callers may keep and pass in again (``policyd.decision.cache``).
"""

from __future__ import annotations

from collections.abc import Sequence

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
    return assemble(
        snapshot,
        request,
        now,
        entitlement,
        outcome=outcome,
        groups=group_names(claimed, piles),
        obligations=obligations,
        known=known,
        unknown=unknown,
    )


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
