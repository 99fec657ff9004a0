"""The vocabulary: frozen values that the floors hand to each other (DESIGN.md section 1).

Instants are integers, milliseconds since 1970-01-01T00:00:00Z. Academic years are integers named
by their first calendar year (2018 is 2018/19). Sets of fields are Python integers, one bit a
field, whose positions belong to one policy set (``policyd.fieldset``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from policyd.reasons import Reason

Instant = int
"""Milliseconds since the Unix epoch, UTC."""

FieldMask = int
"""A set of fields as bits; bit ``i`` is position ``i`` of one catalogue."""


class Action(StrEnum):
    """What the data service will do with the fields. Every action is decided like a release."""

    __hash__ = str.__hash__  # an enumeration's own is written in Python, and every look-up calls it

    RELEASE = "release"
    MATCH = "match"
    VERIFY = "verify"
    COUNT = "count"
    LINK = "link"


class Effect(StrEnum):
    """The verdict on one field."""

    __hash__ = str.__hash__

    RELEASE = "release"
    TRANSFORM = "transform"
    WITHHOLD = "withhold"


class Outcome(StrEnum):
    """The verdict on the whole question: nothing withheld, something withheld, everything."""

    RELEASE = "release"
    PARTIAL = "partial"
    WITHHOLD = "withhold"


class Status(StrEnum):
    """Whether a registry entry may be used."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class AccreditationLevel(StrEnum):
    """Full (five years) or provisional (three, under a supervisor): domain.md section 4."""

    FULL = "full"
    PROVISIONAL = "provisional"


class AccreditationStatus(StrEnum):
    """What the registry derives about a requester's accreditation at one instant."""

    NONE = "none"
    VALID = "valid"
    EXPIRED = "expired"
    SUSPENDED = "suspended"
    SUPERVISOR_LAPSED = "supervisor-lapsed"
    ORGANISATION_CHANGED = "organisation-changed"


class TransformKind(StrEnum):
    """How a value is made less revealing before it leaves (DESIGN.md section 3.5)."""

    SUPPRESS = "suppress"
    PSEUDONYMISE = "pseudonymise"
    GENERALISE = "generalise"
    BAND = "band"
    ROUND = "round"
    TOP_CODE = "top_code"


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """One step of a transform. ``to`` is the unit of ``generalise``; ``amount`` the width, base or cap."""

    kind: TransformKind
    to: str = ""
    amount: int = 0

    def __str__(self) -> str:
        detail = self.to or (str(self.amount) if self.amount else "")
        return f"{self.kind.value}:{detail}" if detail else self.kind.value


Transform = tuple[Step, ...]
"""Steps in the order in which they are applied; empty means the value leaves as it is."""


@dataclass(frozen=True, slots=True)
class Obligations:
    """What the data service must do with what it releases. ``None`` or false means not asked.

    ``row_years`` are academic years, ``row_local_authorities`` three-digit LA codes; an empty set
    admits no row at all. ``retention_days`` counts from the release.
    """

    row_years: frozenset[int] | None = None
    row_local_authorities: frozenset[str] | None = None
    min_cell_count: int | None = None
    round_to: int | None = None
    retention_days: int | None = None
    output_check: bool = False
    publish_in_register: bool = False
    setting: frozenset[str] | None = None
    exclude_sealed_epoch: int | None = None


NO_OBLIGATIONS = Obligations()


@dataclass(frozen=True, slots=True)
class Organisation:
    """A legal entity. Grants bind to ``id``, never to a trading name.

    A change of name or control at ``changed_at`` suspends it until ``verified_at`` is later.
    """

    id: str
    kind: str
    commercial: bool
    status: Status
    legal_name: str
    verified_at: Instant
    changed_at: Instant | None = None
    local_authorities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Requester:
    """A person, named by the subject that one token issuer vouches for."""

    id: str
    organisation: str
    issuer: str
    subject: str
    status: Status
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Accreditation:
    """A dated, sourced statement about a requester, made while in ``organisation``.

    Valid in ``[from_at, until_at)``. ``supervisor`` is a requester id and mandatory when provisional.
    """

    id: str
    requester: str
    organisation: str
    scheme: str
    level: AccreditationLevel
    from_at: Instant
    until_at: Instant
    status: Status
    source: str
    supervisor: str | None = None


@dataclass(frozen=True, slots=True)
class DataService:
    """A program that holds NPD data and asks before every query; known by its SPIFFE ID."""

    id: str
    spiffe_id: str
    organisation: str
    setting: str
    status: Status


