"""The spans of a running node: whole whatever the caller or the settings say, and never in the way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.collector import WAIT_S, Collector, Span, until, value_of
from support.server import Process, Site, make_site, serving, stub
from test_state_changes import health_of

from policyd import server as server_module

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    made.start()
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "data")


def environment(collector: Collector, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}", **more}


def ask(site: Site, address: str, count: int, **metadata: str) -> list[Any]:
    with site.channel(address) as channel:
        return [
            stub(channel).Check(site.question(number), timeout=10, metadata=[*metadata.items()])
            for number in range(count)
        ]


@pytest.mark.parametrize("flags", ["00", "01"])
def test_the_span_is_whole_whether_the_caller_samples_or_not(
    site: Site, collector: Collector, flags: str
) -> None:
    """Trace and parent are the caller's; record, answer and span have the same ids; nothing is left out."""
    with Process(site, environment=environment(collector)) as node:
        (answer,) = ask(site, node.address, 1, traceparent=f"00-{TRACE}-{PARENT}-{flags}", tracestate="x=1")
        collector.wait_for(1)
        assert node.terminate() == 0

    (span,) = collector.spans
    (leaf,) = [each for each in site.leaves() if each["kind"] == "decision"]
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE, PARENT, "")
    assert answer.trace_id == leaf["trace_id"] == TRACE
    assert (span.span_id.hex(), len(span.attributes)) == (leaf["span_id"], 33)
    assert span.flags == 0x300, "the parent is known to be another process"
    assert value_of(span, "pbac.decision.id") == answer.decision_id


def test_a_disabled_sdk_is_said_and_costs_no_decision(site: Site, collector: Collector) -> None:
    """Decisions are recorded all the same, and their spans come when the setting is gone."""
    with Process(site, environment=environment(collector, OTEL_SDK_DISABLED="true")) as node:
        node.line_with(
            "no spans are exported: OTEL_SDK_DISABLED is true; decisions are recorded all the same"
        )
        answers = ask(site, node.address, 3)
        assert node.terminate() == 0
    assert collector.requests == []

    with Process(site, environment=environment(collector)) as node:
        collector.wait_for(3)
        assert node.terminate() == 0

    want = [answer.decision_id for answer in answers]
    assert [value_of(span, "pbac.decision.id") for span in collector.spans] == want


def test_settings_without_sense_are_said_and_stop_nothing(site: Site, collector: Collector) -> None:
    """A node with an exporter that cannot be made serves, and says which settings."""
    with Process(site, environment=environment(collector, OTEL_EXPORTER_OTLP_TIMEOUT="soon")) as node:
        node.line_with("no spans are exported to otlp: its OTEL_EXPORTER_* settings cannot be used")
        assert len(ask(site, node.address, 1)) == 1
        assert node.terminate() == 0


def test_a_collector_that_never_answers_delays_no_decision_and_no_end(
    site: Site, collector: Collector
) -> None:
    """While its request hangs, decisions are answered; SIGTERM ends the node; nothing is lost by it."""
    let_go = threading.Event()

    def hang(_spans: list[Span], _context: grpc.ServicerContext) -> None:
        let_go.wait(WAIT_S)

    collector.answer = hang
    with Process(site, environment=environment(collector, OTEL_EXPORTER_OTLP_TIMEOUT="600")) as node:
        answers = ask(site, node.address, 1)
        assert collector.asked.wait(WAIT_S)
        answers += ask(site, node.address, 50)
        assert collector.spans == []
        began_s = time.monotonic()
        assert node.terminate() == 0
        assert time.monotonic() - began_s < WAIT_S
    collector.take_all()
    let_go.set()

    with Process(site, environment=environment(collector)) as node:
        collector.wait_for(51)
        assert node.terminate() == 0
    assert {value_of(span, "pbac.decision.id") for span in collector.spans} == {
        answer.decision_id for answer in answers
    }


def test_decisions_that_cannot_be_recorded_are_counted_and_said(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them is answered; the node says how many there were, and that it does not serve."""
    monkeypatch.setattr(server_module, "UNRECORDED_EVERY_S", 0.0)
    with serving(site) as running, site.channel(running.address) as channel:
        stub(channel).Check(site.question("good"), timeout=10)
        assert running.node.unrecorded == 0
        running.ledger.close()
        for number in range(2):
            with pytest.raises(grpc.RpcError) as caught:
                stub(channel).Check(site.question(number), timeout=10)
            failed: Any = caught.value
            assert failed.code() is grpc.StatusCode.UNAVAILABLE
        said = "decisions not recorded, and so not answered: 2 since the start"
        with caplog.at_level(logging.ERROR):
            until(lambda: said in caplog.text)
        assert health_of(site, running.address) == "NOT_SERVING"
        assert running.node.unrecorded == 2
