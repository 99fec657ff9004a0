"""The snapshot a decision sees: one policy set, one registry, one epoch, compiled against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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
from policyd.policy.policyset import PolicySet
from policyd.purpose import PurposeError, PurposeMask


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
    residuals: Residuals = field(compare=False, repr=False)


def build_snapshot(policy: PolicySet, registry: Registry, *, epoch: int) -> Snapshot:
    """Compile ``registry`` against ``policy``; linear in both, off the request path."""
    held: dict[str, list[Accreditation]] = {}
    for accreditation in registry.accreditations.values():
        held.setdefault(accreditation.requester, []).append(accreditation)
    return Snapshot(
        policy=policy,
        epoch=epoch,
        services={service.spiffe_id: service for service in registry.data_services.values()},
        requesters={(each.issuer, each.subject): each for each in registry.requesters.values()},
        requesters_by_id=dict(registry.requesters),
        organisations=dict(registry.organisations),
        accreditations={
            requester: tuple(sorted(several, key=lambda each: (-each.from_at, each.id)))
            for requester, several in held.items()
        },
        agreements={each.id: _compile(policy, each) for each in registry.agreements.values()},
        residuals=Residuals(policy.rules, policy.atoms),
    )


def _compile(policy: PolicySet, agreement: Agreement) -> CompiledAgreement:
    mask, unknown = policy.index.mask(sorted(agreement.fields))
    table_years = {table.lower(): years for table, years in agreement.table_years}
    by_table: dict[str, FieldMask] = {}
    for name in agreement.fields:
        position = policy.index.position(name)
        if position is not None:
            table = name.split(".", 1)[0].lower()
            by_table[table] = by_table.get(table, 0) | 1 << position
    by_year: dict[int, FieldMask] = {}
    for table, fields in by_table.items():
        for year in table_years.get(table, agreement.years):
            by_year[year] = by_year.get(year, 0) | fields
    purposes, strange = _purposes(policy, agreement.purposes)
    return CompiledAgreement(agreement, mask, by_year, purposes, unknown, strange)


def _purposes(policy: PolicySet, names: Iterable[str]) -> tuple[PurposeMask, tuple[str, ...]]:
    mask, unknown = 0, []
    for name in sorted(names):
        try:
            mask |= policy.graph.bit(name)
        except PurposeError:
            unknown.append(name)
    return policy.graph.down(mask), tuple(unknown)
