"""Spans go through an OpenTelemetry Collector: the program itself, not something that speaks like it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

import grpc
import pytest
from support.collector import Collector, value_of
from support.server import Process, Site, make_site, stub

from policyd.ledger.reader import LedgerReader
from policyd.telemetry.losses import read_losses

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests/support/otelcol/config.yaml"
OTELCOL = shutil.which("otelcol", path=os.pathsep.join((str(ROOT / ".venv/bin"), os.environ.get("PATH", ""))))
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

pytestmark = pytest.mark.skipif(
    OTELCOL is None, reason="no OpenTelemetry Collector: `make .venv/bin/otelcol` builds one with Go"
)


@contextmanager
def collecting(end: Collector, folder: Path, *, port: int = 0) -> Iterator[int]:
    """Run a collector that passes spans on to ``end``; yield the port that it listens on."""
    config = folder / "otelcol.yaml"
    config.write_text(Template(CONFIG.read_text("utf-8")).substitute(port=port, end=end.port), "utf-8")
    with subprocess.Popen(
        [str(OTELCOL), "--config", str(config)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if match := re.search(r'Starting GRPC server.*"127\.0\.0\.1:(\d+)"', line):
                port = int(match[1])
            if "Everything is ready" in line:
                break
        assert process.poll() is None, "".join(said)
        try:
            yield port
        finally:
            process.kill()


@pytest.fixture
def end() -> Iterator[Collector]:
    made = Collector()
    made.start()
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "data")


def environment(port: int) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}


def ask(site: Site, node: Process, count: int, **metadata: str) -> list[str]:
    with site.channel(node.address) as channel:
        return [
            stub(channel).Check(site.question(number), timeout=10, metadata=[*metadata.items()]).decision_id
            for number in range(count)
        ]


def test_unsampled_decision_comes_through_whole(site: Site, end: Collector, tmp_path: Path) -> None:
    """A caller that does not sample still gets its span: its trace, its span as parent, every attribute."""
    with collecting(end, tmp_path) as port, Process(site, environment=environment(port)) as node:
        (decision_id,) = ask(site, node, 1, traceparent=f"00-{TRACE}-{PARENT}-00")
        end.wait_for(1)
        assert node.terminate() == 0

    (span,) = end.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert value_of(span, "pbac.decision.id") == decision_id
    (leaf,) = [each for each in site.leaves() if each["kind"] == "decision"]
    assert span.span_id.hex() == leaf["span_id"]
    assert value_of(span, "adl.core.policies") == {"policy-set": leaf["policy_digest"]}
    assert (len(span.attributes), span.dropped_attributes_count) == (33, 0)


def test_collector_that_is_killed_costs_no_span(site: Site, end: Collector, tmp_path: Path) -> None:
    """Decisions go on while it is dead, and all their spans arrive once it is back."""
    with collecting(end, tmp_path) as port:
        node = Process(site, environment=environment(port))
        decided = ask(site, node, 3)
        end.wait_for(3)
    with node:
        decided += ask(site, node, 5)
        assert len(end.ids) == 3
        with collecting(end, tmp_path, port=port):
            end.wait_for(8)
            assert node.terminate() == 0

    assert {value_of(span, "pbac.decision.id") for span in end.spans} == set(decided)


def test_span_that_the_collector_cannot_pass_on_is_counted(
    site: Site, end: Collector, tmp_path: Path
) -> None:
    """What the place behind the collector refuses for good holds up nothing, and is counted as lost."""
    with Process(site) as node:
        ask(site, node, 4)
        assert node.terminate() == 0
    leaves = site.leaves()
    bad = [index for index, leaf in enumerate(leaves) if leaf["kind"] == "decision"][1]
    end.refuse_spans(bytes.fromhex(leaves[bad]["span_id"]), code=grpc.StatusCode.INVALID_ARGUMENT)

    with collecting(end, tmp_path) as port, Process(site, environment=environment(port)) as node:
        end.wait_for(3)
        assert node.terminate() == 0

    with LedgerReader(site.config.ledger) as reader:
        (loss,) = read_losses(site.config.ledger, origin=reader.origin)
    assert (loss.first, loss.last, loss.spans) == (bad, bad, 1)
    assert len(end.ids) == 3
