"""The one writer of a log: commits whatever has queued, reads it back, signs, then wakes the callers."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd import clock, merkle
from policyd.errors import LedgerBusy, LedgerClosed, LedgerCorrupt, NotServing
from policyd.ledger import note, recovery, store
from policyd.ledger.entry import MAX_LEAF_BYTES, Entry
from policyd.ledger.reader import LedgerReader

QUEUE_LIMIT = 4_096
"""Records that may wait for the commit under way; more are refused."""
MAX_STEP_BACK_MS = 2_000
_ANCHOR_EVERY_S = 1.0
_MOVE_AFTER_BYTES = 8 * 2**20
"""How much is written before SQLite's write-ahead log is moved into the database file."""


@dataclass(frozen=True, slots=True)
class Receipts:
    """Where a caller's records are: consecutive indices from `first_index`, in the order given.

    ``checkpoint`` is the signed note over the first ``size`` records, which include these; ``nodes`` are
    the tree hashes that proofs up to it take.
    """

    origin: str
    first_index: int
    leaf_hashes: tuple[bytes, ...]
    size: int
    checkpoint: str
    nodes: Mapping[tuple[int, int], bytes] = field(repr=False, compare=False)

    def proof(self, offset: int) -> list[bytes]:
        """Return the inclusion proof of the record at `first_index + offset` under the checkpoint.

        Reads nothing from the disk: all it takes was at hand when the group was committed.
        """
        return merkle.inclusion_proof(
            self.first_index + offset, self.size, lambda level, position: self.nodes[level, position]
        )


@dataclass(slots=True, eq=False)
class _Ticket:
    entries: tuple[Entry, ...]
    first_index: int = 0
    leaf_hashes: tuple[bytes, ...] = ()


@dataclass(slots=True, eq=False)
class _Group:
    """What one commit takes; everyone in it waits for the same event."""

    tickets: list[_Ticket] = field(default_factory=list)
    records: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    size: int = 0
    checkpoint: str = ""
    nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    failure: str = ""


