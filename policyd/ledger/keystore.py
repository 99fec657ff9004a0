"""The file of the keys that make details readable, `detail.db`: its tables, its wrapped keys."""

from __future__ import annotations

import hmac
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policyd.errors import ConfigError, LedgerCorrupt
from policyd.files import sync
from policyd.ledger import store
from policyd.sqlite import transaction

DATABASE = "detail.db"
SECRET_BYTES = 32
NONCE_BYTES = 12

_FORMAT = "1"
_SCHEMA = """
CREATE TABLE record_key (number INTEGER PRIMARY KEY, wrapped BLOB NOT NULL) STRICT;
CREATE TABLE person (finder BLOB PRIMARY KEY, wrapped BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


class MasterKey(Protocol):
    """The key under which all others are wrapped; its ``id`` says nothing about it."""

    @property
    def id(self) -> str:
        """Return the id that the file names it by."""

    @property
    def secret(self) -> bytes:
        """Return the 32 bytes of an AES-256 key."""


@dataclass(frozen=True, slots=True)
class RecordKey:
    """The key of one record. The nonce is drawn with it: a key seals once."""

    number: int
    secret: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the pool stood: keys from ``first`` on can only be used by records from ``index`` on."""

    first: int
    index: int


def finder_of(pseudonym_key: bytes, requester: str) -> bytes:
    """Return what a person's key is found by; it says nothing to anyone without the pseudonym key."""
    return hmac.digest(pseudonym_key, b"policyd/person\x00" + requester.encode("utf-8"), "sha256")


def pseudonym_of(person_key: bytes, requester: str) -> str:
    """Return the name under which a person appears in the ledger, in lower-case hex."""
    return hmac.digest(person_key, b"policyd/requester\x00" + requester.encode("utf-8"), "sha256").hex()


class KeyStore:
    """An open `detail.db`. One thread at a time may use it."""

    def __init__(self, connection: sqlite3.Connection, master: MasterKey, *, origin: str) -> None:
        """Take an open connection; `open_keys` and `read_keys` are the ways to call this.

        Raises:
            ConfigError: the keys are wrapped under another master key.
            LedgerCorrupt: the file is of another format or of another log.
        """
        self._connection = connection
        self._cipher = AESGCM(master.secret)
        meta = self._meta()
        if meta.get("format") != _FORMAT:
            raise LedgerCorrupt(
                f"the format of `{DATABASE}` is `{meta.get('format', '')}`; this program reads `{_FORMAT}`"
            )
        if not {"key", "origin", "first", "index"} <= meta.keys():
            raise LedgerCorrupt(f"`{DATABASE}` was altered: it does not say what it belongs to")
        if meta["key"] != master.id:
            raise ConfigError(
                f"the keys in `{DATABASE}` are wrapped under master key `{meta['key']}`, not `{master.id}`: "
                "name the detail key of this log"
            )
        if meta["origin"] != origin:
            raise LedgerCorrupt(f"`{DATABASE}` belongs to the log `{meta['origin']}`, not `{origin}`")

    def record_key(self, number: int) -> bytes | None:
        """Return the key of one record; None when it was erased.

        Raises:
            LedgerCorrupt: it does not unwrap: the file was altered.
        """
        rows = self._read("SELECT wrapped FROM record_key WHERE number = ?", number)
        return self._unwrap(rows[0][0], _record_context(number), f"record key {number}") if rows else None

    def person_key(self, finder: bytes) -> bytes | None:
        """Return the key of one person; None when there is none or it was erased.

        Raises:
            LedgerCorrupt: it does not unwrap: the file was altered.
        """
        rows = self._read("SELECT wrapped FROM person WHERE finder = ?", finder)
        return self._unwrap(rows[0][0], _person_context(finder), "the key of a person") if rows else None

    def mark(self) -> Mark:
        """Return where the pool stood when it was last filled.

        Raises:
            LedgerCorrupt: the file was altered.
        """
        meta = self._meta()
        try:
            return Mark(int(meta["first"]), int(meta["index"]))
        except ValueError:
            raise LedgerCorrupt(f"`{DATABASE}` was altered: it does not say where its keys end") from None

    def numbers_from(self, first: int) -> set[int]:
        """Return the numbers of the keys from one on."""
        rows = self._read("SELECT number FROM record_key WHERE number >= ?", first)
        return {number for (number,) in rows}

    def add_record_keys(self, keys: Sequence[RecordKey], mark: Mark, *, nonces: Sequence[bytes]) -> None:
        """Store keys, durable when this returns; ``nonces`` are those of the wrapping, one a key."""
        rows = [
            (key.number, nonce + self._cipher.encrypt(nonce, key.secret, _record_context(key.number)))
            for key, nonce in zip(keys, nonces, strict=True)
        ]
        with transaction(self._connection, "BEGIN IMMEDIATE"):
            self._connection.executemany("INSERT INTO record_key VALUES (?, ?)", rows)
            self._set_mark(mark)

    def add_person(self, finder: bytes, secret: bytes, *, nonce: bytes) -> None:
        """Store the key of one person, durable when this returns."""
        wrapped = nonce + self._cipher.encrypt(nonce, secret, _person_context(finder))
        with transaction(self._connection, "BEGIN IMMEDIATE"):
            self._connection.execute("INSERT INTO person VALUES (?, ?)", (finder, wrapped))

    def erase(self, numbers: Collection[int], *, finders: Collection[bytes] = ()) -> bool:
        """Delete keys, all or none, and overwrite what the file keeps of them.

        Returns false where another process reads the file: then its write-ahead log still keeps them, and
        `truncate` must be tried again.
        """
        with transaction(self._connection, "BEGIN IMMEDIATE"):
            self._connection.executemany(
                "DELETE FROM record_key WHERE number = ?", [(number,) for number in numbers]
            )
            self._connection.executemany(
                "DELETE FROM person WHERE finder = ?", [(finder,) for finder in finders]
            )
        return self.truncate()

    def truncate(self) -> bool:
        """Move the write-ahead log into the file and empty it; return false where a reader is in the way."""
        (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _set_mark(self, mark: Mark) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)",
            [("first", str(mark.first)), ("index", str(mark.index))],
        )

    def _meta(self) -> Mapping[str, str]:
        return {str(name): str(value) for name, value in self._read("SELECT name, value FROM meta")}

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with store.readable(Path(DATABASE)):
            return self._connection.execute(query, values).fetchall()

    def _unwrap(self, wrapped: bytes, context: bytes, called: str) -> bytes:
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
        except (InvalidTag, TypeError, ValueError):
            raise LedgerCorrupt(f"{called} does not unwrap: `{DATABASE}` was altered") from None


