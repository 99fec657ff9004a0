"""Keys of records are durable before anyone has them and given out once; no key means no decision."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ledger_cases import ORIGIN, OpenLedger, make_entry

from policyd.errors import ConfigError, LedgerBusy, LedgerClosed, LedgerCorrupt
from policyd.ledger import keystore
from policyd.ledger.detail import key_number, seal
from policyd.ledger.keystore import KeyStore, RecordKey, open_keys, read_keys
from policyd.ledger.vault import Vault
from policyd.ledger.writer import Ledger

PSEUDONYM_KEY = b"\x05" * 32


@dataclass(frozen=True)
class Master:
    """A master key as `policyd.identity.keys` makes one."""

    id: str = "00000000000000aa"
    secret: bytes = b"\x07" * 32


MASTER = Master()
OpenVault = Callable[..., Vault]


@pytest.fixture
def open_vault() -> Iterator[OpenVault]:
    """Open the keys beside a log; every vault still open at the end is closed."""
    opened: list[Vault] = []

    def opener(ledger: Ledger, **other: Any) -> Vault:
        values: dict[str, Any] = {"master": MASTER, "pseudonym_key": PSEUDONYM_KEY, "pool": 16}
        vault = Vault.open(ledger, **(values | other))
        opened.append(vault)
        return vault

    yield opener
    for vault in opened:
        vault.close()


def record(ledger: Ledger, number: int, key: RecordKey) -> None:
    """Append a decision whose detail is sealed under a key."""
    detail = seal(b"text", key, origin=ORIGIN, decision_id=f"{number:026d}")
    ledger.append([make_entry(number, key=key.secret, detail=detail)])


def numbers_stored(directory: Path) -> set[int]:
    with closing(sqlite3.connect(directory / keystore.DATABASE)) as connection:
        return {number for (number,) in connection.execute("SELECT number FROM record_key")}


def test_no_key_is_given_out_twice(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """Many threads at once, well beyond the pool, and each key comes once, durable beforehand."""
    ledger = open_ledger()
    vault = open_vault(ledger, pool=64)
    taken: list[RecordKey] = []

    def run() -> None:
        for _ in range(100):
            key = vault.take(timeout_s=10.0)
            taken.append(key)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({key.number for key in taken}) == len({key.secret for key in taken}) == 800
    with closing(read_keys(ledger.directory, MASTER, origin=ORIGIN)) as keys:
        assert all(keys.record_key(key.number) == key.secret for key in taken)


def test_an_orderly_close_deletes_what_nobody_took(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """After a close only keys that were given out are left, and their numbers do not come again."""
    ledger = open_ledger()
    vault = open_vault(ledger)
    taken = [vault.take(timeout_s=1.0).number for _ in range(3)]
    vault.close()

    assert numbers_stored(ledger.directory) == set(taken)
    record(ledger, 1, RecordKey(taken[2], b"\x01" * 32, bytes(12)))
    assert open_vault(ledger).take(timeout_s=1.0).number > max(taken)


def test_a_key_that_a_record_uses_survives_a_crash(
    open_ledger: OpenLedger, open_vault: OpenVault, tmp_path: Path
) -> None:
    """What a killed process left of its pool is deleted at the next start, but not what records use.

    Keys are used out of order here, across several fillings, and some are taken by records never written.
    """
    ledger = open_ledger()
    vault = open_vault(ledger)
    held = vault.take(timeout_s=1.0)
    kept = {}
    for number in range(50):
        key = vault.take(timeout_s=10.0)
        if number % 3:
            record(ledger, number, key)
            kept[key.number] = key.secret
    record(ledger, 50, held)
    kept[held.number] = held.secret
    crashed = Path(shutil.copytree(ledger.directory, tmp_path / "crashed"))
    vault.close()
    ledger.close()

    with (
        Ledger.open(crashed, origin=ORIGIN, signing_key=ledger._key) as again,
        Vault.open(again, master=MASTER, pseudonym_key=PSEUDONYM_KEY, pool=16) as other,
    ):
        fresh = {other.take(timeout_s=10.0).number for _ in range(40)}
        with closing(read_keys(crashed, MASTER, origin=ORIGIN)) as keys:
            assert {number: keys.record_key(number) for number in kept} == kept
    assert min(fresh) > max(kept)
    # Of the last pool nothing unused is left, so that nothing could ever be sealed under it.
    assert max(numbers_stored(crashed) - fresh) == max(kept)


def test_an_older_copy_of_the_keys_gives_out_none_of_their_numbers(
    open_ledger: OpenLedger, open_vault: OpenVault, tmp_path: Path
) -> None:
    """Restored from a back-up, the keys continue after the highest number that any record uses."""
    ledger = open_ledger()
    vault = open_vault(ledger)
    record(ledger, 0, vault.take(timeout_s=1.0))
    copy = shutil.copytree(ledger.directory, tmp_path / "copy")
    last = 0
    for number in range(1, 60):
        key = vault.take(timeout_s=10.0)
        last = key.number
        record(ledger, number, key)
    vault.close()
    for path in ledger.directory.glob(f"{keystore.DATABASE}*"):
        path.unlink()
    for path in copy.glob(f"{keystore.DATABASE}*"):
        shutil.copy(path, ledger.directory)

    assert open_vault(ledger).take(timeout_s=1.0).number > last


@pytest.mark.parametrize("index", ["3", "9", "none"])
def test_a_mark_that_was_moved_deletes_no_key_that_is_used(
    open_ledger: OpenLedger, open_vault: OpenVault, index: str
) -> None:
    """One flipped digit of the mark would have the keys of records taken for unused ones."""
    ledger = open_ledger()
    vault = open_vault(ledger, pool=64)
    for number in range(4):
        record(ledger, number, vault.take(timeout_s=1.0))
    vault.close()
    with closing(sqlite3.connect(ledger.directory / keystore.DATABASE)) as connection, connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'index'", (index,))

    with pytest.raises(LedgerCorrupt, match="was altered"):
        open_vault(ledger)

    with closing(read_keys(ledger.directory, MASTER, origin=ORIGIN)) as keys:
        assert all(keys.record_key(number) for number in ledger.reader.key_numbers(0))


def test_a_wrong_master_key_is_refused_at_start(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """Keys wrapped under two master keys would be half unreadable for ever, so the node does not start."""
    ledger = open_ledger()
    open_vault(ledger).close()

    with pytest.raises(ConfigError, match="wrapped under master key `00000000000000aa`, not `bb`"):
        open_vault(ledger, master=Master(id="bb", secret=b"\x08" * 32))
    with closing(open_keys(ledger.directory, Master(secret=b"\x08" * 32), origin=ORIGIN)) as keys:
        number = min(numbers_stored(ledger.directory), default=None)
        assert number is None
        keys.add_record_keys([RecordKey(1, b"\x01" * 32, bytes(12))], keystore.Mark(0, 0), nonces=[bytes(12)])
    with (
        closing(read_keys(ledger.directory, MASTER, origin=ORIGIN)) as keys,
        pytest.raises(LedgerCorrupt, match="record key 1 does not unwrap"),
    ):
        keys.record_key(1)


def test_keys_of_another_log_are_refused(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """The file names the log that its keys belong to."""
    ledger = open_ledger()
    open_vault(ledger).close()

    with pytest.raises(LedgerCorrupt, match="belongs to the log"):
        open_keys(ledger.directory, MASTER, origin="policyd.test/node-2")


def test_missing_keys_beside_decisions_are_refused(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """A node does not begin anew where details were readable: that takes an erasure on record."""
    ledger = open_ledger()
    vault = open_vault(ledger)
    record(ledger, 0, vault.take(timeout_s=1.0))
    vault.close()
    for path in ledger.directory.glob(f"{keystore.DATABASE}*"):
        path.unlink()

    with pytest.raises(LedgerCorrupt, match="--lost"):
        open_vault(ledger)
    assert not (ledger.directory / keystore.DATABASE).exists()


def test_wrapped_keys_cannot_be_exchanged(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """A wrapped key is bound to its number: moved to another row, it does not unwrap."""
    ledger = open_ledger()
    vault = open_vault(ledger)
    one, two = (vault.take(timeout_s=1.0).number for _ in range(2))
    vault.close()
    with closing(sqlite3.connect(ledger.directory / keystore.DATABASE, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE record_key SET wrapped = (SELECT wrapped FROM record_key WHERE number = ?) "
            "WHERE number = ?",
            (one, two),
        )

    with closing(read_keys(ledger.directory, MASTER, origin=ORIGIN)) as keys:
        assert keys.record_key(one)
        with pytest.raises(LedgerCorrupt, match="altered"):
            keys.record_key(two)


def test_no_key_in_time_is_busy(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """Where the disk does not keep up with making keys, nothing is recorded and the caller asks again."""
    vault = open_vault(open_ledger(), pool=4)
    with vault._file:  # as while the disk is slow: keys cannot be filled up
        for _ in range(4):
            vault.take(timeout_s=0.0)

        with pytest.raises(LedgerBusy, match="no record key"):
            vault.take(timeout_s=0.01)
    assert vault.take(timeout_s=10.0).number == 4


def test_keys_that_cannot_be_written_close_the_vault(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """After an error no key is given out, not even one that is ready: no key, no decision."""
    ledger = open_ledger()
    vault = open_vault(ledger, pool=4)
    with closing(sqlite3.connect(ledger.directory / keystore.DATABASE, isolation_level=None)) as connection:
        connection.execute("DROP TABLE record_key")
    for _ in range(2):
        vault.take(timeout_s=1.0)
    vault._thread.join(10.0)

    assert "no such table" in vault.failure
    with pytest.raises(LedgerClosed, match="nothing is decided"):
        vault.take(timeout_s=1.0)
    with pytest.raises(LedgerClosed, match="nothing is decided"):
        vault.pseudonym("researcher-1")


def test_a_closed_vault_gives_out_nothing(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """A node that is stopping decides nothing more."""
    vault = open_vault(open_ledger())
    vault.close()

    for act in (lambda: vault.take(timeout_s=0.0), lambda: vault.pseudonym("researcher-1")):
        with pytest.raises(LedgerClosed, match="stopping"):
            act()


def test_a_person_keeps_a_pseudonym_until_the_key_is_erased(
    open_ledger: OpenLedger, open_vault: OpenVault
) -> None:
    """One pseudonym a person, over restarts; another one after an erasure; none for nobody."""
    ledger = open_ledger()
    vault = open_vault(ledger)
    first = vault.pseudonym("researcher-1")
    assert vault.pseudonym("researcher-1") == first != vault.pseudonym("researcher-2")
    assert (len(first), vault.pseudonym("")) == (64, "")
    vault.close()
    assert open_vault(ledger).pseudonym("researcher-1") == first
    finder = keystore.finder_of(PSEUDONYM_KEY, "researcher-1")
    with closing(open_keys(ledger.directory, MASTER, origin=ORIGIN)) as keys:
        assert keys.person_key(finder)
        keys.erase([], finders=[finder])
        assert keys.person_key(finder) is None

    assert open_vault(ledger).pseudonym("researcher-1") != first


def test_erased_keys_leave_no_bytes_behind(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """Neither the file nor its write-ahead log holds a wrapped key or an id once it is erased."""
    ledger = open_ledger()
    vault = open_vault(ledger)
    taken = [vault.take(timeout_s=1.0) for _ in range(5)]
    vault.pseudonym("researcher-1")
    vault.close()
    finder = keystore.finder_of(PSEUDONYM_KEY, "researcher-1")
    path = ledger.directory / keystore.DATABASE
    with closing(sqlite3.connect(path)) as connection:
        wrapped = [row[0] for row in connection.execute("SELECT wrapped FROM record_key")]
        wrapped += [row[0] for row in connection.execute("SELECT wrapped FROM person")]
    assert all(each in path.read_bytes() for each in (*wrapped, finder))

    keys = open_keys(ledger.directory, MASTER, origin=ORIGIN)
    assert keys.erase([key.number for key in taken], finders=[finder])

    for file in ledger.directory.glob(f"{keystore.DATABASE}*"):
        for gone in (*wrapped, finder, *(key.secret for key in taken), b"researcher-1"):
            assert gone not in file.read_bytes(), file
    keys.close()


def test_a_reader_in_the_way_is_said(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """While somebody reads, the write-ahead log cannot be emptied, and erasing says so."""
    ledger = open_ledger()
    vault = open_vault(ledger)
    number = vault.take(timeout_s=1.0).number
    vault.close()
    keys = open_keys(ledger.directory, MASTER, origin=ORIGIN)
    keys._connection.execute("PRAGMA busy_timeout=10")
    with closing(sqlite3.connect(ledger.directory / keystore.DATABASE, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM record_key").fetchone()

        assert not keys.erase([number])
        assert keys.record_key(number) is None
    assert keys.truncate()
    keys.close()


def test_the_file_is_for_its_owner_alone(open_ledger: OpenLedger, open_vault: OpenVault) -> None:
    """Mode 0600, of the file and of what SQLite puts beside it."""
    ledger = open_ledger()
    vault = open_vault(ledger)
    vault.pseudonym("researcher-1")

    files = [*ledger.directory.glob(f"{keystore.DATABASE}*")]
    assert {path.name for path in files} >= {"detail.db", "detail.db-wal"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE meta SET value = '2' WHERE name = 'format'", "the format of `detail.db` is `2`"),
        ("DROP TABLE meta", "cannot be read"),
    ],
    ids=["format", "no meta"],
)
def test_a_file_of_another_form_is_refused(
    open_ledger: OpenLedger, open_vault: OpenVault, statement: str, message: str
) -> None:
    """What this program does not know it does not touch."""
    ledger = open_ledger()
    open_vault(ledger).close()
    with closing(sqlite3.connect(ledger.directory / keystore.DATABASE, isolation_level=None)) as connection:
        connection.execute(statement)

    for opener in (open_keys, read_keys):
        opening: Callable[..., KeyStore] = opener
        with pytest.raises(LedgerCorrupt, match=message):
            opening(ledger.directory, MASTER, origin=ORIGIN)


def test_reading_keys_that_are_not_there_is_said(tmp_path: Path) -> None:
    """A directory without keys is named."""
    with pytest.raises(LedgerCorrupt, match=r"`detail\.db` is missing"):
        read_keys(tmp_path, MASTER, origin=ORIGIN)


def test_numbers_of_sealed_details_are_found_in_the_log(
    open_ledger: OpenLedger, open_vault: OpenVault
) -> None:
    """The number of the key stands at the head of the sealed detail."""
    ledger = open_ledger()
    vault = open_vault(ledger)
    keys = [vault.take(timeout_s=1.0) for _ in range(4)]
    for number, key in enumerate(keys):
        record(ledger, number, key)

    assert ledger.reader.key_numbers(2) == {keys[2].number, keys[3].number}
    stored = ledger.reader.record(1)
    assert stored is not None
    assert key_number(stored.detail) == keys[1].number
