"""Runs the command `policyd` with one fault planted in it, for the judge to find.

    python tests/fleet/planted.py FAULT serve --data ...

Each replaces one function in this process alone; policyd itself has no switch for it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from policyd import clock
from policyd.cli import main
from policyd.service.lease import Lease
from policyd.service.node import Current, Node


def lease_not_checked() -> None:
    """Decide whether or not there is a lease."""
    Lease.missing = property(lambda _self: "")  # type: ignore[assignment,method-assign]


def epoch_ignored() -> None:
    """Acknowledge each change, and go on deciding on what was before it."""
    move_to = Node.move_to

    def stay(self: Node, current: Current) -> None:
        before = self.applied
        move_to(self, replace(before, state=current.state))

    Node.move_to = stay  # type: ignore[method-assign]


def answered_after_a_pause() -> None:
    """Have a thread look at the lease now and then, in place of every question."""
    looked: dict[int, str] = {}

    def look() -> None:
        pause = threading.Event()
        while True:
            for lease in list(known.values()):
                over = clock.boot_seconds() >= lease.until_s
                looked[id(lease)] = "the lease was over when it was last looked at" if over else ""
            pause.wait(0.2)

    known: dict[int, Lease] = {}

    def missing(self: Lease) -> str:
        known[id(self)] = self
        return looked.get(id(self), "")

    Lease.missing = property(missing)  # type: ignore[assignment,method-assign]
    threading.Thread(target=look, daemon=True).start()


FAULTS: Mapping[str, Callable[[], None]] = {
    "lease-not-checked": lease_not_checked,
    "epoch-ignored": epoch_ignored,
    "answered-after-a-pause": answered_after_a_pause,
}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    sys.argv[0] = "policyd"
    main()
