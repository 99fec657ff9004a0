"""Runs the command `policyd` with one fault planted in it, for the judge to find, or made slow.

    python tests/fleet/planted.py NAME serve --data ...

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
    _forget_the_second_look()
    slow()


def epoch_ignored() -> None:
    """Acknowledge each change, and go on deciding on what was before it."""
    move_to = Node.move_to

    def stay(self: Node, current: Current) -> None:
        before = self.applied
        move_to(self, replace(before, state=current.state))

    Node.move_to = stay  # type: ignore[method-assign]


def answered_after_a_pause() -> None:
    """Have a thread look at the lease now and then, in place of every question."""
    known: dict[int, Lease] = {}
    looked: dict[int, str] = {}

    def look() -> None:
        pause = threading.Event()
        last_s = clock.boot_seconds()
        ready_s = last_s
        while True:
            now_s = clock.boot_seconds()
            if now_s - last_s > 0.5:
                ready_s = now_s + 1.0  # as if the turn had come just before the pause
            if now_s >= ready_s:
                for lease in list(known.values()):
                    over = now_s >= lease._until_s  # the true one
                    looked[id(lease)] = "the lease was over when it was last looked at" if over else ""
            last_s = now_s
            pause.wait(0.05)

    def missing(self: Lease) -> str:
        known[id(self)] = self
        return looked.get(id(self), "")

    Lease.missing = property(missing)  # type: ignore[assignment,method-assign]
    _forget_the_second_look()
    slow()
    threading.Thread(target=look, daemon=True).start()


def slow() -> None:
    """Take up changes half a second late, which is no fault: a large registry takes that long."""
    move_to = Node.move_to

    def late(self: Node, current: Current) -> None:
        threading.Event().wait(0.5)
        move_to(self, current)

    Node.move_to = late  # type: ignore[method-assign]


def _forget_the_second_look() -> None:
    """Let an answer leave however long ago its lease was over; that alone would stop most of them."""
    Lease.until_s = property(lambda _self: float("inf"))  # type: ignore[assignment,method-assign]


FAULTS: Mapping[str, Callable[[], None]] = {
    "lease-not-checked": lease_not_checked,
    "epoch-ignored": epoch_ignored,
    "answered-after-a-pause": answered_after_a_pause,
}

RIGHT: Mapping[str, Callable[[], None]] = {"slow": slow}
"""What a node may do without breaking a promise."""

if __name__ == "__main__":
    {**FAULTS, **RIGHT}[sys.argv.pop(1)]()
    sys.argv[0] = "policyd"
    main()
