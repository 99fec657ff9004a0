"""A real OTLP/gRPC receiver on the public protos, which keeps what it is sent and misbehaves on request."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

WAIT_S = 20.0
Span = trace_pb2.Span
Answer = trace_service_pb2.ExportTraceServiceResponse


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span, in order. ``answer`` may be replaced: it says what becomes of a request's spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[Any] = []
        self.requests: list[bytes] = []
        self.answer: Callable[[list[Span], grpc.ServicerContext], Answer | None] = lambda _spans, _call: None
        self.asked = threading.Event()
        self._more = threading.Condition()
        self._pool = ThreadPoolExecutor(4)
        self._server: grpc.Server | None = None
        self.port = 0

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        scopes = [scope for resource in request.resource_spans for scope in resource.scope_spans]
        spans = [span for scope in scopes for span in scope.spans]
        self.asked.set()
        answer = self.answer(spans, context)
        dropped = answer.partial_success.rejected_spans if answer else 0
        with self._more:
            self.requests.append(request.SerializeToString())
            self.resources += [resource.resource for resource in request.resource_spans]
            self.spans += spans[dropped:]
            self._more.notify_all()
        return answer or Answer()

    def refuse(self, code: grpc.StatusCode, details: str = "not now") -> None:
        """Take nothing from now on."""

        def no(_spans: list[Span], context: grpc.ServicerContext) -> None:
            context.abort(code, details)

        self.asked.clear()
        self.answer = no

    def refuse_spans(self, *bad: bytes, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> None:
        """Refuse every request that holds a span of these ids."""

        def check(spans: list[Span], context: grpc.ServicerContext) -> None:
            if any(span.span_id in bad for span in spans):
                context.abort(code, "no")

        self.answer = check

    def drop_first(self, message: str = "") -> None:
        """Take each request, but for its first span: a partial success."""
        self.answer = lambda _spans, _call: Answer(
            partial_success=trace_service_pb2.ExportTracePartialSuccess(
                rejected_spans=1, error_message=message
            )
        )

    def take_all(self) -> None:
        """Behave."""
        self.answer = lambda _spans, _call: None

    def start(self) -> str:
        """Listen, on the same port as before if there was one, and return the endpoint."""
        self._server = grpc.server(self._pool)
        add: Callable[..., None] = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
        add(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Be dead."""
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._pool.shutdown()

    def wait_for(self, decisions: int) -> None:
        """Wait until that many different spans are here."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.ids) >= decisions, WAIT_S), len(self.ids)

    @property
    def ids(self) -> Counter[str]:
        return Counter(span.span_id.hex() for span in self.spans)


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread brings about and announces to nobody."""
    end_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end_s, "it does not come about"
        time.sleep(0.01)


def value_of(span: Span, name: str) -> Any:
    """Return an attribute's value as Python has it; it must be there once."""
    (found,) = [each.value for each in span.attributes if each.key == name]
    return _plain(found)


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return {each.key: _plain(each.value) for each in value.kvlist_value.values}
    return getattr(value, kind)
