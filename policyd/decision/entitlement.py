"""Entitlements: what a requester may have of the whole catalogue, before any field is named.

Everything that does not depend on the fields and years of a question is worked out here, once, as a
partition of the catalogue into groups of fields that share a verdict. A question for one field or for
3,800 is then a look-up in the same partition (DESIGN.md section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policyd.decision.combine import Grade, Part, Trial, cross, decide_trial, refused, spread, weigh
from policyd.decision.gates import (
    Admitted,
    Finding,
    Parties,
    Refusal,
    admit,
    question_findings,
    time_boundaries,
)
from policyd.decision.snapshot import Snapshot
from policyd.model import NO_VISAS, FieldMask, Instant, Request
from policyd.policy.conditions import MISSING
from policyd.reasons import GATE_OF, Reason

FOREVER: Instant = 2**62
_AGREEMENT_GATE = GATE_OF[Reason.FIELD_NOT_IN_AGREEMENT]


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The partition: ``grades[k]`` is the verdict on the fields in ``masks[k]``.

    ``by_position`` is the same turned round: the k of each field. ``in_agreement`` are the fields that
    gate 7 and those before it let pass. With a ``refusal`` there are no grades, and all fields are in
    one part. Valid for ``valid_from <= now < valid_until``.
    """

    parties: Parties
    refusal: Grade | None
    grades: tuple[Grade, ...]
    masks: tuple[FieldMask, ...]
    by_position: Sequence[int]
    in_agreement: FieldMask
    valid_from: Instant
    valid_until: Instant


@dataclass(frozen=True, slots=True)
class Examination:
    """What was looked at for a question, whatever its fields and years: the one basis of its decision.

    ``refusal`` is that of gates 1 to 3, after which nothing else is looked at. ``findings`` are of gates 4
    and 5; only when all of them hold, there is a trial for each declared purpose.
    """

    parties: Parties
    admitted: Admitted | None
    refusal: Refusal | None
    findings: Sequence[Finding] = ()
    trials: Sequence[Trial] = ()


def entitle(snapshot: Snapshot, request: Request, *, now: Instant) -> Entitlement:
    """Work out the entitlement behind ``request`` at ``now``; pure, and blind to its fields and years."""
    return settle(snapshot, request, examine(snapshot, request, now=now), now=now)


def examine(snapshot: Snapshot, request: Request, *, now: Instant) -> Examination:
    """Pass the gates for ``request`` and, where it is not refused, weigh each declared purpose.

    Each on its own: together, one purpose would borrow the rule of another (AMENDMENTS.md item 7).
    """
    parties, admitted, refusal = admit(snapshot, request, now=now)
    if admitted is None:
        return Examination(parties, None, refusal)
    purposes = request.claimed.purposes
    findings = question_findings(snapshot, admitted, purposes, now=now)
    if any(finding.reason is not Reason.NONE for finding in findings):
        return Examination(parties, admitted, None, findings)
    trials = []
    for purpose in purposes:
        values = attribute_values(snapshot, admitted, request, purpose, now=now)
        trials.append(weigh(snapshot, admitted, purpose, values))
    return Examination(parties, admitted, None, findings, trials)


def settle(snapshot: Snapshot, request: Request, seen: Examination, *, now: Instant) -> Entitlement:
    """Read the entitlement from what was examined; field by field the most protective verdict wins."""
    token = request.verified.token
    visas = token.visas if token is not None else NO_VISAS
    bounds = time_boundaries(snapshot, seen.parties, visas=visas)
    if seen.admitted is not None:
        bounds += snapshot.policy.times.around(now, _instants(seen.admitted))
    refusal = None if seen.refusal is None else refused(seen.refusal.reason, seen.refusal.check)
    for finding in seen.findings:
        if finding.reason is not Reason.NONE:
            refusal = refused(finding.reason, finding.check)
            break
    parts: list[Part] = []
    if seen.admitted is not None and seen.trials:
        action = request.claimed.action
        parts = cross([decide_trial(snapshot, seen.admitted, action, trial) for trial in seen.trials])
    in_agreement = 0
    for part in parts:
        if part.grade.gate > _AGREEMENT_GATE:
            in_agreement |= part.mask
    return Entitlement(
        parties=seen.parties,
        refusal=refusal,
        grades=tuple(part.grade for part in parts),
        masks=tuple(part.mask for part in parts) or (snapshot.policy.index.all,),
        by_position=spread(parts, len(snapshot.policy.index)),
        in_agreement=in_agreement,
        valid_from=max((bound for bound in bounds if bound <= now), default=-FOREVER),
        valid_until=min((bound for bound in bounds if bound > now), default=FOREVER),
    )


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
