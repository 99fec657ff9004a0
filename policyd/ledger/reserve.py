"""Keeps a log's disk from filling up: below a reserve of free space nothing new is recorded."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from policyd import clock
from policyd.errors import LedgerBusy
from policyd.ledger.entry import Entry

RESERVE_BYTES = 64 * 2**20
"""What is kept free unless the configuration says otherwise."""

_WRITES = 3
"""A record's bytes are written to the write-ahead log, moved into the database, and split over pages."""
_PAGES_BYTES = 32 * 2**10
"""What a commit writes beside the bytes of its records: pages of the index and of the tree over them."""
LOOK_EVERY_S = 0.05
"""How long a look at the disk serves; what is recorded meanwhile is counted, and a refusal looks again."""


class DiskReserve:
    """Refuses decisions while the disk has less than a reserve free. Safe to use from many threads.

    A disk that runs full in the middle of a commit would close the log for good; one that is refused in
    time recovers by itself. Only decisions stop at the whole reserve. What is said of a release that has
    happened, and changes, a seal among them, may use half of it.
    """

    def __init__(self, directory: Path, *, reserve_bytes: int) -> None:
        """Name the directory whose disk is meant, and what to keep free there; 0 keeps nothing."""
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()
        self._held_bytes = 0
        self._free_bytes = 0
        self._taken_bytes = 0
        """What was held at the last look or since: all of it may be written by now."""
        self._looked_at_s = float("-inf")

    def demand(self, *, kind: str = "decision") -> None:
        """Return where there is room for one more record of a kind.

        Raises:
            LedgerBusy: there is none; nothing was recorded.
        """
        if self._reserve_bytes:
            with self._lock:
                self._demand(kind)

    @contextmanager
    def hold(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Count records as written from before they queue until they are, so that a queue cannot overrun it.

        Raises:
            LedgerBusy: there is no room for them; nothing was recorded.
        """
        written = sum(len(entry.leaf) + len(entry.private) + len(entry.detail) for entry in entries)
        need_bytes = _WRITES * written + _PAGES_BYTES
        with self._lock:
            if self._reserve_bytes:
                self._demand(entries[0].columns.kind)
            self._held_bytes += need_bytes
            self._taken_bytes += need_bytes
        try:
            yield
        finally:
            with self._lock:
                self._held_bytes -= need_bytes

    def _demand(self, kind: str) -> None:
        kept_bytes = self._reserve_bytes if kind == "decision" else self._reserve_bytes // 2
        # A look is a system call, at which every other caller gets in between: one in so many will do.
        if clock.monotonic() - self._looked_at_s >= LOOK_EVERY_S or self._room() < kept_bytes:
            disk = os.statvfs(self._directory)
            self._free_bytes = disk.f_bavail * disk.f_frsize
            self._taken_bytes = self._held_bytes
            self._looked_at_s = clock.monotonic()
        if self._room() < kept_bytes:
            raise LedgerBusy(
                f"disk reserve reached: {self._free_bytes >> 20} MiB are free where {kept_bytes / 2**20:g} "
                "MiB must stay so: nothing was recorded; free some space, and it goes on by itself"
            )

    def _room(self) -> int:
        return self._free_bytes - self._taken_bytes
