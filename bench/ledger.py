"""Measures the ledger beside the same bytes written and synced alone, and writes its part of a page.

Usage: python bench/ledger.py [--rounds N] [--seconds S] [--records N] [--directory DIR] [--out PAGE]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time, thread_time

from logs.entries import KEY, ORIGIN, SHORT_DETAIL, copies, make_entry, make_release
from logs.raw import RawLog
from logs.report import Results, Spread, write
from peers.page import put_section

from policyd import clock, merkle
from policyd.identity.keys import create_wrapping_key
from policyd.ledger import note, store
from policyd.ledger.entry import Entry
from policyd.ledger.proving import place_of
from policyd.ledger.reader import LedgerReader
from policyd.ledger.report import VerifyReport
from policyd.ledger.tile_export import export
from policyd.ledger.tile_verify import verify_tiles
from policyd.ledger.vault import Vault
from policyd.ledger.verify import verify
from policyd.ledger.writer import Ledger

__all__ = ["KEY", "Figures", "make_entry", "measure"]

CALLERS = 64
SAMPLES = 200
WINDOW = 10_000
RELEASE_EVERY = 10
READY_PER_S = 12_000
"""How many records a second are made ready for the first round."""
SEED = 20261124


@dataclass(frozen=True)
class Figures:
    """Records a second, what one append took, and the processor time of the whole process for each."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def measure(append: Callable[[], object], threads: int, *, seconds: float) -> Figures:
    """Call `append` from so many threads for so long."""
    taken_s: list[float] = []
    failed: list[BaseException] = []
    until_s = perf_counter() + seconds

    def run() -> None:
        try:
            while (begun_s := perf_counter()) < until_s:
                append()
                taken_s.append(perf_counter() - begun_s)
        except BaseException as error:
            failed.append(error)
            raise

    workers = [threading.Thread(target=run) for _ in range(threads)]
    begun_s, cpu_s = perf_counter(), process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed_s, cpu_s = perf_counter() - begun_s, process_time() - cpu_s
    if failed:
        raise SystemExit(f"a caller failed, so nothing was measured: {failed[0]}")
    taken_s.sort()
    return Figures(
        rate=len(taken_s) / elapsed_s,
        p50_ms=taken_s[len(taken_s) // 2] * 1e3,
        p99_ms=taken_s[int(len(taken_s) * 0.99)] * 1e3,
        cpu_us=cpu_s / len(taken_s) * 1e6,
    )


def append_ready(ledger: Ledger, ready: list[Entry]) -> None:
    """Append one of the records that were made beforehand."""
    ledger.append([ready.pop()])


def in_turns(one: Callable[[], float], other: Callable[[], float], *, count: int) -> float:
    """Return the median of what ``one`` says that it took over that of ``other``, by turns."""
    pairs = [(one(), other()) for _ in range(count)]
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


def timed_s(work: Callable[[], object]) -> float:
    """Return the seconds that something takes once."""
    begun_s = perf_counter()
    work()
    return perf_counter() - begun_s


def tree_and_signature_us(leaves: Sequence[bytes]) -> float:
    """Return the processor time a record of hashing, growing the tree and signing, in microseconds."""
    frontier, begun_s = merkle.Frontier(), thread_time()
    for start in range(0, len(leaves), CALLERS):
        page = leaves[start : start + CALLERS]
        frontier.nodes()
        for leaf in page:
            frontier.push(merkle.leaf_hash(leaf))
        note.sign_checkpoint(note.Checkpoint(ORIGIN, frontier.size, frontier.root()), KEY)
    return (thread_time() - begun_s) / len(leaves) * 1e6


def rates(directory: Path, results: Results, *, rounds: int, seconds: float) -> None:
    """Measure lone and crowded appends beside the raw file, by turns, and what can be done with the log."""
    master = create_wrapping_key(directory / "detail.key")
    with (
        Ledger.open(directory / "log", origin=ORIGIN, signing_key=KEY) as ledger,
        Vault.open(ledger, master=master, pseudonym_key=bytes(32)) as vault,
    ):
        entry = make_entry(vault)
        results.leaf_bytes, results.detail_bytes = len(entry.leaf), len(entry.detail)
        raw = RawLog(directory / "raw", bytes(len(entry.leaf) + len(entry.detail) + 512))

        def append_one() -> float:
            one = make_entry(vault)
            return timed_s(lambda: ledger.append([one]))

        lone, crowd, making_too, cpu, beside = [], [], [], [], []
        rate = float(READY_PER_S)
        for _ in range(rounds):
            lone.append(in_turns(append_one, lambda: timed_s(raw.append), count=max(5, round(100 * seconds))))
            bare = measure(raw.append, CALLERS, seconds=seconds)
            # `pop` is atomic; more are made than can be appended, and none of that is timed.
            ready = list(islice(copies(make_entry(vault)), round(2 * rate * seconds)))
            have = measure(partial(append_ready, ledger, ready), CALLERS, seconds=seconds)
            rate = have.rate
            made = measure(lambda: ledger.append([make_entry(vault)]), CALLERS, seconds=seconds)
            crowd.append(have.rate)
            making_too.append(made.rate)
            beside.append(have.rate / bare.rate)
            cpu.append(made.cpu_us)
        raw.close()
        results.lone, results.crowd, results.beside = Spread.of(lone), Spread.of(crowd), Spread.of(beside)
        results.making_too, results.crowd_cpu_us = Spread.of(making_too), Spread.of(cpu)
        making = []
        for _ in range(rounds):
            begun_s = thread_time()
            entries = [make_entry(vault) for _ in range(10 * CALLERS)]
            making.append((thread_time() - begun_s) / len(entries) * 1e6)
        leaves = [each.leaf for each in entries]
        results.make_us = Spread.of(making)
        results.tree_us = Spread.of([tree_and_signature_us(leaves) for _ in range(rounds)])
        results.rounds = rounds
    verified("the log", results, lambda: verify(directory / "log"), rounds)
    results.reading_us, results.integrity_us = (
        Spread.of(each) for each in zip(*(sqlite_us(directory / "log") for _ in range(rounds)), strict=True)
    )
    export(directory / "log", directory / "tiles")
    verified("its tiles", results, lambda: verify_tiles(directory / "tiles"), rounds)


def sqlite_us(log: Path) -> tuple[float, float]:
    """Return the microseconds a record that SQLite takes to give the rows of a log, and to check itself."""
    with closing(store.open_for_reading(log)) as connection:
        size = store.count_records(connection)
        rows = connection.execute(f"{store.SELECT} ORDER BY idx")
        reading_s = timed_s(lambda: deque(rows, maxlen=0))
        checking_s = timed_s(lambda: connection.execute("PRAGMA integrity_check(3)").fetchall())
    return reading_s / size * 1e6, checking_s / size * 1e6


def verified(what: str, results: Results, check: Callable[[], VerifyReport], rounds: int) -> None:
    """Verify some times; a fault ends the bench."""
    reports = [check() for _ in range(min(3, rounds))]
    for report in reports:
        if report.faults:
            raise SystemExit(f"{what}: {report.faults[0]}")
    best = max(reports, key=lambda each: each.records_per_s)
    of_bare = Spread.of([each.of_bare_sha256 for each in reports])
    results.verified[what] = (best.size, best.records_per_s, of_bare)


def with_releases(directory: Path, results: Results, *, records: int, rounds: int) -> None:
    """Verify a log in which one record in ten is a release, each with a checkpoint of another size."""
    master = create_wrapping_key(directory / "detail.key")
    with (
        Ledger.open(directory / "log", origin=ORIGIN, signing_key=KEY) as ledger,
        Vault.open(ledger, master=master, pseudonym_key=bytes(32)) as vault,
    ):
        source = copies(make_entry(vault))
        while ledger.size < records:
            group = list(islice(source, RELEASE_EVERY - 1))
            receipts = ledger.append(group)
            ledger.append([make_release(group[0].columns.decision_id, receipts.checkpoint)])
    verified("a log with one release in ten", results, lambda: verify(directory / "log"), rounds)


def long_log(directory: Path, results: Results, *, records: int, rounds: int) -> None:
    """Fill a log, and measure at both ends of it, then what reading and opening it takes."""
    master = create_wrapping_key(directory / "detail.key")
    window = min(WINDOW, records // 4)
    with (
        Ledger.open(directory / "log", origin=ORIGIN, signing_key=KEY) as ledger,
        Vault.open(ledger, master=master, pseudonym_key=bytes(32)) as vault,
    ):
        entry = make_entry(vault, SHORT_DETAIL)
        at_ends = [append_window(ledger, copies(entry), window)]
        while ledger.size < records - window:
            ledger.append(list(islice(copies(entry), min(1_024, records - window - ledger.size))))
        at_ends.append(append_window(ledger, copies(entry), window))
        results.growth_wall, results.growth_cpu = (b / a for a, b in zip(*at_ends, strict=True))
        results.long_size = size = ledger.size
        chance = random.Random(SEED)  # noqa: S311  # a sample, nothing secret
        chosen = [chance.randrange(size) for _ in range(SAMPLES)]
        reader = ledger.reader
        proving = [timed_s(partial(reader.inclusion_proof, index, size)) * 1e3 for index in chosen]
    opening = []
    for _ in range(rounds):
        begun_s = perf_counter()
        with Ledger.open(directory / "log", origin=ORIGIN, signing_key=KEY):
            opening.append((perf_counter() - begun_s) * 1e3)
    with LedgerReader(directory / "log") as reader:
        found = [reader.record(index) for index in chosen]
        names = [record.columns.decision_id for record in found if record is not None]

    def show(decision_id: str) -> None:
        with LedgerReader(directory / "log") as reader:
            record = reader.find_decision(decision_id)
            if record is None:
                raise SystemExit(f"decision `{decision_id}` is not found")
            reader.about(decision_id)
            place_of(directory / "log", record, reader=reader)

    showing = [timed_s(lambda name=name: show(name)) * 1e3 for name in names]  # type: ignore[misc]
    results.show_ms, results.proof_ms, results.open_ms = map(Spread.of, (showing, proving, opening))
    verified("the long log", results, lambda: verify(directory / "log"), rounds)


def append_window(ledger: Ledger, source: object, count: int) -> tuple[float, float]:
    """Return the median wall time of one group, and the processor time of all, while `count` are appended."""
    wall, cpu_s = [], process_time()
    for _ in range(0, count, CALLERS):
        group = list(islice(source, CALLERS))  # type: ignore[call-overload]
        wall.append(timed_s(lambda group=group: ledger.append(group)))  # type: ignore[misc]
    return statistics.median(wall), (process_time() - cpu_s) / len(wall)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--records", type=int, default=1_000_000, help="of the long log")
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to be measured")
    parser.add_argument("--out", type=Path, default=Path("docs/performance.md"))
    options = parser.parse_args(arguments)
    results = Results(
        date=clock.format_instant(clock.now())[:10], load=os.getloadavg()[0], cores=os.cpu_count() or 1
    )
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        for part in ("rates", "releases", "long"):
            (Path(name) / part).mkdir()
        rates(Path(name) / "rates", results, rounds=options.rounds, seconds=options.seconds)
        few = min(20_000, options.records)
        with_releases(Path(name) / "releases", results, records=few, rounds=options.rounds)
        long_log(Path(name) / "long", results, records=options.records, rounds=options.rounds)
    text = write(results)
    put_section(options.out, "bench/ledger.py", text)
    print(text)


if __name__ == "__main__":
    main()
