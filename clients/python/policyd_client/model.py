"""What the client hands to a data service: frozen questions, verdicts, obligations and decisions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from types import MappingProxyType

from policyd_client._clock import Clock
from policyd_client.errors import AlreadyReported, AlreadyUsed, Expired, Withheld
from policyd_client.note import Checkpoint

UNEXPECTED_ANSWER = "UNEXPECTED_ANSWER"
"""The reason of every name when the answer as a whole cannot be trusted; ``Decision.unexpected`` says why."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a record is, proved: its place, its hash, and the signed checkpoint that it is under."""

    index: int
    leaf_hash: bytes
    checkpoint: Checkpoint

    @property
    def origin(self) -> str:
        """The name of the log."""
        return self.checkpoint.origin


class Action(StrEnum):
    """What will be done with the fields; every action is decided like a release."""

    RELEASE = "release"
    MATCH = "match"
    VERIFY = "verify"
    COUNT = "count"
    LINK = "link"


class Outcome(StrEnum):
    """The verdict on the whole question: nothing is withheld, something is, everything is."""

    RELEASE = "release"
    PARTIAL = "partial"
    WITHHOLD = "withhold"


class Effect(StrEnum):
    """The verdict on one name."""

    RELEASE = "release"
    TRANSFORM = "transform"
    WITHHOLD = "withhold"


class StepKind(StrEnum):
    """How a value is made less revealing."""

    PSEUDONYMISE = "pseudonymise"
    GENERALISE = "generalise"
    BAND = "band"
    ROUND = "round"
    TOP_CODE = "top_code"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a transform. ``to`` is the unit of ``generalise``; ``amount`` the width, base or cap."""

    kind: StepKind
    to: str = ""
    amount: int = 0

    def __str__(self) -> str:
        detail = self.to or (str(self.amount) if self.amount else "")
        return f"{self.kind.value}:{detail}" if detail else self.kind.value


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one name. ``steps`` are applied in order, wherever the query uses the name."""

    effect: Effect
    reason: str
    rule: str
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        if self.effect is Effect.TRANSFORM:
            return "transform " + " then ".join(str(step) for step in self.steps)
        return f"withhold {self.reason}" if self.effect is Effect.WITHHOLD else "release"


@dataclass(frozen=True, slots=True)
class Obligations:
    """What must be done with a release; ``None``, empty or false means not asked.

    ``exclude_sealed_epoch`` is the epoch that the data service's seals must have reached before the
    query starts; it is set on every decision that is not withheld. Empty sets in ``row_years`` and
    ``row_local_authorities`` admit no row. ``settings`` all have to hold. ``retention_days`` counts
    from the release.
    """

    exclude_sealed_epoch: int | None = None
    row_years: frozenset[int] | None = None
    row_local_authorities: frozenset[str] | None = None
    min_cell_count: int | None = None
    round_to: int | None = None
    retention_days: int | None = None
    output_check: bool = False
    publish_in_register: bool = False
    settings: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question, as it will be sent. ``request_id`` is fresh and random unless it is given.

    ``fields`` leave the data service; ``used_fields`` are only filtered, joined, grouped or sorted on.
    ``years`` are academic years by first calendar year.

    Raises:
        ValueError: a part has the wrong form; whether its content makes sense is for policyd to say.
    """

    agreement: str
    purposes: Sequence[str]
    fields: Sequence[str] = ()
    requester_token: str = field(repr=False)
    used_fields: Sequence[str] = ()
    years: Sequence[int] = ()
    action: Action | str = Action.RELEASE
    record_tokens: Sequence[bytes] = field(default=(), repr=False)
    request_id: str | None = None

    def __post_init__(self) -> None:
        for part in ("purposes", "fields", "used_fields"):
            _freeze(self, part, str)
        _freeze(self, "years", int)
        _freeze(self, "record_tokens", bytes)
        try:
            object.__setattr__(self, "action", Action(self.action))
        except ValueError:
            known = ", ".join(f"`{action.value}`" for action in Action)
            raise ValueError(f"`action` is one of {known}, not `{self.action}`") from None
        if self.request_id is None:
            object.__setattr__(self, "request_id", secrets.token_hex(16))

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that must come back with a verdict, each once."""
        return tuple(dict.fromkeys((*self.fields, *self.used_fields)))


def _freeze(question: Question, part: str, kind: type) -> None:
    """Turn one list of a question into a tuple; a single string given for a list is a usual slip."""
    value = getattr(question, part)
    if isinstance(value, str | bytes):
        raise ValueError(f"`{part}` is a list; write [{value!r}]")
    items = tuple(value)
    if not all(isinstance(item, kind) and not isinstance(item, bool) for item in items):
        raise ValueError(f"`{part}` holds something other than {kind.__name__} values")
    object.__setattr__(question, part, items)


def _no_trouble() -> str:
    return ""


