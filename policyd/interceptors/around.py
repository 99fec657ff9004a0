"""Run something around every call, whatever its shape: the base of all interceptors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc


class Around(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Wraps the method in ``self.call(method, context)``, for plain and for streamed answers.

    A streamed answer is wrapped while it is being iterated, where its errors arise.
    """

    def call(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        """Return what is entered before and left after the method ``/package.Service/Name`` runs."""
        raise NotImplementedError

    def decoder(self, decode: Callable[[bytes], Any], method: str) -> Callable[[bytes], Any]:
        """Return what reads the bytes of a question to ``method``; by default ``decode``."""
        return decode

    def accept(self, request: Any) -> Any:
        """Return the question to pass on, inside ``call``; refuse it by raising."""
        return request

    def message(self, method: str, context: grpc.ServicerContext) -> None:
        """Look at the call again, before each message of a stream in either direction; refuse by raising."""

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler that the rest of the list gives; None stays None (unknown method)."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method: str = handler_call_details.method
        inner, request_streams = _behaviour(handler)
        decode = handler.request_deserializer
        if not request_streams:  # a streamed question is read, and refused, where it is iterated
            decode = self.decoder(decode, method)
        if handler.response_streaming:

            def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
                with self.call(method, context):
                    if request_streams:
                        request = self._each(request, method, context)
                    yield from self._each(inner(self.accept(request), context), method, context)

            make = (
                grpc.stream_stream_rpc_method_handler
                if request_streams
                else grpc.unary_stream_rpc_method_handler
            )
            return make(stream, decode, handler.response_serializer)

        def plain(request: Any, context: grpc.ServicerContext) -> Any:
            with self.call(method, context):
                if request_streams:
                    request = self._each(request, method, context)
                return inner(self.accept(request), context)

        make = (
            grpc.stream_unary_rpc_method_handler if request_streams else grpc.unary_unary_rpc_method_handler
        )
        return make(plain, decode, handler.response_serializer)

    def _each(self, messages: Iterable[Any], method: str, context: grpc.ServicerContext) -> Iterable[Any]:
        if type(self).message is Around.message:
            return messages

        def each() -> Iterator[Any]:
            for message in messages:
                self.message(method, context)
                yield message

        return each()


def is_ours(method: str) -> bool:
    """Return whether a method is of this API, not of health or reflection."""
    return method.startswith("/pbac.v1.")


def _behaviour(handler: Any) -> tuple[Callable[..., Any], bool]:
    for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
        behaviour = getattr(handler, name)
        if behaviour is not None:
            return behaviour, name.startswith("stream")
    raise AssertionError("a handler has exactly one behaviour")
