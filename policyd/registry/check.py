"""What must hold between registry entries, whoever wrote them (docs/registry.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice

from policyd.clock import format_instant
from policyd.errors import PolicydError
from policyd.model import AccreditationLevel, Agreement, DataService, Instant, Registry, Requester, Seal
from policyd.policy.reader import nearest
from policyd.registry.entry import SECTIONS, Section
from policyd.registry.people import Requesters
from policyd.registry.seals import SealEdit, SealMap

MAX_YEARS = {AccreditationLevel.FULL: 5, AccreditationLevel.PROVISIONAL: 3}
"""How long an accreditation may run (Research Code of Practice and Accreditation Criteria)."""

MAX_FAULTS = 1_000
"""How many contradictions are said at most; whoever sends more of them learns nothing from the rest."""

_MAX_NEAREST = 500
"""Among how many names the nearest to an unknown one is looked for: that takes time for each of them."""

# The same syntax as policyd.identity.spiffe, which stands on this floor too and cannot be imported:
# tests/vectors/tokens/spiffe_ids.yaml holds both to one table.
_SPIFFE_ID = re.compile(
    r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that does not hold: in which entry, in which member and word of it, and why."""

    section: Section
    id: str
    member: str
    message: str
    word: str = ""

    def __str__(self) -> str:
        return f"{self.section.noun} `{self.id}`: {self.member}: {self.message}"


class RegistryError(PolicydError):
    """Entries contradict each other; ``faults`` holds every contradiction."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def check(registry: Registry, *, only: Registry | None = None, before: Registry | None = None) -> list[Fault]:
    """Return what does not hold, by section and id, up to `MAX_FAULTS`; linear in the entries checked.

    With ``only``, just its entries are checked, against all of `registry`. ``before`` is what was
    registered: no entry may take back a seal that stands there.
    """
    chosen = registry if only is None else only
    faults = chain(
        _requesters(registry, chosen=chosen),
        _accreditations(registry, chosen=chosen),
        _data_services(registry, chosen=chosen),
        _organisations(chosen),
        _agreements(registry, chosen=chosen),
        _seals(registry, chosen=chosen),
        unsealed(registry, chosen),
        () if before is None else lifted_seals(before, chosen),
    )
    return list(islice(faults, MAX_FAULTS))


def lifted_seals(before: Registry, changes: Registry) -> list[Fault]:
    """Return every token under seal in `before` that `changes` would take away or replace.

    Lifting a seal is a change of its own kind (DESIGN.md section 3.6), so no other may come to it.
    """
    found = []
    for entry in changes.seals.values():
        standing = before.seals.get(entry.id)
        for service, token in standing.tokens if standing is not None else ():
            if (service, token) not in entry.tokens:
                why = f"takes away the token of `{service}`; a change may add tokens to a seal, never lift it"
                found.append(Fault(SECTIONS["seals"], entry.id, "tokens", why, service))
    return found


def unsealed(registry: Registry, changes: Registry) -> list[Fault]:
    """Return where a seal of `registry`, which has `changes` in it by now, lacks the token of a data service.

    A record is sealed at every data service or it is not sealed.
    """
    services = frozenset(registry.data_services) if changes.seals else frozenset()
    found = []
    for seal in changes.seals.values():
        for service in sorted(services - {name for name, _ in seal.tokens}):
            why = f"has no token for data service `{service}`, which would go on releasing the record"
            found.append(Fault(SECTIONS["seals"], seal.id, "tokens", why))
    for service in changes.data_services:
        for id_ in _lacking(registry.seals, service):
            if id_ not in changes.seals:
                why = f"seal `{id_}` has no token for it; issue the seals again in the same change"
                found.append(Fault(SECTIONS["data_services"], service, "id", why))
    return found


def unknown_seals(registry: Registry, ids: Iterable[str]) -> list[Fault]:
    """Return a fault for each id that is no seal of `registry`."""
    return [
        Fault(SECTIONS["seals"], each, "id", "is not there, so it cannot be lifted")
        for each in ids
        if each not in registry.seals
    ]


def is_spiffe_id(text: str) -> bool:
    """Say whether `text` is a workload's SPIFFE ID in its only accepted spelling."""
    return len(text) <= 2048 and _SPIFFE_ID.fullmatch(text) is not None


