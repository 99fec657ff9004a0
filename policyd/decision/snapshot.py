"""The snapshot a decision sees: one policy set, one registry, one epoch, compiled against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from policyd.decision.residual import Residuals
from policyd.model import (
    Accreditation,
    Agreement,
    DataService,
    FieldMask,
    Organisation,
    Registry,
    Requester,
)
from policyd.persistent import MapEdit, PersistentMap, differences
from policyd.policy.policyset import PolicySet
from policyd.policy.progress import Progress, silent
from policyd.purpose import PurposeError, PurposeMask

K = TypeVar("K")
V = TypeVar("V")
E = TypeVar("E", DataService, Requester)

_TOLD_EACH = 100


@dataclass(frozen=True, slots=True)
class CompiledAgreement:
    """An agreement as masks: its fields, and its fields year by year.

    ``unknown_fields`` and ``unknown_purposes`` are names that this policy set does not have; they are
    reported at activation and never released.
    """

    agreement: Agreement
    fields: FieldMask
    by_year: Mapping[int, FieldMask]
    purposes: PurposeMask
    """Closed: every purpose at or below one that the agreement names."""
    unknown_fields: tuple[str, ...]
    unknown_purposes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one decision may read. Immutable; activation swaps it in one assignment."""

    policy: PolicySet
    epoch: int
    services: Mapping[str, DataService]
    """By SPIFFE ID."""
    requesters: Mapping[tuple[str, str], Requester]
    """By issuer and subject."""
    requesters_by_id: Mapping[str, Requester]
    organisations: Mapping[str, Organisation]
    accreditations: Mapping[str, tuple[Accreditation, ...]]
    """By requester id, latest start first."""
    agreements: Mapping[str, CompiledAgreement]
    contested_services: Mapping[str, tuple[DataService, ...]]
    contested_requesters: Mapping[tuple[str, str], tuple[Requester, ...]]
    """What two entries lay claim to is nobody's: neither is in `services` or `requesters`."""
    residuals: Residuals = field(compare=False, repr=False)
    registry: Registry = field(compare=False, repr=False)
    """What it was built from."""


def build_snapshot(
    policy: PolicySet, registry: Registry, *, epoch: int, progress: Progress = silent
) -> Snapshot:
    """Compile ``registry`` against ``policy``; linear in both, off the request path."""
    # A registry that shares makes a snapshot that does; the small ones of a test or a replay need not.
    empty: Mapping[Any, Any] = PersistentMap() if isinstance(registry.requesters, PersistentMap) else {}
    nothing = Snapshot(
        policy=policy,
        epoch=0,
        services=empty,
        requesters=empty,
        requesters_by_id=empty,
        organisations=empty,
        accreditations=empty,
        agreements=empty,
        contested_services=empty,
        contested_requesters=empty,
        residuals=Residuals(policy.rules, policy.atoms),
        registry=Registry(),
    )
    return advance(nothing, registry, epoch=epoch, progress=progress)


def advance(snapshot: Snapshot, registry: Registry, *, epoch: int, progress: Progress = silent) -> Snapshot:
    """Return what `build_snapshot` would make of ``registry`` and the same policy set.

    Linear in what was changed, where ``registry`` shares the rest with the one of ``snapshot``.
    """
    before = snapshot.registry
    services, contested_services = _claims(
        (snapshot.services, snapshot.contested_services),
        differences(before.data_services, registry.data_services),
        key=lambda each: each.spiffe_id,
    )
    requesters, contested_requesters = _claims(
        (snapshot.requesters, snapshot.contested_requesters),
        differences(before.requesters, registry.requesters),
        key=lambda each: (each.issuer, each.subject),
    )
    return Snapshot(
        policy=snapshot.policy,
        epoch=epoch,
        services=services,
        requesters=requesters,
        requesters_by_id=_frozen(registry.requesters),
        organisations=_frozen(registry.organisations),
        accreditations=_with(snapshot.accreditations, _held(snapshot, registry)),
        agreements=_with(snapshot.agreements, _compiled(snapshot, registry, progress)),
        contested_services=contested_services,
        contested_requesters=contested_requesters,
        residuals=snapshot.residuals,
        registry=registry,
    )


def _frozen(entries: Mapping[str, V]) -> Mapping[str, V]:
    return entries if isinstance(entries, PersistentMap) else dict(entries)


def _edit(base: Mapping[K, V]) -> MutableMapping[K, V]:
    return base.edit() if isinstance(base, PersistentMap) else dict(base)


def _done(edit: MutableMapping[K, V]) -> Mapping[K, V]:
    return edit.done() if isinstance(edit, MapEdit) else edit


