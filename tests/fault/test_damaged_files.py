"""Files of a log deleted, cut, put in another order or restored from a back-up: said, and not opened."""

from __future__ import annotations

import itertools
import os
import shutil
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_child import KEY, ORIGIN, make_entry
from sweeps import make_log, quick_directory, some
from test_flipped_bits import complaint, content, killed_log, restore

from policyd.errors import LedgerClosed, LedgerCorrupt
from policyd.ledger import store
from policyd.ledger.reader import LedgerReader
from policyd.ledger.verify import verify
from policyd.ledger.writer import Ledger

PAGE = 4_096
WAL = f"{store.DATABASE}-wal"


@pytest.fixture(scope="module")
def closed() -> Iterator[Path]:
    """A log that was closed in order: four decisions and a change."""
    with quick_directory() as directory:
        yield make_log(directory / "log", 4)


@pytest.fixture(scope="module")
def killed() -> Iterator[Path]:
    """A log whose process was killed: six records, two of them in the database, the others behind it."""
    with quick_directory() as directory:
        yield killed_log(directory, 6, moved=2)


def files_of(log: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in log.iterdir() if path.is_file()}


def assert_not_opened(log: Path) -> None:
    with pytest.raises((LedgerClosed, LedgerCorrupt)):
        Ledger.open(log, origin=ORIGIN, signing_key=KEY)


def test_a_torn_tail_is_named_wherever_it_is_torn(killed: Path) -> None:
    """The write-ahead log cut anywhere: the first missing record is named, and the log stays shut."""
    files, before = files_of(killed), content(killed)
    restore(files)
    size = len(files[killed / WAL])
    outcomes: Counter[str] = Counter()
    for kept in some(range(0, size, 8), 120):
        os.truncate(killed / WAL, kept)
        said = complaint(killed)
        with LedgerReader(killed) as reader:
            count = reader.count()
            records = list(reader.records())
        assert records == before[0][:count], f"cut at {kept}: what is left is not the beginning"
        if count < 6:
            assert f"record {count} is missing" in said, f"cut at {kept}: {said}"
            assert_not_opened(killed)
        else:
            assert not said, f"cut at {kept}: {said}"
        outcomes[f"{count} records left"] += 1
        restore(files)
    print(dict(outcomes))
    assert len(outcomes) > 2


def test_a_tail_that_was_never_signed_for_elsewhere_is_cut_to_a_whole_beginning(killed: Path) -> None:
    """With an older checkpoint beside it, what is left after a cut is a log that verifies and goes on."""
    files = files_of(killed)
    with LedgerReader(killed) as reader:
        older = reader.stored_checkpoint()  # trails the last record by a commit
    for kept in some(range(len(files[killed / WAL]) - 2 * PAGE, len(files[killed / WAL]), 64), 20):
        restore(files)
        store.replace_file(killed / store.ANCHOR, older)
        os.truncate(killed / WAL, kept)
        said = complaint(killed)
        if said:
            assert_not_opened(killed)
            continue
        with Ledger.open(killed, origin=ORIGIN, signing_key=KEY) as ledger:
            size = ledger.size
            assert ledger.append([make_entry()]).first_index == size >= 5
        assert verify(killed).passed
    restore(files)


def test_a_cut_database_is_said(closed: Path) -> None:
    """Cut at any place, a log that was closed is not taken for a shorter one."""
    files, before = files_of(closed), content(closed)
    restore(files)
    path = closed / store.DATABASE
    for kept in some(range(0, len(files[path]), 256), 60):
        os.truncate(path, kept)
        said = complaint(closed)
        if said:
            assert_not_opened(closed)
        else:
            assert content(closed) == before, f"cut at {kept}"
        restore(files)
    assert complaint(closed) == ""


@pytest.mark.parametrize("name", [store.DATABASE, store.ANCHOR])
def test_a_deleted_file_is_said(closed: Path, name: str) -> None:
    """Without its database or its checkpoint a log does not verify, and is not opened as a new one."""
    files = files_of(closed)
    (closed / name).unlink()
    assert name in complaint(closed)
    assert_not_opened(closed)
    restore(files)


def test_a_deleted_write_ahead_log_is_named_as_missing_records(killed: Path) -> None:
    """The records that it held are missed, the first by name."""
    files = files_of(killed)
    (killed / WAL).unlink()
    assert "record 2 is missing" in complaint(killed)
    assert_not_opened(killed)
    restore(files)


def test_pages_in_another_order_are_said(closed: Path) -> None:
    """Any two pages of the database exchanged: said, or nothing reads otherwise."""
    files, before = files_of(closed), content(closed)
    restore(files)
    path = closed / store.DATABASE
    whole = files[path]
    for one, other in some(list(itertools.combinations(range(len(whole) // PAGE), 2)), 30):
        pages = [whole[at : at + PAGE] for at in range(0, len(whole), PAGE)]
        pages[one], pages[other] = pages[other], pages[one]
        path.write_bytes(b"".join(pages))
        if not complaint(closed):
            assert content(closed) == before, (one, other)
        restore(files)


def test_frames_in_another_order_are_said(killed: Path) -> None:
    """Any two frames of the write-ahead log exchanged: what can no longer be read is named as missing."""
    files = files_of(killed)
    path = killed / WAL
    whole = files[path]
    frame = 24 + struct.unpack(">I", whole[8:12])[0]
    frames = [whole[at : at + frame] for at in range(32, len(whole) - frame + 1, frame)]
    for one, other in some(list(itertools.combinations(range(len(frames)), 2)), 30):
        moved = list(frames)
        moved[one], moved[other] = moved[other], moved[one]
        if moved == frames:
            continue
        path.write_bytes(whole[:32] + b"".join(moved))
        assert "is missing" in complaint(killed), (one, other)
        assert_not_opened(killed)
        restore(files)


def test_a_log_restored_from_a_backup_is_said(tmp_path: Path) -> None:
    """The database alone: by the checkpoint beside it. All files: by one held elsewhere."""
    log = make_log(tmp_path / "log", 3)
    backup = shutil.copytree(log, tmp_path / "backup")
    with Ledger.open(log, origin=ORIGIN, signing_key=KEY) as ledger:
        held_elsewhere = ledger.append([make_entry()]).checkpoint
    shutil.copy(backup / store.DATABASE, log / store.DATABASE)

    assert "record 4 is missing" in complaint(log)
    with pytest.raises(LedgerCorrupt, match="gone backwards"):
        Ledger.open(log, origin=ORIGIN, signing_key=KEY)

    shutil.copy(backup / store.ANCHOR, log / store.ANCHOR)
    assert verify(log).passed, "a whole older copy is a whole log: alone it cannot tell"
    for report in (verify(log, since=held_elsewhere), verify(log, cosigned=[held_elsewhere])):
        assert "record 4 is missing" in str(report.faults[0])
    with Ledger.open(log, origin=ORIGIN, signing_key=KEY) as ledger:
        ledger.append([make_entry()])
    (fault,) = verify(log, since=held_elsewhere).faults
    assert "does not begin with the 5 records" in str(fault)
