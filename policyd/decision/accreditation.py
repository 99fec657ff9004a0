"""A requester's accreditation at one instant, derived from one record (DESIGN.md section 3.2).

The record is the latest started one of the scheme that the agreement relies on; an open suspension of
any of the person's records wins over all others, so that losing a fact never gives more.
"""

from __future__ import annotations

from dataclasses import dataclass

from policyd.decision.snapshot import Snapshot
from policyd.model import (
    Accreditation,
    AccreditationLevel,
    AccreditationStatus,
    Instant,
    Requester,
    Status,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is true of a requester's accreditation; ``record`` is the one it was derived from."""

    status: AccreditationStatus
    record: Accreditation | None = None


def standing(snapshot: Snapshot, requester: Requester, scheme: str, *, now: Instant) -> Standing:
    """Derive the standing of ``requester`` under ``scheme`` at ``now``."""
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


def boundaries(snapshot: Snapshot, requester: Requester) -> list[Instant]:
    """Return every instant at which the standing of ``requester`` could change by itself."""
    found: list[Instant] = []
    for record in snapshot.accreditations.get(requester.id, ()):
        found += (record.from_at, record.until_at)
        for other in snapshot.accreditations.get(record.supervisor or "", ()):
            found += (other.from_at, other.until_at)
    return found


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
