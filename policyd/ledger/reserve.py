"""Keeps a log's disk from filling up: below a reserve of free space nothing new is recorded."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from policyd.errors import LedgerBusy
from policyd.ledger.entry import Entry

RESERVE_BYTES = 64 * 2**20
"""What is kept free unless the configuration says otherwise."""

_WRITES = 3
"""A record's bytes are written to the write-ahead log, moved into the database, and split over pages."""
_PAGES_BYTES = 32 * 2**10
"""What a commit writes beside the bytes of its records: pages of the index and of the tree over them."""


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

    def demand(self, *, kind: str = "decision") -> None:
        """Return where there is room for one more record of a kind.

        Raises:
            LedgerBusy: there is none; nothing was recorded.
        """
        if not self._reserve_bytes:
            return
        disk = os.statvfs(self._directory)
        free_bytes = disk.f_bavail * disk.f_frsize
        kept_bytes = self._reserve_bytes if kind == "decision" else self._reserve_bytes // 2
        if free_bytes - self._held_bytes < kept_bytes:
            raise LedgerBusy(
                f"disk reserve reached: {free_bytes >> 20} MiB are free where {kept_bytes / 2**20:g} MiB "
                "must stay so: nothing was recorded; free some space, and it goes on by itself"
            )

    @contextmanager
    def hold(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Count records as written from before they queue until they are, so that a queue cannot overrun it.

        Raises:
            LedgerBusy: there is no room for them; nothing was recorded.
        """
        written = sum(len(entry.leaf) + len(entry.private) + len(entry.detail) for entry in entries)
        need_bytes = _WRITES * written + _PAGES_BYTES
        with self._lock:
            self.demand(kind=entries[0].columns.kind)
            self._held_bytes += need_bytes
        try:
            yield
        finally:
            with self._lock:
                self._held_bytes -= need_bytes
