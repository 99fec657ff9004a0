"""The writer answers only for what is durable, read back and signed, and stops for good at any error."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_cases import AT, ORIGIN, OpenLedger, make_change, make_entry

from policyd import merkle
from policyd.errors import LedgerBusy, LedgerClosed, LedgerCorrupt, NotServing
from policyd.ledger import note, store, writer
from policyd.ledger.entry import Entry
from policyd.ledger.verify import verify

WAIT_S = 20.0


class Gate:
    """Holds every commit until it is opened, and says when one has arrived."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrived = threading.Semaphore(0)
        self.opened = threading.Event()
        real = writer.commit_rows

        def commit_rows(*arguments: Any, **keywords: Any) -> None:
            self.arrived.release()
            assert self.opened.wait(WAIT_S)
            real(*arguments, **keywords)

        monkeypatch.setattr(writer, "commit_rows", commit_rows)


def test_receipt_proves_the_record(open_ledger: OpenLedger, signing_key: Ed25519PrivateKey) -> None:
    """Index, leaf hash, proof and signed checkpoint of a receipt fit together."""
    ledger = open_ledger()
    entries = [make_entry(number) for number in range(5)]
    ledger.append(entries[:2])

    receipts = ledger.append(entries[2:])

    verifier = note.Verifier(ORIGIN, signing_key.public_key())
    checkpoint = note.verify_checkpoint(receipts.checkpoint, origin=ORIGIN, verifier=verifier)
    assert (receipts.first_index, receipts.size, checkpoint.size) == (2, 5, 5)
    for offset, hashed in enumerate(receipts.leaf_hashes):
        assert hashed == merkle.leaf_hash(entries[2 + offset].leaf)
        proof = ledger.reader.inclusion_proof(2 + offset, receipts.size)
        assert merkle.verify_inclusion(hashed, 2 + offset, 5, proof=proof, root=checkpoint.root)


def test_proof_of_a_fresh_record_is_the_stored_one(open_ledger: OpenLedger) -> None:
    """A receipt's own proof, made from memory, is that made from the stored tree, for every group shape."""
    ledger = open_ledger()
    for count in (1, 1, 2, 3, 1, 7, 64, 5, 1, 33):
        receipts = ledger.append([make_entry(ledger.size + number) for number in range(count)])
        for offset in range(count):
            assert receipts.proof(offset) == ledger.reader.inclusion_proof(
                receipts.first_index + offset, receipts.size
            )


def test_records_come_back(open_ledger: OpenLedger) -> None:
    """A reader finds each record by index and by decision id, byte for byte."""
    ledger = open_ledger()
    entries = [make_entry(number) for number in range(600)]
    ledger.append(entries)

    assert ledger.reader.count() == ledger.size == 600
    assert [each.leaf for each in ledger.reader.records(3, 590)] == [e.leaf for e in entries[3:590]]
    found = ledger.reader.find_decision(f"{77:026d}")
    assert found is not None
    assert (found.index, found.leaf, found.columns) == (77, entries[77].leaf, entries[77].columns)
    assert ledger.reader.record(600) is None
    assert ledger.reader.find_decision("") is None


def test_look_up_by_decision_id_uses_the_index(log: Path) -> None:
    """Finding a decision does not read the whole log."""
    connection = store.open_for_reading(log)
    try:
        plan = str(connection.execute(f"EXPLAIN QUERY PLAN {store.FIND}", ("x", "decision")).fetchall())
    finally:
        connection.close()

    assert "USING INDEX record_decision" in plan


