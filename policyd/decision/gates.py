"""Gates 1 to 5: what must hold before any field is looked at (DESIGN.md section 3.2).

Gates are code and no rule can loosen them. The first three stop at the first reason to refuse, gates 4
and 5 find all of them. The order is that of the section with one change: whose agreement it is comes
before its dates, so that nobody learns the state of somebody else's (docs/adr/0003-order-of-gates.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from policyd.decision.accreditation import Standing, boundaries, standing
from policyd.decision.snapshot import CompiledAgreement, Snapshot
from policyd.model import (
    NO_VISAS,
    AccreditationStatus,
    Claimed,
    DataService,
    FieldMask,
    Instant,
    Organisation,
    Request,
    Requester,
    Status,
    Visas,
)
from policyd.policy.gateways import INDIVIDUAL_DECISION, Check, Gateway
from policyd.purpose import PurposeError
from policyd.reasons import Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the whole question is refused; ``check`` names the check within the gate."""

    reason: Reason
    check: str


class Finding(NamedTuple):
    """One check over the whole question; ``reason`` is NONE where it holds."""

    gate: int
    check: str
    reason: Reason
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Parties:
    """Who asks, through what and under what, as far as that could be established."""

    service: DataService | None = None
    requester: Requester | None = None
    organisation: Organisation | None = None
    agreement: CompiledAgreement | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The parties of a question that passed gates 1 to 3.

    ``project_visa`` is the source of the visa by which alone the project is accredited, empty otherwise.
    """

    service: DataService
    requester: Requester
    organisation: Organisation
    agreement: CompiledAgreement
    standing: Standing
    project_visa: str = ""


ADMISSION = (
    "data-service",
    "operator",
    "token",
    "requester",
    "organisation",
    "agreement",
    "setting",
    "action",
)
"""The checks of ``admit``, in order; a token that does not hold is named by what is wrong with it."""


def admit(
    snapshot: Snapshot, request: Request, *, now: Instant
) -> tuple[Parties, Admitted | None, Refusal | None]:
    """Pass gates 1 to 3; gives either who was admitted or why not, and what was established so far."""
    service = snapshot.services.get(request.verified.spiffe_id)
    if service is None:
        return Parties(), None, Refusal(Reason.DATA_SERVICE_UNKNOWN, "data-service")
    parties = Parties(service)
    if service.status is not Status.ACTIVE:
        return parties, None, Refusal(Reason.DATA_SERVICE_SUSPENDED, "data-service")
    # Who may not have data may not hold it for others either (docs/adr/0003-order-of-gates.md).
    operator = snapshot.organisations.get(service.organisation)
    if operator is None or not _usable(operator, now):
        return parties, None, Refusal(Reason.DATA_SERVICE_SUSPENDED, "operator")
    token = request.verified.token
    if token is None:
        return parties, None, Refusal(Reason.REQUESTER_UNVERIFIED, request.verified.token_error or "token")
    requester = snapshot.requesters.get((token.issuer, token.subject))
    if requester is None:
        return parties, None, Refusal(Reason.REQUESTER_UNKNOWN, "requester")
    organisation = snapshot.organisations.get(requester.organisation)
    parties = Parties(service, requester, organisation)
    if requester.status is not Status.ACTIVE:
        return parties, None, Refusal(Reason.REQUESTER_SUSPENDED, "requester")
    if organisation is None or not _usable(organisation, now):
        return parties, None, Refusal(Reason.ORGANISATION_SUSPENDED, "organisation")
    compiled = snapshot.agreements.get(request.claimed.agreement)
    if compiled is None:
        return parties, None, Refusal(Reason.AGREEMENT_UNKNOWN, "agreement")
    agreement = compiled.agreement
    if (
        agreement.organisation != organisation.id
        or requester.id not in agreement.requesters
        or service.id not in agreement.data_services
    ):
        return parties, None, Refusal(Reason.AGREEMENT_NOT_YOURS, "agreement")
    parties = Parties(service, requester, organisation, compiled)
    refusal = _agreement_refusal(compiled, request.claimed, service, now)
    if refusal is not None:
        return parties, None, refusal
    own = standing(snapshot, requester, agreement.scheme, now=now, visas=token.visas)
    projects = [
        each.source
        for each in token.visas.projects
        if each.agreement == agreement.id and each.from_at <= now < each.until_at
    ]
    visa = projects[0] if projects and not agreement.project_accredited else ""
    return parties, Admitted(service, requester, organisation, compiled, own, visa), None


def _usable(organisation: Organisation, now: Instant) -> bool:
    """Return whether the organisation is active and verified since its name or control last changed."""
    changed, verified = organisation.changed_at, organisation.verified_at
    if changed is not None and changed <= now and not changed < verified <= now:
        return False
    return organisation.status is Status.ACTIVE


def _agreement_refusal(
    compiled: CompiledAgreement, claimed: Claimed, service: DataService, now: Instant
) -> Refusal | None:
    agreement = compiled.agreement
    if agreement.status is not Status.ACTIVE:
        return Refusal(Reason.AGREEMENT_SUSPENDED, "agreement")
    if now < agreement.from_at:
        return Refusal(Reason.AGREEMENT_NOT_STARTED, "agreement")
    if now >= agreement.until_at:
        return Refusal(Reason.AGREEMENT_EXPIRED, "agreement")
    if service.setting != agreement.setting:
        return Refusal(Reason.SETTING_NOT_APPROVED, "setting")
    if claimed.action not in agreement.actions:
        return Refusal(Reason.ACTION_NOT_APPROVED, "action")
    return None


def question_findings(
    snapshot: Snapshot, admitted: Admitted, purposes: Sequence[str], *, now: Instant
) -> list[Finding]:
    """Pass gate 4 and the part of gate 5 that concerns the whole question, for every declared purpose.

    All that holds and all that does not, in order: the first that does not refuses the question.
    """
    graph = snapshot.policy.graph
    found: list[Finding] = []
    if not purposes:
        found.append(Finding(4, "purpose", Reason.PURPOSE_MISSING))
    known: list[str] = []
    for purpose in purposes:
        try:
            bit = graph.bit(purpose)
        except PurposeError:
            found.append(Finding(4, "purpose", Reason.PURPOSE_UNKNOWN, purpose))
            continue
        known.append(purpose)
        usable, agreed = graph.requestable & bit, admitted.agreement.purposes & bit
        if not usable:
            found.append(Finding(4, "purpose", Reason.PURPOSE_NOT_REQUESTABLE, purpose))
        if not agreed:
            found.append(Finding(4, "purpose", Reason.PURPOSE_NOT_IN_AGREEMENT, purpose))
        if usable and agreed:
            found.append(Finding(4, "purpose", Reason.NONE, purpose))
    gateway = snapshot.policy.gateways.by_id.get(admitted.agreement.agreement.gateway)
    if gateway is None or not gateway.in_force(now):
        found.append(Finding(5, "gateway", Reason.GATEWAY_NOT_IN_FORCE))
    else:
        found.append(Finding(5, "gateway", Reason.NONE))
    for purpose in known:
        for each in gateway.preconditions if gateway is not None else ():
            holds = _holds(snapshot, admitted, purpose, each.check, each.values)
            if holds is not None:
                reason = Reason.NONE if holds else Reason.GATEWAY_PRECONDITION
                found.append(Finding(5, each.check.value, reason, purpose))
    return found


def _holds(
    snapshot: Snapshot, admitted: Admitted, purpose: str, check: Check, values: frozenset[str]
) -> bool | None:
    """Return whether a precondition holds; None for those that withhold fields (``gateway_fields``)."""
    match check:
        case Check.ACCREDITED_PERSON:
            return admitted.standing.status is AccreditationStatus.VALID
        case Check.ACCREDITED_PROJECT:
            return admitted.agreement.agreement.project_accredited or admitted.project_visa != ""
        case Check.ACCREDITED_SETTING:
            return admitted.service.setting in values
        case Check.ORGANISATION_KIND:
            return admitted.organisation.kind in values
        case Check.NOT_INDIVIDUAL_DECISION:
            graph = snapshot.policy.graph
            return INDIVIDUAL_DECISION not in graph.names(graph.up(graph.bit(purpose)))
        case Check.DEIDENTIFIED | Check.ARTICLE9:
            return None
        case _:  # pragma: no cover  (mypy proves that there is no other check)
            assert_never(check)


def gateway_fields(snapshot: Snapshot, admitted: Admitted) -> list[tuple[str, FieldMask]]:
    """Return the fields that the gateway's preconditions withhold, by check."""
    gateway: Gateway = snapshot.policy.gateways.by_id[admitted.agreement.agreement.gateway]
    classes = snapshot.policy.classes
    found = []
    for precondition in gateway.preconditions:
        if precondition.check is Check.DEIDENTIFIED:
            found.append((precondition.check.value, classes.risk[1] | classes.risk[2]))
        elif precondition.check is Check.ARTICLE9 and admitted.agreement.agreement.article9 == "none":
            found.append((precondition.check.value, classes.sensitivity["D"]))
    return found


def time_boundaries(snapshot: Snapshot, parties: Parties, *, visas: Visas = NO_VISAS) -> list[Instant]:
    """Return every instant at which a gate could come out differently by time alone."""
    found: list[Instant] = []
    operator = snapshot.organisations.get(parties.service.organisation) if parties.service else None
    for organisation in (operator, parties.organisation):
        if organisation is not None and organisation.changed_at is not None:
            found += (organisation.changed_at, organisation.verified_at)
    if parties.requester is not None:
        found += boundaries(snapshot, parties.requester, visas=visas)
    if parties.agreement is not None:
        agreement = parties.agreement.agreement
        found += (agreement.from_at, agreement.until_at)
        for project in visas.projects:
            found += (project.from_at, project.until_at)
        gateway = snapshot.policy.gateways.by_id.get(agreement.gateway)
        for bound in (gateway.valid_from, gateway.valid_until) if gateway else ():
            if bound is not None:
                found.append(bound)
    return found
