"""Measures decisions beside py-abac, vakt, pycasbin and cedarpy, and writes its part of a page.

Usage: python bench/engine.py [--catalogue CSV] [--runs N] [--out FILE]. Without the department's CSV of
data tables, the shipped catalogue is used. Peers come from requirements/bench.txt.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from peers.ours import Cold, Masks, NewList, Warm
from peers.page import put_section
from peers.report import Cell, Results, targets, write
from peers.timing import measure, once_us
from peers.workload import Question, System, Workload, build_workload, write_policy

from policyd import clock

POLICY = Path("policies/npd")
CSV = Path("../shared/facts/npd_fields.csv")
PEERS = {
    "py-abac": ("peers.pyabac", "PyAbac"),
    "vakt": ("peers.vakt_guard", "Vakt"),
    "casbin": ("peers.casbin_model", "Casbin"),
    "cedarpy": ("peers.cedar", "Cedar"),
}
"""By distribution: module and class."""
SIZES = {10: (1, 200), 100: (1, 20, 200, 3800), 1_000: (1, 200), 10_000: (1, 200)}
"""Fields of a question, by number of rules."""
QUESTIONS = {1: 40, 20: 10, 200: 5, 3800: 3}
LIMIT_US = 1_000_000
"""A system that takes longer for one question is left out."""
FEW = {5_000: 2, 100_000: 1}
"""How many questions are asked when the slowest system takes longer for one, in microseconds."""


def systems(workload: Workload) -> Iterator[System]:
    """Load every engine with ``workload``.

    Raises:
        SystemExit: a peer is not installed.
    """
    yield from (Warm(workload), NewList(workload), Cold(workload), Masks(workload))
    for distribution, (module, name) in PEERS.items():
        try:
            peer = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            raise SystemExit(
                f"{distribution} is not installed; use requirements/bench.txt ({error})"
            ) from None
        yield peer(workload)


def compare(engines: Sequence[System], questions: Sequence[Question]) -> None:
    """Refuse to time systems that disagree.

    Raises:
        SystemExit: two answers differ.
    """
    for question in questions:
        wanted: list[bool] | None = None
        for system in engines:
            if isinstance(system, Masks):
                system.prepare(question)
            given = system.allowed(question, system.answer(question))
            if wanted is not None and given != wanted:
                differ = next(n for n, a, b in zip(question.names, wanted, given, strict=True) if a != b)
                raise SystemExit(
                    f"{system.name} answers otherwise for `{differ}` under `{question.agreement}`"
                )
            wanted = given


def run(workload: Workload, engines: Sequence[System], *, fields: int, runs: int) -> Cell:
    """Compare, then time, one size of question; questions beyond a system's means are left to the others."""
    questions = whole = workload.questions(min(fields, len(workload.fields)), count=QUESTIONS[fields])
    small = workload.questions(1, count=2)
    left_out: dict[str, str] = {}
    chosen: list[System] = []
    for system in engines:
        if isinstance(system, Masks):
            for question in (*small, *questions):
                system.prepare(question)
        likely_us = once_us(system, small) * (1 if isinstance(system, (Warm, Cold, Masks)) else fields)
        if likely_us > LIMIT_US:
            left_out[system.name] = f"not run, about {likely_us / 1e6:.1f} s"
        else:
            chosen.append(system)
    compare(engines, small)
    slowest_us = max(once_us(system, questions[:1]) for system in chosen)
    for limit_us, count in FEW.items():
        if slowest_us > limit_us:
            questions = questions[:count]
    compare(chosen, questions)
    times = measure(chosen, questions, runs=runs)
    # The same number of questions whatever the peers' means, so that sizes can be held against each other.
    alone = {name: spread.median_us for name, spread in measure(engines[:2], whole, runs=runs).items()}
    return Cell(len(workload.rules), fields, times, left_out, alone)


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--catalogue", type=Path, default=CSV)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/performance.md"))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # peers that log each answer would be timed writing it
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    csv = options.catalogue if options.catalogue.is_file() else None
    cells: list[Cell] = []
    load_s: dict[int, float] = {}
    size = 0
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "npd"
        write_policy(POLICY, directory, csv=csv)
        for rules, sizes in SIZES.items():
            workload = build_workload(directory, rules=rules, seed=options.seed)
            load_s[rules], size = workload.load_s, len(workload.fields)
            engines = list(systems(workload))
            gc.collect()
            gc.freeze()
            for fields in sizes:
                cells.append(run(workload, engines, fields=fields, runs=options.runs))
                print(f"{rules:>6} rules, {fields:>4} fields: measured", flush=True)
            gc.unfreeze()
    results = Results(
        date=clock.format_instant(clock.now())[:10],
        versions={"Python": platform.python_version(), **{name: version(name) for name in PEERS}},
        catalogue=f"{'the full one' if csv else 'the shipped extract'} ({size:,} fields), 43 purposes",
        runs=options.runs,
        seed=options.seed,
        cells=cells,
        load_s=load_s,
    )
    page = write(results)
    put_section(options.out, "bench/engine.py", page)
    print(page)
    missed = [each.text for each in targets(results) if not each.met]
    print(f"{len(missed)} targets missed" + "".join(f"\n  {text}" for text in missed))


if __name__ == "__main__":
    main()
