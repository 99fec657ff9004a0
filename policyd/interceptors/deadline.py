"""Refuse calls without a deadline: a caller that would wait for ever would also release late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from policyd.errors import InvalidRequest
from policyd.interceptors.around import Around, is_ours


class DeadlineInterceptor(Around):
    """Every call of this API states how long it waits; health and reflection need not."""

    @contextmanager
    def call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Let the call pass if it has a deadline."""
        if is_ours(method) and context.time_remaining() is None:
            raise InvalidRequest("the call has no deadline; set one, such as 2 s")
        yield
