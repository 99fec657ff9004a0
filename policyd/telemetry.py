"""Projects committed records to `pbac.decision` spans and sends them where `OTEL_*` settings say.

The ledger is the queue: nothing here can delay a decision, and nothing that a collector loses is gone.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from policyd import clock, names
from policyd.ledger import store
from policyd.ledger.entry import parse_leaf
from policyd.ledger.reader import LedgerReader, StoredRecord
from policyd.ledger.writer import Ledger

CURSOR = "span-cursor"
"""The file beside the ledger that says which record is to be sent next."""
BATCH = 512
LINGER_S = 0.2
_CURSOR_EVERY_S = 1.0
_LOOK_EVERY_S = 0.25
"""How soon an idle projector sees that it should stop."""
_LONGEST_WAIT_S = 30.0
_METHOD = "pbac.v1.DecisionService/"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope(names.SCOPE)
_LOG = logging.getLogger(__name__)
_LIMITS = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
)


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """Where spans go (`console`, `otlp`, or nowhere when empty), and what to say about it at start."""

    exporters: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProjectorState:
    """How far the projector is. `waiting` are decisions and state changes not yet looked at."""

    next_index: int
    sent_spans: int
    failed_sends: int
    waiting: int


def read_settings(environment: Mapping[str, str]) -> ExportSettings:
    """Return what the standard settings ask for; none of them can touch the ledger.

    Without `OTEL_TRACES_EXPORTER`, an OTLP endpoint chooses `otlp`, and nothing chooses nothing.
    """
    lines = [
        f"{name} has no effect on decisions: each has one whole span"
        for name in _LIMITS
        if environment.get(name)
    ]
    wanted = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if not wanted and (
        environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    ):
        wanted = "otlp"
    chosen = []
    why = "set OTEL_TRACES_EXPORTER or OTEL_EXPORTER_OTLP_ENDPOINT to export them" if not wanted else ""
    for name in dict.fromkeys(part.strip() for part in wanted.split(",") if part.strip()):
        if name == "otlp" and (protocol := _protocol(environment)) != "grpc":
            why = f"OTEL_EXPORTER_OTLP_PROTOCOL is `{protocol}` and only grpc is built in"
        elif name in ("otlp", "console"):
            chosen.append(name)
        elif name == "none":
            why = "OTEL_TRACES_EXPORTER is none"
        else:
            why = f"OTEL_TRACES_EXPORTER names `{name}`; otlp, console and none are built in"
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        chosen, why = [], "OTEL_SDK_DISABLED is true"
    if why:
        what = "spans are exported to " + " and ".join(chosen) if chosen else "no spans are exported"
        lines.append(f"{what}: {why}; decisions are recorded all the same")
    return ExportSettings(exporters=tuple(chosen), lines=tuple(lines))


def _protocol(environment: Mapping[str, str]) -> str:
    return (
        environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "grpc"
    )


def make_exporters(settings: ExportSettings) -> list[SpanExporter]:
    """Return the SDK's exporters; each reads its own `OTEL_EXPORTER_*` settings."""
    made: list[SpanExporter] = []
    # The one on the network first: what it does not take is not printed twice either.
    for name in sorted(settings.exporters, reverse=True):
        if name == "otlp":
            # It logs each attempt; the projector says once that a collector is away, once that it is back.
            logging.getLogger("opentelemetry.exporter.otlp.proto.grpc").setLevel(logging.CRITICAL)
            made.append(OTLPSpanExporter())
        else:
            made.append(ConsoleSpanExporter())
    return made


def make_resource(origin: str) -> Resource:
    """Return the resource of this node: `OTEL_SERVICE_NAME` and the like, or `policyd`."""
    resource = Resource.create()
    own = {names.SERVICE_INSTANCE_ID: origin}
    if str(resource.attributes.get(names.SERVICE_NAME, "")).startswith("unknown_service"):
        own[names.SERVICE_NAME] = names.SCOPE
    return resource.merge(Resource(own))