def add_years(instant: Instant, years: int) -> Instant:
    """Return the same calendar day so many years later; 29 February becomes 1 March."""
    seconds, milli = divmod(instant, 1000)
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    year = min(moment.year + years, 9999)
    try:
        later = moment.replace(year=year)
    except ValueError:
        later = moment.replace(year=year, month=3, day=1)
    return int(later.timestamp()) * 1000 + milli


def _unknown(noun: str, word: str, known: Collection[str]) -> str:
    near = nearest(word, known) if len(known) <= _MAX_NEAREST else ""
    return f"unknown {noun} `{word}`{near}"


def _organisations(chosen: Registry) -> Iterator[Fault]:
    section = SECTIONS["organisations"]
    for entry in chosen.organisations.values():
        if entry.local_authorities and entry.kind != "local-authority":
            why = f"only a local-authority has codes, and this is a {entry.kind}"
            yield Fault(section, entry.id, "local_authorities", why)


def _requesters(registry: Registry, *, chosen: Registry) -> Iterator[Fault]:
    section = SECTIONS["requesters"]
    holders = _holders(registry.requesters)
    for entry in chosen.requesters.values():
        if entry.organisation not in registry.organisations:
            why = _unknown("organisation", entry.organisation, registry.organisations)
            yield Fault(section, entry.id, "organisation", why)
        others = [holder for holder in holders(entry.issuer, entry.subject) if holder != entry.id]
        if others:
            why = f"requester `{others[0]}` has this issuer and subject already; one person, one entry"
            yield Fault(section, entry.id, "identity", why)


def _holders(requesters: Mapping[str, Requester]) -> Callable[[str, str], Sequence[str]]:
    """Return what gives the ids of all who go by one issuer and subject."""
    if isinstance(requesters, Requesters):
        return requesters.holders
    found: dict[tuple[str, str], list[str]] = {}
    for entry in requesters.values():
        found.setdefault((entry.issuer, entry.subject), []).append(entry.id)
    return lambda issuer, subject: found[issuer, subject]


def _accreditations(registry: Registry, *, chosen: Registry) -> Iterator[Fault]:
    section = SECTIONS["accreditations"]
    for entry in chosen.accreditations.values():
        if entry.requester not in registry.requesters:
            why = _unknown("requester", entry.requester, registry.requesters)
            yield Fault(section, entry.id, "requester", why)
        if entry.organisation not in registry.organisations:
            why = _unknown("organisation", entry.organisation, registry.organisations)
            yield Fault(section, entry.id, "organisation", why)
        provisional = entry.level is AccreditationLevel.PROVISIONAL
        if provisional and entry.supervisor is None:
            yield Fault(section, entry.id, "supervisor", "a provisional accreditation names its supervisor")
        elif entry.supervisor is not None and not provisional:
            why = "only a provisional accreditation has a supervisor; remove it"
            yield Fault(section, entry.id, "supervisor", why)
        elif entry.supervisor is not None and entry.supervisor == entry.requester:
            yield Fault(
                section, entry.id, "supervisor", "nobody supervises themselves; name another requester"
            )
        elif entry.supervisor is not None and entry.supervisor not in registry.requesters:
            why = _unknown("requester", entry.supervisor, registry.requesters)
            yield Fault(section, entry.id, "supervisor", why)
        years = MAX_YEARS[entry.level]
        latest = add_years(entry.from_at, years)
        if entry.until_at <= entry.from_at:
            yield Fault(section, entry.id, "until", "must be later than `from`")
        elif entry.until_at > latest:
            why = f"a {entry.level} accreditation runs {years} years at most, here until {_day(latest)}"
            yield Fault(section, entry.id, "until", why)


