"""Measures what a required witness costs: the same appends with and without one, in a process of its own.

Usage: PYTHONPATH=tests python bench/witness.py [--seconds S] [--directory DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ledger import KEY, Figures, make_entry, measure
from support.witness import TreeLog, WitnessProcess, make_witness, post

from policyd.ledger import note
from policyd.ledger.cosign import Cosigner
from policyd.ledger.writer import Ledger

ORIGIN = "policyd.test/bench"
THREADS = (1, 8, 64)


def measure_log(directory: Path, *, seconds: float, cosigner: Cosigner | None) -> list[Figures]:
    """Append from 1, 8 and 64 threads."""
    with Ledger.open(directory, origin=ORIGIN, signing_key=KEY, cosigner=cosigner) as ledger:
        return [
            measure(lambda: ledger.append([make_entry()]), threads, seconds=seconds) for threads in THREADS
        ]


def shown(figures: Figures) -> str:
    return f"{figures.rate:>6,.0f}/s p50 {figures.p50_ms:.2f} p99 {figures.p99_ms:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args()
    log = note.Verifier(ORIGIN, KEY.public_key())
    other = TreeLog().grow(64)
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        verifier = make_witness(directory / "witness")
        alone = measure_log(directory / "alone", seconds=options.seconds, cosigner=None)
        with WitnessProcess(directory / "witness", log.vkey, other.verifier.vkey) as process:
            cosigner = Cosigner(process.url, witness=verifier, log=log, required=True)
            both = measure_log(directory / "both", seconds=options.seconds, cosigner=cosigner)
            post(process.address, other.request(0, 1))
            status = Path(f"/proc/{process.process.pid}/status").read_text("utf-8")
    for threads, without, with_one in zip(THREADS, alone, both, strict=True):
        print(
            f"{threads:>2} callers: {shown(without)} alone, {shown(with_one)} with a witness; "
            f"{with_one.rate / without.rate:.2f} of the rate"
        )
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    print(f"witness process: {int(resident.split()[1]) / 1024:.0f} MiB resident")


if __name__ == "__main__":
    main()
