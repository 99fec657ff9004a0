"""What the registry says of people and organisations at one instant (AMENDMENTS.md item 17)."""

from __future__ import annotations

from policyd.model import (
    Accreditation,
    AccreditationLevel,
    Organisation,
    Registry,
    Requester,
    Status,
)


def is_usable(organisation: Organisation, now: int) -> bool:
    """Active, and verified after the last change of name or control, where there has been one."""
    if organisation.status is not Status.ACTIVE:
        return False
    if organisation.changed_at is None or now < organisation.changed_at:
        return True
    return organisation.changed_at < organisation.verified_at and organisation.verified_at <= now


def accreditation_of(
    registry: Registry, requester: Requester, scheme: str, now: int
) -> tuple[str, Accreditation | None]:
    """Return the status, and the one record that it and the other attributes come from.

    Any suspended record of the person wins; otherwise it is the record of the agreement's scheme that
    started last. Records that have not started yet are not there.
    """
    held = [each for each in registry.accreditations.values() if each.requester == requester.id]
    suspended = [each for each in held if each.status is Status.SUSPENDED]
    if suspended:
        return "suspended", _latest(suspended)
    started = [each for each in held if each.scheme == scheme and each.from_at <= now]
    if not started:
        return "none", None
    record = _latest(started)
    if record.until_at <= now:
        return "expired", record
    if record.organisation != requester.organisation:
        return "organisation-changed", record
    if record.level is AccreditationLevel.PROVISIONAL and not _is_supervised(registry, record, now):
        return "supervisor-lapsed", record
    return "valid", record


def _is_supervised(registry: Registry, record: Accreditation, now: int) -> bool:
    """A supervisor is an active, fully and validly accredited person of the same organisation."""
    supervisor = registry.requesters.get(record.supervisor or "")
    if supervisor is None or supervisor.status is not Status.ACTIVE:
        return False
    if supervisor.organisation != record.organisation:
        return False
    held = [each for each in registry.accreditations.values() if each.requester == supervisor.id]
    if any(each.status is Status.SUSPENDED for each in held):
        return False
    started = [each for each in held if each.scheme == record.scheme and each.from_at <= now]
    if not started:
        return False
    own = _latest(started)
    return (
        own.level is AccreditationLevel.FULL
        and now < own.until_at
        and own.organisation == supervisor.organisation
    )


def _latest(records: list[Accreditation]) -> Accreditation:
    return min(records, key=lambda each: (-each.from_at, each.id))
