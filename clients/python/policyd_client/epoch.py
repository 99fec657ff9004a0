"""The highest epoch that this client has seen from anyone, so that no node may answer from before it."""

from __future__ import annotations

from threading import Lock


class EpochMemory:
    """A number that only grows; safe to use from many threads."""

    def __init__(self) -> None:
        self._highest = 0
        self._lock = Lock()

    @property
    def highest(self) -> int:
        """The highest epoch so far, 0 before the first."""
        return self._highest

    def saw(self, epoch: int) -> None:
        """Remember `epoch` if it is the highest."""
        with self._lock:
            self._highest = max(self._highest, epoch)