def test_many_threads_get_one_index_each(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """Records appended from many threads at once each have their own place, and the log verifies."""
    ledger = open_ledger()

    def append(number: int) -> tuple[int, int]:
        receipts = ledger.append([make_entry(2 * number), make_entry(2 * number + 1)])
        return number, receipts.first_index

    with ThreadPoolExecutor(32) as pool:
        placed = dict(pool.map(append, range(300)))
    assert sorted(placed.values()) == list(range(0, 600, 2))
    for number, index in placed.items():
        found = ledger.reader.record(index)
        assert found is not None
        assert found.leaf == make_entry(2 * number).leaf
    ledger.close()
    assert verify(tmp_path / "log").passed


def test_what_has_queued_is_one_commit(open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that waits while a commit is under way shares the next one, with one signature."""
    gate = Gate(monkeypatch)
    ledger = open_ledger()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(ledger.append, [make_entry(0)])
        assert gate.arrived.acquire(timeout=WAIT_S)
        others = [pool.submit(ledger.append, [make_entry(number)]) for number in range(1, 9)]
        _wait_for_queue(ledger, 8)
        gate.opened.set()
        assert first.result(WAIT_S).size == 1
        receipts = [other.result(WAIT_S) for other in others]

    assert {each.size for each in receipts} == {9}
    assert len({each.checkpoint for each in receipts}) == 1


def test_full_queue_refuses(open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nothing waits and nothing is recorded."""
    gate = Gate(monkeypatch)
    ledger = open_ledger(queue_limit=2)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ledger.append, [make_entry(0)])
        assert gate.arrived.acquire(timeout=WAIT_S)
        second = pool.submit(ledger.append, [make_entry(1), make_entry(2)])
        _wait_for_queue(ledger, 2)
        with pytest.raises(LedgerBusy, match="2 records wait"):
            ledger.append([make_entry(3)])
        gate.opened.set()
        first.result(WAIT_S)
        assert second.result(WAIT_S).size == 3

    assert ledger.append([make_entry(4)]).first_index == 3


def test_record_whose_waiter_gave_up_is_dropped(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller whose time runs out in the queue leaves no record behind."""
    gate = Gate(monkeypatch)
    ledger = open_ledger()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ledger.append, [make_entry(0)])
        assert gate.arrived.acquire(timeout=WAIT_S)
        with pytest.raises(LedgerBusy, match="nothing was recorded"):
            ledger.append([make_entry(1)], timeout_s=0.01)
        gate.opened.set()
        first.result(WAIT_S)

    assert ledger.append([make_entry(2)]).first_index == 1
    assert ledger.reader.find_decision(f"{1:026d}") is None


def test_record_once_taken_is_waited_for(open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller whose record is being written gets its receipt, however short its patience."""
    gate = Gate(monkeypatch)
    ledger = open_ledger()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(ledger.append, [make_entry(0)], timeout_s=0.05)
        assert gate.arrived.acquire(timeout=WAIT_S)
        with pytest.raises(TimeoutError):
            taken.result(0.2)
        gate.opened.set()
        assert taken.result(WAIT_S).size == 1


def test_clock_behind_the_last_record_stops_releases(open_ledger: OpenLedger) -> None:
    """More than two seconds back is refused, without closing the ledger; up to that is noise."""
    ledger = open_ledger()
    ledger.append([make_change(at=AT)])

    ledger.append([make_change(at=AT - 2_000)])
    with pytest.raises(NotServing, match="2001 ms behind"):
        ledger.append([make_change(at=AT - 2_001)])
    ledger.append([make_change(at=AT)])
    ledger.close()

    with pytest.raises(NotServing, match="behind"):
        open_ledger().append([make_change(at=AT - 2_001)])


def test_checkpoint_and_index_survive_a_restart(open_ledger: OpenLedger) -> None:
    """A reopened log has the same checkpoint, byte for byte, and goes on where it was."""
    ledger = open_ledger()
    before = ledger.append([make_entry(number) for number in range(7)]).checkpoint
    ledger.close()

    ledger = open_ledger()

    assert ledger.checkpoint == before
    assert ledger.append([make_entry(7)]).first_index == 7


def test_second_process_is_refused(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """One log has one writer, on one host."""
    open_ledger()
    script = (
        "import sys; from pathlib import Path; from policyd.ledger.store import lock\n"
        "try: lock(Path(sys.argv[1]))\nexcept Exception as error: print(error)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "log")]

    have = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "another process has the log" in have
    with pytest.raises(LedgerClosed, match="another process"):
        open_ledger()


def test_closed_ledger_takes_nothing(open_ledger: OpenLedger) -> None:
    """After close nothing is recorded; closing again is harmless."""
    ledger = open_ledger()
    ledger.close()
    ledger.close()

    with pytest.raises(LedgerClosed, match="stopping"):
        ledger.append([make_entry(0)])


def test_close_records_what_waits(open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that had queued when the node began to stop are recorded and answered."""
    gate = Gate(monkeypatch)
    ledger = open_ledger()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ledger.append, [make_entry(0)])
        assert gate.arrived.acquire(timeout=WAIT_S)
        second = pool.submit(ledger.append, [make_entry(1)])
        _wait_for_queue(ledger, 1)
        closing = pool.submit(ledger.close)
        gate.opened.set()
        closing.result(WAIT_S)
        assert (first.result(WAIT_S).size, second.result(WAIT_S).size) == (1, 2)


@pytest.mark.parametrize("failing", ["commit_rows", "read_back"])
@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("disk I/O error"), OSError(28, "no space"), MemoryError()]
)
def test_any_error_closes_the_ledger_for_good(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch, failing: str, error: Exception, tmp_path: Path
) -> None:
    """Waiters, those behind them and all later callers are refused, until a verification has passed."""
    ledger = open_ledger()
    ledger.append([make_entry(0)])
    arrived, go_on = threading.Event(), threading.Event()

    def fail(*_: Any, **__: Any) -> None:
        arrived.set()
        assert go_on.wait(WAIT_S)
        raise error

    monkeypatch.setattr(writer, failing, fail)
    with ThreadPoolExecutor(2) as pool:
        taken = pool.submit(ledger.append, [make_entry(1)])
        assert arrived.wait(WAIT_S)
        waiting = pool.submit(ledger.append, [make_entry(2)])
        _wait_for_queue(ledger, 1)
        go_on.set()
        for each in (taken, waiting):
            with pytest.raises(LedgerClosed, match=type(error).__name__):
                each.result(WAIT_S)
    monkeypatch.undo()
    with pytest.raises(LedgerClosed, match="policyd audit verify"):
        ledger.append([make_entry(3)])
    with pytest.raises(LedgerClosed, match="failed"):
        ledger.close()
    with pytest.raises(LedgerClosed, match="policyd audit verify"):
        open_ledger()

    report = verify(tmp_path / "log")

    assert (report.passed, report.marker_cleared) == (True, True)
    assert open_ledger().append([make_entry(4)]).first_index == report.size


def test_byte_flipped_between_commit_and_read_back_is_found(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the disk holds is compared before it is signed: a bad byte in the write-ahead log closes it.

    The bad page is not moved into the database, so the records answered for before are whole.
    """
    ledger = open_ledger()
    ledger.append([make_entry(0)])
    real = writer.read_back

    def flip_then_read(*arguments: Any, **keywords: Any) -> None:
        path = tmp_path / "log" / "ledger.db-wal"
        content = path.read_bytes()
        position = content.rindex(b'"decision_id":"' + f"{1:026d}".encode()) + 16
        with path.open("r+b") as file:
            file.seek(position)
            file.write(bytes([content[position] ^ 1]))
        real(*arguments, **keywords)

    monkeypatch.setattr(writer, "read_back", flip_then_read)
    with pytest.raises(LedgerClosed, match="record 1: the stored bytes are not those"):
        ledger.append([make_entry(1)])
    monkeypatch.undo()
    with pytest.raises(LedgerClosed, match="failed"):
        ledger.close()

    report = verify(tmp_path / "log")

    assert (report.passed, report.size, report.marker_cleared) == (True, 1, True)
    assert open_ledger().append([make_entry(2)]).first_index == 1


def test_log_that_went_backwards_is_not_opened(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """An older copy of the database beside the newest checkpoint is refused."""
    ledger = open_ledger()
    ledger.append([make_entry(0)])
    ledger.close()
    shutil.copy(tmp_path / "log" / store.DATABASE, tmp_path / "old.db")
    ledger = open_ledger()
    ledger.append([make_entry(1)])
    ledger.close()

    shutil.copy(tmp_path / "old.db", tmp_path / "log" / store.DATABASE)

    with pytest.raises(LedgerCorrupt, match=r"gone backwards: .* covers 2 records, 1 are stored"):
        open_ledger()


def test_log_of_the_same_size_with_other_records_is_not_opened(
    tmp_path: Path, signing_key: Ed25519PrivateKey, open_ledger: OpenLedger
) -> None:
    """Swapping in another log of the same key is refused by the checkpoint beside it."""
    ledger = open_ledger()
    ledger.append([make_entry(0)])
    ledger.close()
    with writer.Ledger.open(tmp_path / "other", origin=ORIGIN, signing_key=signing_key) as other:
        other.append([make_entry(1)])

    shutil.copy(tmp_path / "other" / store.DATABASE, tmp_path / "log" / store.DATABASE)

    with pytest.raises(LedgerCorrupt, match="another than it was"):
        open_ledger()


@pytest.mark.parametrize("name", [store.DATABASE, store.ANCHOR])
def test_log_with_a_file_missing_is_not_opened(open_ledger: OpenLedger, tmp_path: Path, name: str) -> None:
    """A log is never begun anew beside what is left of one."""
    ledger = open_ledger()
    ledger.append([make_entry(0)])
    ledger.close()
    (tmp_path / "log" / name).unlink()

    with pytest.raises(LedgerCorrupt, match=f"`.*{name}.*` is missing"):
        open_ledger()


def test_log_of_another_key_or_origin_is_not_opened(open_ledger: OpenLedger) -> None:
    """A log is continued under its own name and key only."""
    open_ledger().close()
    other = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)

    with pytest.raises(LedgerClosed, match="name its own key"):
        open_ledger(origin="policyd.test/node-2")
    with pytest.raises(LedgerClosed, match="name its own key"):
        open_ledger(signing_key=other)


def test_file_that_is_no_database_is_not_opened(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """A file that SQLite cannot read gives a clear error and is left alone."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / store.DATABASE).write_bytes(b"no database at all" * 100)

    with pytest.raises(LedgerCorrupt, match="cannot be read"):
        open_ledger()


def test_directory_that_cannot_be_made_is_refused(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """A log that could not be written is not opened at all."""
    (tmp_path / "log").write_text("in the way", "utf-8")

    with pytest.raises(LedgerClosed, match="cannot be opened"):
        open_ledger()


def test_tail_behind_the_last_signature_is_hashed_again(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """Recovery signs nothing over records that changed after they were committed."""
    ledger = open_ledger()
    ledger.append([make_entry(0)])
    ledger.close()
    copy = shutil.copytree(tmp_path / "log", tmp_path / "copy")
    ledger = open_ledger()
    ledger.append([make_entry(1)])
    ledger.close()
    shutil.copy(copy / store.ANCHOR, tmp_path / "log" / store.ANCHOR)
    connection = sqlite3.connect(tmp_path / "log" / store.DATABASE)
    with connection:
        connection.execute("UPDATE checkpoint SET note = ?", ((copy / store.ANCHOR).read_text("utf-8"),))
        connection.execute("UPDATE record SET outcome = 'release' WHERE idx = 1")
    connection.close()

    with pytest.raises(LedgerCorrupt, match="record 1: column `outcome`"):
        open_ledger()


def test_growth_wakes_those_who_wait_for_it(open_ledger: OpenLedger) -> None:
    """A reader that follows the log is told of each commit, and of the end."""
    ledger = open_ledger()
    assert ledger.wait_beyond(0, timeout_s=0.01) == 0
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.wait_beyond, 0, timeout_s=WAIT_S)
        ledger.append([make_entry(0)])
        assert waiting.result(WAIT_S) == 1
        waiting = pool.submit(ledger.wait_beyond, 1, timeout_s=WAIT_S)
        ledger.close()
        assert waiting.result(WAIT_S) == 1


def test_anchor_follows_within_a_second(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """The checkpoint beside the database is renewed while the log is open, without another append."""
    ledger = open_ledger()
    path = tmp_path / "log" / store.ANCHOR
    newest = ledger.append([make_entry(0)]).checkpoint
    renewed = threading.Event()

    def watch() -> None:
        while path.read_text("utf-8") != newest:
            threading.Event().wait(0.02)
        renewed.set()

    threading.Thread(target=watch, daemon=True).start()

    assert renewed.wait(WAIT_S)


@pytest.mark.parametrize("entries", [[], [Entry(leaf=b"x" * 65_535, columns=make_change().columns)]], ids=len)
def test_what_cannot_be_a_record_is_refused(open_ledger: OpenLedger, entries: list[Entry]) -> None:
    """No records, and records too long for their frame, are errors of the caller and harm nothing."""
    ledger = open_ledger()

    with pytest.raises(ValueError, match="one record or more"):
        ledger.append(entries)
    assert ledger.append([make_entry(0)]).first_index == 0


def _wait_for_queue(ledger: writer.Ledger, records: int) -> None:
    """Wait until so many records stand in the queue; the writer is held at the gate meanwhile."""
    for _ in range(2_000):
        if ledger._open_group.records == records:
            return
        threading.Event().wait(0.005)
    raise AssertionError(f"{ledger._open_group.records} records queued, not {records}")
