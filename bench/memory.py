"""Print the memory of a node's parts: the full catalogue when it is there, and 1,000 agreements.

Usage: bench/memory.py [CSV of the department's data tables]. Without it, the shipped catalogue is used.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import policyd.server  # noqa: F401  # what a node imports counts
from policyd.decision.snapshot import build_snapshot
from policyd.policy.importer import import_catalogue, write_catalogue
from policyd.policy.load import load_policy_set
from policyd.registry.document import read_registry

AGREEMENTS, FIELDS_EACH = 1_000, 300
POLICY = Path("policies/npd")


def resident_mib() -> int:
    """Return the resident memory of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    raise SystemExit("this system does not say how much memory a process has")


def main() -> None:
    """Load, compile, and print after each step."""
    print(f"{'after imports':<40} {resident_mib():>5} MiB")
    with tempfile.TemporaryDirectory() as scratch:
        directory = POLICY
        if len(sys.argv) > 1:
            directory = Path(scratch) / "npd"
            shutil.copytree(POLICY, directory)
            for path in (directory / "catalogue").glob("*.yaml"):
                if path.name != "defaults.yaml":
                    path.unlink()
            write_catalogue(import_catalogue(Path(sys.argv[1])), directory / "catalogue")
        started = time.monotonic()
        policy = load_policy_set(directory)
    loaded_s = time.monotonic() - started
    print(f"{f'{len(policy.fields)} fields loaded in {loaded_s:.2f} s':<40} {resident_mib():>5} MiB")
    registry = read_registry(POLICY / "tests" / "registry.yaml")
    model = registry.agreements["DS00101"]
    chance = random.Random(1)  # noqa: S311
    agreements = {
        f"DS{number:05d}": replace(
            model,
            id=f"DS{number:05d}",
            fields=frozenset(chance.sample(policy.index.ids, FIELDS_EACH)),
            years=frozenset(range(2005, 2024)),
        )
        for number in range(AGREEMENTS)
    }
    started = time.monotonic()
    snapshot = build_snapshot(policy, replace(registry, agreements=agreements), epoch=1)
    built_s = time.monotonic() - started
    text = f"{len(snapshot.agreements)} agreements of {FIELDS_EACH} fields in {built_s:.2f} s"
    print(f"{text:<40} {resident_mib():>5} MiB")


if __name__ == "__main__":
    main()