def _with(base: Mapping[K, V], changes: Iterable[tuple[K, V | None]]) -> Mapping[K, V]:
    """Return ``base`` with new values, less the keys that have none."""
    edit = _edit(base)
    for key, value in changes:
        if value is None:
            edit.pop(key, None)
        else:
            edit[key] = value
    return _done(edit)


def _claims(
    before: tuple[Mapping[K, E], Mapping[K, tuple[E, ...]]],
    changes: Iterable[tuple[str, E | None, E | None]],
    *,
    key: Callable[[E], K],
) -> tuple[Mapping[K, E], Mapping[K, tuple[E, ...]]]:
    """Return who alone lays claim to each key, and who do together, after ``changes`` of entries."""
    sole: MutableMapping[K, E] = _edit(before[0])
    contested: MutableMapping[K, tuple[E, ...]] = _edit(before[1])
    claimants: dict[K, dict[str, E]] = {}

    def of(entry: E) -> dict[str, E]:
        claimed = key(entry)
        if claimed not in claimants:
            alone = sole.get(claimed)
            together = contested.get(claimed, ()) if alone is None else (alone,)
            claimants[claimed] = {each.id: each for each in together}
        return claimants[claimed]

    known = list(changes)
    # First who gives up a key, then who takes one: two entries may change places.
    for id_, old, _ in known:
        if old is not None:
            del of(old)[id_]
    for id_, _, new in known:
        if new is not None:
            of(new)[id_] = new
    for claimed, entries in claimants.items():
        sole.pop(claimed, None)
        contested.pop(claimed, None)
        if len(entries) == 1:
            (sole[claimed],) = entries.values()
        elif entries:
            contested[claimed] = tuple(each for _, each in sorted(entries.items()))
    return _done(sole), _done(contested)


def _held(snapshot: Snapshot, registry: Registry) -> Iterator[tuple[str, tuple[Accreditation, ...] | None]]:
    """Yield, for each requester of whom a record was changed, all that are held now."""
    changed: dict[str, set[str]] = {}
    added: dict[str, list[Accreditation]] = {}
    for id_, old, new in differences(snapshot.registry.accreditations, registry.accreditations):
        for each in (old, new):
            if each is not None:
                changed.setdefault(each.requester, set()).add(id_)
        if new is not None:
            added.setdefault(new.requester, []).append(new)
    for requester, ids in changed.items():
        kept = [each for each in snapshot.accreditations.get(requester, ()) if each.id not in ids]
        records = sorted([*kept, *added.get(requester, ())], key=lambda each: (-each.from_at, each.id))
        yield requester, tuple(records) or None


def _compiled(
    snapshot: Snapshot, registry: Registry, progress: Progress
) -> Iterator[tuple[str, CompiledAgreement | None]]:
    changed = list(differences(snapshot.registry.agreements, registry.agreements))
    for done, (id_, _, agreement) in enumerate(changed, start=1):
        yield id_, None if agreement is None else _compile(snapshot.policy, agreement)
        if not done % _TOLD_EACH or done == len(changed):
            progress("compiling agreements", done, len(changed))


def _compile(policy: PolicySet, agreement: Agreement) -> CompiledAgreement:
    table_years = {table.lower(): years for table, years in agreement.table_years}
    by_table: dict[str, FieldMask] = {}
    unknown: list[str] = []
    for name in agreement.fields:
        position = policy.index.position(name)
        if position is None:
            unknown.append(name)
        else:
            table = name.split(".", 1)[0].lower()
            by_table[table] = by_table.get(table, 0) | 1 << position
    mask: FieldMask = 0
    by_year: dict[int, FieldMask] = {}
    for table, fields in by_table.items():
        mask |= fields
        for year in table_years.get(table, agreement.years):
            by_year[year] = by_year.get(year, 0) | fields
    # Most years give the same fields, and a set of 3,800 takes half a kibibyte: one object is enough.
    one = {mask: mask}
    by_year = {year: one.setdefault(fields, fields) for year, fields in by_year.items()}
    purposes, strange = _purposes(policy, agreement.purposes)
    return CompiledAgreement(agreement, mask, by_year, purposes, tuple(sorted(unknown)), strange)


def _purposes(policy: PolicySet, names: Iterable[str]) -> tuple[PurposeMask, tuple[str, ...]]:
    mask, unknown = 0, []
    for name in sorted(names):
        try:
            mask |= policy.graph.bit(name)
        except PurposeError:
            unknown.append(name)
    return policy.graph.down(mask), tuple(unknown)
