"""Verifies a log by rebuilding it from its records: tree, columns, order, checkpoints, signatures."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from policyd import clock, merkle
from policyd.errors import ConfigError, LedgerClosed, LedgerCorrupt
from policyd.files import sync
from policyd.ledger import note, store
from policyd.ledger.bare_hashing import BareHashing
from policyd.ledger.columns import index_values
from policyd.ledger.cosigned import check_cosigned
from policyd.ledger.entry import columns_of
from policyd.ledger.report import Fault, VerifyReport
from policyd.ledger.witnessed import StoredTree, Witnessed

MAX_STEP_BACK_MS = 2_000
_PROGRESS_EVERY = 10_000
_SAMPLED = 64
"""One record in so many is hashed once more, to know what hashing alone costs."""
_AT, _KIND = store.ROW.index("at"), store.ROW.index("kind")

Progress = Callable[[int, int], None]
"""Called now and then with the records verified so far and the records there are."""


def verify(
    directory: Path,
    *,
    public_key: str | None = None,
    since: str | None = None,
    cosigned: Sequence[str] = (),
    witness: str | None = None,
    receipts: Path | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Verify the log in `directory`, which may be in use, and report every fault found.

    `public_key` is the vkey that its checkpoints must carry; None trusts the one stored in the log.
    `since` is a signed checkpoint held elsewhere: the log must still begin with it, and only newer
    records are hashed again. `cosigned` are more such checkpoints, which leave nothing out; `witness` is
    the vkey of a witness that must have cosigned all those given, `since` too. `receipts` is a directory
    of clients' journals, or another node's log. A whole verification without fault clears the marker of a
    failed log.

    Raises:
        LedgerCorrupt: there is no log, or nothing of it can be read.
        ConfigError: `public_key` or `witness` is no vkey, or `receipts` holds none.
    """
    started_s = clock.monotonic()
    with contextlib.ExitStack() as stack:
        kept = _take_marked(directory, stack)
        faults = list(_read_from_disk(directory))
        connection = stack.enter_context(contextlib.closing(store.open_for_reading(directory)))
        with store.readable(directory / store.DATABASE):
            work = _Verification(connection, directory, public_key)
            faults += work.run(since, progress)
            given = [*cosigned, *([since] if since is not None and witness is not None else [])]
            faults += (
                Fault(*found)
                for found in check_cosigned(
                    connection, given, verifier=work.verifier, size=work.size, witness=witness
                )
            )
            if receipts is not None:
                faults += (Fault(*found) for found in work.witnessed.receipts(receipts))
        marker = directory / store.MARKER
        if marker.exists() and not kept:
            kept = (
                "only part of the log was verified"
                if since is not None
                else "faults were found"
                if faults
                else ""
            )
            if not kept:
                marker.unlink()
                sync(directory)
        else:
            marker = directory
        return VerifyReport(
            origin=work.verifier.name,
            vkey=work.verifier.vkey,
            key_pinned=public_key is not None,
            records=work.frontier.size - work.start,
            size=work.size,
            signed=work.signed,
            root=work.frontier.root(),
            faults=tuple(faults),
            elapsed_s=clock.monotonic() - started_s,
            bare_records_per_s=work.bare.records_per_s(),
            marker_cleared=marker is not directory and not kept,
            marker_kept=kept,
            witnessed=work.witnessed.checked,
        )


def check_row(row: store.Row, frontier: merkle.Frontier) -> None:
    """Add a stored record to the tree; its hashes and columns must be those that its bytes give.

    Raises:
        LedgerCorrupt: they are not; the message names the record and the part.
    """
    index = frontier.size
    if row[0] != index:
        raise LedgerCorrupt(f"record {index} is missing: the next is {row[0]}")
    leaf, private, nodes = store.parts_of(row)
    completed = frontier.push(merkle.leaf_hash(leaf))
    if b"".join(completed) != nodes:
        if nodes[: merkle.HASH_BYTES] != completed[0]:
            raise LedgerCorrupt(f"record {index}: its bytes do not give its stored hash")
        raise LedgerCorrupt(
            f"record {index}: the tree hash over it and those before it "
            f"(from {index + 1 - 2 ** (len(completed) - 1)}) is not the stored one"
        )
    detail = store.detail_of(row)
    if index_values(leaf, private, detail=detail) == store.columns_in(row):
        return
    try:
        columns = columns_of(leaf, private, detail=detail)
    except LedgerCorrupt as error:
        raise LedgerCorrupt(f"record {index}: {error}") from None
    for name, stored in zip(store.COLUMNS, store.columns_in(row), strict=True):
        if stored != getattr(columns, name):
            raise LedgerCorrupt(f"record {index}: column `{name}` is not what its bytes say")


