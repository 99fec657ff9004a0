"""Reads the standard `OTEL_*` settings: where spans go, what is said about it at start, the resource."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.sdk.resources import Resource

from policyd import names

LIMITS = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
)
"""Settings that would drop or cut spans in the SDK."""


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """Where spans go (`console`, `otlp`, or nowhere when empty), and what to say about it at start."""

    exporters: tuple[str, ...]
    lines: tuple[str, ...]


def read_settings(environment: Mapping[str, str]) -> ExportSettings:
    """Return what the standard settings ask for; none of them can touch the ledger.

    Without `OTEL_TRACES_EXPORTER`, an OTLP endpoint chooses `otlp`, and nothing chooses nothing.
    """
    lines = [
        f"{name} has no effect on decisions: each has one whole span"
        for name in LIMITS
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


def make_resource(origin: str) -> Resource:
    """Return the resource of this node: `OTEL_SERVICE_NAME` and the like, or `policyd`."""
    resource = Resource.create()
    own = {names.SERVICE_INSTANCE_ID: origin}
    if str(resource.attributes.get(names.SERVICE_NAME, "")).startswith("unknown_service"):
        own[names.SERVICE_NAME] = names.SCOPE
    return resource.merge(Resource(own))
