"""The files of one log: the SQLite schema, how connections are opened, the lock, and the marker files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from urllib.parse import quote

from policyd.errors import LedgerClosed, LedgerCorrupt
from policyd.files import network_file_system, sync
from policyd.ledger.entry import INTEGER_COLUMNS, Entry, IndexColumns
from policyd.merkle import HASH_BYTES

DATABASE = "ledger.db"
ANCHOR = "checkpoint"
"""Sibling file with the last checkpoint, so that an older copy of the database is noticed."""
COSIGNED = "cosigned"
"""Sibling file with the last checkpoint that a witness cosigned in the background."""
MARKER = "failed"
"""Sibling file that stands from the first write error until a verification has passed."""
LOCK = "lock"
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading a damaged database raises; the second where the text of the first is damaged, too."""
KEY_NUMBER_BYTES = 8
"""A sealed detail begins with the number of its record key, big-endian."""

MAX_INDEX = 2**62
"""Beyond every record."""
COLUMNS = tuple(field.name for field in fields(IndexColumns))
ROW = ("idx", *COLUMNS, "leaf", "private", "detail", "nodes")
"""The columns of one record. ``nodes`` are the hashes of all subtrees that the record completes."""

_FORMAT = "1"
_MAX_SAID = 200
_SCHEMA = f"""
CREATE TABLE record (
  idx INTEGER PRIMARY KEY,
  {", ".join(f"{name} {'INTEGER' if name in INTEGER_COLUMNS else 'TEXT'} NOT NULL" for name in COLUMNS)},
  leaf BLOB NOT NULL,
  private BLOB NOT NULL,
  detail BLOB NOT NULL,
  nodes BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX record_decision ON record (decision_id, kind) WHERE decision_id != '';
CREATE TABLE checkpoint (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  note TEXT NOT NULL,
  clean INTEGER NOT NULL
) STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
INSERT = f"INSERT INTO record ({', '.join(ROW)}) VALUES ({', '.join('?' * len(ROW))})"  # noqa: S608  # names of ours, no input
SELECT = f"SELECT {', '.join(ROW)} FROM record"  # noqa: S608  # names of ours, no input
FIND = f"{SELECT} WHERE decision_id = ? AND kind = ? AND decision_id != ''"
"""One record about a decision; the last condition lets SQLite use the partial index."""
FOUND_AT_ONCE = (1, 8, 64)
FIND_MANY = {
    count: f"""
SELECT group_concat(idx || ' ' || kind || ' ' || decision_id, char(10)) FROM record INDEXED BY record_decision
WHERE decision_id IN ({", ".join("?" * count)}) AND decision_id != ''
"""  # noqa: S608  # no input
    for count in FOUND_AT_ONCE
}
"""What the index holds for so many decision ids, as one text."""
_DECISION, _KIND, _DETAIL = ROW.index("decision_id"), ROW.index("kind"), ROW.index("detail")
_LEAF, _PRIVATE, _NODES = ROW.index("leaf"), ROW.index("private"), ROW.index("nodes")

Row = tuple[object, ...]
"""The values of one stored record, in the order of `ROW`."""


def row_of(index: int, entry: Entry, *, completed: list[bytes]) -> Row:
    """Return the values to store for one record at one index."""
    columns = entry.columns
    return (
        index,
        *(getattr(columns, name) for name in COLUMNS),
        entry.leaf,
        entry.private,
        entry.detail,
        b"".join(completed),
    )


def parts_of(row: Row) -> tuple[bytes, bytes, bytes]:
    """Return leaf, private part and nodes of a stored record; empty where one is not bytes."""
    leaf, private, nodes = row[_LEAF], row[_PRIVATE], row[_NODES]
    if type(leaf) is bytes and type(private) is bytes and type(nodes) is bytes:
        return leaf, private, nodes
    return (
        leaf if isinstance(leaf, bytes) else b"",
        private if isinstance(private, bytes) else b"",
        nodes if isinstance(nodes, bytes) else b"",
    )


def detail_of(row: Row) -> bytes:
    """Return the sealed detail of a stored record; empty where it has none, or what is there is not bytes."""
    detail = row[_DETAIL]
    return detail if isinstance(detail, bytes) else b""


def key_numbers(connection: sqlite3.Connection, start: int, *, stop: int = MAX_INDEX) -> set[int]:
    """Return the numbers of the record keys of the details from `start` to before `stop`."""
    rows = connection.execute(
        f"SELECT substr(detail, 1, {KEY_NUMBER_BYTES}) FROM record "  # noqa: S608  # a number of ours
        "WHERE idx >= ? AND idx < ? AND detail != x''",
        (start, stop),
    )
    return {int.from_bytes(number, "big") for (number,) in rows}


def not_found(connection: sqlite3.Connection, rows: Sequence[Row]) -> list[int]:
    """Return the indices of those of the records that cannot be looked up by their decision ids.

    What the index holds for these ids comes as one text: a look-up for each record would wait for the
    interpreter twice as often as there are records.
    """
    missing = []
    named = [row for row in rows if row[_DECISION]]
    for start in range(0, len(named), FOUND_AT_ONCE[-1]):
        page = named[start : start + FOUND_AT_ONCE[-1]]
        # A page asks for its last id again and again, so that SQLite has few statements to prepare.
        count = next(each for each in FOUND_AT_ONCE if each >= len(page))
        wanted = [row[_DECISION] for row in page] + [page[-1][_DECISION]] * (count - len(page))
        held = set(str(connection.execute(FIND_MANY[count], wanted).fetchone()[0]).split("\n"))
        missing += [int(str(row[0])) for row in page if f"{row[0]} {row[_KIND]} {row[_DECISION]}" not in held]
    return missing


def columns_in(row: Row) -> Row:
    """Return the index columns of a stored record, in the order of `COLUMNS`."""
    return row[1 : 1 + len(COLUMNS)]


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say of a damaged database that it is one.

    Raises:
        LedgerCorrupt: the body met with what cannot be read.
    """
    try:
        yield
    except UNREADABLE as error:
        raise LedgerCorrupt(f"`{path}` cannot be read: {in_a_line(error)}") from error


