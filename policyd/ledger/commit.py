"""One commit of a log: records and signature in one transaction, and what was stored read back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from policyd import merkle
from policyd.errors import LedgerCorrupt
from policyd.ledger import store


def commit_rows(
    connection: sqlite3.Connection, rows: Sequence[store.Row], *, checkpoint: str, clean: bool = False
) -> None:
    """Write records and the signature over those before them in one transaction, and sync it."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(store.INSERT, rows)
    connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)", (checkpoint, int(clean)))
    connection.execute("COMMIT")


def read_back(
    connection: sqlite3.Connection, rows: Sequence[store.Row], *, first: int, checkpoint: str
) -> None:
    """Read what was just committed over another connection and hash the records again.

    Each record is also looked up by its decision id, and the stored signature is compared, so that
    every page of the commit is read: a page that is torn anywhere is found.

    Raises:
        LedgerCorrupt: what is stored is not what was written.
    """
    stored = connection.execute(f"{store.SELECT} WHERE idx >= ? ORDER BY idx", (first,)).fetchall()
    if len(stored) != len(rows):
        raise LedgerCorrupt(f"{len(rows)} records were committed from {first} on, {len(stored)} are stored")
    for have, want in zip(stored, rows, strict=True):
        leaf, _, nodes = store.parts_of(have)
        if have != want or merkle.leaf_hash(leaf) != nodes[: merkle.HASH_BYTES]:
            raise LedgerCorrupt(f"record {want[0]}: the stored bytes are not those that were committed")
    if missing := store.not_found(connection, rows):
        raise LedgerCorrupt(f"record {missing[0]}: it is stored, but not found by its decision id")
    if connection.execute("SELECT note FROM checkpoint").fetchone() != (checkpoint,):
        raise LedgerCorrupt("the stored checkpoint is not the one that was committed")
