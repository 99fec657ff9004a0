"""Refuse bytes that are no message as the caller's fault; gRPC alone would say INTERNAL and log them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from policyd.errors import InvalidRequest
from policyd.interceptors.around import Around

_UNREADABLE = object()


class DecodingInterceptor(Around):
    """Innermost: the caller is known by then, and an unreadable question ends like a malformed one."""

    @contextmanager
    def call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Add nothing around the call."""
        yield

    def decoder(self, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """Return a decoder that does not fail: gRPC calls it outside of every interceptor."""

        def tolerant(data: bytes) -> Any:
            try:
                return decode(data)
            except DecodeError:
                return _UNREADABLE

        return tolerant

    def accept(self, request: Any) -> Any:
        """Refuse what could not be decoded."""
        if request is _UNREADABLE:
            raise InvalidRequest("the bytes are no message of this method: encode it with pbac/v1/*.proto")
        return request