def open_keys(directory: Path, master: MasterKey, *, origin: str) -> KeyStore:
    """Open `detail.db` for writing, making it when there is none. The caller holds the log's lock.

    Raises:
        ConfigError: the keys are wrapped under another master key.
        LedgerCorrupt: it cannot be read, or is of another format or log.
    """
    path = directory / DATABASE
    with _translated(path):
        if not path.exists():
            _make(path, master, origin=origin)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            # SQLite's own moving of the log would swallow a failed sync, and never empties it.
            connection.execute("PRAGMA wal_autocheckpoint=0")
            return KeyStore(connection, master, origin=origin)
        except BaseException:
            connection.close()
            raise


def read_keys(directory: Path, master: MasterKey, *, origin: str) -> KeyStore:
    """Open `detail.db` for reading alone; the node may be running.

    Raises:
        ConfigError: the keys are wrapped under another master key.
        LedgerCorrupt: it is not there, cannot be read, or is of another format or log.
    """
    path = directory / DATABASE
    if not path.is_file():
        raise LedgerCorrupt(f"no keys in `{directory}`: `{DATABASE}` is missing")
    with _translated(path):
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA query_only=ON")
            return KeyStore(connection, master, origin=origin)
        except BaseException:
            connection.close()
            raise


def _make(path: Path, master: MasterKey, *, origin: str) -> None:
    """Make an empty file; a crash leaves it whole or not there."""
    scratch = path.with_name(f"{path.name}.new")
    for left_over in (scratch, path.with_name(f"{scratch.name}-wal"), path.with_name(f"{scratch.name}-shm")):
        left_over.unlink(missing_ok=True)
    os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(scratch, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
        connection.executemany(
            "INSERT INTO meta VALUES (?, ?)",
            [("format", _FORMAT), ("key", master.id), ("origin", origin), ("first", "0"), ("index", "0")],
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
    scratch.replace(path)
    sync(path.parent)


def _record_context(number: int) -> bytes:
    return b"policyd/record-key\x00" + number.to_bytes(store.KEY_NUMBER_BYTES, "big")


def _person_context(finder: bytes) -> bytes:
    return b"policyd/person-key\x00" + finder


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise LedgerCorrupt(f"`{path}` cannot be read: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot make {path}: {error.strerror}") from error
