"""Each decision has exactly one span, in order, and no collector can change or delay that."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from support.collector import WAIT_S, Collector, value_of
from support.decisions import AT, KEY, ORIGIN, make_entry, project

from policyd import names
from policyd.ledger.change_record import Stage, state_change_record
from policyd.ledger.writer import Ledger
from policyd.telemetry import projector as projector_module
from policyd.telemetry.delivery import Delivery, OtlpSender, PlainSender, Sender
from policyd.telemetry.projector import CURSOR, Projector, ProjectorState, read_cursor
from policyd.telemetry.settings import make_resource


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
    assert projector.state == ProjectorState(next_index=1_302, sent_spans=1_301, failed_sends=0, waiting=0)


def test_collector_that_was_away_gets_everything_when_it_is_back(
    ledger: Ledger, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """A dead collector delays spans, loses none, and holds up no append; both turns are said once."""
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

    collector.start()
    collector.wait_for(50)
    projector.close()

    assert set(collector.ids.values()) == {1}
    assert projector.state.waiting == 0
    messages = [each.getMessage() for each in caplog.records if each.name == "policyd.telemetry.projector"]
    assert [message.split(" ")[2] for message in messages] == ["be", "exported"]


def test_collector_that_refuses_is_asked_again(ledger: Ledger, collector: Collector) -> None:
    """An error of the collector keeps the batch; the same spans arrive once it takes them."""
    collector.refuse(grpc.StatusCode.INTERNAL)
    ledger.append([make_entry(number) for number in range(5)])
    projector = project(ledger)
    assert collector.asked.wait(WAIT_S)
    collector.take_all()
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
    (ledger.directory / CURSOR).write_text(content, "utf-8")

    project(ledger).close(flush_s=WAIT_S)

    assert len(collector.spans) == want


def test_killed_process_is_carried_on(tmp_path: Path, collector: Collector) -> None:
    """After SIGKILL in the middle, the collector ends up with every decision; what came twice is the same."""
    with Ledger.open(tmp_path / "log", origin=ORIGIN, signing_key=KEY) as ledger:
        ledger.append([make_entry(number) for number in range(3_000)])
    child = (
        "import sys; from pathlib import Path\n"
        "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey\n"
        "from policyd.ledger.writer import Ledger\n"
        "from policyd.telemetry import delivery, projector, settings\n"
        "key = Ed25519PrivateKey.from_private_bytes(b'\\x01' * 32)\n"
        "ledger = Ledger.open(Path(sys.argv[1]), origin='policyd.test/node-1', signing_key=key)\n"
        "made, _ = delivery.make_senders(settings.ExportSettings(('otlp',), ()))\n"
        "projector.Projector(ledger, senders=made, resource=settings.make_resource('n')).start()\n"
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
    """A sender that raises the first time, as none should."""

    def __init__(self, wrapped: Sender) -> None:
        self.wrapped = wrapped
        self.raised = False

    def send(self, spans: Sequence[ReadableSpan]) -> Delivery:
        if not self.raised:
            self.raised = True
            raise RuntimeError("no such thing")
        return self.wrapped.send(spans)

    def close(self) -> None:
        self.wrapped.close()


class Blocking:
    """A sender that does not return before it is let go, whatever happens."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def send(self, spans: Sequence[ReadableSpan]) -> Delivery:
        self.entered.set()
        assert self.let_go.wait(WAIT_S)
        return Delivery(len(spans), taken=True)

    def close(self) -> None:
        pass


def test_exporter_that_raises_is_asked_again(ledger: Ledger, collector: Collector) -> None:
    """Whatever an exporter raises, the projector lives and sends the batch again."""
    projector = project(ledger, senders=[Raising(OtlpSender())])
    ledger.append([make_entry(0)])
    collector.wait_for(1)
    projector.close()

    assert projector.state.failed_sends == 1


def test_exporter_that_blocks_delays_no_append_and_no_end(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While an exporter hangs, records go on; a close does not wait for it, and its batch is sent again."""
    monkeypatch.setattr(projector_module, "_LEAVE_S", 0.05)
    sender = Blocking()
    projector = project(ledger, senders=[sender])
    ledger.append([make_entry(0)])
    assert sender.entered.wait(WAIT_S)

    for number in range(1, 200):
        ledger.append([make_entry(number)], timeout_s=WAIT_S)
    projector.close(flush_s=0.05)

    assert not sender.let_go.is_set()
    assert projector.state.sent_spans == 0
    assert "does not return: 200 records wait for the next start" in caplog.text
    assert read_cursor(ledger.directory, origin=ledger.origin, size=ledger.size) == 0
    sender.let_go.set()
    projector._thread.join(WAIT_S)


def test_console_prints_whole_spans(ledger: Ledger) -> None:
    """The console exporter prints one JSON object a decision, references and all."""
    out = io.StringIO()
    sender = PlainSender(ConsoleSpanExporter(out=out))
    projector = project(ledger, senders=[sender])
    ledger.append([make_entry(0)])
    projector.close(flush_s=WAIT_S)

    span = json.loads(out.getvalue())
    assert span["attributes"]["pbac.decision.outcome"] == "partial"
    assert span["attributes"]["adl.core.policies"] == {"policy-set": "ab" * 32}


def test_close_before_start_is_harmless(ledger: Ledger, collector: Collector) -> None:
    """A node that fails while it starts can close what it has made, and close it again."""
    projector = Projector(ledger, senders=[OtlpSender()], resource=make_resource(ORIGIN))

    projector.close()
    projector.close()

    assert collector.spans == []
