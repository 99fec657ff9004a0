"""A requester's accreditation at one instant, derived from one record (DESIGN.md section 3.2).

The record is the latest started one of the scheme that the agreement relies on; an open suspension of
any of the person's records wins over all others, so that losing a fact never gives more. What visas vouch
for counts beside it, unless the registry has a later record, and only where it gives more: whoever brings
visas could leave out any that gave less (docs/adr/0015-visas.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from policyd.decision.snapshot import Snapshot
from policyd.model import (
    NO_VISAS,
    Accreditation,
    AccreditationLevel,
    AccreditationStatus,
    Instant,
    Requester,
    Status,
    VisaAccreditation,
    Visas,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is true of a requester's accreditation; ``record`` is the one it was derived from.

    ``visa`` is the source of the visa that gave the record; empty where the registry did.
    """

    status: AccreditationStatus
    record: Accreditation | None = None
    visa: str = ""


def standing(
    snapshot: Snapshot, requester: Requester, scheme: str, *, now: Instant, visas: Visas = NO_VISAS
) -> Standing:
    """Derive the standing of ``requester``, who brings ``visas``, under ``scheme`` at ``now``."""
    own = _registered(snapshot, requester, scheme, now)
    if own.status is AccreditationStatus.SUSPENDED:
        return own
    found = [] if own.status is not AccreditationStatus.VALID or own.record is None else [own.record]
    for visa in visas.accreditations:
        # A person with a later record has been looked at since the visa was asserted.
        if visa.scheme == scheme and (own.record is None or visa.from_at > own.record.from_at):
            found += _vouched(snapshot, requester, visa, own.record, now)
    best = max(found, key=_worth, default=None)
    if best is None or best is own.record:
        return own
    return Standing(AccreditationStatus.VALID, best, visa=best.source)


def _worth(valid: Accreditation) -> tuple[bool, Instant]:
    """Return what to compare valid records by: a full one before a provisional, then the longest."""
    return valid.level is AccreditationLevel.FULL, valid.until_at


def _vouched(
    snapshot: Snapshot,
    requester: Requester,
    visa: VisaAccreditation,
    registered: Accreditation | None,
    now: Instant,
) -> list[Accreditation]:
    """Return the valid record that a visa amounts to now, if it does to any.

    Its supervisor is the one that a visa names or, failing that, the one of the registered record.
    """
    if not visa.from_at <= now < visa.until_at or visa.organisation != requester.organisation:
        return []
    supervisor = registered.supervisor if registered is not None else None
    if visa.supervisor is not None:
        named = snapshot.requesters.get(visa.supervisor)
        supervisor = named.id if named is not None else None
    record = Accreditation(
        id="visa",
        requester=requester.id,
        organisation=visa.organisation,
        scheme=visa.scheme,
        level=visa.level,
        from_at=visa.from_at,
        until_at=visa.until_at,
        status=Status.ACTIVE,
        source=visa.source,
        supervisor=supervisor,
    )
    if visa.level is AccreditationLevel.PROVISIONAL and not _supervised(snapshot, record, now):
        return []
    return [record]


def _registered(snapshot: Snapshot, requester: Requester, scheme: str, now: Instant) -> Standing:
    """Derive the standing that the registry alone gives."""
    records = snapshot.accreditations.get(requester.id, ())
    suspended = next((each for each in records if each.status is Status.SUSPENDED), None)
    if suspended is not None:
        return Standing(AccreditationStatus.SUSPENDED, suspended)
    record = _current(records, scheme, now)
    if record is None:
        return Standing(AccreditationStatus.NONE)
    if now >= record.until_at:
        return Standing(AccreditationStatus.EXPIRED, record)
    if record.organisation != requester.organisation:
        return Standing(AccreditationStatus.ORGANISATION_CHANGED, record)
    if record.level is AccreditationLevel.PROVISIONAL and not _supervised(snapshot, record, now):
        return Standing(AccreditationStatus.SUPERVISOR_LAPSED, record)
    return Standing(AccreditationStatus.VALID, record)


def boundaries(snapshot: Snapshot, requester: Requester, *, visas: Visas = NO_VISAS) -> list[Instant]:
    """Return every instant at which the standing of ``requester`` could change by itself."""
    found: list[Instant] = []
    for record in snapshot.accreditations.get(requester.id, ()):
        found += (record.from_at, record.until_at)
        for other in snapshot.accreditations.get(record.supervisor or "", ()):
            found += (other.from_at, other.until_at)
    for visa in visas.accreditations:
        found += (visa.from_at, visa.until_at)
        supervisor = snapshot.requesters.get(visa.supervisor or ("", ""))
        for other in snapshot.accreditations.get(supervisor.id, ()) if supervisor is not None else ():
            found += (other.from_at, other.until_at)
    return found


def supervisors(snapshot: Snapshot, requester: Requester, *, visas: Visas) -> frozenset[str]:
    """Return the ids of everybody whose own accreditation the standing of ``requester`` may rest on."""
    records = snapshot.accreditations.get(requester.id, ())
    named = (snapshot.requesters.get(visa.supervisor or ("", "")) for visa in visas.accreditations)
    return frozenset(
        [each.supervisor for each in records if each.supervisor]
        + [person.id for person in named if person is not None]
    )


def _current(records: tuple[Accreditation, ...], scheme: str, now: Instant) -> Accreditation | None:
    """Return the latest record of ``scheme`` that has started."""
    return next((each for each in records if each.scheme == scheme and each.from_at <= now), None)


def _supervised(snapshot: Snapshot, record: Accreditation, now: Instant) -> bool:
    """Return whether the supervisor is active, of the same organisation, and fully accredited now."""
    supervisor = snapshot.requesters_by_id.get(record.supervisor or "")
    if supervisor is None or supervisor.status is not Status.ACTIVE:
        return False
    if supervisor.organisation != record.organisation:
        return False
    own = _current(snapshot.accreditations.get(supervisor.id, ()), record.scheme, now)
    # Only the fully accredited supervise; looking no further also ends any circle of supervisors.
    if own is None or own.level is not AccreditationLevel.FULL:
        return False
    return standing(snapshot, supervisor, record.scheme, now=now).status is AccreditationStatus.VALID
