"""A log, a collector that listens, and the standard settings cleared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.collector import Collector
from support.decisions import KEY, ORIGIN

from policyd.ledger.writer import Ledger
from policyd.telemetry import projector
from policyd.telemetry.settings import LIMITS


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    for name in (*LIMITS, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.start())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    monkeypatch.setattr(projector, "LINGER_S", 0.01)
    yield made
    made.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "log", origin=ORIGIN, signing_key=KEY) as opened:
        yield opened
