"""The issuers' keys as they are now: from files, or fetched off the request path and kept for a while."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from policyd import clock
from policyd.errors import ConfigError, NotServing, TokenError
from policyd.identity.claims import TokenFault
from policyd.identity.fetch import fetch
from policyd.identity.jwks import (
    MAX_JWKS_BYTES,
    Issuer,
    IssuerKey,
    RemoteJwks,
    check_issuer,
    parse_issuer_keys,
    read_issuer_keys,
)

COOLDOWN_S = 30.0
"""How often at most an unknown `kid` makes the keys be fetched."""
WAIT_S = 0.25
"""How long a call waits for keys that it made be fetched.

Long enough that the first token under a new key mostly passes; short enough that callers who make up
key ids cannot hold the threads that others need (trust.md section 7, row 24).
"""
DEADLINE_S = 5.0
"""How long one fetch may take."""
RETRY_S = 10.0
"""How long after a fetch that failed the next one begins."""
FIRST_WAIT_S = 3.0
"""How long a start waits for the first fetch of every issuer."""

_LOG = logging.getLogger(__name__)
_WAKE_S = 5.0

Keys = Mapping[str, IssuerKey]


class KeySource(Protocol):
    """The keys of one issuer. Safe for many threads."""

    def current(self) -> Keys:
        """Return the keys by `kid`.

        Raises:
            TokenError: `keys-stale`, they were last known too long ago.
        """

    def find(self, key_id: str) -> IssuerKey | None:
        """Return one key; may wait for up to ``WAIT_S`` for one that is new.

        Raises:
            TokenError: as ``current``.
        """


class FileKeys:
    """The keys in a file, as they were when it was last read."""

    def __init__(self, issuer: Issuer) -> None:
        """Read the file.

        Raises:
            ConfigError: it cannot be used.
        """
        self.issuer = issuer
        self._keys: Keys = read_issuer_keys(issuer)

    def current(self) -> Keys:
        """Return the keys by `kid`."""
        return self._keys

    def find(self, key_id: str) -> IssuerKey | None:
        """Return one key."""
        return self._keys.get(key_id)

    def use(self, keys: Keys) -> None:
        """Use other keys from now on."""
        self._keys = keys


class RemoteKeys:
    """The keys behind a URL, fetched by a thread of their own once ``start`` was called.

    A fetch that fails in any way changes nothing: what was known goes on until ``stale_after_s`` after
    the last fetch that succeeded began, and then no key counts.
    """

    def __init__(
        self,
        issuer: Issuer,
        remote: RemoteJwks,
        *,
        changed: Callable[[], None],
        now_s: Callable[[], float] = clock.boot_seconds,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Prepare; nothing is fetched yet. ``changed`` is called when the keys are others than before.

        Raises:
            ConfigError: the issuer cannot be used.
        """
        check_issuer(issuer)
        self.issuer = issuer
        self.fetches = 0
        """How many fetches have ended, well or not."""
        self.failure = "not fetched yet"
        """Why the last fetch failed; empty where it did not."""
        self._remote = remote
        self._changed = changed
        self._now_s = now_s
        self._deadline_s = deadline_s
        self._moved = threading.Condition()
        self._known: tuple[float | None, Keys] = (None, {})
        self._began_at_s: float | None = None
        self._asked_at_s: float | None = None
        self._due_at_s = 0.0
        self._wanted = True
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="jwks", daemon=True)

    def start(self) -> None:
        """Fetch now, and again from time to time until ``close``."""
        self._thread.start()

    def close(self) -> None:
        """Stop fetching; waits for one in progress, which ends by its deadline."""
        with self._moved:
            self._closing = True
            self._moved.notify_all()
        if self._thread.is_alive():
            self._thread.join(self._deadline_s + 1.0)  # looking up a name knows no deadline

    def refresh(self) -> None:
        """Fetch as soon as possible; does not wait for it."""
        with self._moved:
            self._wanted = True
            self._moved.notify_all()

    def wait_fetched(self, *, timeout_s: float) -> bool:
        """Wait until a first fetch has ended; return whether one has."""
        with self._moved:
            return self._moved.wait_for(lambda: self.fetches > 0 or self._closing, timeout_s)

    def current(self) -> Keys:
        """Return the keys by `kid`.

        Raises:
            TokenError: `keys-stale`.
        """
        known_at_s, keys = self._known
        if known_at_s is None or self._now_s() - known_at_s > self._remote.stale_after_s:
            raise TokenError(TokenFault.KEYS_STALE)
        return keys

    def find(self, key_id: str) -> IssuerKey | None:
        """Return one key; an unknown one has the keys fetched, at most once in ``COOLDOWN_S``.

        Raises:
            TokenError: `keys-stale`.
        """
        key = self.current().get(key_id)
        if key is None and self._await_fetch():
            key = self.current().get(key_id)
        return key

    def _await_fetch(self) -> bool:
        """Have the keys fetched if that is allowed, wait a little, and return whether they were."""
        with self._moved:
            now_s, before = self._now_s(), self.fetches
            pending = self._wanted or self._began_at_s is not None
            if not pending:
                if self._asked_at_s is not None and now_s - self._asked_at_s < COOLDOWN_S:
                    return False
                self._asked_at_s = now_s
                self._wanted = True
                self._moved.notify_all()
            elif self._began_at_s is not None and now_s - self._began_at_s > WAIT_S:
                return False  # a slow one: who comes later does not wait as well
            return self._moved.wait_for(lambda: self.fetches > before or self._closing, WAIT_S)

    def _run(self) -> None:
        while self._await_turn():
            self.fetch()

    def _await_turn(self) -> bool:
        """Wait until a fetch is due or wanted; return false once closing."""
        with self._moved:
            while not self._closing and not self._wanted:
                left_s = self._due_at_s - self._now_s()
                if left_s <= 0:
                    break
                # The clock of a wait stands still while the machine sleeps; the one for keys does not.
                self._moved.wait(min(left_s, _WAKE_S))
            return not self._closing

    def fetch(self) -> None:
        """Fetch once and use what came, if it can be used. Called by the thread, or by tests without one."""
        with self._moved:
            # INVARIANT: keys are as old as the question for them, not as the answer.
            began_at_s = self._began_at_s = self._now_s()
            self._wanted = False
        keys, why = None, ""
        try:
            data = fetch(
                self._remote.url,
                authority=self._remote.authority,
                deadline_s=self._deadline_s,
                max_bytes=MAX_JWKS_BYTES,
            )
            keys = parse_issuer_keys(data, self.issuer, where=self._remote.url)
        except (NotServing, ConfigError) as error:
            why = str(error)
        if why and why != self.failure:
            _LOG.warning("keys of issuer %s stay as they are: %s", self.issuer.issuer, why)
        with self._moved:
            before = self._known[1]
            if keys is not None:
                self._known = (began_at_s, keys)
            self.failure = why
            self.fetches += 1
            self._began_at_s = None
            self._due_at_s = self._now_s() + (RETRY_S if why else self._remote.refresh_s)
            if keys is not None and _forms(keys) != _forms(before):
                # Before anybody who waits goes on.
                self._changed()
            self._moved.notify_all()


