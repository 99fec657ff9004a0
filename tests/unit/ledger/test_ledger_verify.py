"""Whatever is changed in a log is found, and the first record at fault is named."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_cases import AT, DECISION, DETAIL, ORIGIN, OpenLedger, make_change, make_entry

from policyd import merkle
from policyd.errors import ConfigError, LedgerClosed, LedgerCorrupt
from policyd.ledger import note, store
from policyd.ledger import verify as module
from policyd.ledger.reader import LedgerReader
from policyd.ledger.report import VerifyReport
from policyd.ledger.verify import verify
from policyd.ledger.writer import Ledger
from policyd.model import Effect, VerdictGroup
from policyd.reasons import Reason


def change(log: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    """Change a closed log behind its back."""
    connection = sqlite3.connect(log / store.DATABASE)
    try:
        with connection:
            for statement, values in statements:
                connection.execute(statement, values)
    finally:
        connection.close()


def vkey_of(key: Ed25519PrivateKey) -> str:
    return note.Verifier(ORIGIN, key.public_key()).vkey


def first_fault(report: VerifyReport) -> tuple[int | None, str]:
    assert not report.passed
    return report.faults[0].index, report.faults[0].message


def test_whole_log_passes(log: Path, signing_key: Ed25519PrivateKey) -> None:
    """A log as it was written has no fault, and every record is under a checkpoint."""
    seen: list[tuple[int, int]] = []

    report = verify(log, public_key=vkey_of(signing_key), progress=lambda *p: seen.append(p))

    assert report.passed
    assert (report.records, report.size, report.signed) == (21, 21, 21)
    assert (report.origin, report.key_pinned) == (ORIGIN, True)
    assert str(report).endswith("\nverified")
    assert "records/s" in str(report)
    assert 0 < report.of_bare_sha256 < 1
    assert f"{report.of_bare_sha256:.2f} of bare SHA-256" in str(report)


def test_progress_is_told(tmp_path: Path, signing_key: Ed25519PrivateKey) -> None:
    """A long verification says how far it is."""
    with Ledger.open(tmp_path, origin=ORIGIN, signing_key=signing_key, queue_limit=20_000) as ledger:
        ledger.append([make_change(number) for number in range(20_000)])
    seen: list[tuple[int, int]] = []

    verify(tmp_path, progress=lambda *p: seen.append(p))

    assert seen == [(10_000, 20_000), (20_000, 20_000)]


def test_every_byte_of_a_leaf_matters(log: Path) -> None:
    """Flipping one bit of a byte of a record is found wherever it stands, and the record named.

    Both ends and every thirteenth byte: each costs a verification of the whole log.
    """
    leaf = make_entry(7).leaf
    for position in sorted({*range(30), *range(0, len(leaf), 13), *range(len(leaf) - 30, len(leaf))}):
        changed = bytearray(leaf)
        changed[position] ^= 1 << (position % 8)
        change(log, ("UPDATE record SET leaf = ? WHERE idx = 7", (bytes(changed),)))
        index, message = first_fault(verify(log))
        assert index == 7, position
        assert message.startswith("record 7: "), position


@pytest.mark.parametrize("column", store.COLUMNS)
@pytest.mark.parametrize("index", [0, 12, 20])
def test_every_index_column_matters(log: Path, column: str, index: int) -> None:
    """An index column that says something else than its record is found, and both are named."""
    value: object = 1 if column in ("at", "epoch") else "other"
    statement = f"UPDATE record SET {column} = ? WHERE idx = ?"  # noqa: S608  # a column of ours
    change(log, (statement, (value, index)))

    assert first_fault(verify(log)) == (
        index,
        f"record {index}: column `{column}` is not what its bytes say",
    )


def test_text_that_cannot_be_read_is_named(log: Path) -> None:
    """A column of bytes that are no text names its record, and every reader says that the log is damaged."""
    change(log, ("UPDATE record SET agreement = CAST(x'ff0a' AS TEXT) WHERE idx = 7", ()))

    index, message = first_fault(verify(log))
    assert index == 7
    assert message.startswith("record 7 cannot be read: Could not decode")
    assert "\n" not in message
    with LedgerReader(log) as reader, pytest.raises(LedgerCorrupt, match="cannot be read"):
        reader.record(7)


def test_a_checkpoint_that_is_no_text_is_named(log: Path) -> None:
    """The records are verified all the same."""
    change(log, ("UPDATE checkpoint SET note = CAST(x'ff' AS TEXT)", ()))

    report = verify(log)

    assert report.records == 21
    assert "the checkpoint in the database does not hold" in first_fault(report)[1]


def test_every_stored_tree_hash_matters(log: Path) -> None:
    """Flipping one bit of any stored tree hash is found at the record that completes it."""
    for index in range(21):
        connection = store.open_for_reading(log)
        nodes = bytes(connection.execute("SELECT nodes FROM record WHERE idx = ?", (index,)).fetchone()[0])
        connection.close()
        for position in range(0, len(nodes), 32):
            changed = bytearray(nodes)
            changed[position + 5] ^= 1
            change(log, ("UPDATE record SET nodes = ? WHERE idx = ?", (bytes(changed), index)))
            assert first_fault(verify(log))[0] == index
        for wrong in (nodes[:-1], nodes + bytes(32), b""):
            change(log, ("UPDATE record SET nodes = ? WHERE idx = ?", (wrong, index)))
            assert first_fault(verify(log))[0] == index
        change(log, ("UPDATE record SET nodes = ? WHERE idx = ?", (nodes, index)))
    assert verify(log).passed


def test_leaf_and_its_hash_changed_together_are_found(log: Path) -> None:
    """A record rewritten with its own hash is found by the next tree hash over it, which names the range."""
    entry = make_entry(8, request_digest=bytes(32))
    change(
        log,
        (
            "UPDATE record SET leaf = ?, nodes = ? WHERE idx = 8",
            (entry.leaf, merkle.leaf_hash(entry.leaf)),
        ),
    )

    index, message = first_fault(verify(log))

    assert (index, "(from 8)" in message) == (9, True)


def test_log_rewritten_whole_is_found_by_its_signature(
    log: Path, tmp_path: Path, signing_key: Ed25519PrivateKey
) -> None:
    """Somebody without the key who rebuilds every hash cannot make the signature fit."""
    other_key = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    with Ledger.open(tmp_path / "other", origin=ORIGIN, signing_key=other_key) as other:
        other.append([make_entry(number) for number in range(20)])
        other.append([make_change(7, at=AT + 21)])
    shutil.copy(tmp_path / "other" / store.DATABASE, log / store.DATABASE)

    report = verify(log, public_key=vkey_of(signing_key))

    messages = [fault.message for fault in report.faults]
    assert any("the checkpoint in the database does not hold" in message for message in messages)
    assert any("do not give the root signed in `checkpoint`" in message for message in messages)


@pytest.mark.parametrize("index", [0, 10, 19])
def test_deleted_record_is_found(log: Path, index: int) -> None:
    """A missing record is named."""
    change(log, ("DELETE FROM record WHERE idx = ?", (index,)))

    assert first_fault(verify(log)) == (index, f"record {index} is missing: the next is {index + 1}")


@pytest.mark.parametrize("kept", [0, 1, 20])
def test_truncated_log_is_found(log: Path, kept: int) -> None:
    """A log cut short is found by either checkpoint, and the first lost record named."""
    change(log, ("DELETE FROM record WHERE idx >= ?", (kept,)))

    index, message = first_fault(verify(log))

    assert (index, message.startswith(f"record {kept} is missing")) == (kept, True)


def test_reordered_records_are_found(log: Path) -> None:
    """Two records that changed places are found at the first of them."""
    swap = "UPDATE record SET idx = ? WHERE idx = ?"
    change(log, (swap, (99, 4)), (swap, (4, 11)), (swap, (11, 99)))

    assert first_fault(verify(log))[0] == 4


def test_inserted_record_is_found(log: Path) -> None:
    """A record pushed in between, whole in itself, is found at the next, whose tree hashes no longer fit."""
    change(log, ("UPDATE record SET idx = -idx - 1 WHERE idx >= 6", ()))
    change(log, ("UPDATE record SET idx = -idx WHERE idx < 0", ()))
    _insert(log, 6, make_entry(50).leaf)

    assert first_fault(verify(log))[0] == 7


def test_record_added_to_a_closed_log_is_found(log: Path) -> None:
    """A record appended behind the last signature of a log that was closed cleanly is found."""
    _insert(log, 21, make_change(8, at=AT + 21).leaf)

    assert (21, "record 21 was added after the log was closed at that size") in [
        (fault.index, fault.message) for fault in verify(log).faults
    ]


def test_every_byte_of_both_checkpoints_matters(log: Path) -> None:
    """Flipping any byte of the checkpoint in the database or beside it is found."""
    signed = (log / store.ANCHOR).read_text("utf-8")
    raw = signed.encode("utf-8")
    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 1 << (position % 7)
        (log / store.ANCHOR).write_bytes(bytes(changed))
        assert not verify(log).passed, position
    (log / store.ANCHOR).write_text(signed, "utf-8")
    for position in range(0, len(signed), 9):
        text = signed[:position] + chr(ord(signed[position]) ^ 1) + signed[position + 1 :]
        change(log, ("UPDATE checkpoint SET note = ?", (text,)))
        assert not verify(log).passed, position
    change(log, ("UPDATE checkpoint SET note = ?", (signed,)))
    assert verify(log).passed


def test_missing_checkpoint_file_is_found(log: Path) -> None:
    """Without the checkpoint beside it, nothing would show that a log has gone backwards."""
    (log / store.ANCHOR).unlink()

    assert "`checkpoint` is missing" in first_fault(verify(log))[1]


def test_changed_key_or_name_is_found(log: Path, signing_key: Ed25519PrivateKey) -> None:
    """A log that claims another key or name than the one pinned is found."""
    other = note.Verifier(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"\x05" * 32).public_key())
    change(log, ("UPDATE meta SET value = ? WHERE name = 'vkey'", (other.vkey,)))
    assert "it is" in first_fault(verify(log, public_key=vkey_of(signing_key)))[1]
    assert not verify(log).passed
    change(log, ("UPDATE meta SET value = 'x y' WHERE name = 'vkey'", ()))
    with pytest.raises(LedgerCorrupt, match="malformed"):
        verify(log)


def test_changed_private_part_is_found(tmp_path: Path, signing_key: Ed25519PrivateKey) -> None:
    """What stands beside a leaf is held fast by the leaf."""
    group = VerdictGroup(Effect.WITHHOLD, Reason.AGREEMENT_UNKNOWN, "gate:3:agreement", (), ("A.b",))
    hidden = type(DECISION)(
        **{name: getattr(DECISION, name) for name in DECISION.__slots__} | {"groups": (group,)}
    )
    with Ledger.open(tmp_path, origin=ORIGIN, signing_key=signing_key) as ledger:
        ledger.append([make_entry(0), make_entry(1, hidden)])
    assert verify(tmp_path).passed
    for private in (make_entry(1, hidden).private.replace(b"UNKNOWN", b"NOT_YOURS"), b""):
        change(tmp_path, ("UPDATE record SET private = ? WHERE idx = 1", (private,)))
        assert first_fault(verify(tmp_path)) == (
            1,
            "record 1: the private part is not the one that the record commits to",
        )


def test_record_far_out_of_order_is_found(tmp_path: Path, signing_key: Ed25519PrivateKey) -> None:
    """A record more than two seconds older than one before it was not written by this writer."""
    with Ledger.open(tmp_path, origin=ORIGIN, signing_key=signing_key) as ledger:
        ledger.append([make_change(at=AT)])
        ledger._last_at = 0
        ledger.append([make_change(at=AT - 2_001)])

    assert first_fault(verify(tmp_path)) == (1, "record 1 is 2001 ms older than one before it")


def test_broken_index_is_found(log: Path) -> None:
    """A look-up index that leaves out a record is found, though records and tree are whole."""
    connection = sqlite3.connect(log / store.DATABASE, isolation_level=None)
    connection.execute("PRAGMA writable_schema=ON")
    sql = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'record_decision'").fetchone()[0]
    narrower = sql.replace("!= ''", "!= '' AND idx != 5")
    connection.execute("DROP INDEX record_decision")
    connection.execute(narrower)
    connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'record_decision'", (sql,))
    connection.close()

    assert "SQLite:" in first_fault(verify(log))[1]


def test_only_newer_records_are_read_from_a_checkpoint_on(log: Path, signing_key: Ed25519PrivateKey) -> None:
    """With a checkpoint held elsewhere, the records under it are proved by its root and not read again."""
    connection = store.open_for_reading(log)
    roots = {
        size: merkle.root_at(size, lambda lv, at: store.read_node(connection, lv, position=at))
        for size in (0, 13, 21)
    }
    connection.close()
    for size, root in roots.items():
        report = verify(log, since=note.sign_checkpoint(note.Checkpoint(ORIGIN, size, root), signing_key))
        assert (report.passed, report.records) == (True, 21 - size)


@pytest.mark.parametrize(
    ("since", "want"),
    [
        (note.Checkpoint(ORIGIN, 13, bytes(32)), "does not begin with the 13 records"),
        (note.Checkpoint(ORIGIN, 22, bytes(32)), "record 21 is missing"),
        (note.Checkpoint("policyd.test/other", 13, bytes(32)), "not signed by a key"),
    ],
    ids=str,
)
def test_checkpoint_that_the_log_does_not_begin_with_is_a_fault(
    log: Path, signing_key: Ed25519PrivateKey, since: note.Checkpoint, want: str
) -> None:
    """A fork, a truncated log and another log's checkpoint are told apart and all found."""
    signed = note.sign_checkpoint(since, signing_key)

    assert want in first_fault(verify(log, since=signed))[1]


