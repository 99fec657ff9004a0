"""A small registry to go with the tiny policy set, and questions to ask of both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from policyd.clock import parse_instant
from policyd.decision.snapshot import Snapshot, build_snapshot
from policyd.model import (
    Accreditation,
    AccreditationLevel,
    Action,
    Agreement,
    Claimed,
    DataService,
    Decision,
    Effect,
    Obligations,
    Organisation,
    Registry,
    Request,
    Requester,
    Status,
    Token,
    VerdictGroup,
    Verified,
    VisaAccreditation,
    VisaProject,
    Visas,
)
from policyd.obligation import merge
from policyd.policy.policyset import PolicySet
from policyd.transform import describe, join

NOW = parse_instant("2026-03-01T12:00:00Z")
ISSUER = "issuer-1"
SCHEME = "scheme-1"
EVERYTHING = frozenset(
    f"Pupil.{name}"
    for name in ("Care", "Dob", "Ethnicity", "Fsm", "Name", "Nationality", "Ref", "Score", "Secret", "Upn")
) | {"School.Size", "School.Laestab"}


def at(text: str) -> int:
    """Return the instant that a date or time names."""
    return parse_instant(text)


def organisation(name: str = "uni", **changes: Any) -> Organisation:
    """Return an active university, changed as asked."""
    base = Organisation(
        id=name,
        kind="university",
        commercial=False,
        status=Status.ACTIVE,
        legal_name=name,
        verified_at=at("2024-01-01"),
    )
    return replace(base, **changes)


def requester(name: str = "researcher-1", **changes: Any) -> Requester:
    """Return an active requester of the university, changed as asked."""
    base = Requester(name, "uni", ISSUER, name, Status.ACTIVE, frozenset({"researcher"}))
    return replace(base, **changes)


def accreditation(name: str = "ACC-1", **changes: Any) -> Accreditation:
    """Return a full accreditation of researcher-1 from 2024 to 2027, changed as asked."""
    base = Accreditation(
        id=name,
        requester="researcher-1",
        organisation="uni",
        scheme=SCHEME,
        level=AccreditationLevel.FULL,
        from_at=at("2024-01-01"),
        until_at=at("2027-01-01"),
        status=Status.ACTIVE,
        source="made for tests",
    )
    return replace(base, **changes)


def data_service(name: str = "svc-secure", **changes: Any) -> DataService:
    """Return an active data service in the secure setting, changed as asked."""
    return replace(DataService(name, f"spiffe://test/{name}", "dept", "secure", Status.ACTIVE), **changes)


def agreement(name: str = "AG-1", **changes: Any) -> Agreement:
    """Return an agreement over all fields of 2015 to 2019 for research and statistics, changed as asked."""
    base = Agreement(
        id=name,
        organisation="uni",
        requesters=frozenset({"researcher-1"}),
        data_services=frozenset({"svc-secure"}),
        purposes=frozenset({"research", "statistics", "individual-decision"}),
        fields=EVERYTHING,
        years=frozenset(range(2015, 2020)),
        setting="secure",
        actions=frozenset(Action),
        gateway="OPEN-1",
        scheme=SCHEME,
        from_at=at("2025-01-01"),
        until_at=at("2026-12-31"),
        destroy_by=at("2027-12-31"),
        status=Status.ACTIVE,
        project_accredited=True,
        article9="art-9-2-j",
    )
    return replace(base, **changes)


def registry(*entries: Any) -> Registry:
    """Return one entry of each kind, and ``entries`` added to them or, where ids are equal, instead."""
    found = Registry()
    tables = {
        Organisation: found.organisations,
        Requester: found.requesters,
        Accreditation: found.accreditations,
        DataService: found.data_services,
        Agreement: found.agreements,
    }
    defaults = (
        organisation(),
        organisation("dept", kind="department"),
        requester(),
        accreditation(),
        data_service(),
        agreement(),
    )
    for entry in (*defaults, *entries):
        tables[type(entry)][entry.id] = entry
    return found


def without(base: Registry, section: str, name: str) -> Registry:
    """Return the registry less one entry."""
    return replace(base, **{section: {k: v for k, v in getattr(base, section).items() if k != name}})


def snapshot(policy: PolicySet, *entries: Any) -> Snapshot:
    """Return a snapshot of the policy set and ``registry(*entries)`` at epoch 7."""
    return build_snapshot(policy, registry(*entries), epoch=7)


def ask(*names: str, who: str = "researcher-1", service: str = "svc-secure", **claims: Any) -> Request:
    """Return a question for fields, by default for the purpose `academic` and the year 2018."""
    claimed = Claimed(
        request_id="q1",
        agreement="AG-1",
        purposes=("academic",),
        action=Action.RELEASE,
        fields=names,
        years=(2018,),
    )
    token = Token(ISSUER, who, digest=bytes(32), expires_at=NOW + 60_000)
    return Request(replace(claimed, **claims), Verified(f"spiffe://test/{service}", token))


def visa(**changes: Any) -> VisaAccreditation:
    """Return what visas say of a full accreditation at the university, changed as asked."""
    base = VisaAccreditation(
        scheme=SCHEME,
        level=AccreditationLevel.FULL,
        organisation="uni",
        from_at=at("2025-06-01"),
        until_at=at("2026-06-01"),
        source="https://source-1.test",
    )
    return replace(base, **changes)


def project(**changes: Any) -> VisaProject:
    """Return what a visa says of the agreement's project, changed as asked."""
    return replace(
        VisaProject("AG-1", at("2025-06-01"), at("2026-06-01"), "https://source-2.test"), **changes
    )


def bringing(request: Request, *facts: VisaAccreditation | VisaProject) -> Request:
    """Return the question with a token whose visas come to these facts."""
    token = request.verified.token
    assert token is not None, "who brings no token brings no visas"
    visas = Visas(
        accreditations=tuple(each for each in facts if isinstance(each, VisaAccreditation)),
        projects=tuple(each for each in facts if isinstance(each, VisaProject)),
    )
    return replace(request, verified=replace(request.verified, token=replace(token, visas=visas)))


def group_of(decision: Decision, name: str) -> VerdictGroup:
    """Return the one verdict group that lists a name."""
    (found,) = [group for group in decision.groups if name in group.names]
    return found


def spell(decision: Decision) -> dict[str, str]:
    """Return each name's verdict in words: `release`, `withhold REASON` or `transform STEPS`."""
    words = {}
    for group in decision.groups:
        detail = {
            Effect.RELEASE: "",
            Effect.WITHHOLD: f" {group.reason}",
            Effect.TRANSFORM: f" {describe(group.transform)}",
        }
        for name in group.names:
            assert name not in words, f"`{name}` stands in two groups"
            words[name] = group.effect.value + detail[group.effect]
    return words


def gives_no_more(before: VerdictGroup, after: VerdictGroup) -> bool:
    """Return whether one field's verdict ``after`` lets out no more than ``before``."""
    if after.effect is Effect.WITHHOLD:
        return True
    if before.effect is Effect.WITHHOLD:
        return False
    return join(before.transform, after.transform) == after.transform


def owes_no_less(before: Obligations, after: Obligations) -> bool:
    """Return whether ``after`` asks for everything that ``before`` asks for."""
    return merge((before, after)) == after
