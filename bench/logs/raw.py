"""The least that a durable group commit costs: the same bytes written to a file and synced, and no more."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from policyd.ledger.group import Group, Ticket, Wakeups


class RawLog:
    """A file to which one thread writes what has queued, syncs it, and wakes who waits: no tree, no index.

    Callers are handed over and woken as by the ledger, so that what is left between the two is the ledger.
    """

    def __init__(self, path: Path, record: bytes) -> None:
        """Make the file and start the writer; every append writes ``record``."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._record = record
        self._work = threading.Condition()
        self._group = Group()
        self._wakeups = Wakeups()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="raw-writer")
        self._thread.start()

    def append(self) -> None:
        """Return when the record is on the disk."""
        ticket = Ticket(())
        with self._work:
            self._group.tickets.append(ticket)
            if not self._wakeups:
                self._work.notify()
        ticket.wait()
        if self._wakeups.next():
            with self._work:
                self._work.notify()

    def close(self) -> None:
        """Stop the writer."""
        with self._work:
            self._stopping = True
            self._work.notify()
        self._thread.join()
        os.close(self._file)

    def _run(self) -> None:
        while True:
            with self._work:
                self._work.wait_for(lambda: not self._wakeups, 0.01)
                self._work.wait_for(lambda: self._group.tickets or self._stopping)
                group, self._group = self._group, Group()
            if not group.tickets:
                return
            os.write(self._file, self._record * len(group.tickets))
            os.fdatasync(self._file)
            self._wakeups.add(group)
