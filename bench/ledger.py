"""Measures durable appends beside a bare SQLite commit of the same rows: read the ratios, not the figures.

Usage: python bench/ledger.py [--seconds S] [--directory DIR]
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd import clock, ids, merkle
from policyd.identity.keys import create_wrapping_key
from policyd.ledger import store
from policyd.ledger.decision_record import decision_record
from policyd.ledger.detail import seal
from policyd.ledger.entry import Entry
from policyd.ledger.proving import place_of
from policyd.ledger.reader import LedgerReader
from policyd.ledger.tile_export import export
from policyd.ledger.tile_verify import verify_tiles
from policyd.ledger.vault import Vault
from policyd.ledger.verify import verify
from policyd.ledger.writer import Ledger
from policyd.model import Action, ColumnSet, Decision, Effect, Obligations, Outcome, VerdictGroup
from policyd.reasons import Reason

ORIGIN = "policyd.test/bench"
DETAIL = b"x" * 2_060
"""A usual question with its facts: see test_the_detail_of_a_usual_question_is_small."""
KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
DECISION = Decision(
    outcome=Outcome.PARTIAL,
    groups=(
        VerdictGroup(
            Effect.RELEASE, Reason.NONE, "attainment", (), ("A.b",) * 20, (ColumnSet("SPR", 2018, 2**20 - 1),)
        ),
        VerdictGroup(Effect.WITHHOLD, Reason.FIELD_NOT_IN_AGREEMENT, "gate:7:agreement", (), ("A.c",) * 5),
    ),
    obligations=Obligations(exclude_sealed_epoch=7, min_cell_count=10),
    identification_risk=2,
    sensitivity="BE",
    requester="researcher-1",
    organisation="org-university-1",
    data_service="npd-secure",
    setting="secure-research",
    agreement="DS00101",
    gateway="DEA2017-64",
    purposes=("academic-research",),
    action=Action.RELEASE,
    policy_digest="ab" * 32,
    policy_version=3,
    epoch=7,
    at=0,
)


@dataclass(frozen=True)
class Figures:
    """Records a second, and what one append took."""

    rate: float
    p50_ms: float
    p99_ms: float


def make_entry(vault: Vault) -> Entry:
    """Make a record as a node does: a pseudonym, a key of its own, and a sealed detail of usual size."""
    decision_id, key = ids.decision_id(), vault.take(timeout_s=60.0)
    return decision_record(
        replace(DECISION, at=clock.now()),
        decision_id=decision_id,
        trace_id=ids.trace_id(),
        span_id=ids.span_id(),
        request_digest=bytes(32),
        answer_digest=bytes(32),
        spiffe_id="spiffe://policyd.test/data-service/npd-secure",
        valid_for_ms=60_000,
        key=key.secret,
        requester=vault.pseudonym(DECISION.requester),
        detail=seal(DETAIL, key, origin=ORIGIN, decision_id=decision_id),
    )


def measure(append: Callable[[], object], threads: int, *, seconds: float) -> Figures:
    """Call `append` from so many threads for so long."""
    taken_s: list[float] = []
    until_s = perf_counter() + seconds

    def run() -> None:
        while (begun_s := perf_counter()) < until_s:
            append()
            taken_s.append(perf_counter() - begun_s)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    begun_s = perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed_s = perf_counter() - begun_s
    taken_s.sort()
    return Figures(
        rate=len(taken_s) / elapsed_s,
        p50_ms=taken_s[len(taken_s) // 2] * 1e3,
        p99_ms=taken_s[int(len(taken_s) * 0.99)] * 1e3,
    )


def bare_sqlite(directory: Path, entries: list[Entry], *, group: int) -> float:
    """Return rows a second when the same rows are committed by one thread, `group` to a transaction."""
    connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    columns = ", ".join(f"c{number}" for number in range(len(store.ROW)))
    connection.execute(f"CREATE TABLE IF NOT EXISTS record ({columns})")
    insert = f"INSERT INTO record VALUES ({', '.join('?' * len(store.ROW))})"  # noqa: S608  # no input
    rows = [
        store.row_of(number, entry, completed=[merkle.leaf_hash(entry.leaf)])
        for number, entry in enumerate(entries)
    ]
    begun_s = perf_counter()
    for start in range(0, len(rows), group):
        connection.execute("BEGIN")
        connection.executemany(insert, rows[start : start + group])
        connection.execute("COMMIT")
    elapsed_s = perf_counter() - begun_s
    connection.close()
    return len(rows) / elapsed_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        master = create_wrapping_key(directory / "detail.key")
        with (
            Ledger.open(directory / "log", origin=ORIGIN, signing_key=KEY) as ledger,
            Vault.open(ledger, master=master, pseudonym_key=bytes(32)) as vault,
        ):
            begun_s = perf_counter()
            entries = [make_entry(vault) for _ in range(4_000)]
            print(
                f"make a record ({len(entries[0].leaf)} bytes, detail {len(entries[0].detail)}): "
                f"{(perf_counter() - begun_s) / 4_000 * 1e6:.0f} µs"
            )
            bare = {group: bare_sqlite(directory, entries, group=group) for group in (1, 64)}
            for group, rate in bare.items():
                print(f"bare SQLite, one thread, {group:>2} rows a commit: {rate:>8,.0f} rows/s")
            for threads, group in ((1, 1), (8, 1), (64, 64)):
                have = measure(lambda: ledger.append([make_entry(vault)]), threads, seconds=options.seconds)
                print(
                    f"ledger, {threads:>2} threads: {have.rate:>8,.0f} records/s, "
                    f"p50 {have.p50_ms:.2f} ms, p99 {have.p99_ms:.2f} ms; "
                    f"{have.rate / bare[group]:.2f} of bare SQLite, {group} a commit"
                )
            size = ledger.size
            begun_s = perf_counter()
            for index in range(0, size, max(1, size // 500)):
                ledger.proof(index, size)
            proofs = len(range(0, size, max(1, size // 500)))
            print(f"inclusion proof in {size:,}, stored: {(perf_counter() - begun_s) / proofs * 1e6:.0f} µs")
            receipts = ledger.append([make_entry(vault) for _ in range(500)])
            begun_s = perf_counter()
            for offset in range(500):
                receipts.proof(offset)
            print(f"inclusion proof of a fresh record: {(perf_counter() - begun_s) / 500 * 1e6:.0f} µs")
        with LedgerReader(directory / "log") as reader:
            taken_s = []
            for index in range(0, size, max(1, size // 200)):
                decision_id = reader.record(index).columns.decision_id
                begun_s = perf_counter()
                place_of(directory / "log", reader.find_decision(decision_id), reader=reader)
                taken_s.append(perf_counter() - begun_s)
            print(
                f"find and prove a decision by its id in {size:,}: {statistics.median(taken_s) * 1e3:.2f} ms"
            )
        begun_s = perf_counter()
        exported = export(directory / "log", directory / "tiles")
        print(f"export as tiles: {exported.size / (perf_counter() - begun_s):,.0f} records/s")
        for what, report in (
            ("the log", verify(directory / "log")),
            ("the tiles", verify_tiles(directory / "tiles")),
        ):
            print(
                f"verify {what}: {report.records_per_s:,.0f} records/s, "
                f"{report.of_bare_sha256:.2f} of bare SHA-256 ({report.bare_records_per_s:,.0f} records/s)"
            )


if __name__ == "__main__":
    main()
