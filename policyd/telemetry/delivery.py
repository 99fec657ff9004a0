"""Hands spans to the SDK's exporters and says what became of them, which the SDK itself does not."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult

from policyd.ledger.reader import LedgerReader
from policyd.telemetry.settings import ExportSettings
from policyd.telemetry.spans import make_span

_RETRY_INFO = "google.rpc.retryinfo-bin"
_ABOUT_THE_SPANS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
"""SPEC: OTLP 1.x, failures: not retryable, and the spans may be why. Others mean wait: no way in, or away."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of some spans.

    ``rejected`` of those taken were dropped by the collector, as it said. ``refused`` says that it
    would take none, perhaps because of what they are. ``why`` is a status code or the name of an
    exception, never the collector's text.
    """

    spans: int
    taken: bool
    rejected: int = 0
    refused: bool = False
    why: str = ""


class Sender(Protocol):
    """Something that takes spans."""

    def send(self, spans: Sequence[ReadableSpan]) -> Delivery:
        """Hand over spans and return what became of them; may block and may raise anything."""

    def close(self) -> None:
        """Let go; a `send` in progress ends soon."""


class PlainSender:
    """Sends through any exporter of the SDK."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def send(self, spans: Sequence[ReadableSpan]) -> Delivery:
        """Hand over spans; the exporter's word is all that is known."""
        taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
        return Delivery(len(spans), taken, why="" if taken else "FAILURE")

    def close(self) -> None:
        """Let go."""
        self._exporter.shutdown()


class OtlpSender:
    """Sends over OTLP/gRPC, and hears what the collector answers."""

    def __init__(self) -> None:
        # It logs each attempt; the projector says once that a collector is away, once that it is back.
        logging.getLogger("opentelemetry.exporter.otlp.proto.grpc").setLevel(logging.CRITICAL)
        self._exporter = _ListeningExporter()

    def send(self, spans: Sequence[ReadableSpan]) -> Delivery:
        """Hand over spans, trying again for as long as `OTEL_EXPORTER_OTLP_TIMEOUT` says."""
        heard = self._exporter.heard
        heard.clear()
        if self._exporter.export(spans) is SpanExportResult.SUCCESS:
            return Delivery(len(spans), taken=True, rejected=min(max(heard.rejected, 0), len(spans)))
        why = heard.code.name if heard.code else "closed"
        return Delivery(len(spans), taken=False, refused=heard.refused, why=why)

    def close(self) -> None:
        """Let go."""
        self._exporter.shutdown()


class _Heard:
    """What the collector said last."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.rejected = 0
        self.code: grpc.StatusCode | None = None
        self.refused = False


class _Listener:
    """Stands where the exporter keeps its stub: the exporter drops the collector's answer."""

    def __init__(self, stub: Any, heard: _Heard, *, timeout_s: float) -> None:
        self._stub = stub
        self._heard = heard
        self._timeout_s = timeout_s

    def Export(self, *, request: Any, metadata: Any, timeout: float) -> Any:  # noqa: N802  # as the stub has it
        # The exporter counts on the wall clock: set back during a wait, it would wait for that much longer.
        within_s = min(max(timeout, 0.0), self._timeout_s)
        try:
            answer = self._stub.Export(request=request, metadata=metadata, timeout=within_s)
        except grpc.RpcError as error:
            failed: Any = error  # the stubs do not say that it is a call as well
            self._heard.code = failed.code()
            limited = any(key == _RETRY_INFO for key, _ in failed.trailing_metadata() or ())
            self._heard.refused = self._heard.code in _ABOUT_THE_SPANS and not limited
            raise
        self._heard.rejected = answer.partial_success.rejected_spans
        return answer


class _ListeningExporter(OTLPSpanExporter):
    """The SDK's exporter with its own reading of `OTEL_EXPORTER_OTLP_*`, and somebody who listens."""

    def __init__(self) -> None:
        self.heard = _Heard()
        super().__init__()

    def _initialize_channel_and_stub(self) -> None:
        # No public way leads to the answer (test_spans_that_the_collector_drops_are_counted stands guard).
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]  # the SDK's
        self._client: Any = _Listener(self._client, self.heard, timeout_s=self._timeout)


def make_senders(settings: ExportSettings) -> tuple[list[Sender], list[str]]:
    """Return what takes spans, and a line for each that cannot be made of the settings as they are.

    A wrong setting costs spans for now, never a decision: the place in the log stays.
    """
    made: list[Sender] = []
    lines = []
    # The one on the network first: what it does not take is not printed twice either.
    for name in sorted(settings.exporters, reverse=True):
        try:
            made.append(OtlpSender() if name == "otlp" else PlainSender(ConsoleSpanExporter()))
        except Exception as error:  # noqa: BLE001  # outer boundary: the SDK parses settings, and raises anything
            lines.append(
                f"no spans are exported to {name}: its OTEL_EXPORTER_* settings cannot be used "
                f"({type(error).__name__}); decisions are recorded all the same"
            )
    return made, lines


class Outbox:
    """Makes the spans of a range of records, and hands them to every sender. For one thread."""

    def __init__(self, reader: LedgerReader, senders: Sequence[Sender], resource: Resource) -> None:
        self._reader = reader
        self._senders = senders
        self._resource = resource

    def deliver(self, first: int, stop: int) -> Delivery:
        """Hand over the spans of the records from ``first`` to before ``stop``; raises nothing.

        All of them count as not taken where one sender does not take them.
        """
        count = rejected = 0
        try:
            made = (
                make_span(record, origin=self._reader.origin, resource=self._resource)
                for record in self._reader.records(first, stop)
            )
            spans = [span for span in made if span is not None]
            count = len(spans)
            for sender in self._senders if spans else ():
                delivery = sender.send(spans)
                if not delivery.taken:
                    return delivery
                rejected = max(rejected, delivery.rejected)
        except Exception as error:  # noqa: BLE001  # outer boundary: an exporter may raise anything
            return Delivery(count, taken=False, why=type(error).__name__)
        return Delivery(count, taken=True, rejected=rejected)

    def close_senders(self) -> None:
        """Let the senders go; one that fails at it does not keep the others."""
        for sender in self._senders:
            with contextlib.suppress(Exception):
                sender.close()
