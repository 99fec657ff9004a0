"""What a witness remembers: for each log the newest checkpoint it has cosigned, durably."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from policyd.errors import ConfigError
from policyd.files import sync
from policyd.ledger.store import refuse_network_file_system
from policyd.merkle import EMPTY_ROOT

DATABASE = "witness.db"
_FORMAT = "1"
_MOVE_AFTER = 1_000
"""Commits after which SQLite's write-ahead log is moved into the database file."""
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE log (
  origin TEXT PRIMARY KEY,
  size INTEGER NOT NULL CHECK (size >= 0),
  root BLOB NOT NULL CHECK (length(root) = 32),
  note TEXT NOT NULL
) STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Held:
    """The newest checkpoint of one log that the witness has cosigned; empty where there is none."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    note: str = ""


class WitnessStore:
    """The database of one witness; safe for many threads, and for a second process that only looks."""

    def __init__(self, directory: Path, *, name: str = "") -> None:
        """Open the store in `directory`; with a `name` it is made where there is none.

        Raises:
            ConfigError: there is none and no name, it has another name, or it cannot be used.
        """
        self._path = directory / DATABASE
        if not name and not self._path.is_file():
            raise ConfigError(f"no witness in `{directory}`: `policyd witness key` makes one")
        try:
            refuse_network_file_system(directory)
            mode = "rwc" if name else "rw"
            self._connection = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=5.0,
            )
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"`{self._path}` cannot be opened: {error}") from error
        self._lock = threading.Lock()
        self._commits = 0
        self.failure = ""
        try:
            self.name = self._set_up(directory, name)
        except sqlite3.Error as error:
            self._connection.close()
            raise ConfigError(f"`{self._path}` cannot be used: {error}") from error
        except BaseException:
            self._connection.close()
            raise

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[WitnessStore]:
        """Let nobody else, thread or process, look or write; what was written is durable at the end.

        After any error of the disk the store is closed for good: nothing is known any more about what
        it holds.

        Raises:
            sqlite3.Error: reading, writing or syncing failed, now or before; nothing may be signed.
        """
        with self._lock:
            if self.failure:
                raise sqlite3.OperationalError(self.failure)
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
                self._move_sometimes()
            except sqlite3.Error as error:
                self.failure = f"the store failed: {error}"
                raise

    def held(self, origin: str) -> Held:
        """Return what is held of a log; inside `exclusive`."""
        row = self._connection.execute(
            "SELECT size, root, note FROM log WHERE origin = ?", (origin,)
        ).fetchone()
        return Held(*row) if row else Held()

    def hold(self, origin: str, held: Held) -> None:
        """Remember a newer checkpoint of a log; inside `exclusive`."""
        self._connection.execute(
            "INSERT OR REPLACE INTO log VALUES (?, ?, ?, ?)", (origin, held.size, held.root, held.note)
        )
        self._commits += 1

    def origins(self) -> list[str]:
        """Return the logs of which something is held; inside `exclusive`."""
        return [str(row[0]) for row in self._connection.execute("SELECT origin FROM log ORDER BY origin")]

    def close(self) -> None:
        """Close the database. Idempotent."""
        with self._lock:
            self.failure = self.failure or "the witness is stopping"
            self._connection.close()

    def _set_up(self, directory: Path, name: str) -> str:
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        # SQLite's own moving of the log into the database would swallow a failed sync.
        self._connection.execute("PRAGMA wal_autocheckpoint=0")
        if not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            if not name:
                raise ConfigError(f"`{self._path}` is empty: `policyd witness key` makes a witness")
            self._connection.executescript(_SCHEMA)
            self._connection.executemany(
                "INSERT INTO meta VALUES (?, ?)", [("format", _FORMAT), ("name", name)]
            )
            self._connection.execute("COMMIT")
            self._path.chmod(0o600)
            sync(directory)
        meta = dict(self._connection.execute("SELECT name, value FROM meta"))
        if meta.get("format") != _FORMAT or "name" not in meta:
            raise ConfigError(f"`{self._path}` is no store of a witness that this program reads")
        if name and name != meta["name"]:
            raise ConfigError(f"the witness in `{directory}` is `{meta['name']}`, not `{name}`")
        return str(meta["name"])

    def _move_sometimes(self) -> None:
        if self._commits >= _MOVE_AFTER:
            self._commits = 0
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def keep_evidence(directory: Path, name: str, *, text: str, most: int) -> bool:
    """Keep a text in a file of its own, durably; return whether it was new and there was room."""
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / name
    if path.exists() or len(list(directory.iterdir())) >= most:
        return False
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    sync(directory)
    return True
