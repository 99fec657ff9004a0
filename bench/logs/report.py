"""Write what the bench of the ledger found: targets, tables and how it was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of some values."""
        return cls(statistics.median(values), min(values), max(values))

    def shown(self, form: str, unit: str = "") -> str:
        """Return median and range as text, each as ``form`` says."""
        return f"{self.median:{form}}{unit} ({self.least:{form}}..{self.most:{form}})"


_NONE = Spread(0.0, 0.0, 0.0)


@dataclass(slots=True)
class Results:
    """All that one run found; filled step by step."""

    date: str
    load: float = 0.0
    """How many processes wanted a core when it began, on average over a minute; 0 where nothing else ran."""
    cores: int = 1
    rounds: int = 0
    leaf_bytes: int = 0
    detail_bytes: int = 0
    lone: Spread = _NONE
    """A lone durable append over one write and sync of as many bytes."""
    crowd: Spread = _NONE
    """Durable records a second from all callers together, ready when the clock starts."""
    making_too: Spread = _NONE
    """The same, when the callers make each record first."""
    beside: Spread = _NONE
    """Their rate over that of the raw file."""
    crowd_cpu_us: Spread = _NONE
    make_us: Spread = _NONE
    tree_us: Spread = _NONE
    long_size: int = 0
    growth_wall: float = 0.0
    growth_cpu: float = 0.0
    show_ms: Spread = _NONE
    proof_ms: Spread = _NONE
    open_ms: Spread = _NONE
    reading_us: Spread = _NONE
    """Microseconds a record that SQLite takes to give the rows of the log."""
    integrity_us: Spread = _NONE
    """The same of SQLite's own integrity check."""
    verified: dict[str, tuple[int, float, Spread]] = field(default_factory=dict)
    """Records, the best rate, and the ratio to bare SHA-256, by what was verified."""


def targets(results: Results) -> list[tuple[str, str, bool]]:
    """Hold the results against issue 4's targets: what is asked, what was measured, whether it is met."""
    _, rate, of_bare = results.verified["the log"]
    return [
        (
            "A lone durable append takes under 1.5x one write and sync",
            results.lone.shown(".2f", "x"),
            results.lone.median < 1.5,
        ),
        (
            "64 callers: at least 5,000 durable decisions a second into the ledger alone",
            f"{results.crowd.shown(',.0f')}; {results.beside.shown('.2f')} of the raw file",
            results.crowd.median >= 5_000,
        ),
        (
            "Tree and signature: under 30 µs a decision, 64 to a commit",
            results.tree_us.shown(".1f", " µs"),
            results.tree_us.median < 30,
        ),
        (
            f"{results.long_size:,} records: an append costs under 1.3x what the first ones do",
            f"{results.growth_cpu:.2f}x processor time, {results.growth_wall:.2f}x wall time",
            results.growth_cpu < 1.3,
        ),
        (
            "There, found by its id, with its proof: under 20 ms",
            results.show_ms.shown(".2f", " ms"),
            results.show_ms.median < 20,
        ),
        (
            "There, an inclusion proof: under 5 ms",
            results.proof_ms.shown(".2f", " ms"),
            results.proof_ms.median < 5,
        ),
        (
            "Verify 100,000 records a second on one core",
            f"{rate:,.0f}; {of_bare.shown('.2f')} of bare SHA-256",
            rate >= 100_000,
        ),
    ]


def write(results: Results) -> str:
    """Return the section as Markdown."""
    lines = [
        "## The ledger",
        "",
        f"Measured on {results.date}; medians of {results.rounds} rounds, with the least and the most.",
        f"When it began, {results.load:.1f} other processes on average wanted one of {results.cores} cores.",
        "",
        "| target | measured | met |",
        "|---|---|---|",
    ]
    lines += [f"| {text} | {have} | {'yes' if met else '**no**'} |" for text, have, met in targets(results)]
    lines += [
        "",
        f"When the 64 callers also make each record, one process records "
        f"{results.making_too.shown(',.0f')} decisions a second.",
        "",
        "What a decision's record costs, in processor time:",
        "",
        "| part | µs |",
        "|---|---|",
        f"| making it: seal, digests, canonical JSON | {results.make_us.shown('.0f')} |",
        f"| tree and signature, 64 to a commit | {results.tree_us.shown('.1f')} |",
        f"| everything, 64 callers, all threads | {results.crowd_cpu_us.shown('.0f')} |",
        "",
        "Verification on one core:",
        "",
        "| of | records | best rate | of bare SHA-256 |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {what} | {size:,} | {rate:,.0f}/s | {of_bare.shown('.2f')} |"
        for what, (size, rate, of_bare) in results.verified.items()
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"Of the log's verification, SQLite takes {results.reading_us.shown('.1f')} µs a record to "
            f"give the rows and {results.integrity_us.shown('.1f')} µs for its integrity check.",
            f"Opening the log of {results.long_size:,} records after a clean close took "
            f"{results.open_ms.shown('.0f', ' ms')}.",
            "",
            "### How the ledger was measured",
            "",
            f"* A record has {results.leaf_bytes:,} bytes and a sealed detail of {results.detail_bytes:,}; "
            "the 64 callers hand over records that are ready, as they come from deciding.",
            "* The raw file takes as many bytes from as many callers, by the same hand-over, and is written "
            "and synced a group at a time, without tree, index, signature or reading back.",
            "* File and ledger are on one disk and take turns in each round: whatever else the machine does "
            "falls on both.",
            "* Records of the long log have a short detail, and are one record under many decision ids; "
            "groups of 64 are timed over its first and its last 10,000 records.",
            "* *Found by its id* opens the log, reads the record and what was reported of it, and checks its "
            "proof under the newest stored checkpoint, as `policyd audit show` does; "
            "starting Python is left out.",
            "* Bare SHA-256 is hashing the same records and details once and nothing else.",
            "",
        ]
    )