def make_span(record: StoredRecord, *, origin: str, resource: Resource) -> ReadableSpan | None:
    """Return the finished span of a decision's record; None for any other record.

    All of it is in the record, so the same record always gives the same span, ids included. A refusal
    is an answer, not an error. Start and end are the instant of the decision.
    """
    if record.columns.kind != "decision":
        return None
    leaf = parse_leaf(record.leaf)
    trace_id = int(leaf["trace_id"], 16)
    parent = None
    if leaf["parent_span_id"]:
        parent = SpanContext(trace_id, int(leaf["parent_span_id"], 16), is_remote=True, trace_flags=_SAMPLED)
    at_ns = leaf["at"] * 1_000_000
    return ReadableSpan(
        name=names.SPAN_DECISION,
        context=SpanContext(trace_id, int(leaf["span_id"], 16), is_remote=False, trace_flags=_SAMPLED),
        parent=parent,
        resource=resource,
        # A plain dictionary: the SDK's own would apply OTEL_*_LIMIT and drop or cut what it holds.
        attributes=_attributes(leaf, record, origin),
        kind=SpanKind.SERVER,
        start_time=at_ns,
        end_time=at_ns,
        instrumentation_scope=_SCOPE,
    )


def _attributes(leaf: dict[str, Any], record: StoredRecord, origin: str) -> dict[str, Any]:
    counts = {"release": 0, "transform": 0, "withhold": 0}
    verdicts = leaf["verdicts"] if isinstance(leaf["verdicts"], list) else []
    for group in verdicts:
        counts[group["effect"]] += group["names"]
    attributes: dict[str, Any] = {
        names.DECISION_ID: leaf["decision_id"],
        names.DECISION_OUTCOME: leaf["outcome"],
        names.DECISION_ACTION: leaf["action"],
        names.DECISION_REASONS: tuple(dict.fromkeys(group["reason"] for group in verdicts)),
        names.DECISION_RULES: tuple(dict.fromkeys(group["rule"] for group in verdicts)),
        names.DECISION_REQUEST_DIGEST: leaf["request_digest"],
        names.DECISION_ANSWER_DIGEST: leaf["answer_digest"],
        names.DECISION_EPOCH: leaf["epoch"],
        names.DECISION_VALID_FOR_MS: leaf["valid_for_ms"],
        names.DECISION_DATA_SERVICE: leaf["data_service"],
        names.DECISION_SETTING: leaf["setting"],
        names.DECISION_ORGANISATION: leaf["organisation"],
        names.DECISION_AGREEMENT: leaf["agreement"],
        names.DECISION_GATEWAY: leaf["gateway"],
        names.DECISION_IDENTIFICATION_RISK: leaf["identification_risk"],
        names.DECISION_SENSITIVITY: leaf["sensitivity"],
        names.DECISION_POLICY_DIGEST: leaf["policy_digest"],
        names.DECISION_POLICY_VERSION: leaf["policy_version"],
        names.DECISION_FIELDS_UNKNOWN: leaf["unknown"]["count"],
        names.DECISION_LEDGER_ORIGIN: origin,
        names.DECISION_LEDGER_INDEX: record.index,
        names.DECISION_LEDGER_LEAF_HASH: record.leaf_hash.hex(),
        names.RPC_SYSTEM_NAME: "grpc",
        names.RPC_METHOD: _METHOD + leaf["rpc"],
        names.ENDUSER_PSEUDO_ID: leaf["requester"],
    }
    if isinstance(leaf["verdicts"], list):  # a very large record keeps its verdicts beside the leaf
        attributes[names.DECISION_FIELDS_RELEASED] = counts["release"]
        attributes[names.DECISION_FIELDS_TRANSFORMED] = counts["transform"]
        attributes[names.DECISION_FIELDS_WITHHELD] = counts["withhold"]
    return attributes


