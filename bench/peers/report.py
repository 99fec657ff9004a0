"""Write what was measured: a table, the targets beside it, and a section of docs/performance.md from both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peers.timing import Spread

OURS = ("policyd, warm", "policyd, warm, new list", "policyd, cold", "policyd, masks alone")


@dataclass(frozen=True, slots=True)
class Cell:
    """Systems side by side on one kind of question; ``left_out`` says why one is not there.

    ``alone_us`` are medians of the warm engines on as many questions as any cell of this size asks.
    """

    rules: int
    fields: int
    times: Mapping[str, Spread]
    left_out: Mapping[str, str]
    alone_us: Mapping[str, float]

    def ratio(self, name: str) -> float | None:
        """Return how many times the fastest peer's median ``name`` takes; None when no peer ran."""
        peers = [spread.median_us for peer, spread in self.times.items() if peer not in OURS]
        return self.times[name].median_us / min(peers) if peers else None


@dataclass(frozen=True, slots=True)
class Target:
    """One target of speed and what was measured."""

    text: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True)
class Results:
    """All that one run of the bench found."""

    date: str
    versions: Mapping[str, str]
    catalogue: str
    runs: int
    seed: int
    cells: Sequence[Cell]
    load_s: Mapping[int, float]
    """Seconds to load the policy set, by number of rules."""


def targets(results: Results) -> list[Target]:
    """Hold the results against the targets."""
    cells = {(cell.rules, cell.fields): cell for cell in results.cells}

    def us(rules: int, fields: int, name: str) -> float:
        return cells[rules, fields].times[name].median_us

    warm, _, cold, masks = OURS
    one, many, all_ = cells[100, 1], cells[100, 200], cells[100, 3800]
    faster_one, faster_many = (1 / (cell.ratio(warm) or float("inf")) for cell in (one, many))
    many_us, cold_us, load_s = us(100, 200, warm), us(10_000, 1, cold), results.load_s[10_000]
    each_many, each_all = many_us / 200, all_.times[warm].median_us / 3800
    steps = all_.times[masks].median_us / many.times[masks].median_us
    flat = {
        fields: cells[10_000, fields].alone_us[warm] / cells[10, fields].alone_us[warm] for fields in (1, 200)
    }
    against_cedar = us(100, 1, "cedarpy") / us(100, 1, cold)
    return [
        Target("1 field, warm: at least 2x the fastest peer", f"{faster_one:.1f}x", faster_one >= 2),
        Target("1 field, cold: faster than cedarpy", f"{against_cedar:.2f}x", against_cedar > 1),
        Target("200 fields, warm: at least 100x the fastest peer", f"{faster_many:.0f}x", faster_many >= 100),
        Target("200 fields, warm: under 60 µs", f"{many_us:.0f} µs", many_us < 60),
        Target(
            "3,800 fields, warm: a field costs no more than at 200",
            f"{each_all / each_many:.2f} of it",
            each_all <= each_many,
        ),
        Target("3,800 fields: masks alone under 2x those at 200", f"{steps:.2f}x", steps < 2),
        *(
            Target(
                f"10 to 10,000 rules, {fields} field{'s' * (fields > 1)}, warm: under 1.3x",
                f"{ratio:.2f}x",
                ratio < 1.3,
            )
            for fields, ratio in flat.items()
        ),
        Target("10,000 rules, 1 field, cold: under 5 ms", f"{cold_us / 1000:.1f} ms", cold_us < 5_000),
        Target("10,000 rules: loaded in under 10 s", f"{load_s:.1f} s", load_s < 10),
    ]


