"""Makes a registry of any size from a seed: fictional people, real field names, purposes and gateways."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from policyd.model import (
    Accreditation,
    Agreement,
    DataService,
    Organisation,
    Registry,
    Requester,
    Seal,
    Status,
)

LEAST_FIELDS, MOST_FIELDS = 10, 300
PEOPLE_EACH = 12
PART = {"agreements": 1_500, "seals": 20_000}
"""Entries of one change; agreements are long, and a change holds 16 MiB."""
PART_OF_OTHERS = 10_000


@dataclass(frozen=True)
class Size:
    """How many entries of each kind."""

    requesters: int
    agreements: int
    seals: int
    organisations: int = 2_000
    services: int = 2

    def divided(self, by: int) -> Size:
        """Return the same in small; the data services stay."""
        return Size(
            requesters=max(1, self.requesters // by),
            agreements=max(1, self.agreements // by),
            seals=max(1, self.seals // by),
            organisations=max(1, self.organisations // by),
            services=self.services,
        )


NATIONAL = Size(requesters=100_000, agreements=10_000, seals=1_000_000)


@dataclass(frozen=True)
class Models:
    """Entries of a real registry file, of which all others are copies under other ids."""

    organisation: Organisation
    requester: Requester
    accreditation: Accreditation
    service: DataService
    agreement: Agreement
    fields: Sequence[str]


def models_of(registry: Registry, *, agreement: str, fields: Sequence[str]) -> Models:
    """Take one agreement of ``registry`` and the first of those who are in it as models."""
    share = registry.agreements[agreement]
    person = registry.requesters[min(share.requesters)]
    record = next(each for _, each in sorted(registry.accreditations.items()) if each.requester == person.id)
    return Models(
        organisation=registry.organisations[share.organisation],
        requester=person,
        accreditation=record,
        service=registry.data_services[min(share.data_services)],
        agreement=share,
        fields=fields,
    )


def seal(number: int, services: int) -> Seal:
    """Return one seal, its tokens as well spread as keyed ones."""
    tokens = ((f"npd-{at}", sha256(b"%d of %d" % (at, number)).digest()) for at in range(services))
    return Seal(f"SEAL-{number:07d}", tuple(tokens))


def parts(size: Size, models: Models, *, seed: int) -> Iterator[tuple[int, Registry]]:
    """Yield the registry as changes, in an order in which none names what is not there yet.

    Each with how many entries it has.
    """
    for section, entries in _sections(size, models, seed=seed):
        most = PART.get(section, PART_OF_OTHERS)
        part: dict[str, object] = {}
        for entry in entries:
            part[entry.id] = entry
            if len(part) == most:
                yield len(part), Registry(**{section: part})  # type: ignore[arg-type]
                part = {}
        if part:
            yield len(part), Registry(**{section: part})  # type: ignore[arg-type]


def _sections(size: Size, models: Models, *, seed: int) -> Iterator[tuple[str, Iterator[object]]]:
    chance = random.Random(seed)  # noqa: S311
    yield "organisations", (_organisation(models, number) for number in range(size.organisations))
    yield "data_services", (_service(models, at) for at in range(size.services))
    yield "requesters", (_requester(models, size, number) for number in range(size.requesters))
    yield "accreditations", (_accreditation(models, size, number) for number in range(size.requesters))
    yield "agreements", (_agreement(models, size, number, chance) for number in range(size.agreements))
    yield "seals", (seal(number, size.services) for number in range(size.seals))


def _home(size: Size, number: int) -> str:
    return f"org-{number % size.organisations}"


def _organisation(models: Models, number: int) -> Organisation:
    return replace(models.organisation, id=f"org-{number}", status=Status.ACTIVE, changed_at=None)


def _service(models: Models, at: int) -> DataService:
    name = f"npd-{at}"
    place, _, _ = models.service.spiffe_id.rpartition("/")
    return replace(models.service, id=name, spiffe_id=f"{place}/{name}", organisation="org-0")


def _requester(models: Models, size: Size, number: int) -> Requester:
    name = f"researcher-{number}"
    return replace(
        models.requester, id=name, organisation=_home(size, number), subject=name, status=Status.ACTIVE
    )


def _accreditation(models: Models, size: Size, number: int) -> Accreditation:
    return replace(
        models.accreditation,
        id=f"ACC-{number}",
        requester=f"researcher-{number}",
        organisation=_home(size, number),
        status=Status.ACTIVE,
    )


def _agreement(models: Models, size: Size, number: int, chance: random.Random) -> Agreement:
    home = number % size.organisations
    people = range(home, size.requesters, size.organisations)
    count = chance.randint(LEAST_FIELDS, min(MOST_FIELDS, len(models.fields)))
    return replace(
        models.agreement,
        id=f"DS{number:06d}",
        organisation=f"org-{home}",
        requesters=frozenset(f"researcher-{who}" for who in people[:PEOPLE_EACH]),
        data_services=frozenset(f"npd-{at}" for at in range(size.services)),
        fields=frozenset(chance.sample(models.fields, count)),
        years=frozenset(range(2005, 2024)),
        table_years=(),
        status=Status.ACTIVE,
    )
