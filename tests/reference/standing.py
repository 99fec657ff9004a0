"""What registry and visas say of people and organisations at one instant (AMENDMENTS.md item 17)."""

from __future__ import annotations

from policyd.model import (
    Accreditation,
    AccreditationLevel,
    Organisation,
    Registry,
    Requester,
    Status,
    VisaAccreditation,
    Visas,
)


def is_usable(organisation: Organisation, now: int) -> bool:
    """Active, and verified after the last change of name or control, where there has been one."""
    if organisation.status is not Status.ACTIVE:
        return False
    if organisation.changed_at is None or now < organisation.changed_at:
        return True
    return organisation.changed_at < organisation.verified_at and organisation.verified_at <= now


def accreditation_of(
    registry: Registry, requester: Requester, scheme: str, now: int, visas: Visas
) -> tuple[str, Accreditation | VisaAccreditation | None]:
    """Return the status, and the one record that it and the other attributes come from.

    Any suspended record of the person wins; otherwise it is the record of the agreement's scheme that
    started last. Records that have not started yet are not there. Visas asserted after that record and
    good now take its place where it is not valid, or where they give more.
    """
    status, record = _by_registry(registry, requester, scheme, now)
    if status == "suspended":
        return status, record
    level, until = ("", 0) if record is None or status != "valid" else (record.level.value, record.until_at)
    best: Accreditation | VisaAccreditation | None = None
    for visa in visas.accreditations:
        if visa.scheme != scheme or visa.organisation != requester.organisation:
            continue
        if now < visa.from_at or visa.until_at <= now:
            continue
        if record is not None and visa.from_at <= record.from_at:
            continue
        if visa.level is AccreditationLevel.PROVISIONAL and not _is_supervised_by_visa(
            registry, requester, record, visa, now
        ):
            continue
        lower = level in ("", "provisional") and visa.level is AccreditationLevel.FULL
        if level == "" or lower or (level == visa.level.value and until < visa.until_at):
            level, until, best = visa.level.value, visa.until_at, visa
    return (status, record) if best is None else ("valid", best)


def _is_supervised_by_visa(
    registry: Registry,
    requester: Requester,
    record: Accreditation | None,
    visa: VisaAccreditation,
    now: int,
) -> bool:
    """Whom the visa names is asked, and whom the registry names where it names nobody."""
    name = record.supervisor if record is not None else None
    if visa.supervisor is not None:
        people = [
            each.id for each in registry.requesters.values() if (each.issuer, each.subject) == visa.supervisor
        ]
        name = people[0] if people else None
    return _is_supervised(registry, name, requester.organisation, visa.scheme, now)


def _by_registry(
    registry: Registry, requester: Requester, scheme: str, now: int
) -> tuple[str, Accreditation | None]:
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
    if record.level is AccreditationLevel.PROVISIONAL and not _is_supervised(
        registry, record.supervisor, record.organisation, record.scheme, now
    ):
        return "supervisor-lapsed", record
    return "valid", record


def _is_supervised(registry: Registry, name: str | None, organisation: str, scheme: str, now: int) -> bool:
    """A supervisor is an active, fully and validly accredited person of the same organisation."""
    supervisor = registry.requesters.get(name or "")
    if supervisor is None or supervisor.status is not Status.ACTIVE:
        return False
    if supervisor.organisation != organisation:
        return False
    held = [each for each in registry.accreditations.values() if each.requester == supervisor.id]
    if any(each.status is Status.SUSPENDED for each in held):
        return False
    started = [each for each in held if each.scheme == scheme and each.from_at <= now]
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
