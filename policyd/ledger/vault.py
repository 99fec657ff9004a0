"""Hands out the keys of records and the pseudonyms of persons; keys are made ahead of any decision."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

from policyd.errors import LedgerBusy, LedgerClosed, LedgerCorrupt
from policyd.ledger import keystore
from policyd.ledger.keystore import NONCE_BYTES, SECRET_BYTES, KeyStore, Mark, MasterKey, RecordKey
from policyd.ledger.writer import Ledger

POOL = 8_192
"""Keys that are ready at most: about a second of the fastest node."""
_WINDOW = 4_096
"""Records below the mark that are looked at: a mark that was moved would have keys deleted that are used."""
_CLOSED = "the keys of the ledger are closed: this node is stopping"


class Vault:
    """The keys of one log. `take` and `pseudonym` are safe to call from many threads.

    A key is durable before anyone gets it, and given out once: its number never comes again, whatever is
    killed. After any error while writing, no key is given out any more, so nothing can be decided.
    """

    def __init__(
        self, keys: KeyStore, *, pseudonym_key: bytes, size: Callable[[], int], following: int, pool: int
    ) -> None:
        """Fill the pool and begin to keep it filled; `Vault.open` is the way to call this.

        ``size`` says how many records the log has; ``following`` is the first number never used.
        """
        self._keys = keys
        self._pseudonym_key = pseudonym_key
        self._size = size
        self._following = following
        self._pool = pool
        self._ready: deque[RecordKey] = deque()
        self._pseudonyms: dict[str, str] = {}
        self._failure = ""
        self._stopping = False
        self._file = threading.Lock()
        """Held for each use of the file, and never while waiting for the pool."""
        self._lock = threading.Lock()
        self._low = threading.Condition(self._lock)
        self._filled = threading.Condition(self._lock)
        self._fill()
        self._thread = threading.Thread(target=self._run, name="record-keys", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, ledger: Ledger, *, master: MasterKey, pseudonym_key: bytes, pool: int = POOL) -> Vault:
        """Open the keys beside an open log, and delete what an earlier process made and did not use.

        Raises:
            ConfigError: the keys are wrapped under another master key.
            LedgerCorrupt: the file is missing beside decisions, cannot be read, or is of another log.
            LedgerClosed: it cannot be written.
        """
        path = ledger.directory / keystore.DATABASE
        if not path.exists() and ledger.reader.holds_decisions():
            raise LedgerCorrupt(
                f"`{path}` is missing, and with it every detail of this log: restore it, or run "
                "`policyd audit erase` with `--lost`"
            )
        keys = keystore.open_keys(ledger.directory, master, origin=ledger.origin)
        try:
            following = _delete_unused(keys, ledger)
            return cls(
                keys,
                pseudonym_key=pseudonym_key,
                size=lambda: ledger.size,
                following=following,
                pool=pool,
            )
        except sqlite3.Error as error:
            keys.close()
            raise LedgerClosed(f"`{path}` cannot be written: {error}") from error
        except BaseException:
            keys.close()
            raise

    @property
    def failure(self) -> str:
        """Why no key is given out; empty while keys are."""
        return self._failure

    def take(self, *, timeout_s: float) -> RecordKey:
        """Return a key that nobody else has had or will have; waits for one at most `timeout_s`.

        Raises:
            LedgerBusy: none was ready in time; nothing was recorded.
            LedgerClosed: the keys cannot be written; nothing may be decided.
        """
        with self._lock:
            if not self._ready:
                self._filled.wait_for(lambda: self._ready or self._failure or self._stopping, timeout_s)
            if self._failure or self._stopping:
                raise LedgerClosed(self._failure or _CLOSED)
            if not self._ready:
                raise LedgerBusy(f"no record key for {timeout_s} s: nothing was recorded, ask again later")
            key = self._ready.popleft()
            if len(self._ready) <= self._pool // 2:
                self._low.notify()
            return key

    def pseudonym(self, requester: str) -> str:
        """Return the name of a requester in the ledger; empty for nobody.

        A person without a key gets one, which costs a durable write.

        Raises:
            LedgerClosed: the keys cannot be read or written; nothing may be decided.
        """
        known = self._pseudonyms.get(requester)
        if known is None and requester:
            with self._file:
                if self._failure or self._stopping:
                    raise LedgerClosed(self._failure or _CLOSED)
                try:
                    known = keystore.pseudonym_of(self._person(requester), requester)
                except (sqlite3.Error, LedgerCorrupt) as error:
                    self._fail(error)
                    raise LedgerClosed(self._failure) from error
            self._pseudonyms[requester] = known
        return known or ""

    def close(self) -> None:
        """Delete the keys that nobody took, and close the file. Idempotent."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            self._low.notify_all()
            self._filled.notify_all()
        self._thread.join()
        with self._file:
            try:
                if not self._failure:
                    # After a failure they go at the next start: the file may not take it now.
                    self._keys.erase([key.number for key in self._ready])
            except sqlite3.Error as error:
                self._fail(error)
            finally:
                self._keys.close()

    def __enter__(self) -> Vault:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _person(self, requester: str) -> bytes:
        finder = keystore.finder_of(self._pseudonym_key, requester)
        found = self._keys.person_key(finder)
        if found is None:
            found = os.urandom(SECRET_BYTES)
            self._keys.add_person(finder, found, nonce=os.urandom(NONCE_BYTES))
        return found

    def _run(self) -> None:
        while True:
            with self._lock:
                self._low.wait_for(lambda: len(self._ready) <= self._pool // 2 or self._stopping)
                if self._stopping:
                    return
            try:
                self._fill()
            except Exception as error:  # noqa: BLE001  # outer boundary of this thread: whatever it is, stop
                self._fail(error)
                return

    def _fill(self) -> None:
        """Make keys until the pool is full: durable first, then ready."""
        # INVARIANT: the size is read before the first key still ready, so that no record that uses a key from
        # there on lies below it (test_a_key_that_a_record_uses_survives_a_crash).
        index = self._size()
        with self._lock:
            count = self._pool - len(self._ready)
            first = self._ready[0].number if self._ready else self._following
        drawn = os.urandom(count * SECRET_BYTES)
        nonces = os.urandom(2 * count * NONCE_BYTES)
        keys = [
            RecordKey(
                self._following + number,
                drawn[number * SECRET_BYTES : (number + 1) * SECRET_BYTES],
                nonces[number * NONCE_BYTES : (number + 1) * NONCE_BYTES],
            )
            for number in range(count)
        ]
        wrapping = [nonces[(count + n) * NONCE_BYTES : (count + n + 1) * NONCE_BYTES] for n in range(count)]
        with self._file:
            self._keys.add_record_keys(keys, Mark(first, index), nonces=wrapping)
            self._keys.truncate()
        with self._lock:
            self._following += count
            self._ready.extend(keys)
            self._filled.notify_all()

    def _fail(self, error: Exception) -> None:
        self._failure = (
            f"the keys of the ledger failed ({type(error).__name__}: {error}): nothing is decided until this "
            "node is started again"
        )
        with self._lock:
            self._filled.notify_all()


def _delete_unused(keys: KeyStore, ledger: Ledger) -> int:
    """Delete the pool that an earlier process left, but for what records use; return the next number.

    The mark bounds both sides: only keys from there on can be unused, and only by records from there on
    are they used. An older copy of the file is caught up the same way, as its mark is older, too.
    """
    mark = keys.mark()
    below = ledger.reader.key_numbers(max(0, mark.index - _WINDOW), stop=mark.index)
    if mark.index > ledger.size or any(number >= mark.first for number in below):
        raise LedgerCorrupt(
            f"`{keystore.DATABASE}` was altered: where it says that its keys begin, records have used them; "
            "restore it"
        )
    used, made = ledger.reader.key_numbers(mark.index), keys.numbers_from(mark.first)
    keys.erase(made - used)
    return max(mark.first, *(number + 1 for number in used | made), 0)