class _Verification:
    """One pass over one log, inside one read transaction."""

    def __init__(self, connection: sqlite3.Connection, directory: Path, public_key: str | None) -> None:
        self._connection = connection
        # Read first: a live log may move its anchor on, never back, after the snapshot is taken.
        self._anchor = _read_anchor(directory)
        connection.execute("BEGIN")
        meta = store.read_meta(connection)
        try:
            self.verifier = note.Verifier.from_vkey(meta["vkey"] if public_key is None else public_key)
        except ValueError as error:
            kind = LedgerCorrupt if public_key is None else ConfigError
            raise kind(f"the key of the log is malformed: {error}") from None
        self._meta = meta
        self.size = store.count_records(connection)
        self.frontier = merkle.Frontier()
        self.start = 0
        self.signed = 0
        self.bare = BareHashing()
        self.witnessed = Witnessed(StoredTree(connection), verifier=self.verifier, size=self.size)
        self._held: list[Fault] = []

    def run(self, since: str | None, progress: Progress | None) -> Iterator[Fault]:
        if (self._meta["origin"], self._meta["vkey"]) != (self.verifier.name, self.verifier.vkey):
            yield Fault(None, f"the log says that it is `{self._meta['vkey']}`, not `{self.verifier.vkey}`")
        if since is not None and (fault := self._start_at(since)):
            yield fault
            return
        found = list(self._checkpoints())
        checkpoints = [each for each in found if not isinstance(each, Fault)]
        roots: dict[int, bytes] = {self.start: self.frontier.root()}
        wanted = {checkpoint.size for _, checkpoint in checkpoints}
        fault = self._rebuild(wanted, roots, progress)
        if fault is not None:
            yield fault
        yield from self._held
        yield from (each for each in found if isinstance(each, Fault))
        for where, checkpoint in checkpoints:
            self.signed = max(self.signed, min(checkpoint.size, self.size))
            if checkpoint.size > self.size:
                yield Fault(
                    self.size,
                    f"record {self.size} is missing: the checkpoint in {where} covers {checkpoint.size}",
                )
            elif roots.get(checkpoint.size, checkpoint.root) != checkpoint.root:
                yield Fault(
                    None, f"the first {checkpoint.size} records do not give the root signed in {where}"
                )
        yield from self._integrity()

    def _start_at(self, signed: str) -> Fault | None:
        try:
            since = note.verify_checkpoint(signed, origin=self.verifier.name, verifier=self.verifier)
        except LedgerCorrupt as error:
            return Fault(None, f"the checkpoint to start from does not hold: {error}")
        if since.size > self.size:
            return Fault(self.size, f"record {self.size} is missing: a checkpoint covers {since.size}")
        try:
            frontier = merkle.load_frontier(
                since.size,
                lambda level, position: store.read_node(self._connection, level, position=position),
            )
        except LedgerCorrupt as error:
            return Fault(None, str(error))
        if frontier.root() != since.root:
            return Fault(
                None, f"the log does not begin with the {since.size} records of the checkpoint given"
            )
        self.frontier, self.start = frontier, since.size
        return None

    def _checkpoints(self) -> Iterator[Fault | tuple[str, note.Checkpoint]]:
        row = self._connection.execute("SELECT CAST(note AS BLOB), clean FROM checkpoint").fetchone()
        signed = {"the database": (row[0] or b"").decode("utf-8", "replace")} if row else {}
        if self._anchor is None:
            yield Fault(None, f"`{store.ANCHOR}` is missing beside the log")
        else:
            signed[f"`{store.ANCHOR}`"] = self._anchor
        for where, text in signed.items():
            try:
                checkpoint = note.verify_checkpoint(text, origin=self.verifier.name, verifier=self.verifier)
            except LedgerCorrupt as error:
                yield Fault(None, f"the checkpoint in {where} does not hold: {error}")
                continue
            if row and row[1] and where == "the database" and checkpoint.size < self.size:
                yield Fault(
                    checkpoint.size,
                    f"record {checkpoint.size} was added after the log was closed at that size",
                )
            yield where, checkpoint

    def _rebuild(self, wanted: set[int], roots: dict[int, bytes], progress: Progress | None) -> Fault | None:
        latest = 0
        frontier, bare = self.frontier, self.bare
        rows = self._connection.execute(f"{store.SELECT} WHERE idx >= ? ORDER BY idx", (self.start,))
        while True:
            index = frontier.size
            try:
                row = rows.fetchone()
                if row is None:
                    return None
                check_row(row, frontier)
            except LedgerCorrupt as error:
                return Fault(index, str(error))
            except store.UNREADABLE as error:
                return Fault(index, f"record {index} cannot be read: {store.in_a_line(error)}")
            at = row[_AT]
            if at < latest - MAX_STEP_BACK_MS:
                return Fault(index, f"record {index} is {latest - at} ms older than one before it")
            latest = max(latest, at)
            if row[_KIND] == "release":
                leaf = store.parts_of(row)[0]
                self._held += (Fault(*found) for found in self.witnessed.release(index, leaf))
            if frontier.size in wanted:
                roots[frontier.size] = frontier.root()
            if not index % _SAMPLED:
                bare.sample(store.parts_of(row)[0], store.detail_of(row))
            if progress is not None and frontier.size % _PROGRESS_EVERY == 0:
                progress(frontier.size, self.size)

    def _integrity(self) -> Iterator[Fault]:
        """Let SQLite check its own pages and indices: a look-up by decision id goes through one."""
        try:
            for (line,) in self._connection.execute("PRAGMA integrity_check(3)"):
                if line != "ok":
                    yield Fault(None, f"SQLite: {line}")
        except store.UNREADABLE as error:
            yield Fault(None, f"SQLite: {store.in_a_line(error)}")


def _read_anchor(directory: Path) -> str | None:
    try:
        return (directory / store.ANCHOR).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _take_marked(directory: Path, stack: contextlib.ExitStack) -> str:
    """Hold a failed log while it is verified; return why its marker must stay, or empty."""
    if not (directory / store.MARKER).exists():
        return ""
    try:
        stack.callback(os.close, store.lock(directory))
    except LedgerClosed as error:
        return str(error)
    return ""


def _read_from_disk(directory: Path) -> Iterator[Fault]:
    """Make the kernel forget the log's pages, so that what is verified is what the disk holds.

    After a failed sync, Linux keeps the unwritten pages in memory and calls them clean.
    """
    for path in (directory / store.DATABASE, directory / f"{store.DATABASE}-wal"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.fsync(descriptor)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            yield Fault(None, f"`{path.name}` cannot be synced: {error}")
        finally:
            os.close(descriptor)