class Projector:
    """Sends one span a decision, in index order, from where its cursor stands.

    A span is sent again after a crash if the cursor had not been written yet: at most about a second's
    worth, with the same ids, so that a receiver that goes by ids holds each exactly once.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        exporters: Sequence[SpanExporter],
        resource: Resource,
        first_retry_s: float = 0.5,
    ) -> None:
        """Stand at the stored cursor; `start` begins to send.

        Raises:
            LedgerCorrupt: the log cannot be read.
        """
        self._ledger = ledger
        self._exporters = exporters
        self._resource = resource
        self._first_retry_s = first_retry_s
        self._cursor = ledger.directory / CURSOR
        self._next = self._saved = _read_cursor(self._cursor, origin=ledger.origin, size=ledger.size)
        self._saved_at_s = clock.monotonic()
        self._sent_spans = 0
        self._failed_sends = 0
        self._problem = ""
        self._stop = threading.Event()
        self._reader = LedgerReader(ledger.directory)
        self._thread = threading.Thread(target=self._run, name="span-projector", daemon=True)

    @property
    def state(self) -> ProjectorState:
        """How far it is."""
        return ProjectorState(
            next_index=self._next,
            sent_spans=self._sent_spans,
            failed_sends=self._failed_sends,
            waiting=max(0, self._ledger.size - self._next),
        )

    def start(self) -> None:
        """Begin to send on a thread of its own."""
        self._thread.start()

    def close(self, *, flush_s: float = 2.0) -> None:
        """Send what is left for up to `flush_s`, keep the place, and let the exporters go. Idempotent.

        Call it after the last answer has gone out; it does not matter whether the ledger is still open.
        """
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(flush_s)
        for exporter in self._exporters:
            exporter.shutdown()
        if self._thread.ident is not None:
            self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        retry_s = self._first_retry_s
        while not self._stop.is_set():
            size = self._ledger.wait_beyond(self._next, timeout_s=_LOOK_EVERY_S)
            if size <= self._next:
                self._keep_place()
                if self._ledger.failure:
                    self._stop.wait(_LOOK_EVERY_S)  # nothing will come; wait_beyond no longer waits
                continue
            if size - self._next < BATCH:
                self._stop.wait(LINGER_S)
            if self._send():
                if retry_s != self._first_retry_s:
                    _LOG.warning("spans are exported again; %d records wait", self.state.waiting)
                retry_s = self._first_retry_s
                if clock.monotonic() - self._saved_at_s >= _CURSOR_EVERY_S:
                    self._keep_place()
            else:
                if retry_s == self._first_retry_s:
                    _LOG.warning(
                        "spans cannot be exported: trying again; decisions are recorded all the same"
                    )
                self._stop.wait(retry_s)
                retry_s = min(2 * retry_s, _LONGEST_WAIT_S)
        while self._next < self._ledger.size and self._send():
            pass
        self._keep_place()

    def _send(self) -> bool:
        """Send the next batch; the place moves only if every exporter has taken all of it."""
        stop = min(self._next + BATCH, self._ledger.size)
        origin = self._ledger.origin
        try:
            made = (
                make_span(record, origin=origin, resource=self._resource)
                for record in self._reader.records(self._next, stop)
            )
            spans = [span for span in made if span is not None]
            taken = not spans or all(
                exporter.export(spans) is SpanExportResult.SUCCESS for exporter in self._exporters
            )
            self._problem = "the exporter did not take them"
        except Exception as error:  # noqa: BLE001  # outer boundary: an exporter may raise anything
            self._problem = f"{type(error).__name__}: {error}"
            taken = False
        if not taken:
            self._failed_sends += 1
            return False
        self._next = stop
        self._sent_spans += len(spans)
        return True

    def _keep_place(self) -> None:
        if self._saved == self._next:
            return
        try:
            store.replace_file(
                self._cursor, json.dumps({"origin": self._ledger.origin, "next": self._next}) + "\n"
            )
        except OSError as error:
            _LOG.warning("the place of the span export cannot be kept: %s", error)
            return
        self._saved, self._saved_at_s = self._next, clock.monotonic()


def _read_cursor(path: Path, *, origin: str, size: int) -> int:
    """Return the next record to send: 0 without a cursor of this log, never beyond its end."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        position = content["next"] if content["origin"] == origin else 0
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, TypeError):
        _LOG.warning("`%s` is unreadable: spans are exported from the beginning", path.name)
        return 0
    return min(max(position, 0), size) if type(position) is int else 0
