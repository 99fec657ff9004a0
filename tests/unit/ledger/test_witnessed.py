"""What others hold of a log is compared with it: a journal, a report, another node's records of reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_cases import AT, ORIGIN, OpenLedger, make_entry

from policyd import merkle
from policyd.errors import ConfigError, LedgerCorrupt
from policyd.ledger import note
from policyd.ledger.entry import Entry, columns_of
from policyd.ledger.reader import LedgerReader
from policyd.ledger.release_record import checkpoints_in, read_checkpoint, release_record
from policyd.ledger.tile_export import export
from policyd.ledger.tile_verify import verify_tiles
from policyd.ledger.verify import verify
from policyd.ledger.writer import Ledger

SERVICE = "spiffe://policyd.test/data-service/npd-secure"


def release(number: int = 0, **changes: Any) -> Entry:
    values: dict[str, Any] = {
        "report_id": "r1",
        "at": AT + number,
        "spiffe_id": SERVICE,
        "data_service": "npd-secure",
        "rows": 2,
        "obligations_met": ["rows"],
        "result_digest": bytes(32),
        "checkpoints": [],
    }
    return release_record(f"{number:026d}", **(values | changes))


def signed(size: int, root: bytes, key: Ed25519PrivateKey, *, origin: str = ORIGIN) -> str:
    return note.sign_checkpoint(note.Checkpoint(origin, size, root), key)


def journal(folder: Path, *lines: dict[str, Any], end: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps({"v": 1, "origin": ORIGIN, **line}) + "\n" for line in lines)
    (folder / "npd-secure.jsonl").write_text(text + end, "utf-8")
    return folder


def faults(log: Path, receipts: Path | None = None) -> list[tuple[int | None, str]]:
    """Return what is wrong with a log; its export must show the same."""
    found = [(fault.index, fault.message) for fault in verify(log, receipts=receipts).faults]
    with LedgerReader(log) as reader:
        vkey = reader.vkey
    export(log, log.parent / "tiles")
    exported = verify_tiles(log.parent / "tiles", public_key=vkey, receipts=receipts)
    assert [(fault.index, fault.message) for fault in exported.faults] == found
    return found


def test_a_release_is_deterministic_and_sorted() -> None:
    """The same report gives the same bytes, whatever order its lists came in; columns follow from them."""
    entry = release(3, obligations_met=["setting", "rows"])

    assert entry == release(3, obligations_met=["rows", "setting"])
    assert columns_of(entry.leaf) == entry.columns
    assert (entry.columns.kind, entry.columns.decision_id) == ("release", f"{3:026d}")
    assert json.loads(entry.leaf)["obligations_met"] == ["rows", "setting"]


def test_checkpoints_are_recorded_as_they_are(signing_key: Ed25519PrivateKey) -> None:
    """Every origin once, in the order of their names, byte for byte."""
    notes = [signed(1, bytes(32), signing_key, origin=origin) for origin in ("b.test", "a.test")]

    assert checkpoints_in(release(checkpoints=notes).leaf) == (notes[1], notes[0])
    assert checkpoints_in(make_entry(1).leaf) == ()


def test_a_record_holds_no_free_text(signing_key: Ed25519PrivateKey) -> None:
    """Extension lines of a checkpoint could say anything about anybody."""
    text = f"{ORIGIN}\n1\n{'A' * 43}=\npupil-17\n"

    with pytest.raises(LedgerCorrupt, match="extension lines"):
        read_checkpoint(note.sign(text, ORIGIN, key=signing_key))


def test_two_checkpoints_of_one_log_are_refused(signing_key: Ed25519PrivateKey) -> None:
    """A client holds one newest checkpoint of each log."""
    with pytest.raises(ValueError, match="two of one log"):
        release(checkpoints=[signed(size, bytes(32), signing_key) for size in (1, 2)])


def test_a_second_release_of_one_decision_is_not_stored(open_ledger: OpenLedger) -> None:
    """The last belt below the check of the service: the ledger closes rather than hold two."""
    ledger = open_ledger()
    ledger.append([make_entry(1), release(1)])
    with pytest.raises(Exception, match="UNIQUE"):
        ledger.append([release(1, report_id="r2")])

    assert "UNIQUE" in ledger.failure


def test_a_log_that_others_saw_as_it_is_verifies(
    open_ledger: OpenLedger, tmp_path: Path, signing_key: Ed25519PrivateKey
) -> None:
    """A report with a true checkpoint, a journal with true lines, and half a line at its end."""
    ledger = open_ledger()
    first = ledger.append([make_entry(1)])
    ledger.append([release(1, checkpoints=[first.checkpoint])])
    ledger.close()
    receipts = journal(
        tmp_path / "receipts",
        {"kind": "checkpoint", "note": first.checkpoint},
        {"kind": "leaf", "index": 0, "size": 1, "leaf_hash": first.leaf_hashes[0].hex()},
        {"kind": "proved", "note": first.checkpoint},
        {"kind": "checkpoint", "origin": "other.test", "note": "of no interest"},
        end='{"v": 1, "ki',
    )
    report = verify(tmp_path / "log", receipts=receipts)

    assert report.passed
    assert report.witnessed == 4
    export(tmp_path / "log", tmp_path / "tiles")
    exported = verify_tiles(tmp_path / "tiles", public_key=report.vkey, receipts=receipts)
    assert (exported.passed, exported.witnessed) == (True, 4)


def test_an_export_without_a_key_says_nothing_about_what_was_signed(
    open_ledger: OpenLedger, tmp_path: Path, signing_key: Ed25519PrivateKey
) -> None:
    """Its records hold a false checkpoint; whether the log signed it, only its key can tell."""
    ledger = open_ledger()
    ledger.append([make_entry(1), release(1, checkpoints=[signed(1, bytes(32), signing_key)])])
    ledger.close()
    export(tmp_path / "log", tmp_path / "tiles")
    report = verify_tiles(tmp_path / "tiles")

    assert (report.passed, report.key_pinned, report.witnessed) == (True, False, 0)
    with pytest.raises(ConfigError, match="name it"):
        verify_tiles(tmp_path / "tiles", receipts=tmp_path)


def test_a_long_export_is_held_to_receipts_of_every_age(
    open_ledger: OpenLedger, tmp_path: Path, signing_key: Ed25519PrivateKey
) -> None:
    """Past the first full tile, receipts of the full ones and of the last partial one are told apart."""
    ledger = open_ledger()
    notes = {}
    for start in range(0, 600, 100):
        receipts = ledger.append([make_entry(number) for number in range(start, start + 100)])
        notes[receipts.size] = receipts.checkpoint
    leaves = {0: make_entry(0), 255: make_entry(255), 256: make_entry(256), 599: make_entry(599)}
    ledger.close()
    true = [{"kind": "checkpoint", "note": each} for each in notes.values()]
    true += [
        {"kind": "leaf", "index": index, "leaf_hash": merkle.leaf_hash(entry.leaf).hex()}
        for index, entry in leaves.items()
    ]
    assert faults(tmp_path / "log", journal(tmp_path / "receipts", *true)) == []

    false = [{"kind": "checkpoint", "note": signed(size, bytes(32), signing_key)} for size in (256, 599)]
    false += [{"kind": "leaf", "index": index, "leaf_hash": "00" * 32} for index in leaves]
    found = faults(tmp_path / "log", journal(tmp_path / "receipts", *false))
    assert [index for index, _ in found] == [None, None, *leaves]


@pytest.mark.parametrize("size", [1, 2, 9])
def test_a_signed_checkpoint_that_is_no_beginning_is_a_fault(
    size: int, open_ledger: OpenLedger, tmp_path: Path, signing_key: Ed25519PrivateKey
) -> None:
    """In a journal or in a record, of any size: the key signed something that this log never was."""
    shown = signed(size, bytes(range(32)), signing_key)
    ledger = open_ledger()
    ledger.append([make_entry(1), make_entry(2)])
    ledger.append([release(1, checkpoints=[shown])])
    ledger.close()
    (of_record,) = faults(tmp_path / "log")
    receipts = journal(tmp_path / "receipts", {"kind": "fork", "notes": [shown], "why": "x"})
    both = faults(tmp_path / "log", receipts)

    says = "do not give the root that it signed" if size < 9 else "covers 9 records"
    assert says in of_record[1]
    assert "record 2" in of_record[1]
    assert [says in message for _, message in both] == [True, True]
    assert "`npd-secure.jsonl` line 1" in both[1][1]


def test_what_the_log_has_not_signed_says_nothing_about_it(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """Otherwise any data service could make a log fail."""
    stranger = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    ledger = open_ledger()
    ledger.append([make_entry(1), release(1, checkpoints=[signed(1, bytes(32), stranger)])])
    ledger.close()

    assert faults(tmp_path / "log") == []


@pytest.mark.parametrize(
    ("line", "index", "says"),
    [
        ({"kind": "leaf", "index": 0, "leaf_hash": "00" * 32}, 0, "record 0 is not the one"),
        ({"kind": "leaf", "index": 7, "leaf_hash": "00" * 32}, 1, "record 7 is missing"),
        ({"kind": "leaf", "index": 0, "leaf_hash": "xx"}, None, "cannot be read"),
        ({"kind": "checkpoint", "note": "no note"}, None, "cannot be read"),
        ({"kind": "other"}, None, "`other` is not known"),
        ({}, None, "cannot be read"),
    ],
)
def test_a_receipt_that_is_not_of_this_log_is_a_fault(
    line: dict[str, Any], index: int | None, says: str, open_ledger: OpenLedger, tmp_path: Path
) -> None:
    """The record it is for is named, and a journal that cannot be read is not passed over."""
    ledger = open_ledger()
    ledger.append([make_entry(1)])
    ledger.close()
    (fault,) = faults(tmp_path / "log", journal(tmp_path / "receipts", line))

    assert fault[0] == index
    assert says in fault[1]


def test_another_nodes_log_testifies(
    tmp_path: Path, open_ledger: OpenLedger, signing_key: Ed25519PrivateKey
) -> None:
    """Reports at one node carry checkpoints of the others, which then can be held to them."""
    ledger = open_ledger()
    true = ledger.append([make_entry(1)]).checkpoint
    ledger.close()
    other = Ledger.open(tmp_path / "other", origin="other.test", signing_key=signing_key)
    other.append([make_entry(5), release(5, checkpoints=[true])])
    other.append([make_entry(6), release(6, checkpoints=[signed(1, bytes(32), signing_key)])])
    other.close()
    (fault,) = faults(tmp_path / "log", tmp_path / "other")

    assert "record 3 of `other.test` holds" in fault[1]


def test_a_directory_without_journals_is_a_mistake(log: Path, tmp_path: Path) -> None:
    """A mistyped path must not look like a log that holds."""
    with pytest.raises(ConfigError, match="no journal"):
        verify(log, receipts=tmp_path)


def test_a_release_hashes_like_every_record(open_ledger: OpenLedger) -> None:
    """Its receipt leads to the checkpoint of its commit."""
    receipts = open_ledger().append([release(1)])

    assert receipts.leaf_hashes == (merkle.leaf_hash(release(1).leaf),)