def in_a_line(error: Exception) -> str:
    """Return what SQLite says; of a damaged file that can be any text of any length."""
    return " ".join(str(error).split())[:_MAX_SAID]


def create(connection: sqlite3.Connection, *, origin: str, vkey: str) -> None:
    """Make the tables of an empty log, all or none of them."""
    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)", [("format", _FORMAT), ("origin", origin), ("vkey", vkey)]
    )
    connection.execute("COMMIT")


def open_for_writing(directory: Path) -> sqlite3.Connection:
    """Open the database for the one writer: every commit is synced before it returns.

    SQLite's own moving of the log into the database file is off: it would swallow a failed sync.
    """
    connection = sqlite3.connect(
        directory / DATABASE, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("PRAGMA cell_size_check=ON")
    return connection


def open_for_reading(directory: Path) -> sqlite3.Connection:
    """Open a second connection that cannot write. Use it from one thread at a time.

    Raises:
        LedgerCorrupt: there is no log in this directory.
    """
    path = directory / DATABASE
    if not path.is_file():
        raise LedgerCorrupt(f"no log in `{directory}`: `{DATABASE}` is missing")
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only=ON")
    return connection


def move_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Move SQLite's write-ahead log into the database file, as far as readers let it.

    Raises:
        sqlite3.Error: a write or a sync failed.
    """
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the log's format, origin and public key.

    Raises:
        LedgerCorrupt: the log has a format that this program does not know.
    """
    # As text: in a damaged file a value may be of any type.
    meta = {str(name): str(value) for name, value in connection.execute("SELECT name, value FROM meta")}
    if meta.get("format") != _FORMAT or not {"origin", "vkey"} <= meta.keys():
        raise LedgerCorrupt(f"the log's format is `{meta.get('format', '')}`; this program reads `{_FORMAT}`")
    return meta


def read_node(connection: sqlite3.Connection, level: int, *, position: int) -> bytes:
    """Return the stored hash of one complete subtree.

    Raises:
        LedgerCorrupt: it is not there.
    """
    last = ((position + 1) << level) - 1
    row = connection.execute(
        "SELECT substr(nodes, ?, ?) FROM record WHERE idx = ?", (level * HASH_BYTES + 1, HASH_BYTES, last)
    ).fetchone()
    if row is None or len(row[0]) != HASH_BYTES:
        raise LedgerCorrupt(f"record {last}: its tree hash at level {level} is missing")
    return bytes(row[0])


def count_records(connection: sqlite3.Connection) -> int:
    """Return the number of records, taken from the last index."""
    return int(connection.execute("SELECT coalesce(max(idx), -1) + 1 FROM record").fetchone()[0])


def lock(directory: Path) -> int:
    """Take the directory for this process and return the descriptor that holds it.

    Raises:
        LedgerClosed: another process has it.
    """
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise LedgerClosed(f"another process has the log in `{directory}` open: stop it first") from None
    return descriptor


def refuse_network_file_system(directory: Path) -> None:
    """Refuse a directory whose file system cannot keep SQLite's promises.

    Raises:
        LedgerClosed: the directory is on a network file system (as far as the host tells).
    """
    if kind := network_file_system(directory):
        raise LedgerClosed(f"`{directory}` is on a network file system ({kind}): use a local disk")


def replace_file(path: Path, text: str) -> None:
    """Write a small file so that a crash leaves the old or the new content, both durable."""
    replace_bytes(path, text.encode("utf-8"))
    sync(path.parent)


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file so that it is never seen half; its name is durable when the directory is synced."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)


def mark_failed(directory: Path, reason: str) -> None:
    """Leave the mark that keeps a log closed, as well as the disk, which may be what failed, lets us."""
    with contextlib.suppress(OSError):
        # An empty marker closes the log just as well.
        os.close(os.open(directory / MARKER, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        replace_file(directory / MARKER, reason + "\n")
