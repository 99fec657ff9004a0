"""Keeps the numbered changes of state in SQLite for the processes of one host (DESIGN.md section 8)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from policyd import clock
from policyd.errors import ConfigError, StateCorrupt
from policyd.policy.load import collection_off
from policyd.policy.progress import Progress, silent
from policyd.registry.change import GENESIS, Change, State, admit_checked, extend
from policyd.registry.change_table import changes_after, changes_from, highest, insert, stored
from policyd.registry.database import Database, make
from policyd.registry.draft import Proposal, Signer, read_body
from policyd.registry.lease import Acknowledgement, Renewal, acknowledgement_bytes, read_acknowledgement
from policyd.registry.trust import Trust
from policyd.sqlite import transaction

POLL_INTERVAL_S = 0.02

_ACKNOWLEDGE = "INSERT OR REPLACE INTO acknowledgement (node, words) VALUES (?, ?)"


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

    def changes(self, after_epoch: int) -> Iterator[Change]:
        """Yield the changes after an epoch, in order; verifying them is for `load`."""

    def append(self, proposal: Proposal, expected_epoch: int) -> int:
        """Admit a change if the newest one is `expected_epoch`, and return its number."""

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

    def __enter__(self) -> Self:
        """Use the store in a `with`, which closes it."""

    def __exit__(self, *_: object) -> None:
        """Close the store."""


class EmbeddedStore:
    """The store of one host: a SQLite file. Safe to use from several threads and processes."""

    def __init__(
        self, path: Path, *, trust: Trust, signer: Signer | None = None, progress: Progress = silent
    ) -> None:
        """Open the store at `path`, making it when there is none.

        ``trust`` is this process's own trust document, which the one in force must equal; without
        ``signer``, the key of one of its nodes, nothing can be appended. ``progress`` is told how far `load`
        has got.

        Raises:
            ConfigError: the file is on a network file system, open to others, or no state store; or the
                signer is no node of the document.
            NotServing: SQLite cannot open it now.
        """
        self._path = path
        self._trust = trust
        self._signer = signer
        self._node = node_of(trust, signer)
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
            StateCorrupt: a change is missing, altered or not signed by those who may make it; or the file
                was replaced.
            ConfigError: the trust document in force is another than this process's own.
            NotServing: the file cannot be read now.
        """
        return check_trust(self.load_any(), self._trust)

    def load_any(self) -> State:
        """Return the state as `load` does, whichever trust document is in force in it.

        A node's own copy may be behind the document that the node was given.

        Raises:
            StateCorrupt, NotServing: as `load`.
        """
        with self._lock, self._database.use() as connection:
            with transaction(connection, "BEGIN"), collection_off():
                last = highest(connection)
                changes = _told(changes_after(connection, State()), last, self._progress)
                self._known = extend(State(), changes)
            return self._known

    def changes(self, after_epoch: int) -> Iterator[Change]:
        """Yield the stored changes after an epoch, in order; verifying them is for `load`.

        Raises:
            StateCorrupt: one has a form that no policyd of this format writes; or the file was replaced.
            NotServing: the file cannot be read now.
        """
        with self._lock, self._database.use() as connection:
            yield from changes_from(connection, after_epoch)

    def append(self, proposal: Proposal, expected_epoch: int) -> int:
        """Admit a change if the newest one is `expected_epoch`; it is durable when this returns its number.

        Nothing is stored if it raises. Blocks at most `database.BUSY_TIMEOUT_S` for other writers.

        Raises:
            StateConflict: the state has another epoch by now, what the change names has changed since it
                was planned, or its id was used; plan again.
            ApprovalMissing, NotAuthorised: its signatures do not carry it.
            RegistryError: its entries contradict each other or those registered.
            ValueError: the draft has a form that could not be read back.
            ConfigError: the store was opened without a node key, or under another trust document.
            StateCorrupt: what is stored already does not verify.
            NotServing: the file cannot be written now.
        """
        if self._signer is None:
            raise ConfigError("this process holds no node key and cannot change the state")
        content = read_body(proposal.draft)
        with self._lock, self._database.use() as connection:
            with transaction(connection, "BEGIN IMMEDIATE"):
                self._known = extend(self._known, changes_after(connection, self._known))
                state = check_trust(self._known, self._trust)
                change, after = admit_checked(
                    proposal,
                    content,
                    state=state,
                    expected_epoch=expected_epoch,
                    node=self._node,
                    signer=self._signer,
                )
                insert(connection, change)
            self._known = after
            return after.epoch

    def follow(self, state: State) -> EmbeddedFollower:
        """Return a follower of the changes after `state`, with a connection of its own.

        Raises:
            NotServing: the file cannot be opened now.
        """
        return EmbeddedFollower(self._path, state=state, trust=self._trust)

    def keep(self, changes: Sequence[Change]) -> None:
        """Store changes that another store admitted and the caller has verified; those here already are left.

        Raises:
            StateCorrupt: they do not follow from what is here, or another change has one of the numbers.
            NotServing: the file cannot be written now; nothing is stored.
        """
        with self._lock, self._database.use() as connection, transaction(connection, "BEGIN IMMEDIATE"):
            for change in changes:
                if stored(connection, change.epoch) == change:
                    continue
                before = stored(connection, change.epoch - 1)
                if change.previous != (before.chain_hash if before else GENESIS):
                    raise StateCorrupt(
                        f"change {change.epoch} does not follow from this node's own copy of the changes"
                    )
                if stored(connection, change.epoch) is not None:
                    raise StateCorrupt(
                        f"this node's own copy has another change {change.epoch}; two histories:"
                        " `policyd registry republish` shows both"
                    )
                insert(connection, change)

    def highest(self) -> int:
        """Return the number of the newest change here, 0 when there is none; nothing is verified.

        Raises:
            StateCorrupt, NotServing: as `load`.
        """
        with self._lock, self._database.use() as connection:
            return highest(connection)

    def renew(self, acknowledgement: Acknowledgement) -> Renewal:
        """Keep an acknowledgement, in one step with the comparison: only if it names the head.

        Raises:
            ValueError: the acknowledgement has a form that could not be read back.
            StateCorrupt, NotServing: as `append`.
        """
        words = acknowledgement_bytes(acknowledgement)
        with self._lock, self._database.use() as connection, transaction(connection, "BEGIN IMMEDIATE"):
            epoch = highest(connection)
            newest = stored(connection, epoch)
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

    def __init__(self, path: Path, *, state: State, trust: Trust) -> None:
        self._state = state
        self._trust = trust
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
            ConfigError: another trust document than this process's own has come into force.
            NotServing: the file cannot be read now.
        """
        until = clock.monotonic() + timeout_s
        while not self._stopped.is_set():
            with self._database.use() as connection:
                # Read before the changes: a commit in between is then seen again, not missed.
                version: int = connection.execute("PRAGMA data_version").fetchone()[0]
                if version != self._seen:
                    with transaction(connection, "BEGIN"):
                        changes = tuple(changes_after(connection, self._state))
                    # Every renewal of a lease is a commit, too; a registry is not copied for that.
                    if changes:
                        self._state = check_trust(extend(self._state, changes), self._trust)
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


def node_of(trust: Trust, signer: Signer | None) -> str:
    """Return the name of the node whose key `signer` is; empty without one.

    Raises:
        ConfigError: it is no node of the trust document.
    """
    if signer is None:
        return ""
    node = trust.node(signer.public)
    if node is None:
        raise ConfigError(
            f"node key `{signer.id}` is not among the nodes of the trust document, so nobody would accept"
            " what it signs"
        )
    return node.id


def check_trust(state: State, trust: Trust) -> State:
    """Return `state` if the trust document in force is `trust`, or none is yet.

    Raises:
        ConfigError: it is another; a node must not go on under signatures that no longer count.
    """
    if state.trust is not None and state.trust.digest != trust.digest:
        raise ConfigError(
            f"trust document {state.trust.digest[:12]} is in force, but this process has {trust.digest[:12]};"
            " put the one in force in its place and start again"
        )
    return state


def _told(changes: Iterator[Change], last: int, progress: Progress) -> Iterator[Change]:
    for change in changes:
        yield change
        progress("reading changes of state", change.epoch, last)
