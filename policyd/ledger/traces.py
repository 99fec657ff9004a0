"""Finds records by trace id, through an index beside the log that is brought up to date when it is asked.

Not an index of the log's own: trace ids are random, so each record would dirty another page of it, and a
commit of 64 records would write four times as much (docs/ledger.md).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from policyd.ledger.reader import LedgerReader, StoredRecord

INDEX = "traces.db"
"""May be deleted at any time."""
_PAGE = 10_000


def find_trace(directory: Path, trace_id: str, *, scan: bool = False) -> list[StoredRecord]:
    """Return the records of one trace, given as 32 lower-case hex digits, in the order of the log.

    The index is only a guide: what it points at is read from the log. With ``scan``, or where no index
    can be kept, every record is looked at.

    Raises:
        LedgerCorrupt: there is no log, or one of an unknown format.
    """
    with LedgerReader(directory) as reader:
        if scan:
            indices = _scanned(reader, trace_id)
        else:
            try:
                indices = _looked_up(reader, directory / INDEX, trace_id)
            except (OSError, sqlite3.Error):  # no right to write here, a full disk, or no index at all
                indices = _scanned(reader, trace_id)
        found = [reader.record(index) for index in indices]
        return [record for record in found if record is not None and record.columns.trace_id == trace_id]


def _scanned(reader: LedgerReader, trace_id: str) -> list[int]:
    return [index for index, each in reader.trace_ids(0) if each == trace_id]


def _looked_up(reader: LedgerReader, path: Path, trace_id: str) -> list[int]:
    path.touch(mode=0o600)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")  # made again from the log at any time
        connection.execute("BEGIN IMMEDIATE")
        start = _start(connection, reader)
        for page in _pages(reader.trace_ids(start)):
            connection.executemany("INSERT INTO trace VALUES (?, ?)", [(each, at) for at, each in page])
            start = page[-1][0] + 1
        last = reader.record(start - 1)
        connection.execute("DELETE FROM done")
        connection.execute(
            "INSERT INTO done VALUES (?, ?, ?)", (reader.vkey, start, last.leaf_hash if last else b"")
        )
        rows = connection.execute("SELECT idx FROM trace WHERE trace_id = ? ORDER BY idx", (trace_id,))
        found = [int(index) for (index,) in rows]
        connection.execute("COMMIT")
    return found


def _start(connection: sqlite3.Connection, reader: LedgerReader) -> int:
    """Return the first record that is not in the index; empty an index of another log."""
    connection.execute("CREATE TABLE IF NOT EXISTS done (vkey TEXT, next INTEGER, leaf_hash BLOB) STRICT")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS trace (trace_id TEXT, idx INTEGER, PRIMARY KEY (trace_id, idx)) "
        "STRICT, WITHOUT ROWID"
    )
    done = connection.execute("SELECT vkey, next, leaf_hash FROM done").fetchone()
    if done is not None:
        last = reader.record(done[1] - 1)
        if done == (reader.vkey, done[1], last.leaf_hash if last else b""):
            return int(done[1])
    connection.execute("DELETE FROM trace")
    return 0


def _pages(pairs: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    page: list[tuple[int, str]] = []
    for pair in pairs:
        page.append(pair)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page
