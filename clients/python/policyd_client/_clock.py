"""The client's own clock: seconds that never step back and go on while the machine sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds; only differences mean anything."""


def boot_seconds() -> float:
    """Return seconds since boot, sleep included where the system counts it.

    An answer must not outlive its 60 s because a laptop was shut: CLOCK_MONOTONIC stands still then.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