def _forms(keys: Keys) -> dict[str, tuple[str, bytes]]:
    return {key_id: (key.algorithm, key.material) for key_id, key in keys.items()}


class Keyring:
    """The keys of a fixed list of issuers, whatever their sources. Safe for many threads."""

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        """Read the files; what has to be fetched is fetched after ``start``.

        Raises:
            ConfigError: an issuer or its file cannot be used.
        """
        self._lock = threading.Lock()
        self._version = 0
        self._files: dict[str, FileKeys] = {}
        self._remotes: dict[str, RemoteKeys] = {}
        for issuer in issuers:
            if isinstance(issuer.jwks, RemoteJwks):
                self._remotes[issuer.issuer] = RemoteKeys(issuer, issuer.jwks, changed=self._change)
            else:
                self._files[issuer.issuer] = FileKeys(issuer)
        self._sources: dict[str, KeySource] = {**self._files, **self._remotes}

    @property
    def version(self) -> int:
        """A number that moves when any key does; what was verified under another one counts no more."""
        return self._version

    def start(self, *, wait_s: float = FIRST_WAIT_S) -> list[str]:
        """Begin to fetch, and wait for first answers; return a line for each issuer without keys yet."""
        until_s = clock.monotonic() + wait_s
        for remote in self._remotes.values():
            remote.start()
        lines = []
        for name, remote in self._remotes.items():
            fetched = remote.wait_fetched(timeout_s=max(0.0, until_s - clock.monotonic()))
            if not fetched or remote.failure:
                why = remote.failure if fetched else f"no answer within {wait_s:g} s"
                lines.append(f"no keys of issuer `{name}` yet, its tokens are refused until there are: {why}")
        return lines

    def close(self) -> None:
        """Stop fetching."""
        for remote in self._remotes.values():
            remote.close()

    def read_files(self) -> Mapping[str, Keys]:
        """Return the keys that are in the files now, for ``use``.

        Raises:
            ConfigError: a file cannot be used.
        """
        return {name: read_issuer_keys(source.issuer) for name, source in self._files.items()}

    def use(self, read: Mapping[str, Keys]) -> None:
        """Use keys that ``read_files`` gave, and have the others fetched soon."""
        for name, keys in read.items():
            self._files[name].use(keys)
        self._change()
        for remote in self._remotes.values():
            remote.refresh()

    def check_fresh(self, issuer: str) -> None:
        """Check that the keys of an issuer may be used.

        Raises:
            TokenError: `keys-stale`.
        """
        self._sources[issuer].current()

    def find(self, issuer: str, key_id: str) -> IssuerKey | None:
        """Return one key of an issuer.

        Raises:
            TokenError: `keys-stale`.
        """
        return self._sources[issuer].find(key_id)

    def _change(self) -> None:
        with self._lock:
            self._version += 1