def write(results: Results) -> str:
    """Return the section as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    lines = [
        "## The decision engine",
        "",
        f"Measured on {results.date} by `make bench` with {versions}.",
        "Every system answered the same questions in one process on one core.",
        "All answers were compared before anything was timed.",
        "Read the ratios: microseconds differ from machine to machine.",
        "",
    ]
    for rules in sorted({cell.rules for cell in results.cells}):
        lines += _table(rules, [cell for cell in results.cells if cell.rules == rules])
    lines += ["### Targets", "", "| target | measured | met |", "|---|---|---|"]
    lines += [
        f"| {each.text} | {each.measured} | {'yes' if each.met else '**no**'} |" for each in targets(results)
    ]
    loads = ", ".join(f"{rules:,} rules {seconds:.1f} s" for rules, seconds in results.load_s.items())
    lines += ["", f"Loading the policy set, catalogue included, took: {loads}.", ""]
    return "\n".join(lines + _method(results))


def _table(rules: int, cells: Sequence[Cell]) -> list[str]:
    """Write one table: a row a system, two columns a size."""
    names: list[str] = []
    for cell in cells:
        names += [name for name in (*cell.times, *cell.left_out) if name not in names]
    heads = [f"{cell.fields:,} field{'s' * (cell.fields > 1)} | spread" for cell in cells]
    lines = [
        f"### {rules:,} rules",
        "",
        "Figures are multiples of the fastest peer's median, with this machine's time beside them.",
        "Spread is the fastest and the slowest run over the median.",
        "",
        f"| system | {' | '.join(heads)} |",
        "|---|" + "---|---|" * len(cells),
    ]
    for name in names:
        row = []
        for cell in cells:
            spread = cell.times.get(name)
            if spread is None:
                row += [cell.left_out.get(name, "not run"), ""]
            else:
                row += [_against(cell.ratio(name), spread.median_us), spread.around]
        lines.append(f"| {name} | {' | '.join(row)} |")
    return [*lines, ""]


def _against(ratio: float | None, us: float) -> str:
    if ratio is None:
        return _time(us)
    return f"{f'{ratio:.2g}' if ratio < 10 else f'{ratio:.0f}'} ({_time(us)})"


def _time(us: float) -> str:
    return f"{us:.1f} µs" if us < 100 else f"{us:.0f} µs" if us < 1e4 else f"{us / 1e3:.0f} ms"


def _method(results: Results) -> list[str]:
    return [
        "### How the engine was measured",
        "",
        f"* The catalogue is {results.catalogue}; 1,000 agreements, one in ten for most of the catalogue.",
        f"* Rules are generated from seed {results.seed}, over organisation kind, setting, purpose, "
        "accreditation status, table, risk and sensitivity.",
        "* Questions pass gates 1 to 5; four fifths of their fields are in the agreement, if it has so many.",
        f"* {results.runs} interleaved runs after a warm-up; medians; processor time of the one thread; "
        "garbage collection is off while the clock runs; the strings of every question are fresh.",
        "* *warm* keeps entitlements and rulings, as a node does, and has ruled for this person on this list "
        "of names before, as for a query that runs again; *new list* shuffles the names each time, so "
        "that only the entitlement is kept; *cold* works that out anew too; "
        "*masks alone* takes a bitset and gives bitsets, and resolves no name.",
        "* A time of policyd includes making the request object, every gate and the grouped answer "
        "with rule, reason and obligations; peers say allow or deny.",
        "",
        "What peers cannot express they got in the nearest equal form, to their advantage:",
        "",
        "* They have no registry: subject, setting and purposes are looked up beforehand, and gates 1 "
        "to 5 are left out.",
        "* They have no purpose graph and no agreements: each field is looked up in two sets "
        "(the agreement's and the purpose's), and one rule denies what is not in both.",
        "* They have no transforms and no obligations: a transform counts as allow.",
        "* py-abac: memory storage, request objects made directly, faster than the documented `from_json`.",
        "* vakt: its rules checker and memory storage, by the call that logs nothing.",
        "* pycasbin: a matcher over columns with one function of ours; no `eval()` of a text in each rule.",
        "* cedarpy: the batch call, policies and entities parsed beforehand, contexts as ready JSON.",
        "",
        "A peer whose time for one question would pass the limit is not run on it; its answers to smaller "
        "questions under the same rules were compared.",
        "",
    ]
