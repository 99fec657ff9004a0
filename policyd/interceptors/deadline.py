"""Refuse calls without a deadline, or after it: who waits for ever releases late, who has gone, never."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from policyd.errors import InvalidRequest, TooLate
from policyd.interceptors.around import Around, is_ours

MAX_DEADLINE_S = 24 * 3600.0
"""Beyond this a deadline is none. gRPC shows a call without one as a remainder of centuries, not as None."""


class DeadlineInterceptor(Around):
    """Every call of this API states how long it waits; health and reflection need not."""

    @contextmanager
    def call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Let the call pass if it has a deadline that is still to come."""
        if is_ours(method):
            remaining_s = context.time_remaining()
            if remaining_s is None or remaining_s > MAX_DEADLINE_S:
                raise InvalidRequest("the call has no deadline within a day; set one, such as 2 s")
            if remaining_s <= 0:
                raise TooLate("the call came after its deadline: nothing was decided")
        yield
