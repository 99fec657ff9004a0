"""A full disk, a clock that steps back, a second process: refused in time, recovered from, nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from ledger_child import KEY, ORIGIN, make_entry
from support.server import make_site, serving, stub
from test_ledger_faults import FOREVER, assert_opens_again, assert_recorded, start, whole_lines

from policyd import clock
from policyd.errors import LedgerBusy, LedgerClosed, NotServing
from policyd.identity.keys import load_signing_key
from policyd.ledger import keystore
from policyd.ledger.change_record import Stage, state_change_record
from policyd.ledger.entry import Entry
from policyd.ledger.reserve import LOOK_EVERY_S
from policyd.ledger.verify import verify
from policyd.ledger.writer import Ledger

MIB = 2**20
Given = list[tuple[int, str, str]]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 32 MiB of its own, where this machine lets us have one."""
    mount = shutil.which("mount")
    directory = Path(tempfile.mkdtemp())
    command = [str(mount), "-t", "tmpfs", "-o", "size=32m", "none", str(directory)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        directory.rmdir()
        pytest.skip("no right to mount a small disk")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)
        directory.rmdir()


def free_bytes(directory: Path) -> int:
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def fill(directory: Path, *, left_bytes: int) -> Path:
    """Write a file that leaves so much of the disk, and let the last look at it grow old."""
    filler = directory / "filler"
    with filler.open("ab") as file:
        while (more := free_bytes(directory) - left_bytes) > 0:
            file.write(bytes(min(more, MIB)))
            file.flush()
    time.sleep(LOOK_EVERY_S)
    return filler


def append_until_refused(ledger: Ledger, threads: int) -> Given:
    """Append from many threads until each is refused; return what they were given."""
    given: Given = []

    def run() -> None:
        while True:
            entry = make_entry(detail=bytes(8) + os.urandom(20_000))
            try:
                receipts = ledger.append([entry])
            except (LedgerBusy, LedgerClosed):
                return
            given.append((receipts.first_index, entry.columns.decision_id, receipts.leaf_hashes[0].hex()))

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return given


def change() -> Entry:
    return state_change_record(
        "seal",
        stage=Stage.APPLIED,
        epoch=1,
        body_digest=bytes(32),
        who="node-1",
        why="safety",
        at=clock.now(),
    )


def test_at_the_reserve_decisions_are_refused_and_the_log_stays_open(small_disk: Path) -> None:
    """Below the reserve a decision is refused, a seal is not; with space again, it all goes on by itself."""
    log = small_disk / "log"
    filler = fill(small_disk, left_bytes=20 * MIB)
    with Ledger.open(log, origin=ORIGIN, signing_key=KEY, reserve_bytes=12 * MIB) as ledger:
        given = append_until_refused(ledger, 8)
        assert given
        assert free_bytes(small_disk) > 10 * MIB, "the reserve was not kept"
        fill(small_disk, left_bytes=10 * MIB)
        with pytest.raises(LedgerBusy, match="disk reserve reached"):
            ledger.append([make_entry()])
        sealed = ledger.append([change()])
        assert ledger.failure == ""
        fill(small_disk, left_bytes=5 * MIB)
        with pytest.raises(LedgerBusy, match="disk reserve reached"):
            ledger.append([change()])
        filler.unlink()
        size = ledger.size
        assert size == sealed.size
        assert ledger.append([make_entry()]).first_index == size
    assert verify(log).passed
    assert_recorded(log, given)


def test_a_disk_that_runs_full_all_the_same_closes_the_log(small_disk: Path) -> None:
    """With nothing kept free a commit fails half-way: fail-stop, no answer lost, verify, go on."""
    log = small_disk / "log"
    ledger = Ledger.open(log, origin=ORIGIN, signing_key=KEY, reserve_bytes=0)
    given = append_until_refused(ledger, 8)
    assert given
    assert "the ledger failed and is closed" in ledger.failure
    for act in (lambda: ledger.append([make_entry()]), ledger.close):
        with pytest.raises(LedgerClosed):
            act()
    with pytest.raises(LedgerClosed, match="policyd audit verify"):
        Ledger.open(log, origin=ORIGIN, signing_key=KEY)
    report = verify(log)
    assert report.passed, str(report)
    assert_recorded(log, given)


def test_at_the_reserve_a_node_says_so_and_makes_no_keys(small_disk: Path) -> None:
    """A client gets RESOURCE_EXHAUSTED; refusals write nothing, not even keys; it recovers by itself."""
    site = make_site(small_disk / "data")
    with serving(site, disk_reserve_mib=8) as server, site.channel(server.address) as channel:
        decisions = stub(channel)
        decisions.Check(site.question("before"), timeout=10)
        filler = fill(small_disk, left_bytes=7 * MIB)
        count = site.count()
        sizes = [path.stat().st_size for path in sorted(site.config.ledger.glob(f"{keystore.DATABASE}*"))]
        for number in range(20):
            with pytest.raises(grpc.RpcError) as caught:
                decisions.Check(site.question(f"at-{number}"), timeout=10)
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "disk reserve reached" in caught.value.details()
        assert site.count() == count
        assert sizes == [
            path.stat().st_size for path in sorted(site.config.ledger.glob(f"{keystore.DATABASE}*"))
        ]
        filler.unlink()
        decisions.Check(site.question("after"), timeout=10)
        assert site.count() == count + 1
    assert verify(site.config.ledger).passed


def test_a_clock_that_steps_back_stops_answers_until_it_has_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 2 s it is passed over; beyond, nothing is recorded or answered, also after a restart."""
    real, offset_ms = clock.now, 0
    monkeypatch.setattr(clock, "now", lambda: real() + offset_ms)
    site = make_site(tmp_path / "data")
    with serving(site) as server, site.channel(server.address) as channel:
        decisions = stub(channel)
        decisions.Check(site.question("before"), timeout=10)
        offset_ms = -1_000
        decisions.Check(site.question("a-second-behind"), timeout=10)
        offset_ms = -60_000
        count = site.count()
        for number in range(5):
            with pytest.raises(grpc.RpcError) as caught:
                decisions.Check(site.question(f"behind-{number}"), timeout=10)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "behind the last record" in caught.value.details()
        assert site.count() == count
        offset_ms = 0
        decisions.Check(site.question("caught-up"), timeout=10)
        count = site.count()
    offset_ms = -3_600_000
    key = load_signing_key(site.config.keys / "ledger.key").private
    with (
        Ledger.open(site.config.ledger, origin=site.config.origin, signing_key=key) as ledger,
        pytest.raises(NotServing, match="behind the last record"),
    ):
        ledger.append([make_entry()])
    assert site.count() == count
    assert verify(site.config.ledger).passed


def test_a_second_process_is_kept_out_until_the_first_is_gone(tmp_path: Path) -> None:
    """While one process has the log, working or stopped, no other gets it, and no answer is lost."""
    log = tmp_path / "log"
    with start(log, 4, FOREVER) as first:
        assert first.stdout is not None
        output = b"".join(first.stdout.readline() for _ in range(20))
        for _ in range(2):
            with pytest.raises(LedgerClosed, match="another process"):
                Ledger.open(log, origin=ORIGIN, signing_key=KEY)
            second = subprocess.run(first.args, capture_output=True, check=False, timeout=60)
            assert (second.stdout, second.returncode) == (b"", 1)
            assert b"another process has the log" in second.stderr
            first.send_signal(signal.SIGSTOP)
        first.kill()
        output += first.stdout.read()
    assert verify(log).passed
    assert_recorded(log, whole_lines(output))
    assert_opens_again(log)
