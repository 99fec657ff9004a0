"""What the sweeps share: whole or a sample, a quick directory, and a small log to damage."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ledger_child import KEY, ORIGIN, make_entry

from policyd.ledger.change_record import Stage, state_change_record
from policyd.ledger.writer import Ledger

WHOLE = os.environ.get("POLICYD_SWEEPS") == "whole"
"""`make fault` sets it: every case, which takes minutes; else a sample that changes from run to run."""
_MEMORY = Path("/dev/shm")  # noqa: S108  # where there is one; a sweep syncs each of thousands of cases

Case = TypeVar("Case")


def some(cases: Sequence[Case], most: int) -> list[Case]:
    """All cases of a whole sweep, else first, last and a sample of the others. The seed is printed."""
    if WHOLE or len(cases) <= most:
        return list(cases)
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"{most} of {len(cases)} cases, seed {seed}")
    chosen = random.Random(seed).sample(range(1, len(cases) - 1), most - 2)  # noqa: S311  # the seed is printed
    return [cases[each] for each in (0, *sorted(chosen), len(cases) - 1)]


@contextmanager
def quick_directory() -> Iterator[Path]:
    """A directory in memory where there is one, so that syncs cost nothing."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        yield Path(name)


def make_log(directory: Path, records: int) -> Path:
    """A closed log of so many decisions and a state change."""
    with Ledger.open(directory, origin=ORIGIN, signing_key=KEY) as ledger:
        made = [make_entry() for _ in range(records)]
        for entry in made:
            ledger.append([entry])
        change = state_change_record(
            "registry", stage=Stage.APPLIED, epoch=1, body_digest=bytes(32), who="node-1", why="first load",
            at=made[-1].columns.at,
        )  # fmt: skip
        ledger.append([change])
    return directory


def flip(path: Path, offset: int) -> None:
    """Flip one bit of a byte; flipping it again takes that back."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        (byte,) = os.pread(descriptor, 1, offset)
        os.pwrite(descriptor, bytes([byte ^ 1 << offset % 8]), offset)
    finally:
        os.close(descriptor)
