"""Entitlements: what a requester may have of the whole catalogue, before any field is named.

Everything that does not depend on the fields and years of a question is worked out here, once, as a
partition of the catalogue into groups of fields that share a verdict. A question for one field or for
3,800 is then a look-up in the same partition (DESIGN.md section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policyd.decision.combine import Grade, Part, cross, decide_purpose, refused, spread
from policyd.decision.gates import (
    Admitted,
    Parties,
    Refusal,
    admit,
    gateway_refusal,
    purpose_refusal,
    time_boundaries,
)
from policyd.decision.snapshot import Snapshot
from policyd.model import FieldMask, Instant, Request
from policyd.policy.conditions import MISSING
from policyd.reasons import Reason

FOREVER: Instant = 2**62


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The partition: ``grades[k]`` is the verdict on the fields in ``masks[k]``.

    ``by_position`` is the same turned round: the k of each field. With a ``refusal`` there are no
    grades, and all fields are in one part. Valid for ``valid_from <= now < valid_until``.
    """

    parties: Parties
    refusal: Grade | None
    grades: tuple[Grade, ...]
    masks: tuple[FieldMask, ...]
    by_position: Sequence[int]
    valid_from: Instant
    valid_until: Instant


def entitle(snapshot: Snapshot, request: Request, *, now: Instant) -> Entitlement:
    """Work out the entitlement behind ``request`` at ``now``; pure, and blind to its fields and years."""
    parties, admitted, refusal = admit(snapshot, request, now=now)
    bounds = time_boundaries(snapshot, parties)
    if admitted is not None:
        bounds += snapshot.policy.times.around(now, _instants(admitted))
    valid_from = max((bound for bound in bounds if bound <= now), default=-FOREVER)
    valid_until = min((bound for bound in bounds if bound > now), default=FOREVER)
    parts: list[Part] = []
    if admitted is not None:
        refusal = _refuse_purposes(snapshot, admitted, request, now=now)
        if refusal is None:
            parts = _decide_purposes(snapshot, admitted, request, now=now)
    return Entitlement(
        parties=parties,
        refusal=None if refusal is None else refused(refusal.reason, refusal.check),
        grades=tuple(part.grade for part in parts),
        masks=tuple(part.mask for part in parts) or (snapshot.policy.index.all,),
        by_position=spread(parts, len(snapshot.policy.index)),
        valid_from=valid_from,
        valid_until=valid_until,
    )


def _refuse_purposes(
    snapshot: Snapshot, admitted: Admitted, request: Request, *, now: Instant
) -> Refusal | None:
    """Pass gate 4 and the first half of gate 5 for every declared purpose; all must pass."""
    purposes = request.claimed.purposes
    if not purposes:
        return Refusal(Reason.PURPOSE_MISSING, "purpose")
    for purpose in purposes:
        if (refusal := purpose_refusal(snapshot, admitted.agreement, purpose)) is not None:
            return refusal
    for purpose in purposes:
        if (refusal := gateway_refusal(snapshot, admitted, purpose, now=now)) is not None:
            return refusal
    return None


def _decide_purposes(snapshot: Snapshot, admitted: Admitted, request: Request, *, now: Instant) -> list[Part]:
    """Decide each declared purpose on its own; field by field the most protective verdict wins.

    Deciding them together would let one purpose borrow the rule of another (AMENDMENTS.md item 7).
    """
    several = []
    for purpose in request.claimed.purposes:
        values = attribute_values(snapshot, admitted, request, purpose, now=now)
        several.append(decide_purpose(snapshot, admitted, purpose, request.claimed.action, values))
    return cross(several)


def attribute_values(
    snapshot: Snapshot, admitted: Admitted, request: Request, purpose: str, *, now: Instant
) -> Mapping[str, object]:
    """Return the attributes of everything but the field, for one declared purpose.

    Only what was verified or registered is here; of what the caller claims, nothing but the purpose
    and the action, which gates 3 and 4 have checked against the agreement.
    """
    graph = snapshot.policy.graph
    agreement = admitted.agreement.agreement
    record = admitted.standing.record
    return {
        "requester.id": admitted.requester.id,
        "organisation.id": admitted.organisation.id,
        "organisation.kind": admitted.organisation.kind,
        "organisation.commercial": admitted.organisation.commercial,
        "accreditation.scheme": agreement.scheme,
        "accreditation.level": MISSING if record is None else record.level.value,
        "accreditation.status": admitted.standing.status.value,
        # SECURITY: roles come from the registry alone. A token that could name fewer would give more
        # when it lost the claim.
        "roles": admitted.requester.roles,
        "action": request.claimed.action.value,
        "data_service.id": admitted.service.id,
        "setting": admitted.service.setting,
        "purpose": purpose,
        "purpose_within": frozenset(graph.names(graph.up(graph.bit(purpose)))),
        "purpose_notice": bool(graph.purposes[purpose].notice),
        "gateway": agreement.gateway,
        "agreement.id": agreement.id,
        "agreement.basis": agreement.basis,
        "agreement.article9": agreement.article9,
        "agreement.compatibility": agreement.compatibility,
        "agreement.exemption": agreement.exemption,
        "now": now,
        **_instants(admitted),
    }


def _instants(admitted: Admitted) -> Mapping[str, object]:
    """Return every attribute of type instant but the clock: with them a condition changes over time."""
    record = admitted.standing.record
    return {"accreditation.until": MISSING if record is None else record.until_at}