def test_unsigned_start_is_a_fault(log: Path) -> None:
    """A checkpoint that the log's key has not signed proves nothing about its records."""
    other = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    signed = note.sign_checkpoint(note.Checkpoint(ORIGIN, 0, merkle.EMPTY_ROOT), other)

    assert "does not hold" in first_fault(verify(log, since=signed))[1]


def test_key_that_is_no_vkey_is_an_error(log: Path) -> None:
    """A mistyped key is not a fault of the log."""
    with pytest.raises(ConfigError, match="malformed"):
        verify(log, public_key="policyd.test/node-1")


def test_log_in_use_can_be_verified(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """Verifying does not need the writer to stop."""
    ledger = open_ledger()
    ledger.append([make_entry(number) for number in range(9)])

    report = verify(tmp_path / "log")

    assert (report.passed, report.size) == (True, 9)


def test_partial_verification_does_not_clear_the_marker(log: Path, signing_key: Ed25519PrivateKey) -> None:
    """Only a verification of everything lets a failed log be opened again."""
    (log / store.MARKER).write_text("the ledger failed\n", "utf-8")
    start = note.sign_checkpoint(note.Checkpoint(ORIGIN, 0, merkle.EMPTY_ROOT), signing_key)
    report = verify(log, since=start)
    assert report.marker_kept == "only part of the log was verified"
    assert (log / store.MARKER).exists()

    report = verify(log)

    assert "cleared" in str(report)
    assert not (log / store.MARKER).exists()


def test_marker_stays_while_the_failed_process_lives(log: Path) -> None:
    """A failed log that somebody still holds is verified, but not freed."""
    (log / store.MARKER).write_text("", "utf-8")
    held = store.lock(log)
    try:
        report = verify(log)
    finally:
        module.os.close(held)

    assert report.passed
    assert "another process" in report.marker_kept
    with pytest.raises(LedgerClosed):
        Ledger.open(log, origin=ORIGIN, signing_key=Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))


