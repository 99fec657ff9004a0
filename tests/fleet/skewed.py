"""Runs the command `policyd` with clocks that are wrong: an offset for each, and another pace.

    python tests/fleet/skewed.py WALL_OFFSET_MS BOOT_OFFSET_S PACE serve --data ...

All of policyd asks `policyd.clock` what time it is, and nothing else may (tests/unit/test_floors.py), so
replacing its functions in this process is enough; policyd itself has no switch for it. Waiting still
takes as long as it takes: a process whose clock runs fast waits longer than it believes, as it would on
a machine with such a clock.
"""

from __future__ import annotations

import sys

from policyd import clock
from policyd.cli import main


def skew(*, wall_offset_ms: int, boot_offset_s: float, pace: float) -> None:
    """Make the clocks of this process wrong from now on.

    The wall clock is off by an offset and keeps its pace; the others run at ``pace``, 1.0 being right.
    """
    wall, monotonic, boot = clock.now, clock.monotonic, clock.boot_seconds
    monotonic_began_s, boot_began_s = monotonic(), boot()

    def now() -> int:
        return wall() + wall_offset_ms

    def steady() -> float:
        return monotonic_began_s + (monotonic() - monotonic_began_s) * pace

    def boot_seconds() -> float:
        return boot_began_s + boot_offset_s + (boot() - boot_began_s) * pace

    clock.now, clock.monotonic, clock.boot_seconds = now, steady, boot_seconds


if __name__ == "__main__":
    offset_ms, offset_s, pace = sys.argv[1:4]
    del sys.argv[1:4]
    sys.argv[0] = "policyd"
    skew(wall_offset_ms=int(offset_ms), boot_offset_s=float(offset_s), pace=float(pace))
    main()
