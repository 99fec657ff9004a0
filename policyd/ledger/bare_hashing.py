"""Times SHA-256 alone over a sample of records: the yardstick of a verification."""

from __future__ import annotations

from hashlib import sha256

from policyd import clock

_SAMPLE_PAGE = 100


class BareHashing:
    """Times SHA-256 over a sample of the records, to say how near a verification comes to it."""

    def __init__(self) -> None:
        self._records: list[tuple[bytes, ...]] = []
        self._count = 0
        self._took_s = 0.0

    def sample(self, leaf: bytes, detail: bytes = b"") -> None:
        """Take what is hashed of a record; a hundred are timed at once, so that the clock does not count."""
        self._records.append((leaf, detail) if detail else (leaf,))
        if len(self._records) == _SAMPLE_PAGE:
            self._hash()

    def records_per_s(self) -> float:
        """Return how many such records a second SHA-256 alone would hash, 0 where there were none."""
        if self._records:
            self._hash()
        return self._count / self._took_s if self._took_s else 0.0

    def _hash(self) -> None:
        started_s = clock.monotonic()
        for record in self._records:
            for part in record:
                sha256(part).digest()
        self._took_s += clock.monotonic() - started_s
        self._count += len(self._records)
        self._records.clear()