class Life:
    """The one use and the one report of one decision: until an instant of the client's clock, and once.

    ``trouble`` says why the log that the decision is in is not trusted; empty while it is.
    """

    def __init__(
        self, clock: Clock, expires_at_s: float, *, trouble: Callable[[], str] = _no_trouble
    ) -> None:
        self._clock = clock
        self._expires_at_s = expires_at_s
        self._trouble = trouble
        self._used = False
        self._report_id = ""
        self._reported = False
        self._lock = Lock()

    def remaining_s(self) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self._expires_at_s - self._clock())

    def spend(self, decision_id: str) -> None:
        """Use it up.

        Raises:
            Expired: its time is over.
            AlreadyUsed: it was used before, perhaps by another thread.
            Withheld: the log that it is in is not trusted any more.
        """
        with self._lock:
            if why := self._trouble():
                raise Withheld(why, decision_id=decision_id)
            if self._used:
                raise AlreadyUsed(
                    f"decision `{decision_id}` was used for a query already; ask again for the next one",
                    decision_id=decision_id,
                )
            if self.remaining_s() <= 0.0:
                raise Expired(
                    f"decision `{decision_id}` is too old to be used; ask again", decision_id=decision_id
                )
            self._used = True

    def begin_report(self, decision_id: str, *, rows: int) -> str:
        """Return the id of the report, the same until one has arrived; nothing may be queried any more.

        Raises:
            AlreadyReported: a report has arrived, or another thread is sending one.
            ValueError: rows were released, but the decision was not used.
        """
        with self._lock:
            if self._reported:
                raise AlreadyReported(
                    f"the release after decision `{decision_id}` was reported already",
                    decision_id=decision_id,
                )
            if rows and not self._used:
                raise ValueError(f"decision `{decision_id}` was not used; call use() before the query")
            self._reported = self._used = True
            self._report_id = self._report_id or secrets.token_hex(16)
            return self._report_id

    def report_failed(self) -> None:
        """Let the same report be sent again."""
        with self._lock:
            self._reported = False


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The answer to one question, good for one query.

    ``verdicts`` holds every name of the question in its spelling. ``expires_at_s`` is on the client's
    clock and counted from before the question was sent. ``identification_risk`` is 1 (worst) to 5, 0
    when no field is known. ``unexpected`` says what was wrong with an answer that could not be
    trusted; everything is withheld then, with the reason ``UNEXPECTED_ANSWER``. ``receipt`` is the proof
    that the decision is recorded, as it was checked; None without receipts.
    """

    request_id: str
    decision_id: str
    trace_id: str
    outcome: Outcome
    verdicts: Mapping[str, Verdict]
    obligations: Obligations
    policy_digest: str
    policy_version: int
    epoch: int
    identification_risk: int
    sensitivity: str
    ledger_origin: str
    ledger_index: int
    expires_at_s: float
    life: Life = field(repr=False)
    unexpected: str = ""
    receipt: Receipt | None = field(default=None, repr=False)

    @property
    def released(self) -> tuple[str, ...]:
        """Names whose values may leave as they are."""
        return tuple(name for name, verdict in self.verdicts.items() if verdict.effect is Effect.RELEASE)

    @property
    def transformed(self) -> Mapping[str, tuple[Step, ...]]:
        """Names whose values may leave, and be used, only after these steps."""
        return MappingProxyType(
            {name: v.steps for name, v in self.verdicts.items() if v.effect is Effect.TRANSFORM}
        )

    @property
    def withheld(self) -> Mapping[str, str]:
        """Names that may neither leave nor be used, each with its reason."""
        return MappingProxyType(
            {name: v.reason for name, v in self.verdicts.items() if v.effect is Effect.WITHHOLD}
        )

    @property
    def remaining_s(self) -> float:
        """Seconds for which it may still be used."""
        return self.life.remaining_s()

    def require(self, *names: str) -> Decision:
        """Return this decision if nothing of it is withheld, or nothing among `names`.

        Values of names in `transformed` still have to be transformed.

        Raises:
            Withheld: the outcome is withhold, a name is withheld, or a name was never asked for.
        """
        asked = names or tuple(self.verdicts)
        reasons = {name: self.withheld.get(name, "NOT_ASKED") for name in asked if not self._may_leave(name)}
        if self.outcome is Outcome.WITHHOLD or reasons:
            raise Withheld(self._refusal(reasons), reasons=reasons, decision_id=self.decision_id)
        return self

    def use(self) -> AbstractContextManager[Decision]:
        """Use this decision up for one query; call it before the query starts, plain or in a `with`.

        Raises:
            Withheld: the outcome is withhold, or the log that it is in is not trusted any more.
            AlreadyUsed: it was used before.
            Expired: its life is over.
        """
        if self.outcome is Outcome.WITHHOLD:
            raise Withheld(self._refusal(self.withheld), reasons=self.withheld, decision_id=self.decision_id)
        self.life.spend(self.decision_id)
        return nullcontext(self)

    def _may_leave(self, name: str) -> bool:
        verdict = self.verdicts.get(name)
        return verdict is not None and verdict.effect is not Effect.WITHHOLD

    def _refusal(self, reasons: Mapping[str, str]) -> str:
        if self.unexpected:
            return f"withheld, because the answer was not as expected: {self.unexpected}"
        listed = [f"`{name}` ({reason})" for name, reason in list(reasons.items())[:5]]
        more = f" and {len(reasons) - 5} more" if len(reasons) > 5 else ""
        return f"withheld by decision `{self.decision_id}`: {', '.join(listed)}{more}"
