"""Follow files that others replace: take what is good, keep the last good, and say once what is wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from policyd import clock
from policyd.errors import ConfigError, SourceError

PATIENCE_S = 1.0
"""How long files may be unusable before that is said: a renewal replaces one after the other."""
RETRY_S = 0.25
"""How often at most files that could not be used are read again although nobody touched them."""

_LOG = logging.getLogger("policyd")

T = TypeVar("T")
_Signature = tuple[tuple[int, ...], ...]


class Followed(Generic[T]):
    """What ``read`` made of some files when they were last good. Safe for many threads.

    They are looked at whenever ``current`` is asked for, which costs one `stat` a file, and read again when
    one of them is another file, or was written or had its mode changed.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], T], *, called: str) -> None:
        """Read the files for the first time; ``called`` names them in the log.

        Raises:
            ConfigError, SourceError: ``read`` does; there is nothing to go on with then.
        """
        self._paths = tuple(paths)
        self._read = read
        self._called = called
        self._lock = threading.Lock()
        self._seen = self._signature()
        self._good = read()
        self._problem = ""
        self._said = ""
        self._bad_since_s = self._retry_at_s = 0.0

    @property
    def current(self) -> T:
        """What the files say now, or said when they could last be used."""
        # SECURITY: looked at by every caller. A timer would leave a gap in which a change is not seen
        # (test_a_denial_holds_from_the_next_call).
        if self._changed():
            with self._lock:
                if self._changed():
                    self._take()
        return self._good

    @property
    def problem(self) -> str:
        """Why the files cannot be used as they stand, once that has lasted; empty while they can."""
        return self._said

    def _changed(self) -> bool:
        if self._problem and clock.monotonic() >= self._retry_at_s:
            return True  # a certificate that was not valid yet becomes so without being touched
        return self._signature() != self._seen

    def _take(self) -> None:
        # Before reading: what is replaced in between then shows as another change.
        seen = self._signature()
        try:
            self._good = self._read()
        except (ConfigError, SourceError) as error:
            self._fail("; ".join(str(error).splitlines()))
        else:
            self._problem = self._said = ""
            _LOG.info("%s was read again", self._called)
        # INVARIANT: last. Who finds nothing changed takes what is good without waiting for the lock
        # (test_who_asks_after_a_change_gets_the_change).
        self._seen = seen

    def _fail(self, problem: str) -> None:
        now_s = clock.monotonic()
        if not self._problem:
            self._bad_since_s = now_s
        self._problem, self._retry_at_s = problem, now_s + RETRY_S
        if problem != self._said and now_s - self._bad_since_s >= PATIENCE_S:
            self._said = problem
            _LOG.error("%s cannot be used, the one read before stays in force: %s", self._called, problem)

    def _signature(self) -> _Signature:
        return tuple(_look(path) for path in self._paths)


def _look(path: Path) -> tuple[int, ...]:
    """Return what changes when a file does; links are followed, because some are rotated by their links."""
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
