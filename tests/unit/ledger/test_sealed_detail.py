"""A sealed detail opens under its own key and as itself alone; without the key the log still verifies."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ledger_cases import ORIGIN, OpenLedger, make_change, make_entry

from policyd.errors import LedgerCorrupt
from policyd.ledger import store
from policyd.ledger.detail import seal, unseal
from policyd.ledger.entry import Entry
from policyd.ledger.keystore import RecordKey
from policyd.ledger.verify import verify

KEY = RecordKey(258, b"\x0a" * 32, b"\x0b" * 12)
DECISION_ID = f"{1:026d}"


def sealed(plain: bytes = b"what was read", **other: Any) -> Entry:
    values: dict[str, Any] = {"origin": ORIGIN, "decision_id": DECISION_ID}
    detail = seal(plain, KEY, **(values | other))
    return make_entry(1, key=KEY.secret, detail=detail)


@pytest.mark.parametrize("size", [0, 1, 4_095, 4_096, 900_000])
def test_what_was_sealed_comes_back(size: int) -> None:
    """Short details as they are, long ones deflated; the bytes are the same."""
    plain = bytes(number % 7 for number in range(size))
    entry = sealed(plain)

    assert unseal(entry.leaf, entry.detail, KEY.secret, origin=ORIGIN) == plain
    assert entry.detail[:8] == (258).to_bytes(8, "big")
    assert len(entry.detail) < 50_000


def test_the_key_is_never_used_as_it_is() -> None:
    """The leaf publishes a hash of the record key, so encryption is under a key derived from it."""
    entry = sealed(b"x" * 64)

    assert KEY.secret not in entry.detail
    assert hashlib.sha256(KEY.secret).hexdigest().encode() in entry.leaf


@pytest.mark.parametrize("position", [0, 7, 8, 19, 20, 21, -1])
def test_a_changed_detail_does_not_open(position: int) -> None:
    """Number, nonce, ciphertext and tag: any change is another detail than the leaf commits to."""
    entry = sealed()
    changed = bytearray(entry.detail)
    changed[position] ^= 1

    with pytest.raises(LedgerCorrupt, match="not the one that the record commits to"):
        unseal(entry.leaf, bytes(changed), KEY.secret, origin=ORIGIN)


def test_another_key_cannot_be_shown_to_open_it() -> None:
    """AES-GCM does not commit to its key; the leaf does."""
    entry = sealed()

    with pytest.raises(LedgerCorrupt, match="not the one that the record commits to"):
        unseal(entry.leaf, entry.detail, b"\x0c" * 32, origin=ORIGIN)


@pytest.mark.parametrize("other", [{"origin": "policyd.test/node-2"}, {"decision_id": f"{2:026d}"}], ids=str)
def test_a_detail_belongs_to_its_log_and_decision(other: dict[str, Any]) -> None:
    """Sealed for another log or decision, it does not open, even where a leaf commits to it."""
    entry = sealed(**other)

    with pytest.raises(LedgerCorrupt, match="does not open"):
        unseal(entry.leaf, entry.detail, KEY.secret, origin=ORIGIN)


def test_a_changed_ciphertext_is_a_fault(tmp_path: Path, open_ledger: OpenLedger) -> None:
    """`audit verify` names the record whose detail was changed, taken away, or given where none belongs."""
    ledger = open_ledger()
    ledger.append([make_entry(0), sealed(), make_change(7, at=make_entry(0).columns.at)])
    ledger.close()
    log = tmp_path / "log"
    assert verify(log).passed
    with closing(sqlite3.connect(log / store.DATABASE, isolation_level=None)) as connection:
        for index, new in ((1, b"\x00" * 60), (1, b""), (0, sealed().detail), (2, b"more")):
            (old,) = connection.execute("SELECT detail FROM record WHERE idx = ?", (index,)).fetchone()
            connection.execute("UPDATE record SET detail = ? WHERE idx = ?", (new, index))
            fault = verify(log).faults[0]
            connection.execute("UPDATE record SET detail = ? WHERE idx = ?", (old, index))

            message = f"record {index}: the detail is not the one that the record commits to"
            assert (fault.index, fault.message) == (index, message)
    assert verify(log).passed
