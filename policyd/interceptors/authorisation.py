"""Turn away callers whom a method is not for, before anything of their question is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from policyd.interceptors.around import Around, is_ours
from policyd.interceptors.call import call_of


class AuthorisationInterceptor(Around):
    """Asks ``permit(method, spiffe_id)``, which raises for a caller that may not; inside authentication."""

    def __init__(self, permit: Callable[[str, str], None]) -> None:
        self._permit = permit

    @contextmanager
    def call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Let the call pass if the method is for its caller."""
        if is_ours(method):
            self._permit(method, call_of(context).spiffe_id)
        yield