class Ledger:
    """An open log. `append` is safe to call from many threads; use `open` to get one.

    After any error while writing, syncing or reading back, the log is closed for good: every
    waiter and every later append gets LedgerClosed, until `policyd audit verify` has passed.
    """

    def __init__(
        self, directory: Path, *, signing_key: Ed25519PrivateKey, state: recovery.State, queue_limit: int
    ) -> None:
        """Start the writer over a recovered log; `Ledger.open` is the way to call this."""
        self.origin = state.origin
        self.vkey = state.vkey
        self.directory = directory
        self._key = signing_key
        self._state = state
        self._queue_limit = queue_limit
        self._frontier = state.frontier
        self._last_at = state.last_at
        self._checkpoint = note.sign_checkpoint(
            note.Checkpoint(self.origin, state.frontier.size, state.frontier.root()), signing_key
        )
        self._anchored = self._checkpoint
        self._anchored_at_s = clock.monotonic()
        self._unmoved_bytes = 0
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._grown = threading.Condition(self._lock)
        self._open_group = _Group()
        self._stopping = False
        self._failure = ""
        store.replace_file(directory / store.ANCHOR, self._checkpoint)
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        origin: str,
        signing_key: Ed25519PrivateKey,
        queue_limit: int = QUEUE_LIMIT,
    ) -> Ledger:
        """Open the log in `directory`, or make it, and take it for this process.

        Checks what was written since the last stored signature, and that the log has not gone
        backwards behind the checkpoint kept beside it.

        Raises:
            LedgerClosed: in use by another process, closed after a failure, on a network file
                system, not writable, or a log of another origin or key.
            LedgerCorrupt: the stored records, tree and checkpoints disagree.
        """
        verifier = note.Verifier(origin, signing_key.public_key())
        state = recovery.recover(directory, verifier=verifier)
        try:
            return cls(directory, signing_key=signing_key, state=state, queue_limit=queue_limit)
        except OSError as error:
            state.release()
            raise LedgerClosed(f"the log in `{directory}` cannot be written: {error}") from error
        except BaseException:
            state.release()
            raise

    def append(self, entries: Sequence[Entry], *, timeout_s: float | None = None) -> Receipts:
        """Return where the records are, once they are on stable storage and signed for.

        Blocks for the commit. `timeout_s` bounds the wait in the queue: records not yet taken by
        then are dropped; once taken they are recorded, and the call waits for that.

        Raises:
            LedgerBusy: the queue is full, or the time ran out; nothing was recorded.
            LedgerClosed: the log has failed or is closed; nothing may be released.
            NotServing: the clock stands more than 2 s behind the last record; nothing was recorded.
            ValueError: no records, or one that is too long.
        """
        if not entries or any(len(entry.leaf) > MAX_LEAF_BYTES for entry in entries):
            raise ValueError(f"append takes one record or more, of at most {MAX_LEAF_BYTES} bytes each")
        ticket = _Ticket(tuple(entries))
        with self._lock:
            group = self._enqueue(ticket)
        if not group.done.wait(timeout_s) and not self._waits_on(group, ticket):
            raise LedgerBusy(
                f"the ledger took nothing for {timeout_s} s: nothing was recorded, ask again later"
            )
        group.done.wait()
        if group.failure:
            raise LedgerClosed(group.failure)
        return Receipts(
            origin=self.origin,
            first_index=ticket.first_index,
            leaf_hashes=ticket.leaf_hashes,
            size=group.size,
            checkpoint=group.checkpoint,
            nodes=group.nodes,
        )

    def proof(self, index: int, size: int) -> list[bytes]:
        """Return the inclusion proof of any record in the tree of the first `size`, from what is stored.

        Raises:
            ValueError: the index is not below the size.
            LedgerCorrupt: a tree hash is missing.
        """
        return self._state.reader.inclusion_proof(index, size)

    @property
    def reader(self) -> LedgerReader:
        """A read-only view of this log. It may show records that no answer has been given for yet."""
        return self._state.reader

    @property
    def checkpoint(self) -> str:
        """The newest signed checkpoint."""
        return self._checkpoint

    @property
    def size(self) -> int:
        """How many records are durable, read back and signed for."""
        return self._frontier.size

    @property
    def failure(self) -> str:
        """Why the log is closed; empty while it is open."""
        return self._failure

    def wait_beyond(self, size: int, *, timeout_s: float) -> int:
        """Wait until more than `size` records are signed for, or for `timeout_s`; return how many are."""
        with self._lock:
            self._grown.wait_for(
                lambda: self._frontier.size > size or bool(self._failure) or self._stopping, timeout_s
            )
            return self._frontier.size

    def close(self) -> None:
        """Record what has queued, store the last signature, and give the directory back. Idempotent.

        Raises:
            LedgerClosed: the last writes failed; run `policyd audit verify`.
        """
        with self._lock:
            self._stopping = True
            self._work.notify_all()
            self._grown.notify_all()
        self._thread.join()
        failed = self._failure not in ("", _CLOSED)
        self._state.release(failed=failed)
        if failed:
            raise LedgerClosed(self._failure)
        self._failure = _CLOSED

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A failure that the body has already met is not raised again over it.
        with contextlib.suppress(LedgerClosed) if error is not None else contextlib.nullcontext():
            self.close()

    def _enqueue(self, ticket: _Ticket) -> _Group:
        if self._failure or self._stopping:
            raise LedgerClosed(self._failure or _CLOSED)
        earliest = min(entry.columns.at for entry in ticket.entries)
        if earliest < self._last_at - MAX_STEP_BACK_MS:
            raise NotServing(
                f"the clock is {self._last_at - earliest} ms behind the last record: no release until it has "
                "caught up; check this machine's time"
            )
        group = self._open_group
        if group.records + len(ticket.entries) > self._queue_limit:
            raise LedgerBusy(
                f"{group.records} records wait to be written: nothing was recorded, ask again later"
            )
        self._last_at = max(self._last_at, *(entry.columns.at for entry in ticket.entries))
        group.tickets.append(ticket)
        group.records += len(ticket.entries)
        self._work.notify()
        return group

    def _waits_on(self, group: _Group, ticket: _Ticket) -> bool:
        """Return whether the writer has taken the group; drop the ticket where it has not."""
        with self._lock:
            if group is not self._open_group:
                return True
            group.tickets.remove(ticket)
            group.records -= len(ticket.entries)
            return False

    def _run(self) -> None:
        group = _Group()
        try:
            while taken := self._take():
                group = taken
                if group.tickets:
                    self._commit(group)
                self._keep_up()
            self._finish()
        except Exception as error:  # noqa: BLE001  # outer boundary of the writer: whatever it is, stop for good
            self._fail(group, error)

    def _take(self) -> _Group | None:
        """Return what has queued, or an empty group when the anchor is due; None to stop."""
        with self._lock:
            while not self._open_group.tickets:
                if self._stopping:
                    return None
                stale = self._anchored is not self._checkpoint
                due_s = self._anchored_at_s + _ANCHOR_EVERY_S - clock.monotonic()
                if stale and due_s <= 0:
                    return _Group()
                self._work.wait(due_s if stale else None)
            group, self._open_group = self._open_group, _Group()
            return group

    def _commit(self, group: _Group) -> None:
        frontier = self._frontier.copy()
        first = frontier.size
        group.nodes = frontier.nodes()
        rows = []
        for ticket in group.tickets:
            ticket.first_index = frontier.size
            hashes = []
            for entry in ticket.entries:
                index = frontier.size
                completed = frontier.push(merkle.leaf_hash(entry.leaf))
                hashes.append(completed[0])
                group.nodes.update(((level, index >> level), each) for level, each in enumerate(completed))
                rows.append(store.row_of(index, entry, completed=completed))
            ticket.leaf_hashes = tuple(hashes)
        commit_rows(self._state.connection, rows, checkpoint=self._checkpoint)
        # INVARIANT: nothing is signed before the stored bytes have been read over another connection.
        read_back(self._state.read_back, rows, first=first, checkpoint=self._checkpoint)
        signed = note.sign_checkpoint(note.Checkpoint(self.origin, frontier.size, frontier.root()), self._key)
        group.size, group.checkpoint = frontier.size, signed
        with self._lock:
            self._frontier, self._checkpoint = frontier, signed
            self._grown.notify_all()
        group.done.set()
        self._unmoved_bytes += sum(
            len(entry.leaf) + len(entry.detail) + 512 for ticket in group.tickets for entry in ticket.entries
        )

    def _keep_up(self) -> None:
        if self._unmoved_bytes > _MOVE_AFTER_BYTES:
            store.move_write_ahead_log(self._state.connection)
            self._unmoved_bytes = 0
        if (
            self._anchored is not self._checkpoint
            and clock.monotonic() - self._anchored_at_s >= _ANCHOR_EVERY_S
        ):
            self._anchor()

    def _anchor(self) -> None:
        store.replace_file(self.directory / store.ANCHOR, self._checkpoint)
        self._anchored, self._anchored_at_s = self._checkpoint, clock.monotonic()

    def _finish(self) -> None:
        commit_rows(self._state.connection, [], checkpoint=self._checkpoint, clean=True)
        store.move_write_ahead_log(self._state.connection)
        self._anchor()

    def _fail(self, group: _Group, error: Exception) -> None:
        reason = (
            f"the ledger failed and is closed ({type(error).__name__}: {error}): "
            f"run `policyd audit verify {self.directory}` before it is opened again"
        )
        # The disk may be what failed. An empty marker closes the log just as well.
        with contextlib.suppress(OSError):
            os.close(os.open(self.directory / store.MARKER, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            store.replace_file(self.directory / store.MARKER, reason + "\n")
        with self._lock:
            self._failure = reason
            waiting, self._open_group = self._open_group, _Group()
            self._grown.notify_all()
        for stopped in (group, waiting):
            if not stopped.done.is_set():
                stopped.failure = reason
                stopped.done.set()


_CLOSED = "the ledger is closed: this node is stopping"


def commit_rows(
    connection: sqlite3.Connection, rows: Sequence[store.Row], *, checkpoint: str, clean: bool = False
) -> None:
    """Write records and the signature over those before them in one transaction, and sync it."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(store.INSERT, rows)
    connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)", (checkpoint, int(clean)))
    connection.execute("COMMIT")


def read_back(
    connection: sqlite3.Connection, rows: Sequence[store.Row], *, first: int, checkpoint: str
) -> None:
    """Read what was just committed over another connection and hash the records again.

    Each record is also looked up by its decision id, and the stored signature is compared, so that
    every page of the commit is read: a page that is torn anywhere is found.

    Raises:
        LedgerCorrupt: what is stored is not what was written.
    """
    stored = connection.execute(f"{store.SELECT} WHERE idx >= ? ORDER BY idx", (first,)).fetchall()
    if len(stored) != len(rows):
        raise LedgerCorrupt(f"{len(rows)} records were committed from {first} on, {len(stored)} are stored")
    for have, want in zip(stored, rows, strict=True):
        leaf, _, nodes = store.parts_of(have)
        if have != want or merkle.leaf_hash(leaf) != nodes[: merkle.HASH_BYTES]:
            raise LedgerCorrupt(f"record {want[0]}: the stored bytes are not those that were committed")
        if not store.is_found(connection, want):
            raise LedgerCorrupt(f"record {want[0]}: it is stored, but not found by its decision id")
    if connection.execute("SELECT note FROM checkpoint").fetchone() != (checkpoint,):
        raise LedgerCorrupt("the stored checkpoint is not the one that was committed")
