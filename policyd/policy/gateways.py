"""Legal gateways: when each is in force, and its preconditions from a closed vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policyd.model import Instant
from policyd.policy.reader import CODE, ID, Reader
from policyd.policy.source import Node
from policyd.purpose import PurposeGraph


class Check(StrEnum):
    """A precondition of a gateway. The first two withhold single fields, the rest the whole question."""

    DEIDENTIFIED = "deidentified"
    ARTICLE9 = "article9"
    ACCREDITED_PERSON = "accredited_person"
    ACCREDITED_PROJECT = "accredited_project"
    ACCREDITED_SETTING = "accredited_setting"
    ORGANISATION_KIND = "organisation_kind"
    NOT_INDIVIDUAL_DECISION = "not_individual_decision"


@dataclass(frozen=True, slots=True)
class Precondition:
    """One check; ``values`` are the kinds or settings that it admits, empty for the other checks."""

    check: Check
    values: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Gateway:
    """One legal gateway, in force in ``[valid_from, valid_until)``.

    ``valid_from`` is None when unknown and then it is never in force; ``valid_until`` is None when the
    gateway has no end, and equals ``valid_from`` when its end is unknown, which comes to never.
    """

    id: str
    label: str
    valid_from: Instant | None
    valid_until: Instant | None
    preconditions: tuple[Precondition, ...]

    def in_force(self, now: Instant) -> bool:
        """Return whether the gateway may be relied on at ``now``."""
        if self.valid_from is None or now < self.valid_from:
            return False
        return self.valid_until is None or now < self.valid_until


@dataclass(frozen=True, slots=True)
class Gateways:
    """All gateways by id, and the least cell that any count may show."""

    by_id: dict[str, Gateway]
    min_cell_count_floor: int


INDIVIDUAL_DECISION = "individual-decision"
"""The purpose below which everything is a measure or decision about a particular pupil (Art 84C)."""

_VALUES = {Check.ORGANISATION_KIND: "kinds", Check.ACCREDITED_SETTING: "settings"}


def read_gateways(reader: Reader, node: Node, graph: PurposeGraph | None) -> Gateways:
    """Read `gateways.yaml`; ``graph`` is None when the purposes did not load."""
    top = reader.mapping(node, required={"gateways", "min_cell_count_floor"})
    floor = reader.integer(top["min_cell_count_floor"], minimum=1, maximum=1000, default=1000)
    found: dict[str, Gateway] = {}
    for entry in reader.entries(top["gateways"]):
        gateway = _read_gateway(reader, entry)
        decides = any(each.check is Check.NOT_INDIVIDUAL_DECISION for each in gateway.preconditions)
        if decides and graph is not None and INDIVIDUAL_DECISION not in graph.purposes:
            reader.fail(
                entry, f"check `not_individual_decision` needs the purpose `{INDIVIDUAL_DECISION}` to exist"
            )
        if gateway.id in found:
            reader.fail(entry, f"gateway `{gateway.id}` is listed twice")
        found[gateway.id] = gateway
    return Gateways(found, floor)


def _read_gateway(reader: Reader, node: Node) -> Gateway:
    fields = reader.mapping(
        node,
        required={"id", "label", "valid_from", "valid_until", "source"},
        optional={"preconditions", "about"},
    )
    reader.text(fields["source"])
    reader.text(fields.get("about"))
    valid_from = None if fields["valid_from"].value == "unknown" else reader.instant(fields["valid_from"])
    valid_until: Instant | None = None
    if fields["valid_until"].value == "unknown":
        valid_until = valid_from
    elif fields["valid_until"].value != "open":
        valid_until = reader.instant(fields["valid_until"])
        if valid_from is not None and valid_until <= valid_from:
            reader.fail(fields["valid_until"], "`valid_until` must be after `valid_from`")
    return Gateway(
        id=reader.ident(fields["id"], CODE),
        label=reader.text(fields["label"]),
        valid_from=valid_from,
        valid_until=valid_until,
        preconditions=tuple(
            _read_precondition(reader, entry)
            for entry in (reader.entries(fields["preconditions"]) if "preconditions" in fields else ())
        ),
    )


def _read_precondition(reader: Reader, node: Node) -> Precondition:
    fields = reader.mapping(node, required={"check"}, optional=set(_VALUES.values()))
    check = reader.one_of(fields["check"], Check)
    key = _VALUES.get(check)
    for other in fields.keys() - {"check", key}:
        reader.fail(fields[other], f"check `{check}` takes no `{other}`")
    if key is None:
        return Precondition(check)
    if key not in fields:
        reader.fail(node, f"check `{check}` needs `{key}`")
        return Precondition(check)
    return Precondition(check, frozenset(reader.idents(fields[key], ID)))
