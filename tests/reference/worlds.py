"""Draw registries and questions for drawn policy sets: every gate is passed often and failed sometimes."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from policyd.clock import parse_instant
from policyd.model import (
    NO_VISAS,
    Accreditation,
    AccreditationLevel,
    Action,
    Agreement,
    Claimed,
    DataService,
    Organisation,
    Registry,
    Request,
    Requester,
    Status,
    Token,
    Verified,
    VisaAccreditation,
    VisaProject,
    Visas,
)
from reference.draft import ARTICLE9, ORGANISATION_KINDS, ROLES, SCHEMES, SETTINGS, Draft, some
from reference.policies import draw_policy

NOW = parse_instant("2026-03-01T12:00:00Z")
DAY = 86_400_000
ISSUERS = ("issuer-1", "issuer-2")
EPOCH = 7


@dataclass(frozen=True)
class World:
    """A policy set as files, a registry, and questions with the instants at which they are asked."""

    files: dict[str, str]
    registry: Registry
    questions: tuple[tuple[Request, int], ...]


def draw_world(rng: random.Random, *, questions: int) -> World:
    """Draw everything; the loader may refuse the policy set, and then another is drawn by the caller."""
    files, draft = draw_policy(rng)
    registry = _registry(rng, draft)
    asked = tuple((_request(rng, draft, registry), _instant(rng)) for _ in range(questions))
    return World(files, registry, asked)


def _instant(rng: random.Random) -> int:
    """Most questions are asked at one instant, some beside or exactly on a date of the registry."""
    return NOW if rng.random() < 0.7 else NOW + rng.choice((-1, 1, DAY, -DAY, 20 * DAY, -20 * DAY))


def _date(rng: random.Random, usual_days: int, *, odd: float) -> int:
    """Return an instant so many days from now, sometimes close to or exactly on it."""
    if rng.random() < odd:
        return NOW + rng.choice((0, 1, -1, DAY, -DAY, 10 * DAY, -10 * DAY))
    return NOW + usual_days * DAY


def _status(rng: random.Random, odd: float) -> Status:
    return Status.SUSPENDED if rng.random() < odd else Status.ACTIVE


def _registry(rng: random.Random, draft: Draft) -> Registry:
    organisations = [_organisation(rng, f"org-{number}") for number in range(3)]
    # The operators of data services: mostly sound, or every question would end at gate 1.
    sound = replace(organisations[2], id="org-3", status=Status.ACTIVE, changed_at=None)
    operators = [sound, sound, sound, organisations[2]]
    requesters = [
        Requester(
            id=f"person-{number}",
            organisation=rng.choice(organisations[:2]).id if rng.random() < 0.98 else "org-gone",
            issuer=ISSUERS[0],
            subject=f"subject-{number}",
            status=_status(rng, 0.015),
            roles=frozenset(rng.sample(ROLES, rng.randint(0, 2))),
        )
        for number in range(4)
    ]
    records = [
        _accreditation(rng, f"ACC-{number}", person, requesters)
        for number, person in enumerate(
            person for person in requesters for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))
        )
    ]
    services = [
        DataService(
            f"service-{n}",
            f"spiffe://test/service-{n}",
            rng.choice(operators).id if rng.random() < 0.99 else "org-gone",
            rng.choice(SETTINGS[:2]),
            _status(rng, 0.015),
        )
        for n in range(3)
    ]
    agreements = [_agreement(rng, draft, f"AG-{number}", requesters, services) for number in range(4)]
    return Registry(
        organisations={each.id: each for each in (*organisations, sound)},
        requesters={each.id: each for each in requesters},
        accreditations={each.id: each for each in records},
        data_services={each.id: each for each in services},
        agreements={each.id: each for each in agreements},
    )


def _organisation(rng: random.Random, name: str) -> Organisation:
    kind = rng.choice(ORGANISATION_KINDS)
    return Organisation(
        id=name,
        kind=kind,
        commercial=kind == "commercial-company",
        status=_status(rng, 0.01),
        legal_name=name,
        verified_at=_date(rng, -100, odd=0.05),
        changed_at=_date(rng, -200, odd=0.15) if rng.random() < 0.1 else None,
        local_authorities=frozenset(["301", "302"][: rng.randint(1, 2)] if kind == "local-authority" else []),
    )


def _accreditation(
    rng: random.Random, name: str, person: Requester, requesters: list[Requester]
) -> Accreditation:
    level = AccreditationLevel.PROVISIONAL if rng.random() < 0.3 else AccreditationLevel.FULL
    colleagues = [each for each in requesters if each is not person]
    return Accreditation(
        id=name,
        requester=person.id,
        organisation=person.organisation if rng.random() < 0.9 else "org-2",
        scheme=SCHEMES[0] if rng.random() < 0.8 else SCHEMES[1],
        level=level,
        from_at=_date(rng, -rng.choice((100, 300, 500)), odd=0.1),
        until_at=_date(rng, 300, odd=0.15),
        status=_status(rng, 0.05),
        source="drawn",
        supervisor=rng.choice(colleagues).id
        if level is AccreditationLevel.PROVISIONAL and rng.random() < 0.95
        else None,
    )


def _agreement(
    rng: random.Random, draft: Draft, name: str, requesters: list[Requester], services: list[DataService]
) -> Agreement:
    first = rng.choice(requesters)
    colleagues = [each.id for each in requesters if each.organisation == first.organisation]
    service = rng.choice(services)
    alike = [each.id for each in services if each.setting == service.setting or rng.random() < 0.08]
    fields = [each for each in draft.columns if rng.random() < 0.94] + ["Pupil.Gone"] * (rng.random() < 0.1)
    start = 2014 if rng.random() < 0.95 else 2018
    table_years = [
        (
            table if rng.random() < 0.7 else table.lower(),
            frozenset(range(2015, rng.choice((2015, 2019, 2022)))),
        )
        for table in draft.tables
        if rng.random() < 0.07
    ]
    return Agreement(
        id=name,
        organisation=first.organisation if rng.random() < 0.97 else "org-2",
        requesters=frozenset(colleagues if rng.random() < 0.9 else [first.id]),
        data_services=frozenset(alike),
        purposes=frozenset(
            ["any"]
            if rng.random() < 0.7
            else [*some(rng, list(draft.purposes), 4), *["gone"] * (rng.random() < 0.1)]
        ),
        fields=frozenset(each if rng.random() < 0.9 else each.upper() for each in fields),
        years=frozenset(range(start, 2022)),
        setting=service.setting,
        actions=frozenset(Action if rng.random() < 0.7 else some(rng, list(Action), 3)),
        gateway=rng.choices([*draft.gateways, "G-GONE"], (8, 0.9, 0.4, 0.1))[0],
        scheme=SCHEMES[0] if rng.random() < 0.85 else rng.choice((SCHEMES[1], "none")),
        from_at=_date(rng, -100, odd=0.05),
        until_at=_date(rng, 100, odd=0.05),
        destroy_by=NOW + 500 * DAY,
        status=_status(rng, 0.015),
        table_years=tuple(table_years),
        basis=rng.choice(("none", "art-6-1-e")),
        article9=rng.choice(ARTICLE9),
        compatibility=rng.choice(("none", "art-8a")),
        exemption=rng.choice(("none", "research-consent")),
        project_accredited=rng.random() < 0.8,
    )


def _request(rng: random.Random, draft: Draft, registry: Registry) -> Request:
    agreement = rng.choice(list(registry.agreements.values()))
    person = registry.requesters[rng.choice(sorted(agreement.requesters))]
    service = registry.data_services[rng.choice(sorted(agreement.data_services))]
    if rng.random() < 0.015:
        person = rng.choice(list(registry.requesters.values()))
    if rng.random() < 0.02:
        service = rng.choice(list(registry.data_services.values()))
    names = [_name(rng, draft) for _ in range(rng.randint(1, 12))]
    used = rng.randint(1, min(3, len(names))) if rng.random() < 0.2 else 0
    claimed = Claimed(
        request_id="q",
        agreement=agreement.id if rng.random() < 0.99 else "AG-GONE",
        purposes=_declared(rng, draft, agreement),
        action=rng.choice(sorted(agreement.actions)) if rng.random() < 0.95 else rng.choice(list(Action)),
        fields=tuple(names[used:]),
        used_fields=tuple(names[:used]),
        years=tuple(
            rng.sample(
                [2016, 2017, 2018, 2019, 2018, 2019, 2018, 2019, 2012], rng.choice((0, 1, 1, 1, 1, 1, 2, 2))
            )
        ),
    )
    token = Token(
        issuer=person.issuer if rng.random() < 0.992 else ISSUERS[1],
        subject=person.subject if rng.random() < 0.992 else "subject-gone",
        digest=bytes(32),
        expires_at=NOW + DAY,
        roles=frozenset(rng.sample(ROLES, rng.randint(0, 2))),
        visas=_visas(rng, registry, person, agreement) if rng.random() < 0.35 else NO_VISAS,
    )
    spiffe_id = service.spiffe_id if rng.random() < 0.992 else "spiffe://test/gone"
    if rng.random() < 0.008:
        return Request(claimed, Verified(spiffe_id, None, rng.choice(("expired", "signature"))))
    return Request(claimed, Verified(spiffe_id, token))


def _visas(rng: random.Random, registry: Registry, person: Requester, agreement: Agreement) -> Visas:
    """Draw what a passport comes to: mostly for the agreement's scheme and the person's organisation."""
    people = list(registry.requesters.values())
    accreditations = [
        VisaAccreditation(
            scheme=agreement.scheme if rng.random() < 0.9 else SCHEMES[1],
            level=rng.choice(list(AccreditationLevel)),
            organisation=person.organisation if rng.random() < 0.9 else "org-2",
            from_at=_date(rng, -rng.choice((50, 200, 400)), odd=0.15),
            until_at=_date(rng, rng.choice((5, 30, 300, 600)), odd=0.15),
            source=rng.choice(("https://source-1.test", "https://source-2.test")),
            supervisor=rng.choice(
                (
                    None,
                    (ISSUERS[0], "subject-gone"),
                    *((each.issuer, each.subject) for each in people),
                )
            ),
        )
        for _ in range(rng.randint(0, 3))
    ]
    projects = [
        VisaProject(
            agreement=agreement.id if rng.random() < 0.9 else "AG-GONE",
            from_at=_date(rng, -50, odd=0.2),
            until_at=_date(rng, 50, odd=0.2),
            source="https://source-1.test",
        )
        for _ in range(rng.randint(0, 2))
    ]
    return Visas(tuple(accreditations), tuple(projects))


def _declared(rng: random.Random, draft: Draft, agreement: Agreement) -> tuple[str, ...]:
    """Draw purposes, mostly from at or below those of the agreement."""
    below = set(agreement.purposes)
    for name, purpose in draft.purposes.items():
        if below & set(purpose.get("parents", [])):
            below.add(name)
    fit = sorted(
        name
        for name in below
        if draft.purposes.get(name, {}).get("requestable", True) and name in draft.purposes
    )
    choices = fit if fit and rng.random() < 0.96 else [*draft.purposes, "unheard-of"]
    count = rng.choices((0, 1, 2, 3), (1, 55, 25, 18))[0]
    return tuple(rng.sample(choices, min(count, len(choices))))


def _name(rng: random.Random, draft: Draft) -> str:
    """Draw a name: an id, a concrete column, rarely a wildcard or something that is no field."""
    if rng.random() < 0.02:
        odd = (
            "Pupil.Nothing",
            "nothing",
            "School.F0_SPR",
            "Pupil.F0_[term][yy]",
            "Pupil.F1_0_ex19",
            "P\u00fapil.F0",
        )
        return rng.choice(odd)
    if rng.random() < 0.002:
        return rng.choice(("*", "Pupil.*"))
    field = rng.choice(list(draft.columns))
    if rng.random() < 0.4:
        name = field
    else:
        year = rng.choice((16, 17, 18, 18, 19, 19, 20, 20, 21, 99))
        column = rng.choice(draft.columns[field]).replace("[yy]", f"{year:02}")
        column = column.replace("[term]", rng.choice(("AUT", "SPR", "SUM"))).replace(
            "[n]", rng.choice(("1", "7", "12", "30", "40", "41"))
        )
        name = f"{field.split('.')[0]}.{column}"
    return name if rng.random() < 0.85 else rng.choice((name.lower(), name.upper(), name.swapcase()))
