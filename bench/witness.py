"""Measures what a required witness costs: the same appends with and without one, in a process of its own.

Usage: PYTHONPATH=tests python bench/witness.py [--seconds S] [--rounds N] [--directory DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ledger import KEY, Figures, make_entry, measure
from support.witness import WitnessProcess, make_witness

from policyd.identity.keys import create_wrapping_key
from policyd.ledger import note
from policyd.ledger.cosign import Cosigner
from policyd.ledger.vault import Vault
from policyd.ledger.writer import Ledger

ORIGIN = "policyd.test/bench"
THREADS = (1, 8, 64)


def shown(rounds: list[Figures]) -> str:
    return (
        f"{median(each.rate for each in rounds):>6,.0f}/s p50 {median(each.p50_ms for each in rounds):.2f} "
        f"p99 {median(each.p99_ms for each in rounds):.1f} ms"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args(arguments)
    log = note.Verifier(ORIGIN, KEY.public_key())
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        verifier = make_witness(directory / "witness")
        with WitnessProcess(directory / "witness", log.vkey) as process:
            cosigner = Cosigner(process.url, witness=verifier, log=log, required=True)
            with (
                Ledger.open(directory / "alone", origin=ORIGIN, signing_key=KEY) as alone,
                Ledger.open(
                    directory / "both", origin=ORIGIN, signing_key=KEY, cosigner=cosigner
                ) as witnessed,
                Vault.open(
                    alone, master=create_wrapping_key(directory / "detail.key"), pseudonym_key=bytes(32)
                ) as vault,
            ):
                # By turns, so that whatever else the machine does falls on both.
                for threads in THREADS:
                    figures: dict[str, list[Figures]] = {"alone": [], "witnessed": []}
                    for _ in range(options.rounds):
                        for which, ledger in (("alone", alone), ("witnessed", witnessed)):
                            have = measure(
                                lambda ledger=ledger: ledger.append([make_entry(vault)]),  # type: ignore[misc]
                                threads,
                                seconds=options.seconds,
                            )
                            figures[which].append(have)
                    ratio = median(
                        b.rate / a.rate for a, b in zip(figures["alone"], figures["witnessed"], strict=True)
                    )
                    print(
                        f"{threads:>2} callers: {shown(figures['alone'])} alone, "
                        f"{shown(figures['witnessed'])} with a witness; {ratio:.2f} of the rate"
                    )
            status = Path(f"/proc/{process.process.pid}/status").read_text("utf-8")
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    print(f"witness process: {int(resident.split()[1]) / 1024:.0f} MiB resident")


if __name__ == "__main__":
    main()
