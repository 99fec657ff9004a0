"""Refuse bytes that are no message as the caller's fault; gRPC alone would say INTERNAL and log them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from policyd.errors import InvalidRequest, TooLarge
from policyd.interceptors.around import Around

_UNREADABLE = object()
_TOO_LARGE = object()


class DecodingInterceptor(Around):
    """Innermost: the caller is known by then, and an unreadable question ends like a malformed one.

    The transport lets through what the largest method takes; ``larger`` are the methods that take more than
    ``most_bytes``, which bounds all others.
    """

    def __init__(self, *, most_bytes: int, larger: Collection[str] = ()) -> None:
        self._most_bytes = most_bytes
        self._larger = frozenset(larger)

    @contextmanager
    def call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Add nothing around the call."""
        yield

    def decoder(self, decode: Callable[[bytes], Any], method: str) -> Callable[[bytes], Any]:
        """Return a decoder that does not fail: gRPC calls it outside of every interceptor."""
        bounded = method not in self._larger

        def tolerant(data: bytes) -> Any:
            if bounded and len(data) > self._most_bytes:
                return _TOO_LARGE
            try:
                return decode(data)
            except DecodeError:
                return _UNREADABLE

        return tolerant

    def accept(self, request: Any) -> Any:
        """Refuse what was not decoded."""
        if request is _TOO_LARGE:
            raise TooLarge(f"the message is over {self._most_bytes} bytes: ask in parts")
        if request is _UNREADABLE:
            raise InvalidRequest("the bytes are no message of this method: encode it with pbac/v1/*.proto")
        return request
