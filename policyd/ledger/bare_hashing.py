"""Times SHA-256 alone over a sample of records: the yardstick of a verification."""

from __future__ import annotations

from hashlib import sha256

from policyd import clock

_SAMPLE_PAGE = 100


class BareHashing:
    """Times SHA-256 over a sample of the records, to say how near a verification comes to it."""

    def __init__(self) -> None:
        self._leaves: list[bytes] = []
        self._count = 0
        self._took_s = 0.0

    def sample(self, leaf: bytes) -> None:
        """Take one record; they are hashed by the hundred, so that the clock does not count."""
        self._leaves.append(leaf)
        if len(self._leaves) == _SAMPLE_PAGE:
            self._hash()

    def records_per_s(self) -> float:
        """Return how many such records a second SHA-256 alone would hash, 0 where there were none."""
        if self._leaves:
            self._hash()
        return self._count / self._took_s if self._took_s else 0.0

    def _hash(self) -> None:
        started_s = clock.monotonic()
        for leaf in self._leaves:
            sha256(leaf).digest()
        self._took_s += clock.monotonic() - started_s
        self._count += len(self._leaves)
        self._leaves.clear()