def _data_services(registry: Registry, *, chosen: Registry) -> Iterator[Fault]:
    section = SECTIONS["data_services"]
    holders: dict[str, list[DataService]] = {}
    for entry in registry.data_services.values():
        holders.setdefault(entry.spiffe_id, []).append(entry)
    for entry in chosen.data_services.values():
        if entry.organisation not in registry.organisations:
            why = _unknown("organisation", entry.organisation, registry.organisations)
            yield Fault(section, entry.id, "organisation", why)
        if not is_spiffe_id(entry.spiffe_id):
            why = (
                f"`{entry.spiffe_id}` is not a SPIFFE ID; write spiffe://<trust domain>/<path>, the domain"
                " in lower case, no port, no percent signs, no empty or dot segments"
            )
            yield Fault(section, entry.id, "spiffe_id", why)
        others = [holder.id for holder in holders[entry.spiffe_id] if holder.id != entry.id]
        if others:
            why = f"data service `{others[0]}` has this SPIFFE ID already; one program, one id"
            yield Fault(section, entry.id, "spiffe_id", why)


def _agreements(registry: Registry, *, chosen: Registry) -> Iterator[Fault]:
    section = SECTIONS["agreements"]
    for entry in chosen.agreements.values():
        if entry.organisation not in registry.organisations:
            why = _unknown("organisation", entry.organisation, registry.organisations)
            yield Fault(section, entry.id, "organisation", why)
        for requester in sorted(entry.requesters - registry.requesters.keys()):
            why = _unknown("requester", requester, registry.requesters)
            yield Fault(section, entry.id, "requesters", why, requester)
        for service in sorted(entry.data_services - registry.data_services.keys()):
            why = _unknown("data service", service, registry.data_services)
            yield Fault(section, entry.id, "data_services", why, service)
        for member in ("requesters", "data_services", "purposes", "fields", "actions"):
            if not getattr(entry, member):
                yield Fault(section, entry.id, member, "is empty; an agreement names at least one")
        yield from _agreement_fields(entry, section=section)
        if entry.until_at <= entry.from_at:
            yield Fault(section, entry.id, "until", "must be later than `from`")
        if entry.destroy_by < entry.until_at:
            yield Fault(section, entry.id, "destroy_by", "must not be before `until`")


def _agreement_fields(entry: Agreement, *, section: Section) -> Iterator[Fault]:
    spelled: dict[str, str] = {}
    for name in sorted(entry.fields):
        if "*" in name:
            why = f"`{name}` is a wildcard; name every field (UK GDPR Art 5(1)(c))"
            yield Fault(section, entry.id, "fields", why, name)
        first = spelled.setdefault(name.casefold(), name)
        if first != name:
            why = f"`{name}` and `{first}` are one field; name it once"
            yield Fault(section, entry.id, "fields", why, name)
    tables = {name.partition(".")[0] for name in entry.fields}
    by_table = dict(entry.table_years)
    for table in sorted(by_table.keys() - tables):
        why = f"no field of this agreement is in table `{table}`{nearest(table, tables)}"
        yield Fault(section, entry.id, "table_years", why, table)
    if not entry.years and tables - by_table.keys():
        yield Fault(section, entry.id, "years", "is empty; an agreement names at least one year")
    for table in sorted(table for table, years in by_table.items() if not years):
        why = f"table `{table}` has no year; leave it out or name one"
        yield Fault(section, entry.id, "table_years", why, table)


def _seals(registry: Registry, *, chosen: Registry) -> Iterator[Fault]:
    section = SECTIONS["seals"]
    for entry in chosen.seals.values():
        if not entry.tokens:
            yield Fault(section, entry.id, "tokens", "is empty; a seal without a token protects nobody")
        for service, token in entry.tokens:
            if service not in registry.data_services:
                why = _unknown("data service", service, registry.data_services)
                yield Fault(section, entry.id, "tokens", why, service)
            if len(token) != 32:
                why = f"the token of `{service}` has {len(token)} bytes; HMAC-SHA-256 gives 32"
                yield Fault(section, entry.id, "tokens", why, service)


def _lacking(seals: Mapping[str, Seal], service: str) -> Iterable[str]:
    if isinstance(seals, SealMap | SealEdit):
        return sorted(seals.lacking(service))
    return [seal.id for seal in seals.values() if service not in {name for name, _ in seal.tokens}]


def _day(instant: Instant) -> str:
    text = format_instant(instant)
    return text.removesuffix("T00:00:00Z")
