"""Each decision has exactly one span, made from its record, and no setting or collector can change that."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan

from policyd import names, telemetry
from policyd.ledger.change_record import Stage, state_change_record
from policyd.ledger.decision_record import decision_record
from policyd.ledger.entry import Entry
from policyd.ledger.writer import Ledger
from policyd.model import Action, ColumnSet, Decision, Effect, Obligations, Outcome, VerdictGroup
from policyd.reasons import Reason

ORIGIN = "policyd.test/node-1"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
AT = 1_770_000_000_000
WAIT_S = 20.0
Span = trace_pb2.Span
DECISION = Decision(
    outcome=Outcome.PARTIAL,
    groups=(
        VerdictGroup(
            Effect.RELEASE,
            Reason.NONE,
            "attainment-for-research",
            (),
            ("KS4.KS4_ATT8", "KS4.KS4_EBACC"),
            (ColumnSet("", 0, 0b11),),
        ),
        VerdictGroup(Effect.WITHHOLD, Reason.FIELD_UNKNOWN, "gate:6:field", (), ("A.pupil_17",)),
    ),
    obligations=Obligations(exclude_sealed_epoch=7),
    identification_risk=4,
    sensitivity="E",
    requester="researcher-1",
    organisation="org-university-1",
    data_service="npd-secure",
    setting="secure-research",
    agreement="DS00101",
    gateway="DEA2017-64",
    purposes=("academic-research",),
    action=Action.RELEASE,
    policy_digest="ab" * 32,
    policy_version=3,
    epoch=7,
    at=AT,
    unknown=("A.pupil_17",),
)
PSEUDONYM = "9f" * 32


def make_entry(number: int, **other: Any) -> Entry:
    values: dict[str, Any] = {
        "decision_id": f"{number:026d}",
        "trace_id": (number + 1).to_bytes(16, "big"),
        "span_id": (number + 1).to_bytes(8, "big"),
        "request_digest": b"\x0a" * 32,
        "answer_digest": b"\x0b" * 32,
        "spiffe_id": "spiffe://policyd.test/data-service/npd-secure",
        "valid_for_ms": 60_000,
        "key": bytes(32),
        "requester": PSEUDONYM,
        "detail": b"sealed",
    }
    return decision_record(DECISION, **(values | other))


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP gRPC receiver that keeps every span it was sent, in order."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[Any] = []
        self.refuse = threading.Event()
        self.refused = threading.Event()
        self._more = threading.Condition()
        self._pool = ThreadPoolExecutor(4)
        self._server: grpc.Server | None = None
        self.port = 0

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        if self.refuse.is_set():
            self.refused.set()
            context.abort(grpc.StatusCode.INTERNAL, "not now")
        with self._more:
            for resource in request.resource_spans:
                self.resources.append(resource.resource)
                for scope in resource.scope_spans:
                    self.spans.extend(scope.spans)
            self._more.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def start(self) -> str:
        self._server = grpc.server(self._pool)
        add: Callable[..., None] = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
        add(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    def wait_for(self, decisions: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self.ids) >= decisions, WAIT_S), len(self.ids)

    @property
    def ids(self) -> Counter[str]:
        return Counter(span.span_id.hex() for span in self.spans)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    for name in (*telemetry._LIMITS, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.start())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    monkeypatch.setattr(telemetry, "LINGER_S", 0.01)
    yield made
    made.stop()
    made._pool.shutdown()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "log", origin=ORIGIN, signing_key=KEY) as opened:
        yield opened


def project(ledger: Ledger, environment: dict[str, str] | None = None) -> telemetry.Projector:
    settings = telemetry.read_settings(environment or {"OTEL_TRACES_EXPORTER": "otlp"})
    projector = telemetry.Projector(
        ledger,
        exporters=telemetry.make_exporters(settings),
        resource=telemetry.make_resource(ledger.origin),
        first_retry_s=0.02,
    )
    projector.start()
    return projector


def value_of(span: Span, name: str) -> Any:
    (found,) = [each.value for each in span.attributes if each.key == name]
    kind = found.WhichOneof("value")
    if kind == "array_value":
        return [each.string_value for each in found.array_value.values]
    return getattr(found, kind)


def test_each_decision_arrives_as_one_span_in_order(ledger: Ledger, collector: Collector) -> None:
    """What the collector holds is one span for each decision of the log, in the order of the log."""
    ledger.append([make_entry(number) for number in range(1_300)])
    projector = project(ledger)
    collector.wait_for(1_300)
    change = state_change_record(
        "registry",
        stage=Stage.APPLIED,
        epoch=8,
        body_digest=bytes(32),
        who="node-1",
        why="",
        at=AT,
    )
    ledger.append([change, make_entry(1_300)])
    collector.wait_for(1_301)
    projector.close()

    want = [(number + 1).to_bytes(8, "big") for number in range(1_301)]
    assert [span.span_id for span in collector.spans] == want
    assert [value_of(span, names.DECISION_LEDGER_INDEX) for span in collector.spans] == [*range(1_300), 1_301]
    assert projector.state == telemetry.ProjectorState(
        next_index=1_302, sent_spans=1_301, failed_sends=0, waiting=0
    )


def test_span_says_what_the_record_says(ledger: Ledger, collector: Collector) -> None:
    """Ids, digests, counts, outcome, reasons, rules and policy come from the record."""
    entry = make_entry(4, parent_span_id=b"\x0c" * 8)
    receipts = ledger.append([entry])
    projector = project(ledger)
    collector.wait_for(1)
    projector.close()

    span = collector.spans[0]
    assert (span.name, span.trace_id, span.parent_span_id) == (
        "pbac.decision",
        (5).to_bytes(16, "big"),
        b"\x0c" * 8,
    )
    assert span.start_time_unix_nano == span.end_time_unix_nano == AT * 1_000_000
    assert span.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    have = {each.key: value_of(span, each.key) for each in span.attributes}
    assert have["pbac.decision.id"] == f"{4:026d}"
    assert have["pbac.decision.outcome"] == "partial"
    assert have["pbac.decision.reasons"] == ["NONE", "FIELD_UNKNOWN"]
    assert have["pbac.decision.rules"] == ["attainment-for-research", "gate:6:field"]
    assert have["pbac.decision.fields.released"] == 2
    assert have["pbac.decision.fields.withheld"] == have["pbac.decision.fields.unknown"] == 1
    assert have["pbac.decision.policy.version"] == 3
    assert have["pbac.decision.ledger.leaf_hash"] == receipts.leaf_hashes[0].hex()
    assert have["rpc.method"] == "pbac.v1.DecisionService/Check"
    assert have["enduser.pseudo.id"] == PSEUDONYM


def test_no_person_and_no_name_asked_for_is_exported(ledger: Ledger, collector: Collector) -> None:
    """A collector never sees the requester's id, an unknown name or the names of fields."""
    ledger.append([make_entry(0)])
    projector = project(ledger)
    collector.wait_for(1)
    projector.close()

    sent = collector.spans[0].SerializeToString()
    for secret in (b"researcher-1", b"pupil_17", b"KS4_ATT8", b"academic-research"):
        assert secret not in sent


