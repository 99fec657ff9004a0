"""Small logs that the tests of the ledger share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_cases import AT, ORIGIN, OpenLedger, make_change, make_entry

from policyd.ledger.writer import Ledger


@pytest.fixture
def signing_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)


@pytest.fixture
def open_ledger(tmp_path: Path, signing_key: Ed25519PrivateKey) -> Iterator[OpenLedger]:
    """Open the log in this test's directory; every log still open at the end is closed."""
    opened: list[Ledger] = []

    def opener(**other: Any) -> Ledger:
        values: dict[str, Any] = {"origin": ORIGIN, "signing_key": signing_key}
        ledger = Ledger.open(tmp_path / "log", **(values | other))
        opened.append(ledger)
        return ledger

    yield opener
    for ledger in opened:
        if not ledger.failure:
            ledger.close()


@pytest.fixture
def log(tmp_path: Path, open_ledger: OpenLedger) -> Path:
    """A closed log of 21 records: 20 decisions and a state change."""
    ledger = open_ledger()
    for number in range(20):
        ledger.append([make_entry(number)])
    ledger.append([make_change(7, at=AT + 20)])
    ledger.close()
    return tmp_path / "log"
