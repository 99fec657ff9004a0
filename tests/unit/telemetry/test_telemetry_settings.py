"""Standard settings choose where spans go, and can do nothing else."""

from __future__ import annotations

import pytest
from support.collector import WAIT_S, Collector, value_of
from support.decisions import ORIGIN, make_entry, project

from policyd import names
from policyd.ledger.writer import Ledger
from policyd.telemetry.delivery import make_senders
from policyd.telemetry.settings import read_settings


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
    settings = read_settings(environment)

    assert settings.exporters == exporters
    assert len(settings.lines) == (1 if said else 0)
    for line in settings.lines:
        assert said in line
        assert "decisions are recorded all the same" in line


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
    assert len(span.attributes) == 33
    assert span.dropped_attributes_count == 0
    lines = read_settings({"OTEL_TRACES_EXPORTER": "otlp", **hostile}).lines
    assert len(lines) == len(hostile)
    assert all("has no effect on decisions" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s"),
    ],
)
def test_settings_that_cannot_be_used_cost_spans_and_no_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong value is named by exporter, the others are made, and nothing is raised."""
    monkeypatch.setenv(name, value)
    senders, lines = make_senders(read_settings({"OTEL_TRACES_EXPORTER": "otlp,console"}))

    assert len(senders) == len(lines) == 1
    assert lines[0].startswith("no spans are exported to otlp: ")
    assert "decisions are recorded all the same" in lines[0]
    senders[0].close()