def test_node_is_named_by_the_resource(
    ledger: Ledger, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans carry `policyd` and the origin of the log; OTEL_SERVICE_NAME renames the service."""
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    ledger.append([make_entry(0)])
    project(ledger).close(flush_s=WAIT_S)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "npd-decisions")
    ledger.append([make_entry(1)])
    project(ledger).close(flush_s=WAIT_S)

    have = [{a.key: a.value.string_value for a in each.attributes} for each in collector.resources]
    assert [each["service.name"] for each in have] == ["policyd", "npd-decisions"]
    assert {each["service.instance.id"] for each in have} == {ORIGIN}


def test_limits_and_samplers_cut_and_drop_nothing(
    ledger: Ledger, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that make the SDK drop spans, attributes or parts of values do not reach a decision."""
    hostile = {
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_ATTRIBUTE_COUNT_LIMIT": "1",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "2",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "2",
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    ledger.append([make_entry(0)])
    projector = project(ledger, {"OTEL_TRACES_EXPORTER": "otlp", **hostile})
    collector.wait_for(1)
    projector.close()

    span = collector.spans[0]
    assert value_of(span, names.DECISION_RULES) == ["attainment-for-research", "gate:6:field"]
    assert len(span.attributes) == 28
    assert span.dropped_attributes_count == 0
    lines = telemetry.read_settings({"OTEL_TRACES_EXPORTER": "otlp", **hostile}).lines
    assert len(lines) == len(hostile)
    assert all("has no effect on decisions" in line for line in lines)


def test_collector_that_was_away_gets_everything_when_it_is_back(
    ledger: Ledger, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """A dead collector delays spans, loses none, and holds up no append; both turns are said once."""
    endpoint_port = collector.port
    collector.stop()
    projector = project(ledger)
    for number in range(50):
        ledger.append([make_entry(number)], timeout_s=WAIT_S)
    for _ in range(400):
        if projector.state.failed_sends >= 2:
            break
        threading.Event().wait(0.05)
    assert projector.state.failed_sends >= 2
    assert projector.state.waiting == 50

    collector.port = endpoint_port
    collector.start()
    collector.wait_for(50)
    projector.close()

    assert set(collector.ids.values()) == {1}
    assert projector.state.waiting == 0
    messages = [each.getMessage() for each in caplog.records if each.name == "policyd.telemetry"]
    assert [message.split(" ")[2] for message in messages] == ["be", "exported"]


def test_collector_that_refuses_is_asked_again(ledger: Ledger, collector: Collector) -> None:
    """An error of the collector keeps the batch; the same spans arrive once it takes them."""
    collector.refuse.set()
    ledger.append([make_entry(number) for number in range(5)])
    projector = project(ledger)
    assert collector.refused.wait(WAIT_S)
    collector.refuse.clear()
    collector.wait_for(5)
    projector.close()

    assert [span.span_id[-1] for span in collector.spans] == [1, 2, 3, 4, 5]


def test_restart_goes_on_where_it_was(ledger: Ledger, collector: Collector) -> None:
    """A projector that was closed leaves its place, and the next sends only what is new."""
    ledger.append([make_entry(number) for number in range(3)])
    project(ledger).close(flush_s=WAIT_S)
    ledger.append([make_entry(3)])

    project(ledger).close(flush_s=WAIT_S)

    assert [span.span_id[-1] for span in collector.spans] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("content", "want"),
    [
        ('{"origin":"policyd.test/node-1","next":2}', 1),
        ('{"origin":"policyd.test/node-1","next":99}', 0),
        ('{"origin":"policyd.test/node-1","next":-4}', 3),
        ('{"origin":"policyd.test/node-1","next":true}', 3),
        ('{"origin":"policyd.test/other","next":2}', 3),
        ("{", 3),
        ("[]", 3),
        ("", 3),
    ],
)
def test_any_cursor_is_survived(ledger: Ledger, collector: Collector, content: str, want: int) -> None:
    """A cursor of another log or without sense starts from the beginning: twice is better than never."""
    ledger.append([make_entry(number) for number in range(3)])
    (ledger.directory / telemetry.CURSOR).write_text(content, "utf-8")

    project(ledger).close(flush_s=WAIT_S)

    assert len(collector.spans) == want


def test_killed_process_is_carried_on(tmp_path: Path, collector: Collector) -> None:
    """After SIGKILL in the middle, the collector ends up with every decision; what came twice is the same."""
    with Ledger.open(tmp_path / "log", origin=ORIGIN, signing_key=KEY) as ledger:
        ledger.append([make_entry(number) for number in range(3_000)])
    child = (
        "import sys; from pathlib import Path\n"
        "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey\n"
        "from policyd import telemetry; from policyd.ledger.writer import Ledger\n"
        "key = Ed25519PrivateKey.from_private_bytes(b'\\x01' * 32)\n"
        "ledger = Ledger.open(Path(sys.argv[1]), origin='policyd.test/node-1', signing_key=key)\n"
        "settings = telemetry.read_settings({'OTEL_TRACES_EXPORTER': 'otlp'})\n"
        "made = telemetry.make_exporters(settings)\n"
        "telemetry.Projector(ledger, exporters=made, resource=telemetry.make_resource('n')).start()\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", child, str(tmp_path / "log")], stdin=subprocess.PIPE
    ) as process:
        collector.wait_for(600)
        process.kill()
    assert process.returncode == -9

    with Ledger.open(tmp_path / "log", origin=ORIGIN, signing_key=KEY) as ledger:
        ledger.append([make_entry(3_000)])
        project(ledger).close(flush_s=WAIT_S)

    assert len(collector.ids) == 3_001
    seen: dict[bytes, str] = {}
    for span in collector.spans:
        assert seen.setdefault(span.span_id, str(span.attributes)) == str(span.attributes)


class Raising:
    """An exporter that raises the first time, as none should."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped
        self.raised = False

    def export(self, spans: list[ReadableSpan]) -> Any:
        if not self.raised:
            self.raised = True
            raise RuntimeError("no such thing")
        return self.wrapped.export(spans)

    def shutdown(self) -> None:
        self.wrapped.shutdown()


def test_exporter_that_raises_is_asked_again(ledger: Ledger, collector: Collector) -> None:
    """Whatever an exporter raises, the projector lives and sends the batch again."""
    settings = telemetry.read_settings({"OTEL_TRACES_EXPORTER": "otlp"})
    exporter: Any = Raising(telemetry.make_exporters(settings)[0])
    projector = telemetry.Projector(
        ledger, exporters=[exporter], resource=telemetry.make_resource(ORIGIN), first_retry_s=0.02
    )
    projector.start()
    ledger.append([make_entry(0)])
    collector.wait_for(1)
    projector.close()

    assert projector.state.failed_sends == 1


def test_console_prints_whole_spans(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """The console exporter prints one JSON object a decision."""
    out: list[str] = []
    projector = telemetry.Projector(
        ledger,
        exporters=telemetry.make_exporters(telemetry.read_settings({"OTEL_TRACES_EXPORTER": "console"})),
        resource=telemetry.make_resource(ORIGIN),
    )
    (exporter,) = projector._exporters
    exporter.out = type("Out", (), {"write": lambda _, text: out.append(text), "flush": lambda _: None})()  # type: ignore[attr-defined]
    projector.start()
    ledger.append([make_entry(0)])
    projector.close(flush_s=WAIT_S)

    assert len(out) == 1
    assert '"pbac.decision.outcome": "partial"' in out[0]


def test_close_before_start_is_harmless(ledger: Ledger, collector: Collector) -> None:
    """A node that fails while it starts can close what it has made."""
    settings = telemetry.read_settings({"OTEL_TRACES_EXPORTER": "otlp"})
    projector = telemetry.Projector(
        ledger,
        exporters=telemetry.make_exporters(settings),
        resource=telemetry.make_resource(ORIGIN),
    )

    projector.close()

    assert collector.spans == []


@pytest.mark.parametrize(
    ("environment", "exporters", "said"),
    [
        ({}, (), "no spans are exported: set OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "console"}, ("console",), ""),
        ({"OTEL_TRACES_EXPORTER": " otlp , console,otlp"}, ("otlp", "console"), ""),
        ({"OTEL_TRACES_EXPORTER": "none"}, (), "OTEL_TRACES_EXPORTER is none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, ("otlp",), ""),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}, ("otlp",), ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, (), "is none"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, (), "names `zipkin`"),
        (
            {"OTEL_TRACES_EXPORTER": "zipkin,console"},
            ("console",),
            "spans are exported to console: OTEL_TRACES_EXPORTER names `zipkin`",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, (), "only grpc"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}, (), "OTEL_SDK_DISABLED is true"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "no"}, ("otlp",), ""),
    ],
    ids=str,
)
def test_standard_settings_choose_the_exporter(
    environment: dict[str, str], exporters: tuple[str, ...], said: str
) -> None:
    """Settings choose where spans go; where that is nowhere, one line says so and that recording goes on."""
    settings = telemetry.read_settings(environment)

    assert settings.exporters == exporters
    assert len(settings.lines) == (1 if said else 0)
    for line in settings.lines:
        assert said in line
        assert "decisions are recorded all the same" in line
