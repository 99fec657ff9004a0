"""Every index that a caller was given is in the log, whatever is killed or fails; a failed log stays shut."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ledger_child import KEY, ORIGIN, make_entry

from policyd.errors import LedgerClosed
from policyd.ledger import store
from policyd.ledger.reader import LedgerReader
from policyd.ledger.verify import verify
from policyd.ledger.writer import Ledger

CHILD = Path(__file__).with_name("ledger_child.py")
STRACE = shutil.which("strace")
FOREVER = 1_000_000
LONG = 3_000
"""Appends of each thread where the fault strikes soon; a fault without effect then shows as exit 0."""


def start(log: Path, *arguments: int, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    command = [*prefix, sys.executable, str(CHILD), str(log), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def whole_lines(output: bytes) -> list[tuple[int, str, str]]:
    """What the child was given; a line that the kill cut short was given all the same, but cannot be read."""
    lines = output.split(b"\n")[:-1]
    return [(int(i), d.decode(), h.decode()) for i, d, h in (line.split(b" ") for line in lines)]


def assert_recorded(log: Path, given: list[tuple[int, str, str]]) -> None:
    with LedgerReader(log) as reader:
        for index, decision_id, leaf_hash in given:
            found = reader.record(index)
            assert found is not None, f"record {index} was answered and is not in the log"
            assert (found.columns.decision_id, found.leaf_hash.hex()) == (decision_id, leaf_hash)


def assert_opens_again(log: Path) -> None:
    with Ledger.open(log, origin=ORIGIN, signing_key=KEY) as ledger:
        size = ledger.size
        assert ledger.append([make_entry()]).first_index == size
    assert verify(log).passed


def test_sigkill_under_load_loses_no_answer(tmp_path: Path) -> None:
    """Killed at random moments, again and again: every index given is in the log, and it verifies."""
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)  # noqa: S311  # the seed is in every message
    log = tmp_path / "log"
    given: list[tuple[int, str, str]] = []
    for number in range(6):
        with start(log, 8, FOREVER) as process:
            assert process.stdout is not None
            output = b""
            for _ in range(chance.randrange(1, 1_500) if number else 1):
                output += process.stdout.readline()
            process.kill()
            output += process.stdout.read()
        assert process.returncode == -9, f"seed {seed}, round {number}"
        given += whole_lines(output)
        report = verify(log)
        assert report.passed, f"seed {seed}, round {number}: {report}"
        assert_recorded(log, given)
    assert len({index for index, _, _ in given}) == len(given) > 6, f"seed {seed}"
    assert_opens_again(log)


def test_file_limit_closes_the_ledger(tmp_path: Path) -> None:
    """When no file may grow any more, the ledger refuses, keeps what it answered for, and verifies."""
    log = tmp_path / "log"

    with start(log, 4, LONG, 300_000) as process:
        assert process.stdout is not None
        given = whole_lines(process.stdout.read())

    assert process.returncode == 3
    _assert_failed_stop(log, given)


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("ledger.db-wal", "fdatasync:error=EIO:when=7"),
        ("ledger.db-wal", "pwrite64:error=EIO:when=40"),
        ("ledger.db-wal", "pwrite64:error=ENOSPC:when=41"),
        ("ledger.db-wal", "pwrite64:retval=4000:when=41"),  # a torn page
        ("ledger.db", "pwrite64:error=EIO:when=5"),
        ("ledger.db", "fdatasync:error=EIO:when=3"),
        ("ledger.db", "fdatasync:error=ENOSPC:when=4"),
        ("checkpoint.new", "fsync:error=EIO:when=2"),
        ("checkpoint.new", "write:error=ENOSPC:when=2"),
    ],
    ids=str,
)
def test_failing_system_call_closes_the_ledger(tmp_path: Path, file: str, fault: str) -> None:
    """One failed write or sync, anywhere in the commit path: fail-stop, nothing lost, verify, open again."""
    log = tmp_path / "log"
    with Ledger.open(log, origin=ORIGIN, signing_key=KEY) as ledger:
        ledger.append([make_entry()])
    call = fault.split(":", maxsplit=1)[0]
    prefix = [
        str(STRACE), "-f", "-qq", "-o", "/dev/null", "-P", str(log / file),
        "-e", f"trace={call}", "-e", f"inject={fault}",
    ]  # fmt: skip

    with start(log, 4, LONG, prefix=prefix) as process:
        assert process.stdout is not None
        given = whole_lines(process.stdout.read())

    assert process.returncode == 3, f"{len(given)} records answered"
    _assert_failed_stop(log, given)


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("ledger.db-wal", "fdatasync:signal=KILL:when=6"),
        ("ledger.db-wal", "pwrite64:signal=KILL:when=33"),
        ("ledger.db", "pwrite64:signal=KILL:when=4"),
        ("ledger.db", "fdatasync:signal=KILL:when=3"),
        ("checkpoint.new", "fsync:signal=KILL:when=2"),
    ],
    ids=str,
)
def test_kill_inside_a_system_call_loses_no_answer(tmp_path: Path, file: str, fault: str) -> None:
    """Killed inside the commit path, the log holds all that was answered and opens without help."""
    log = tmp_path / "log"
    call = fault.split(":", maxsplit=1)[0]
    prefix = [
        str(STRACE), "-f", "-qq", "-o", "/dev/null", "-P", str(log / file),
        "-e", f"trace={call}", "-e", f"inject={fault}",
    ]  # fmt: skip

    with start(log, 4, LONG, prefix=prefix) as process:
        assert process.stdout is not None
        given = whole_lines(process.stdout.read())

    assert process.returncode == -9
    assert verify(log).passed
    assert_recorded(log, given)
    assert_opens_again(log)


def _assert_failed_stop(log: Path, given: list[tuple[int, str, str]]) -> None:
    assert given, "the fault struck before anything was answered"
    assert (log / store.MARKER).exists()
    with pytest.raises(LedgerClosed, match="policyd audit verify"):
        Ledger.open(log, origin=ORIGIN, signing_key=KEY)
    report = verify(log)
    assert report.passed, str(report)
    assert report.marker_cleared
    assert_recorded(log, given)
    assert_opens_again(log)
