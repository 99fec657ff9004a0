"""Waits for what other processes and threads do, which send no event."""

from __future__ import annotations

import threading
from typing import Any

PATIENCE_S = 20.0
WAKE_S = 0.02


def wait_until(condition: Any, *, what: str, timeout_s: float = PATIENCE_S) -> None:
    """Ask until it holds; fail when it does not in ``timeout_s``."""
    pause = threading.Event()
    for _ in range(int(timeout_s / WAKE_S)):
        if condition():
            return
        pause.wait(WAKE_S)
    raise AssertionError(f"waited {timeout_s} s in vain for {what}")
