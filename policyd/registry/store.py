"""Keeps the numbered changes of state in SQLite for the processes of one host (DESIGN.md section 8)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from policyd import clock
from policyd.errors import ConfigError, StateConflict, StateCorrupt
from policyd.model import Registry
from policyd.policy.load import collection_off
from policyd.policy.progress import Progress, silent
from policyd.registry.change import (
    Change,
    ChangeKind,
    Draft,
    Signer,
    State,
    admit,
    extend,
    read_body,
)
from policyd.registry.check import RegistryError, check
from policyd.registry.database import Database, make, transaction
from policyd.registry.entry import is_dated
from policyd.registry.state import merge

POLL_INTERVAL_S = 0.02

_SELECT_ONE = "SELECT epoch, previous, kind, body, who, why, at, node, signature FROM change WHERE epoch = ?"
_SELECT_AFTER = """
    SELECT epoch, previous, kind, body, who, why, at, node, signature
    FROM change WHERE epoch > ? ORDER BY epoch
"""
_INSERT = """
    INSERT INTO change (epoch, previous, kind, body, who, why, at, node, signature)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True)
class Update:
    """Changes that a follower has verified, oldest first, and the state after them."""

    changes: tuple[Change, ...]
    state: State


class Follower(Protocol):
    """Waits for changes. `poll` belongs to one thread; `stop` may be called from another."""

    def poll(self, timeout_s: float) -> Update | None:
        """Return the next changes, or None when none came in time or `stop` was called."""

    def stop(self) -> None:
        """Let a waiting `poll` return at once, and every later one."""

    def close(self) -> None:
        """Stop and give back what the follower holds."""


class StateStore(Protocol):
    """Where the state is kept: what is behind it can delay or forget changes, never forge or reorder them."""

    def load(self) -> State:
        """Verify every change from the first and return the state."""

    def append(self, draft: Draft, expected_epoch: int) -> int:
        """Admit a change that was planned on `expected_epoch`, and return its number."""

    def follow(self, state: State) -> Follower:
        """Return a follower of the changes after `state`."""

    def close(self) -> None:
        """Give back what the store holds; followers stay usable."""


class EmbeddedStore:
    """The store of one host: a SQLite file. Safe to use from several threads and processes."""

    def __init__(
        self,
        path: Path,
        *,
        trusted: Mapping[str, bytes],
        signer: Signer | None = None,
        progress: Progress = silent,
    ) -> None:
        """Open the store at `path`, making it when there is none.

        ``trusted`` holds the raw Ed25519 public keys of nodes by id; without ``signer`` nothing can be
        appended. ``progress`` is told how far `load` has got.

        Raises:
            ConfigError: the file is on a network file system, open to others, or no state store.
            NotServing: SQLite cannot open it now.
        """
        if signer is not None and signer.id not in trusted:
            raise ConfigError(
                f"node key `{signer.id}` is not among the trusted ones, so nobody would accept it"
            )
        self._path = path
        self._trusted = dict(trusted)
        self._signer = signer
        self._progress = progress
        self._lock = threading.Lock()
        self._known = State()
        make(path)
        self._database = Database(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self) -> State:
        """Verify every change from the first and return the state; linear in all that is stored.

        Raises:
            StateCorrupt: a change is missing, altered or not signed by a trusted node; or the file was
                replaced.
            NotServing: the file cannot be read now.
        """
        with self._lock, self._database.use() as connection:
            with transaction(connection, "BEGIN"), collection_off():
                (last,) = connection.execute("SELECT ifnull(max(epoch), 0) FROM change").fetchone()
                changes = _told(_changes_after(connection, State()), last, self._progress)
                self._known = extend(State(), changes, trusted=self._trusted)
            return self._known

    def append(self, draft: Draft, expected_epoch: int) -> int:
        """Admit a change that was planned on `expected_epoch`; it is durable when this returns its number.

        Nothing is stored if it raises. Blocks at most `database.BUSY_TIMEOUT_S` for other writers.

        Raises:
            StateConflict: the state has another epoch by now; plan again.
            RegistryError: its entries contradict each other or those registered.
            ValueError: the draft has a form that could not be read back.
            ConfigError: the store was opened without a node key.
            StateCorrupt: what is stored already does not verify.
            NotServing: the file cannot be written now.
        """
        if self._signer is None:
            raise ConfigError("this process holds no node key and cannot change the state")
        content = read_body(draft)
        with self._lock, self._database.use() as connection:
            with transaction(connection, "BEGIN IMMEDIATE"):
                changes = _changes_after(connection, self._known)
                self._known = extend(self._known, changes, trusted=self._trusted)
                if self._known.epoch != expected_epoch:
                    raise StateConflict(
                        f"the state is at epoch {self._known.epoch}, but the change was planned on"
                        f" {expected_epoch}; plan it again"
                    )
                if isinstance(content, Registry):
                    faults = check(
                        merge(self._known.registry, content), only=content, before=self._known.registry
                    )
                    if faults:
                        raise RegistryError(faults)
                change = admit(draft, state=self._known, signer=self._signer)
                after = extend(self._known, [change], trusted=self._trusted)
                _insert(connection, change)
            self._known = after
            return after.epoch

    def follow(self, state: State) -> EmbeddedFollower:
        """Return a follower of the changes after `state`, with a connection of its own.

        Raises:
            NotServing: the file cannot be opened now.
        """
        return EmbeddedFollower(self._path, state=state, trusted=self._trusted)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._database.close()


