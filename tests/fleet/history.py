"""What happened to a fleet, event by event, on one clock of the host (CLOCK_BOOTTIME)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from policyd import clock


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at ``at``, in seconds since the host started."""

    at: float


@dataclass(frozen=True, slots=True)
class SealAsked(Event):
    """Somebody began to put ``record`` under seal. The instant is not later than the true one."""

    seal: str
    record: str


@dataclass(frozen=True, slots=True)
class SealReturned(Event):
    """What was said about a seal: ``in_force``, ``pending`` or ``failed``. Not earlier than it was said.

    ``answers_at`` is when, as it was said, no answer still out can release the record; None: not said.
    A seal may be asked about again, so it may return more than once.
    """

    seal: str
    state: str
    epoch: int = 0
    answers_at: float | None = None
    waiting_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiftAsked(Event):
    """Somebody began to lift a seal: from now on its record may leave again."""

    seal: str


@dataclass(frozen=True, slots=True)
class Asked(Event):
    """A client is about to ask for a decision. Not later than the question leaves."""

    client: str
    query: str


@dataclass(frozen=True, slots=True)
class Answered(Event):
    """A client holds a decision. ``excludes`` is its epoch of `exclude_sealed`; None: nothing may leave."""

    client: str
    query: str
    node: str
    decision: str
    epoch: int
    excludes: int | None = None


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """No decision came, or the data service would not run its query; ``why`` is one line."""

    client: str
    query: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Began(Event):
    """A data service took its table of seals, to run the query. Not later than it took it."""

    client: str
    query: str
    table: int


@dataclass(frozen=True, slots=True)
class Released(Event):
    """Rows left the data service; ``records`` are all whose data are in them."""

    client: str
    query: str
    records: frozenset[str]


@dataclass(frozen=True, slots=True)
class Recorded(Event):
    """A decision as a ledger that verifies has it. ``at`` is when it was made, not later than the truth."""

    node: str
    decision: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Node(Event):
    """Something was done to a node, or to the connections to it: ``paused``, ``resumed``, ``killed`` ..."""

    node: str
    what: str


KINDS: Mapping[str, type[Event]] = {
    "seal-asked": SealAsked,
    "seal-returned": SealReturned,
    "lift-asked": LiftAsked,
    "asked": Asked,
    "answered": Answered,
    "refused": Refused,
    "began": Began,
    "released": Released,
    "recorded": Recorded,
    "node": Node,
}
_NAMES = {kind: name for name, kind in KINDS.items()}
_READ: Mapping[str, Callable[[Any], object]] = {
    "at": float,
    "records": lambda value: frozenset(map(str, value)),
    "waiting_for": lambda value: tuple(map(str, value)),
}


class History:
    """Events in the order in which they were added. Safe to use from many threads."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._events = list(events)
        self._lock = threading.Lock()
        self._sets: dict[frozenset[str], frozenset[str]] = {}

    def add(self, event: Event) -> None:
        """Add an event."""
        with self._lock:
            self._events.append(event)

    def same(self, records: frozenset[str]) -> frozenset[str]:
        """Return one object for equal sets: thousands of queries release the same records."""
        with self._lock:
            return self._sets.setdefault(records, records)

    @property
    def events(self) -> tuple[Event, ...]:
        """All events so far."""
        with self._lock:
            return tuple(self._events)

    def save(self, path: Path) -> None:
        """Write one JSON object a line, for whoever has to find out what went wrong."""
        with path.open("w", encoding="utf-8") as file:
            for event in self.events:
                file.write(json.dumps(to_dict(event)) + "\n")


def now() -> float:
    """Return the instant that events carry."""
    return clock.boot_seconds()


def to_dict(event: Event) -> dict[str, object]:
    """Return an event as a file has it."""
    shown: dict[str, object] = {"event": _NAMES[type(event)]}
    for field in fields(event):
        value = getattr(event, field.name)
        shown[field.name] = sorted(value) if isinstance(value, frozenset) else value
    return shown


def from_dict(entry: Mapping[str, Any]) -> Event:
    """Return the event that a file has.

    Raises:
        ValueError: the kind is unknown, or a part of it is missing or unknown.
    """
    parts = dict(entry)
    kind = KINDS.get(str(parts.pop("event", "")))
    if kind is None:
        raise ValueError(f"`{entry.get('event')}` is not an event; one of: {', '.join(KINDS)}")
    try:
        return kind(**{name: _READ.get(name, lambda value: value)(value) for name, value in parts.items()})
    except TypeError as error:
        raise ValueError(f"event `{entry['event']}` at {entry.get('at')}: {error}") from None


def read(path: Path) -> Iterator[Event]:
    """Yield the events of a file that `save` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield from_dict(json.loads(line))
