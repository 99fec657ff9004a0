"""How commands that run until they are told to stop wait for the signal."""

from __future__ import annotations

import threading

_WAKE_S = 0.25


def wait_for_signal(stop: threading.Event) -> None:
    """Wait until a signal handler has set ``stop``.

    Python runs handlers on this thread alone, but the system may give the signal to another, and a wait
    without end is not woken then (test_a_signal_that_another_thread_gets_is_heard).
    """
    while not stop.wait(_WAKE_S):
        pass