class EmbeddedFollower:
    """Notices commits of other connections by SQLite's data version, and verifies what they brought."""

    def __init__(self, path: Path, *, state: State, trusted: Mapping[str, bytes]) -> None:
        self._state = state
        self._trusted = trusted
        self._stopped = threading.Event()
        self._seen: int | None = None
        self._database = Database(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def poll(self, timeout_s: float) -> Update | None:
        """Return the next changes, or None when none came in `timeout_s` or `stop` was called.

        Raises:
            StateCorrupt: a change does not verify, or changes that were there are gone.
            NotServing: the file cannot be read now.
        """
        until = clock.monotonic() + timeout_s
        while not self._stopped.is_set():
            with self._database.use() as connection:
                # Read before the changes: a commit in between is then seen again, not missed.
                version: int = connection.execute("PRAGMA data_version").fetchone()[0]
                if version != self._seen:
                    with transaction(connection, "BEGIN"):
                        changes = tuple(_changes_after(connection, self._state))
                    self._state = extend(self._state, changes, trusted=self._trusted)
                    self._seen = version
                    if changes:
                        return Update(changes=changes, state=self._state)
            left_s = until - clock.monotonic()
            if left_s <= 0:
                return None
            self._stopped.wait(min(POLL_INTERVAL_S, left_s))
        return None

    def stop(self) -> None:
        """Let a waiting `poll` return at once, and every later one."""
        self._stopped.set()

    def close(self) -> None:
        """Stop, and close the connection; not while another thread is inside `poll`."""
        self.stop()
        self._database.close()


def _told(changes: Iterator[Change], last: int, progress: Progress) -> Iterator[Change]:
    for change in changes:
        yield change
        progress("reading changes of state", change.epoch, last)


def _changes_after(connection: sqlite3.Connection, state: State) -> Iterator[Change]:
    """Yield the changes after `state`, in order; the caller holds a transaction."""
    if state.epoch:
        row = connection.execute(_SELECT_ONE, (state.epoch,)).fetchone()
        if row is None or _change(row).chain_hash != state.chain_hash:
            raise StateCorrupt(
                f"change {state.epoch} is no longer the one that was applied; restore the state"
            )
    for row in connection.execute(_SELECT_AFTER, (state.epoch,)):
        yield _change(row)


def _change(row: tuple[int, bytes, str, bytes, str, str, int, str, bytes]) -> Change:
    epoch, previous, kind, body, who, why, at, node, signature = row
    if kind not in set(ChangeKind) or not is_dated(at):
        raise StateCorrupt(f"change {epoch} has a kind or date that no policyd of this format writes")
    draft = Draft(ChangeKind(kind), body, who=who, why=why, at=at)
    return Change(epoch, previous, draft, node=node, signature=signature)


def _insert(connection: sqlite3.Connection, change: Change) -> None:
    draft = change.draft
    connection.execute(
        _INSERT,
        (
            *(change.epoch, change.previous, draft.kind.value, draft.body, draft.who, draft.why, draft.at),
            *(change.node, change.signature),
        ),
    )
