"""`policyd audit spans`: what was exported, what a collector lost, and sending that again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.collector import Collector
from support.decisions import KEY, ORIGIN, make_entry, project

from policyd.ledger.writer import Ledger


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.start())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.close()


@pytest.fixture
def log(tmp_path: Path, collector: Collector) -> Path:
    """A closed log of ten decisions, of which the collector dropped the first, and two are new."""
    with Ledger.open(tmp_path / "log", origin=ORIGIN, signing_key=KEY) as ledger:
        ledger.append([make_entry(number) for number in range(10)])
        collector.drop_first()
        project(ledger).close(flush_s=20)
        collector.take_all()
        ledger.append([make_entry(10), make_entry(11)])
        return ledger.directory


def test_place_and_losses_are_shown(run: Any, log: Path) -> None:
    """Records, how many wait, and each range with a loss; as JSON by the same names."""
    shown = run("audit", "spans", log)
    document = json.loads(run("audit", "spans", log, "--json").stdout)

    assert shown.exit_code == 0
    assert "records   12, of which 2 wait to be exported" in shown.stdout
    assert "1 of records 0..9: partial-success" in shown.stdout
    losses = [{"first": 0, "last": 9, "spans": 1, "why": "partial-success"}]
    want = {"origin": ORIGIN, "records": 12, "next": 10, "waiting": 2, "lost": 1, "losses": losses}
    assert document == want


@pytest.mark.parametrize("which", ["lost", "0..9"])
def test_lost_spans_are_sent_again(run: Any, log: Path, collector: Collector, which: str) -> None:
    """The hole is filled, the loss is settled, and what waits for the node is left to it."""
    result = run("audit", "spans", log, "--resend", which)

    assert result.exit_code == 0, result.output
    assert "10 spans sent, 0 lost again" in result.stderr
    assert len(collector.ids) == 10
    document = json.loads(run("audit", "spans", log, "--json").stdout)
    assert (document["lost"], document["next"], document["waiting"]) == (0, 10, 2)


def test_what_is_lost_again_ends_with_1(run: Any, log: Path, collector: Collector) -> None:
    """The new loss takes the place of the old one."""
    collector.refuse_spans((5).to_bytes(8, "big"))

    result = run("audit", "spans", log, "--resend", "lost", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"origin": ORIGIN, "sent": 9, "lost": 1}
    losses = json.loads(run("audit", "spans", log, "--json").stdout)["losses"]
    assert losses == [{"first": 4, "last": 4, "spans": 1, "why": "INVALID_ARGUMENT"}]


def test_collector_that_is_away_ends_with_1_and_where_to_go_on(
    run: Any, log: Path, collector: Collector
) -> None:
    """Nothing is settled, and the message is what to type next."""
    collector.refuse(grpc.StatusCode.PERMISSION_DENIED)

    result = run("audit", "spans", log, "--resend", "3..9")

    assert result.exit_code == 1
    assert "stopped at record 3 (PERMISSION_DENIED): go on with --resend 3..9" in result.stderr
    assert json.loads(run("audit", "spans", log, "--json").stdout)["lost"] == 1


@pytest.mark.parametrize("which", ["", "5", "5..", "9..3", "0..12", "-1..3", "0..9 "])
def test_what_is_no_range_is_wrong_usage(run: Any, log: Path, which: str) -> None:
    """A range outside the log sends nothing."""
    result = run("audit", "spans", log, "--resend", which)

    assert result.exit_code == 2
    assert "within 0..11" in result.stderr


def test_nowhere_to_send_to_is_wrong_usage(run: Any, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which setting is missing."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")

    result = run("audit", "spans", log, "--resend", "0..9")

    assert result.exit_code == 2
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in result.stderr