@pytest.mark.parametrize("content", [None, b"", b"nothing of the kind" * 300], ids=["none", "empty", "other"])
def test_what_is_no_log_is_named_so(tmp_path: Path, content: bytes | None) -> None:
    """No file, an empty one and a file of another kind each give one clear error."""
    if content is not None:
        (tmp_path / store.DATABASE).write_bytes(content)

    with pytest.raises(LedgerCorrupt, match=r"no log|cannot be read"):
        verify(tmp_path)


def test_verifier_stands_on_its_own() -> None:
    """Loading the verifier loads neither the writer nor anything of the server, at any depth."""
    script = "import sys, policyd.ledger.verify; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())

    ours = {name.removeprefix("policyd.") for name in loaded if name.startswith("policyd.")}
    assert "ledger.verify" in ours
    assert not {name for name in ours if name.startswith(("service", "server", "registry", "identity"))}
    assert not {"ledger.writer", "ledger.group", "ledger.commit", "ledger.recovery"} & ours
    assert not {"grpc", "pbac", "redis", "opentelemetry"} & loaded


def _insert(log: Path, index: int, leaf: bytes) -> None:
    """Insert a record that is whole in itself, as somebody without the key could."""
    frontier_of: Callable[[int, int], bytes] = lambda level, position: store.read_node(  # noqa: E731
        connection, level, position=position
    )
    connection = sqlite3.connect(log / store.DATABASE)
    try:
        frontier = merkle.load_frontier(index, frontier_of)
        completed = frontier.push(merkle.leaf_hash(leaf))
        columns = module.columns_of(leaf)
        values = [getattr(columns, name) for name in store.COLUMNS]
        with connection:
            connection.execute(store.INSERT, (index, *values, leaf, b"", DETAIL, b"".join(completed)))
    finally:
        connection.close()
