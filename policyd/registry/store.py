"""Keeps the numbered changes of state in SQLite for the processes of one host (DESIGN.md section 8)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from policyd import clock
from policyd.errors import ConfigError, StateConflict, StateCorrupt
from policyd.model import Registry
from policyd.registry.change import (
    GENESIS,
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
from policyd.registry.lease import Acknowledgement, Renewal, acknowledgement_bytes, read_acknowledgement
from policyd.registry.state import merge

POLL_INTERVAL_S = 0.02

_SELECT_ONE = "SELECT epoch, previous, kind, body, who, why, at, node, signature FROM change WHERE epoch = ?"
_SELECT_AFTER = """
    SELECT epoch, previous, kind, body, who, why, at, node, signature
    FROM change WHERE epoch > ? ORDER BY epoch
"""
_ACKNOWLEDGE = "INSERT OR REPLACE INTO acknowledgement (node, words) VALUES (?, ?)"
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

    def renew(self, acknowledgement: Acknowledgement) -> Renewal:
        """Keep an acknowledgement, in one step with the comparison: only if it names the head."""

    def acknowledgements(self) -> Mapping[str, Acknowledgement]:
        """Return the last acknowledgement of each node, by its id; signatures are not checked here."""

    def continuity(self) -> str:
        """Return what stays the same for as long as the store cannot have lost what it accepted."""

    def close(self) -> None:
        """Give back what the store holds; followers stay usable."""


class EmbeddedStore:
    """The store of one host: a SQLite file. Safe to use from several threads and processes."""

    def __init__(self, path: Path, *, trusted: Mapping[str, bytes], signer: Signer | None = None) -> None:
        """Open the store at `path`, making it when there is none.

        ``trusted`` holds the raw Ed25519 public keys of nodes by id; without ``signer`` nothing can be
        appended.

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
            with transaction(connection, "BEGIN"):
                changes = _changes_after(connection, State())
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

    def keep(self, changes: Sequence[Change]) -> None:
        """Store changes that another store admitted and the caller has verified; those here already are left.

        Raises:
            StateCorrupt: they do not follow from what is here, or another change has one of the numbers.
            NotServing: the file cannot be written now; nothing is stored.
        """
        with self._lock, self._database.use() as connection, transaction(connection, "BEGIN IMMEDIATE"):
            for change in changes:
                if _stored(connection, change.epoch) == change:
                    continue
                before = _stored(connection, change.epoch - 1)
                if change.previous != (before.chain_hash if before else GENESIS):
                    raise StateCorrupt(
                        f"change {change.epoch} does not follow from this node's own copy of the changes"
                    )
                if _stored(connection, change.epoch) is not None:
                    raise StateCorrupt(
                        f"this node's own copy has another change {change.epoch}; two histories:"
                        " `policyd registry republish` shows both"
                    )
                _insert(connection, change)

    def highest(self) -> int:
        """Return the number of the newest change here, 0 when there is none; nothing is verified.

        Raises:
            StateCorrupt, NotServing: as `load`.
        """
        with self._lock, self._database.use() as connection:
            return _highest(connection)

    def renew(self, acknowledgement: Acknowledgement) -> Renewal:
        """Keep an acknowledgement, in one step with the comparison: only if it names the head.

        Raises:
            ValueError: the acknowledgement has a form that could not be read back.
            StateCorrupt, NotServing: as `append`.
        """
        words = acknowledgement_bytes(acknowledgement)
        with self._lock, self._database.use() as connection, transaction(connection, "BEGIN IMMEDIATE"):
            epoch = _highest(connection)
            newest = _stored(connection, epoch)
            chain_hash = newest.chain_hash if newest else GENESIS
            accepted = (epoch, chain_hash) == (acknowledgement.epoch, acknowledgement.chain_hash)
            if accepted:
                connection.execute(_ACKNOWLEDGE, (acknowledgement.node, words))
        return Renewal(accepted=accepted, epoch=epoch, chain_hash=chain_hash)

    def acknowledgements(self) -> Mapping[str, Acknowledgement]:
        """Return the last acknowledgement of each node, by its id; signatures are not checked here.

        Raises:
            StateCorrupt: one has another form than policyd writes.
            NotServing: the file cannot be read now.
        """
        with self._lock, self._database.use() as connection:
            rows = connection.execute("SELECT node, words FROM acknowledgement ORDER BY node").fetchall()
        try:
            found = {node: read_acknowledgement(words) for node, words in rows}
        except ValueError as error:
            raise StateCorrupt(f"an acknowledgement in {self._path} cannot be read: {error}") from None
        if any(node != each.node for node, each in found.items()):
            raise StateCorrupt(f"an acknowledgement in {self._path} is kept under another node's id")
        return found

    def continuity(self) -> str:
        """Return what names this file in this run of the machine; a commit outlives the process that made it.

        Raises:
            StateCorrupt: the file was removed or replaced.
        """
        with self._lock, self._database.use():
            return self._database.identity

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
                    # Every renewal of a lease is a commit, too; a registry is not copied for that.
                    if changes:
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


def _changes_after(connection: sqlite3.Connection, state: State) -> Iterator[Change]:
    """Yield the changes after `state`, in order; the caller holds a transaction."""
    if state.epoch:
        stored = _stored(connection, state.epoch)
        if stored is None or stored.chain_hash != state.chain_hash:
            raise StateCorrupt(
                f"change {state.epoch} is no longer the one that was applied; restore the state"
            )
    for row in connection.execute(_SELECT_AFTER, (state.epoch,)):
        yield _change(row)


def _highest(connection: sqlite3.Connection) -> int:
    epoch: int = connection.execute("SELECT coalesce(max(epoch), 0) FROM change").fetchone()[0]
    return epoch


def _stored(connection: sqlite3.Connection, epoch: int) -> Change | None:
    row = connection.execute(_SELECT_ONE, (epoch,)).fetchone()
    return None if row is None else _change(row)


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
