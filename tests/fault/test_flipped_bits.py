"""One flipped bit in any byte of a log's files: the verifier says where, or all reads as before."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from ledger_child import KEY, ORIGIN, make_entry
from sweeps import WHOLE, flip, make_log, quick_directory, some
from vault_child import Master

from policyd import ids
from policyd.errors import ConfigError, LedgerCorrupt
from policyd.ledger import keystore, store
from policyd.ledger.detail import key_number, seal, unseal
from policyd.ledger.reader import LedgerReader
from policyd.ledger.tile_export import export
from policyd.ledger.vault import Vault
from policyd.ledger.verify import verify
from policyd.ledger.writer import Ledger

RECORDS = 4


def restore(files: dict[Path, bytes]) -> None:
    """Put back files as they were, without what SQLite makes beside them."""
    for path in {each.parent for each in files}:
        for left_over in (*path.glob("*-wal"), *path.glob("*-shm")):
            if left_over not in files:
                left_over.unlink()
    for path, whole in files.items():
        path.write_bytes(whole)


def complaint(log: Path) -> str:
    """What the verifier says, empty where it finds nothing."""
    try:
        report = verify(log)
    except LedgerCorrupt as error:
        return f"refused: {error}"
    return "; ".join(map(str, report.faults))


def exported(log: Path, target: Path) -> dict[str, bytes]:
    shutil.rmtree(target, ignore_errors=True)
    export(log, target)
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def content(log: Path) -> list[object]:
    """All that anybody can read of a log: its records, also by decision id, its checkpoint and its names."""
    with LedgerReader(log) as reader:
        records = list(reader.records())
        found = [reader.about(each.columns.decision_id) for each in records if each.columns.decision_id]
        return [records, found, reader.stored_checkpoint(), reader.origin, reader.vkey]


def places(log: Path) -> dict[int, str]:
    """Name, for each byte of the database that holds a part of a record or the checkpoint, which."""
    whole = (log / store.DATABASE).read_bytes()
    named: dict[int, str] = {}
    with closing(store.open_for_reading(log)) as connection:
        rows = connection.execute(f"{store.SELECT} ORDER BY idx").fetchall()
        signed = connection.execute("SELECT note FROM checkpoint").fetchone()[0].encode()
    for row in rows:
        # From the first text column to the last byte of the tree hashes a small record is in one piece.
        nodes = row[-1]
        leaf = whole.index(store.parts_of(row)[0])
        begin = whole.rindex(str(row[1]).encode(), 0, leaf)
        named |= dict.fromkeys(range(begin, whole.index(nodes, leaf) + len(nodes)), f"record {row[0]}")
    begin = whole.index(signed)
    return named | dict.fromkeys(range(begin, begin + len(signed)), "the checkpoint in the database")


def test_a_flipped_bit_in_the_database_is_named_or_has_no_effect(tmp_path: Path) -> None:
    """Record, column, tree hash, checkpoint: named. Elsewhere: found, or all reads as before."""
    outcomes: Counter[str] = Counter()
    with quick_directory() as directory:
        log = make_log(directory / "log", RECORDS)
        path = log / store.DATABASE
        files = {path: path.read_bytes(), log / store.ANCHOR: (log / store.ANCHOR).read_bytes()}
        before, tiles, named = content(log), exported(log, directory / "tiles"), places(log)
        assert len(named) > RECORDS * 1_000
        restore(files)
        inside = sorted(named)
        outside = sorted(set(range(len(files[path]))) - named.keys())
        for offset in (*some(inside, 300), *some(outside, 500)):
            flip(path, offset)
            said = complaint(log)
            what = f"byte {offset}, in {named.get(offset, 'the rest')}: {said}"
            if offset in named:
                assert named[offset] in said, what
                outcomes["named"] += 1
            elif said:
                outcomes["found"] += 1
            else:
                assert content(log) == before, what
                # An export syncs each of its files: one of many is enough to see that it reads no other way.
                if offset % (50 if WHOLE else 500) == 0:
                    assert exported(log, directory / "tiles") == tiles, what
                outcomes["without effect"] += 1
            restore(files)
        assert complaint(log) == ""
    print(dict(outcomes))
    assert len(outcomes) == 3


def test_a_flipped_bit_in_the_checkpoint_file_is_named() -> None:
    """Each byte of the checkpoint beside the log matters, and the log is not opened with a changed one."""
    with quick_directory() as directory:
        log = make_log(directory / "log", RECORDS)
        anchor = log / store.ANCHOR
        files = {path: path.read_bytes() for path in (log / store.DATABASE, anchor)}
        for offset in some(range(len(files[anchor])), 60):
            flip(anchor, offset)
            assert f"the checkpoint in `{store.ANCHOR}`" in complaint(log), offset
            with pytest.raises(LedgerCorrupt):
                Ledger.open(log, origin=ORIGIN, signing_key=KEY)
            restore(files)
        assert complaint(log) == ""


def killed_log(directory: Path, records: int, *, moved: int = 0) -> Path:
    """The files of a killed process: all records signed for, the last ones in the write-ahead log."""
    with Ledger.open(directory / "alive", origin=ORIGIN, signing_key=KEY) as ledger:
        for number in range(records):
            ledger.append([make_entry()])
            if number + 1 == moved:
                store.move_write_ahead_log(ledger._state.connection)
        store.replace_file(ledger.directory / store.ANCHOR, ledger.checkpoint)
        return shutil.copytree(directory / "alive", directory / "killed")


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_flipped_bit_in_a_killed_log_is_found_or_has_no_effect(suffix: str) -> None:
    """In the write-ahead log: what it takes away is named as missing. Its index: made anew anyway."""
    outcomes: Counter[str] = Counter()
    with quick_directory() as directory:
        log = killed_log(directory, 3)
        files = {path: path.read_bytes() for path in log.iterdir()}
        before = content(log)
        restore(files)
        path = log / f"{store.DATABASE}{suffix}"
        for offset in some(range(len(files[path])), 120):
            flip(path, offset)
            said = complaint(log)
            if not said:
                assert content(log) == before, offset
            else:
                assert "record" in said or "refused" in said or "SQLite" in said, (offset, said)
            outcomes["found" if said else "without effect"] += 1
            restore(files)
    print(dict(outcomes))
    assert (outcomes["found"] > 0) == (suffix == "-wal")


def wrapped_in(log: Path) -> list[bytes]:
    with closing(sqlite3.connect(f"file:{log / keystore.DATABASE}?mode=ro", uri=True)) as connection:
        query = "SELECT wrapped FROM record_key UNION ALL SELECT wrapped FROM person"
        return [wrapped for (wrapped,) in connection.execute(query)]


def span(whole: bytes, part: bytes) -> tuple[int, int]:
    begin = whole.index(part)
    return begin, begin + len(part)


def test_a_flipped_bit_in_the_keys_never_shows_another_text() -> None:
    """Each byte of `detail.db`: a detail opens to what it was, is said to be unreadable, or has no key."""
    outcomes: Counter[str] = Counter()
    with quick_directory() as directory:
        log = directory / "log"
        with Ledger.open(log, origin=ORIGIN, signing_key=KEY) as ledger:
            vault = Vault.open(ledger, master=Master(), pseudonym_key=bytes(32), pool=8)
            pseudonym = vault.pseudonym("researcher-1")
            for _ in range(RECORDS):
                key, decision_id = vault.take(timeout_s=60), ids.decision_id()
                detail = seal(decision_id.encode(), key, origin=ORIGIN, decision_id=decision_id)
                ledger.append([make_entry(decision_id=decision_id, key=key.secret, detail=detail)])
            vault.close()
        with LedgerReader(log) as reader:
            records = list(reader.records())
        path = log / keystore.DATABASE
        files = {each: each.read_bytes() for each in (path, log / store.DATABASE, log / store.ANCHOR)}
        finder = keystore.finder_of(bytes(32), "researcher-1")
        inside = [offset for key in wrapped_in(log) for offset in range(*span(files[path], key))]
        for offset in (*some(inside, 60), *some(range(len(files[path])), 300)):
            flip(path, offset)
            try:
                with closing(keystore.read_keys(log, Master(), origin=ORIGIN)) as keys:
                    for record in records:
                        try:
                            secret = keys.record_key(key_number(record.detail))
                            if secret is None:
                                outcomes["gone"] += 1
                                continue
                            plain = unseal(record.leaf, record.detail, secret, origin=ORIGIN)
                        except LedgerCorrupt:
                            outcomes["unreadable"] += 1
                            continue
                        assert plain.decode() == record.columns.decision_id, offset
                        outcomes["same"] += 1
                    try:
                        person = keys.person_key(finder)
                    except LedgerCorrupt:
                        outcomes["unreadable"] += 1
                    else:
                        assert person is None or keystore.pseudonym_of(person, "researcher-1") == pseudonym
            except (ConfigError, LedgerCorrupt):
                outcomes["refused"] += 1
            restore(files)
    print(dict(outcomes))
    assert outcomes["same"] > 0 < outcomes["unreadable"]
