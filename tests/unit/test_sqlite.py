"""A transaction is stored whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from policyd.sqlite import transaction


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        opened.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
        yield opened


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM t")]


def test_what_the_block_did_is_stored(connection: sqlite3.Connection) -> None:
    """The end of the block commits."""
    with transaction(connection, "BEGIN"):
        connection.execute("INSERT INTO t VALUES (1)")

    assert (numbers(connection), connection.in_transaction) == ([1], False)


def insert_and(connection: sqlite3.Connection, then: str) -> None:
    with transaction(connection, "BEGIN IMMEDIATE"):
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute(then)


@pytest.mark.parametrize(
    "then",
    ["SELECT * FROM missing", "INSERT INTO t VALUES (1)", "INSERT OR ROLLBACK INTO t VALUES (1)"],
)
def test_what_a_block_did_before_it_failed_is_gone(connection: sqlite3.Connection, then: str) -> None:
    """The error comes out and nothing is stored; the last one has rolled back by itself."""
    with pytest.raises(sqlite3.Error, match=r"no such table|UNIQUE"):
        insert_and(connection, then)

    assert (numbers(connection), connection.in_transaction) == ([], False)
