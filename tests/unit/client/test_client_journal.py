"""The journal survives what can happen to a file, and never says more than the client saw."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from policyd_client import journal as module
from policyd_client.journal import Journal
from support.made_log import ORIGIN, MadeLog, pins

Open = Callable[[], Journal]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def reopen(path: Path) -> Iterator[Open]:
    """Close the journal, if it is open, and open it again."""
    opened: list[Journal] = []

    def begin() -> Journal:
        for each in opened:
            each.close()
        opened.append(Journal(path, pins()))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


def write(journal: Journal, log: MadeLog, *sizes: int) -> None:
    for size in sizes:
        receipt = log.receipt(size)
        journal.saw(
            receipt.checkpoint, index=receipt.index, leaf_hash=receipt.leaf_hash, decision_id=f"d{size}"
        )


def test_what_was_written_is_remembered(reopen: Open) -> None:
    """The newest checkpoint seen, the one proved and a fork come back from the file."""
    log, journal = MadeLog(), reopen()
    write(journal, log, 3, 9, 5)
    journal.proved(log.checkpoint(3))
    assert reopen().logs[ORIGIN] == module.Remembered(log.checkpoint(9), log.checkpoint(3), "")
    reopen().forked(ORIGIN, "it forked", notes=["one", "other"])

    assert reopen().logs[ORIGIN].fork == "it forked"


def test_a_checkpoint_is_written_once_for_all_its_records(reopen: Open, path: Path) -> None:
    """A record is one short line beside the note that it shares."""
    log, journal = MadeLog(), reopen()
    log.grow(3)
    for index in range(3):
        journal.saw(log.checkpoint(3), index=index, leaf_hash=bytes(32), decision_id=f"d{index}")

    kinds = [json.loads(line)["kind"] for line in path.read_text("utf-8").splitlines()]
    assert kinds == ["checkpoint", "leaf", "leaf", "leaf"]


def test_half_a_line_is_cut_off(reopen: Open, path: Path) -> None:
    """A client that was killed while it wrote begins again after the last whole line."""
    journal = reopen()
    write(journal, MadeLog(), 3)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"v": 1, "kind": "le')
    reopen()

    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace('"v": 1', '"v": 2', 1),
        lambda text: text.replace('"kind": "checkpoint"', '"kind": "else"', 1),
        lambda text: text.replace("\\n3\\n", "\\n4\\n", 1),
        lambda text: "not JSON\n" + text,
        lambda text: "[]\n" + text,
        lambda text: text.replace('"origin"', '"source"', 1),
    ],
    ids=["version", "kind", "note", "no JSON", "no object", "no origin"],
)
def test_a_damaged_journal_is_not_used(spoil: Callable[[str], str], reopen: Open, path: Path) -> None:
    """A line that is not what a client wrote stops the start; nothing is quietly forgotten."""
    journal = reopen()
    write(journal, MadeLog(), 3)
    journal.close()
    path.write_text(spoil(path.read_text("utf-8")), "utf-8")

    with pytest.raises(ValueError, match="is damaged in line 1"):
        reopen()


def test_one_journal_serves_one_client(reopen: Open, path: Path) -> None:
    """A second client gets a clear error instead of a mixed-up file."""
    reopen()

    with pytest.raises(ValueError, match="another client has the journal"):
        Journal(path, pins())


def test_a_journal_is_private(reopen: Open, path: Path) -> None:
    """Only its owner may read which decisions were made."""
    reopen()

    assert path.stat().st_mode & 0o077 == 0


def test_a_full_disk_stops_everything_until_it_is_opened_again(
    reopen: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After half a line nothing more is written behind it, so that what stands there stays readable."""
    log, journal = MadeLog(), reopen()
    write(journal, log, 3)
    whole = path.read_bytes()
    monkeypatch.setattr(module.os, "write", lambda file, data: os.pwrite(file, data[:9], 10**6) and 9)
    with pytest.raises(OSError, match="the disk is full"):
        write(journal, log, 4)
    monkeypatch.undo()
    with pytest.raises(OSError, match="the disk is full"):
        write(journal, log, 5)

    assert path.read_bytes().startswith(whole)
    write(reopen(), log, 6)


def test_a_long_journal_is_put_aside(reopen: Open, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next file begins with what has to be remembered; the old ones stay for the auditor."""
    monkeypatch.setattr(module, "MAX_BYTES", 2_000)
    log, journal = MadeLog(), reopen()
    write(journal, log, 1)
    journal.proved(log.checkpoint(1))
    write(journal, log, *range(2, 12))
    journal.forked(ORIGIN, "it forked", notes=["one", "other"])
    again = reopen()

    kept = sorted(each.name for each in path.parent.iterdir())
    assert kept[:2] == ["journal.jsonl", "journal.jsonl.1"]
    assert again.logs[ORIGIN] == module.Remembered(log.checkpoint(11), log.checkpoint(1), "it forked")
    everything = "".join(each.read_text("utf-8") for each in path.parent.iterdir())
    leaves = [json.loads(line) for line in everything.splitlines() if '"leaf"' in line]
    assert sorted(line["index"] for line in leaves) == list(range(11))


def test_without_a_path_nothing_is_written(tmp_path: Path) -> None:
    """In memory alone there is no file, and nothing to fail."""
    journal = Journal(None, pins())
    write(journal, MadeLog(), 3)
    journal.sync()
    journal.close()

    assert list(tmp_path.iterdir()) == []
