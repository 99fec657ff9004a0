"""The one writer of a log: commits what has queued, reads it back, signs, has it cosigned, wakes callers."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd import clock, merkle
from policyd.errors import LedgerBusy, LedgerClosed, LedgerForked, NotServing
from policyd.ledger import note, recovery, store
from policyd.ledger.commit import commit_rows, read_back
from policyd.ledger.cosign import RETRY_S, Cosigner
from policyd.ledger.entry import MAX_LEAF_BYTES, Entry
from policyd.ledger.group import Group, Receipts, Ticket, Wakeups
from policyd.ledger.reader import LedgerReader
from policyd.ledger.reserve import RESERVE_BYTES, DiskReserve

QUEUE_LIMIT = 4_096
"""Records that may wait for the commit under way; more are refused."""
MAX_STEP_BACK_MS = 2_000
_CLOSED = "the ledger is closed: this node is stopping"
_ANCHOR_EVERY_S = 1.0
_LOG = logging.getLogger("policyd")
_WAKING_S = 0.01
"""How long callers may take to wake one another before the writer wakes those left, and goes on."""
_MOVE_AFTER_BYTES = 8 * 2**20
"""How much is written before SQLite's write-ahead log is moved into the database file."""


class Ledger:
    """An open log. `append` is safe to call from many threads; use `open` to get one.

    After any error while writing, syncing or reading back, the log is closed for good: every
    waiter and every later append gets LedgerClosed, until `policyd audit verify` has passed. While a
    required witness is away nothing is recorded or answered for; that ends by itself.
    """

    def __init__(
        self,
        directory: Path,
        *,
        signing_key: Ed25519PrivateKey,
        state: recovery.State,
        queue_limit: int,
        reserve_bytes: int,
        cosigner: Cosigner | None,
    ) -> None:
        """Start the writer over a recovered log; `Ledger.open` is the way to call this."""
        self.origin = state.origin
        self.vkey = state.vkey
        self.directory = directory
        self._key = signing_key
        self._state = state
        self._queue_limit = queue_limit
        self.room = DiskReserve(directory, reserve_bytes=reserve_bytes)
        self._frontier = state.frontier
        self._last_at = state.last_at
        self._checkpoint = note.sign_checkpoint(
            note.Checkpoint(self.origin, state.frontier.size, state.frontier.root()), signing_key
        )
        self._cosigner = cosigner
        self._unwitnessed = ""
        self._ask_again_at_s = 0.0
        self._condemned = ""
        if cosigner is not None:
            self._checkpoint = cosigner.cosign_at_start(
                self._checkpoint, proof=state.reader.consistency_proof
            )
        self._anchored = self._checkpoint
        self._anchored_at_s = clock.monotonic()
        self._unmoved_bytes = 0
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._grown = threading.Condition(self._lock)
        self._open_group = Group()
        self._wakeups = Wakeups()
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
        reserve_bytes: int = RESERVE_BYTES,
        cosigner: Cosigner | None = None,
    ) -> Ledger:
        """Open the log in `directory`, or make it, and take it for this process.

        Checks what was written since the last stored signature, and that the log has not gone
        backwards behind the checkpoint kept beside it, nor behind what the witness has cosigned.

        Raises:
            LedgerClosed: in use by another process, closed after a failure, on a network file
                system, not writable, or a log of another origin or key.
            LedgerCorrupt: the stored records, tree and checkpoints disagree.
            LedgerForked: the witness has cosigned a longer or another log.
            NotServing: the witness is required and cannot be reached.
        """
        verifier = note.Verifier(origin, signing_key.public_key())
        state = recovery.recover(directory, verifier=verifier)
        try:
            return cls(
                directory,
                signing_key=signing_key,
                state=state,
                queue_limit=queue_limit,
                reserve_bytes=reserve_bytes,
                cosigner=cosigner,
            )
        except BaseException as error:
            state.release()
            if cosigner is not None:
                cosigner.close()
            if isinstance(error, OSError):
                raise LedgerClosed(f"the log in `{directory}` cannot be written: {error}") from error
            raise

    def append(self, entries: Sequence[Entry], *, timeout_s: float | None = None) -> Receipts:
        """Return where the records are, once they are on stable storage and signed for.

        Blocks for the commit. `timeout_s` bounds the wait in the queue: records not yet taken by
        then are dropped; once taken they are recorded, and the call waits for that.

        Raises:
            LedgerBusy: queue or disk is full, or the time ran out; nothing was recorded.
            LedgerClosed: the log has failed or is closed; nothing may be released.
            NotServing: the clock stands more than 2 s behind the last record, or the required witness is
                away; nothing may be released. Only what was under way as the witness went is recorded.
            ValueError: no records, or one that is too long.
        """
        if not entries or any(len(entry.leaf) > MAX_LEAF_BYTES for entry in entries):
            raise ValueError(f"append takes one record or more, of at most {MAX_LEAF_BYTES} bytes each")
        ticket = Ticket(tuple(entries))
        with self.room.hold(entries):
            with self._lock:
                group = self._enqueue(ticket)
            if not ticket.wait(timeout_s):
                if not self._waits_on(group, ticket):
                    raise LedgerBusy(f"nothing was recorded in {timeout_s} s: ask again later")
                ticket.wait()
            if self._wakeups.next():
                with self._lock:
                    self._work.notify()
            return group.receipts(ticket, origin=self.origin)

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

    @property
    def refusing(self) -> str:
        """Why nothing can be recorded now: closed, or the required witness is away; empty otherwise."""
        return self._failure or self._condemned or self._unwitnessed

    def keep_cosigned(self, cosigned: str) -> None:
        """Keep a checkpoint that a witness cosigned in the background beside the log, durably."""
        store.replace_file(self.directory / store.COSIGNED, cosigned)

    def condemn(self, why: str) -> None:
        """Close the log for good, as one of which there is another; its files are not marked as failed."""
        with self._lock:
            self._condemned = self._condemned or why
            self._work.notify_all()

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
        if self._cosigner is not None:
            self._cosigner.close()
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

    def _enqueue(self, ticket: Ticket) -> Group:
        if self._failure or self._stopping:
            raise LedgerClosed(self._failure or _CLOSED)
        if self._condemned:
            raise LedgerClosed(self._condemned)
        if self._unwitnessed:
            raise NotServing(self._unwitnessed)
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
        if not self._wakeups:
            self._work.notify()
        return group

    def _waits_on(self, group: Group, ticket: Ticket) -> bool:
        """Return whether the writer has taken the group; drop the ticket where it has not."""
        with self._lock:
            if group is not self._open_group:
                return True
            group.tickets.remove(ticket)
            group.records -= len(ticket.entries)
            return False

    def _run(self) -> None:
        group = Group()
        try:
            while taken := self._take():
                group = taken
                if group.tickets:
                    self._commit(group)
                elif self._unwitnessed:
                    self._publish(Group(), self._frontier, self._checkpoint)
                self._keep_up()
            self._wakeups.all()
            self._finish()
        except LedgerForked as error:  # these files may be right: they are not marked as failed
            _LOG.error("%s", error)
            self._stop(group, f"the ledger is closed: {error}")
        except Exception as error:  # noqa: BLE001  # outer boundary of the writer: whatever it is, stop for good
            self._fail(group, error)

    def _take(self) -> Group | None:
        """Return what has queued, or an empty group when the anchor or the witness is due; None to stop."""
        with self._lock:
            # Those just woken may ask again: were they taken one by one, each would cost a sync.
            if not self._work.wait_for(lambda: not self._wakeups, _WAKING_S):
                self._wakeups.all()
            while self._condemned or not self._open_group.tickets:
                if self._condemned:
                    raise LedgerForked(self._condemned)
                if self._stopping:
                    return None
                due = []
                if self._anchored is not self._checkpoint:
                    due.append(self._anchored_at_s + _ANCHOR_EVERY_S)
                if self._unwitnessed:
                    due.append(self._ask_again_at_s)
                due_s = min(due) - clock.monotonic() if due else None
                if due_s is not None and due_s <= 0:
                    return Group()
                self._work.wait(due_s)
            group, self._open_group = self._open_group, Group()
            return group

    def _commit(self, group: Group) -> None:
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
        group.size = frontier.size
        self._publish(group, frontier, signed)
        self._unmoved_bytes += sum(
            len(entry.leaf) + len(entry.detail) + 512 for ticket in group.tickets for entry in ticket.entries
        )

    def _publish(self, group: Group, frontier: merkle.Frontier, signed: str) -> None:
        """Have the checkpoint cosigned where that is required, and wake whoever waits for it.

        No lock is held while the witness is asked. Later records queue meanwhile and are the next group.
        """
        away = ""
        if self._cosigner is not None and self._cosigner.required:
            try:
                signed = self._cosigner.cosign(signed, proof=group.growth_proof(self.reader))
            except NotServing as error:
                away = f"no answer without a witness, and it is away: {error}"
                self._ask_again_at_s = clock.monotonic() + RETRY_S
        turned_away = Group()
        with self._lock:
            if bool(away) != bool(self._unwitnessed):
                _LOG.warning("%s", away or "the witness is back")
            self._frontier, self._checkpoint, self._unwitnessed = frontier, signed, away
            if away:
                turned_away, self._open_group = self._open_group, Group()
            self._grown.notify_all()
        group.checkpoint = signed
        for each in (group, turned_away):
            each.refusal = away
            self._wakeups.add(each)

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

    def _fail(self, group: Group, error: Exception) -> None:
        reason = (
            f"the ledger failed and is closed ({type(error).__name__}: {error}): "
            f"run `policyd audit verify {self.directory}` before it is opened again"
        )
        store.mark_failed(self.directory, reason)
        self._stop(group, reason)

    def _stop(self, group: Group, reason: str) -> None:
        with self._lock:
            self._failure = reason
            waiting, self._open_group = self._open_group, Group()
            self._grown.notify_all()
        for stopped in (group, waiting):
            if not stopped.settled:
                stopped.failure = reason
                self._wakeups.add(stopped)
        self._wakeups.all()
