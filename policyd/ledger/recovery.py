"""Opens a log's files and proves, before anything is signed again, that they still agree."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from policyd import merkle
from policyd.errors import LedgerClosed, LedgerCorrupt
from policyd.files import sync
from policyd.ledger import note, store
from policyd.ledger.reader import LedgerReader
from policyd.ledger.verify import check_row
from policyd.model import Instant

_RECENT = 4_096
"""No record is more than 2 s older than any before it, so the newest few bound the newest instant."""


@dataclass(slots=True)
class State:
    """An open log whose tail has been checked; `release` gives everything back."""

    origin: str
    vkey: str
    frontier: merkle.Frontier
    last_at: Instant
    connection: sqlite3.Connection
    read_back: sqlite3.Connection
    reader: LedgerReader
    lock: int

    def release(self, *, failed: bool = False) -> None:
        """Close the connections and let another process have the directory. Idempotent.

        The last connection to close moves SQLite's write-ahead log into the database. After a failure
        that log may hold a page that was not stored as written; its checksum still shows that, but only
        while it stays where it is. So then a connection that cannot write is the last.
        """
        readers = (self.reader.close, self.read_back.close)
        writer = (self.connection.close,)
        for close in (*writer, *readers) if failed else (*readers, *writer):
            close()
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def recover(directory: Path, *, verifier: note.Verifier) -> State:
    """Open the log in `directory` (made if there is none) for the origin and key of `verifier`.

    Records newer than the last stored signature are hashed again, one by one.

    Raises:
        LedgerClosed: in use, failed before, on a network file system, not writable, or another log.
        LedgerCorrupt: records, tree and checkpoints disagree, or the log has gone backwards.
    """
    undo: list[Callable[[], None]] = []
    try:
        return _recover(directory, verifier, undo)
    except BaseException as error:
        for step in reversed(undo):
            step()
        if isinstance(error, store.UNREADABLE):
            raise LedgerCorrupt(
                f"`{directory / store.DATABASE}` cannot be read: {store.in_a_line(error)}"
            ) from error
        if isinstance(error, OSError):
            raise LedgerClosed(f"the log in `{directory}` cannot be opened: {error}") from error
        raise


def _recover(directory: Path, verifier: note.Verifier, undo: list[Callable[[], None]]) -> State:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    store.refuse_network_file_system(directory)
    held = store.lock(directory)
    undo.append(lambda: os.close(held))
    marker = directory / store.MARKER
    if marker.exists():
        why = (
            marker.read_text(encoding="utf-8", errors="replace").strip() or "the ledger failed and is closed"
        )
        raise LedgerClosed(f"{why} (run `policyd audit verify {directory}`)")
    anchor = _read_anchor(directory)
    if not (directory / store.DATABASE).exists() and anchor:
        raise LedgerCorrupt(
            f"`{directory / store.DATABASE}` is missing, but `{store.ANCHOR}` beside it is not: restore it"
        )
    connection = store.open_for_writing(directory)
    undo.append(connection.close)
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        if anchor:
            raise LedgerCorrupt(
                f"`{directory / store.DATABASE}` is empty, but `{store.ANCHOR}` beside it is not"
            )
        store.create(connection, origin=verifier.name, vkey=verifier.vkey)
        sync(directory)
    reader = LedgerReader(directory)
    undo.append(reader.close)
    if (reader.origin, reader.vkey) != (verifier.name, verifier.vkey):
        raise LedgerClosed(
            f"the log in `{directory}` is `{reader.vkey}`, not `{verifier.vkey}`: name its own key"
        )
    read_back = store.open_for_reading(directory)
    undo.append(read_back.close)
    frontier = check_tail(reader, read_back, anchor=anchor, verifier=verifier)
    row = read_back.execute(
        "SELECT coalesce(max(at), 0) FROM (SELECT at FROM record ORDER BY idx DESC LIMIT ?)", (_RECENT,)
    ).fetchone()
    return State(
        origin=verifier.name,
        vkey=verifier.vkey,
        frontier=frontier,
        last_at=int(row[0]),
        connection=connection,
        read_back=read_back,
        reader=reader,
        lock=held,
    )


def check_tail(
    reader: LedgerReader, connection: sqlite3.Connection, *, anchor: str, verifier: note.Verifier
) -> merkle.Frontier:
    """Return the frontier of the whole log after checking both checkpoints and all newer records.

    Raises:
        LedgerCorrupt: something disagrees; the message names the first record at fault.
    """
    count = reader.count()
    if count and not anchor:
        raise LedgerCorrupt(f"`{store.ANCHOR}` is missing beside a log of {count} records: restore it")
    start = 0
    for where, signed in (("the database", reader.stored_checkpoint()), (f"`{store.ANCHOR}`", anchor)):
        if not signed:
            continue
        checkpoint = note.verify_checkpoint(signed, origin=verifier.name, verifier=verifier)
        if checkpoint.size > count:
            raise LedgerCorrupt(
                f"the log has gone backwards: the checkpoint in {where} covers {checkpoint.size} records, "
                f"{count} are stored; restore the newest copy"
            )
        if reader.root(checkpoint.size) != checkpoint.root:
            raise LedgerCorrupt(
                f"the log is another than it was: its first {checkpoint.size} records do not give the root "
                f"of the checkpoint in {where}; restore it"
            )
        start = max(start, checkpoint.size)
    frontier = merkle.load_frontier(
        start, lambda level, position: store.read_node(connection, level, position=position)
    )
    for row in connection.execute(f"{store.SELECT} WHERE idx >= ? ORDER BY idx", (start,)):
        check_row(row, frontier)
    return frontier


def _read_anchor(directory: Path) -> str:
    try:
        return (directory / store.ANCHOR).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
