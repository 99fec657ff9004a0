"""Transactions of SQLite connections that are in autocommit mode (`isolation_level=None`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Run the block between `begin` and COMMIT; whatever it raises, nothing of it is stored."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite ends the transaction by itself after some errors, and then there is nothing to roll back.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