@dataclass(frozen=True, slots=True)
class Agreement:
    """An approved data share. Active in ``[from_at, until_at)``; lists ids, never wildcards.

    ``years`` are the academic years for every table, ``table_years`` replace them for one table.
    ``basis``, ``article9``, ``compatibility`` and ``exemption`` hold ``none`` when not claimed.
    """

    id: str
    organisation: str
    requesters: frozenset[str]
    data_services: frozenset[str]
    purposes: frozenset[str]
    fields: frozenset[str]
    years: frozenset[int]
    setting: str
    actions: frozenset[Action]
    gateway: str
    scheme: str
    from_at: Instant
    until_at: Instant
    destroy_by: Instant
    status: Status
    table_years: tuple[tuple[str, frozenset[int]], ...] = ()
    basis: str = "none"
    article9: str = "none"
    compatibility: str = "none"
    exemption: str = "none"
    project_accredited: bool = False


@dataclass(frozen=True, slots=True)
class Seal:
    """A protection on one child's record: one keyed token for each data service, never the reference."""

    id: str
    tokens: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything that is registered at one epoch, by id."""

    organisations: Mapping[str, Organisation] = field(default_factory=dict)
    requesters: Mapping[str, Requester] = field(default_factory=dict)
    accreditations: Mapping[str, Accreditation] = field(default_factory=dict)
    data_services: Mapping[str, DataService] = field(default_factory=dict)
    agreements: Mapping[str, Agreement] = field(default_factory=dict)
    seals: Mapping[str, Seal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What the caller says it wants. Nothing here is a fact about anyone."""

    request_id: str
    agreement: str
    purposes: tuple[str, ...]
    action: Action
    fields: tuple[str, ...]
    used_fields: tuple[str, ...] = ()
    years: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class VisaAccreditation:
    """What verified visas say of a requester's accreditation, given while in ``organisation``.

    Valid in ``[from_at, until_at)``: from when it was asserted until the first visa that it rests on is
    over. ``supervisor`` is an issuer and a subject; only a provisional one has any.
    """

    scheme: str
    level: AccreditationLevel
    organisation: str
    from_at: Instant
    until_at: Instant
    source: str
    supervisor: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class VisaProject:
    """A verified visa says that the project of ``agreement`` is accredited in ``[from_at, until_at)``."""

    agreement: str
    from_at: Instant
    until_at: Instant
    source: str


@dataclass(frozen=True, slots=True)
class Visas:
    """Everything that the verified visas of one token come to, sorted, nothing twice."""

    accreditations: tuple[VisaAccreditation, ...] = ()
    projects: tuple[VisaProject, ...] = ()


NO_VISAS = Visas()


@dataclass(frozen=True, slots=True)
class Token:
    """Verified claims of a requester's token; ``digest`` is SHA-256 of the whole token.

    ``visas`` is what follows from the GA4GH visas in it that were verified in their turn.
    """

    issuer: str
    subject: str
    digest: bytes
    expires_at: Instant
    roles: frozenset[str] = frozenset()
    visas: Visas = NO_VISAS


@dataclass(frozen=True, slots=True)
class Verified:
    """What was checked: the caller's certificate and, when it held, the requester's token.

    ``token_error`` says in a closed vocabulary why there is no token; exactly one of the two is set.
    """

    spiffe_id: str
    token: Token | None
    token_error: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One question: the claimed and the verified, which never share a namespace."""

    claimed: Claimed
    verified: Verified


@dataclass(frozen=True, slots=True)
class ColumnSet:
    """Fields of one (term, year) as bits; an empty term and year 0 stand for columns that name neither."""

    term: str
    year: int
    mask: FieldMask


@dataclass(frozen=True, slots=True)
class VerdictGroup:
    """All names of one question that share a verdict.

    ``names`` keeps the caller's spelling and order. ``rule`` is the uid of the deciding rule, or
    ``gate:<number>:<check>`` when a gate decided. ``released`` and ``used`` are the same names as
    bits, by whether they leave the data service or are only filtered, joined, grouped or sorted on;
    names that are no field of the catalogue appear in ``names`` alone.
    """

    effect: Effect
    reason: Reason
    rule: str
    transform: Transform
    names: tuple[str, ...]
    released: tuple[ColumnSet, ...] = ()
    used: tuple[ColumnSet, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one question, and which facts gave it.

    ``requester``, ``organisation``, ``data_service``, ``agreement`` and ``gateway`` are registered
    ids, empty where the question never got that far. ``purposes`` are the declared purposes that
    exist. ``identification_risk`` is the lowest (worst) over all known fields asked, 0 when there
    are none; ``sensitivity`` the union of their letters, sorted. ``unknown`` are the names that are no
    field of the catalogue, fields first, whatever the verdict on them.
    """

    outcome: Outcome
    groups: tuple[VerdictGroup, ...]
    obligations: Obligations
    identification_risk: int
    sensitivity: str
    requester: str
    organisation: str
    data_service: str
    setting: str
    agreement: str
    gateway: str
    purposes: tuple[str, ...]
    action: Action
    policy_digest: str
    policy_version: int
    epoch: int
    at: Instant
    unknown: tuple[str, ...] = ()
