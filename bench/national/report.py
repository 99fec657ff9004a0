"""Write what the bench of a national registry found, small beside large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from national.made import Size

START_LIMIT_S = 30.0
VISIBLE_LIMIT_MS = 100.0
LATENCY_LIMIT = 1.25
"""What counts as unchanged; two runs of one registry differ by as much on a busy machine."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one size took. ``visible`` are the milliseconds from a change to each watcher that hears of it."""

    size: Size
    changes: int
    state_mib: float
    made_s: float
    start_s: float
    start_cpu_s: float
    told: Sequence[str]
    resident_mib: float
    peak_mib: float
    call_ms: float
    seals_ms: Sequence[float]
    entries_ms: Sequence[float]
    watch_s: float
    watch_mib: float
    warm_us: float = 0.0
    cold_us: float = 0.0


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many in a hundred do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def targets(small: Measured, large: Measured) -> list[tuple[str, bool]]:
    """Return what had to be shown, with the figure, and whether it was."""
    visible_ms = max(percentile(large.seals_ms, 99), percentile(large.entries_ms, 99))
    warm, cold = large.warm_us / small.warm_us, large.cold_us / small.cold_us
    return [
        (f"start in {large.start_s:.1f} s, limit {START_LIMIT_S:.0f} s", large.start_s < START_LIMIT_S),
        (
            f"warm decisions {warm:.2f} times the small registry's, limit {LATENCY_LIMIT}",
            warm < LATENCY_LIMIT,
        ),
        (
            f"cold decisions {cold:.2f} times the small registry's, limit {LATENCY_LIMIT}",
            cold < LATENCY_LIMIT,
        ),
        (
            f"change to visible, p99 {visible_ms:.0f} ms, limit {VISIBLE_LIMIT_MS:.0f} ms",
            visible_ms < VISIBLE_LIMIT_MS,
        ),
    ]


def write(small: Measured, large: Measured, *, date: str, load: float, cores: int, seed: int) -> str:
    """Return the section of the page."""
    rows = [
        ("requesters", *(f"{each.size.requesters:,}" for each in (small, large)), ""),
        ("agreements", *(f"{each.size.agreements:,}" for each in (small, large)), ""),
        ("seals", *(f"{each.size.seals:,}" for each in (small, large)), ""),
        ("changes that made them", *(f"{each.changes:,}" for each in (small, large)), ""),
        _row("state.db", small.state_mib, large.state_mib, "MiB"),
        _row("start, from the command to serving", small.start_s, large.start_s, "s"),
        _row("processor time of the start", small.start_cpu_s, large.start_cpu_s, "s"),
        _row("resident memory of the node", small.resident_mib, large.resident_mib, "MiB"),
        _row("at its highest during the start", small.peak_mib, large.peak_mib, "MiB"),
        _row("decision, warm", small.warm_us, large.warm_us, "µs"),
        _row("decision, cold", small.cold_us, large.cold_us, "µs"),
        _row("`Check` over mutual TLS, recorded, p50", small.call_ms, large.call_ms, "ms"),
        *(
            _row(f"{what} to visible, p{percent}", *(percentile(ms, percent) for ms in pair), "ms")
            for what, pair in (
                ("seal", (small.seals_ms, large.seals_ms)),
                ("agreement suspended or resumed", (small.entries_ms, large.entries_ms)),
            )
            for percent in (50, 99)
        ),
        _row("`WatchSeals`, the whole list of one data service", small.watch_s, large.watch_s, "s"),
        _row("resident memory after eight such lists at once", small.watch_mib, large.watch_mib, "MiB"),
    ]
    told = "".join(f"    {line}\n" for line in large.told[:4])
    return f"""## A registry of national size

Measured on {date} by `make bench` from seed {seed}.
{cores} cores, for which {load:.1f} processes waited at the start; times are too long unless that is near 0.
The node is `policyd serve` in a process of its own, on the embedded store.
Each seal has {large.size.services} tokens.
"Visible" is when a data service that watches hears of it, counted from before the store is given the change.
Warm and cold are of the engine alone, in processor time, small and large by turns.

| | small | national | ratio |
|---|---|---|---|
{chr(10).join(f"| {' | '.join(row)} |" for row in rows)}

The start says how far it is, here the first of {len(large.told)} lines:

{told}
Targets:

{chr(10).join(f"* {text}: {'met' if met else 'MISSED'}." for text, met in targets(small, large))}
"""


def _row(what: str, small: float, large: float, unit: str) -> tuple[str, str, str, str]:
    form = ",.0f" if max(small, large) >= 100 else ",.2f"
    return what, f"{small:{form}} {unit}", f"{large:{form}} {unit}", f"{large / small:.2f}" if small else ""
