"""Bound how many calls run at once, so that a flood is refused at the door and not in the middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from policyd.errors import Busy
from policyd.interceptors.around import Around, is_ours


class LimitsInterceptor(Around):
    """At most ``calls`` calls of this API, of which at most ``watches`` are long-lived streams."""

    def __init__(self, *, calls: int, watches: int) -> None:
        self._calls = threading.BoundedSemaphore(calls)
        self._watches = threading.BoundedSemaphore(watches)

    @contextmanager
    def call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Let the call pass if there is room for it."""
        if not is_ours(method):
            yield
            return
        room = self._watches if method.endswith("/WatchSeals") else self._calls
        if not room.acquire(blocking=False):
            raise Busy("too many calls at once: nothing was decided, ask again later")
        try:
            yield
        finally:
            room.release()
