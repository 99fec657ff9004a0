"""Opens the SQLite file of the embedded store, and puts its errors into policyd's words."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from policyd.errors import ConfigError, NotServing, StateCorrupt
from policyd.files import network_file_system, sync

BUSY_TIMEOUT_S = 5.0
"""How long a writer waits for another one."""

_APPLICATION_ID = 0x70626163
_FORMAT = 2
_SCHEMA = """
    CREATE TABLE change (
        epoch INTEGER PRIMARY KEY,
        previous BLOB NOT NULL,
        kind TEXT NOT NULL,
        body BLOB NOT NULL,
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        at INTEGER NOT NULL,
        change_id TEXT NOT NULL UNIQUE,
        planned_on BLOB NOT NULL,
        signatures TEXT NOT NULL,
        node TEXT NOT NULL,
        signature BLOB NOT NULL
    ) STRICT
"""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_ACKNOWLEDGEMENTS = """
    CREATE TABLE acknowledgement (
        node TEXT PRIMARY KEY,
        words BLOB NOT NULL
    ) STRICT
"""


def make(path: Path) -> None:
    """Make an empty store at `path` unless there is one; it appears whole or not at all, whoever else tries.

    Raises:
        ConfigError: `path` is on a network file system, open to others, or cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if kind := network_file_system(path.parent):
            raise ConfigError(
                f"{path} is on a network file system ({kind}), where SQLite's locks fail; move it"
            )
        if not path.exists():
            scratch = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.new")
            scratch.unlink(missing_ok=True)
            os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
            try:
                _fill(scratch)
                with suppress(FileExistsError):
                    path.hardlink_to(scratch)
            finally:
                scratch.unlink()
            sync(path.parent)
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"cannot make {path}: {error.strerror}") from None
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path} is open to others; run: chmod 600 {path}")


def _fill(path: Path) -> None:
    with translated(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute(_SCHEMA)
        connection.execute(_ACKNOWLEDGEMENTS)


class Database:
    """An open store. The caller sees to it that one thread at a time uses the connection."""

    def __init__(self, path: Path) -> None:
        """Open an existing store.

        Raises:
            ConfigError: the file is no state store, or of another format.
            NotServing: SQLite cannot open it now.
        """
        self._path = path
        self._file = _identity(path)
        self.connection = _connect(path)

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Give the connection, and turn SQLite's errors into StateCorrupt or NotServing.

        Raises:
            StateCorrupt: the file is damaged, or another one has been put in its place.
            NotServing: SQLite cannot use it now.
        """
        # SECURITY: SQLite would go on with a file that was moved away, and never see a change made in the
        # one that replaced it (test_a_store_whose_file_was_replaced_says_so).
        if _identity(self._path) != self._file:
            raise StateCorrupt(f"{self._path} was removed or replaced while in use; start again")
        with translated(self._path):
            yield self.connection

    @property
    def identity(self) -> str:
        """What tells this file, in this run of the machine, from any other."""
        return f"{self._file}:{_BOOT_ID.read_text(encoding='ascii').strip()}"

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from another one at the same place; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    with translated(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_S,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA synchronous = FULL")
            application, version, mode = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version", "journal_mode")
            )
            if application != _APPLICATION_ID or mode != "wal":
                raise ConfigError(f"{path} is not a state store of policyd")
            if version != _FORMAT:
                raise ConfigError(
                    f"{path} has format {version}, and this policyd reads format {_FORMAT} alone; move it"
                    " away and apply the registry files again"
                )
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into StateCorrupt (the file is damaged) or NotServing (anything else)."""
    try:
        yield
    except UnicodeDecodeError as error:
        # Python cannot even read SQLite's message when that quotes a damaged schema.
        raise StateCorrupt(f"{path} is damaged: its text is not UTF-8; restore it from a copy") from error
    except sqlite3.Error as error:
        said = " ".join(str(error).split())
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StateCorrupt(f"{path} is damaged: {said}; restore it from a copy") from error
        raise NotServing(f"{path} cannot be used now: {said}") from error
