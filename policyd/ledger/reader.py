"""Reads a log: records by index or decision id, their count, proofs and the stored checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from policyd import merkle
from policyd.ledger import store
from policyd.ledger.entry import IndexColumns

_NEWEST = 10_000
_PAGE = 512


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record as it is stored. Not checked against the tree: `verify` does that."""

    index: int
    leaf: bytes
    private: bytes
    columns: IndexColumns
    detail: bytes = b""

    @property
    def leaf_hash(self) -> bytes:
        """The hash of the record in the tree."""
        return merkle.leaf_hash(self.leaf)


class LedgerReader:
    """A read-only view of one log; safe to call from many threads, one at a time inside."""

    def __init__(self, directory: Path) -> None:
        """Open the log in `directory`; it may be in use by its writer.

        Raises:
            LedgerCorrupt: there is no log there, or one of an unknown format.
        """
        self._connection = store.open_for_reading(directory)
        self._lock = threading.Lock()
        self._path = directory / store.DATABASE
        try:
            with self._reading():
                meta = store.read_meta(self._connection)
        except BaseException:
            self._connection.close()
            raise
        self.origin = meta["origin"]
        self.vkey = meta["vkey"]

    def count(self) -> int:
        """Return how many records are stored."""
        with self._reading():
            return store.count_records(self._connection)

    def record(self, index: int) -> StoredRecord | None:
        """Return the record at an index, or None."""
        return self._one(f"{store.SELECT} WHERE idx = ?", index)

    def find_decision(self, decision_id: str) -> StoredRecord | None:
        """Return the record of a decision, or None."""
        return self._one(store.FIND, decision_id, "decision")

    def find_release(self, decision_id: str) -> StoredRecord | None:
        """Return the record of what was released after a decision, or None."""
        return self._one(store.FIND, decision_id, "release")

    def about(self, decision_id: str) -> list[StoredRecord]:
        """Return every record about a decision, oldest first: its own, and what was reported of it later."""
        with self._reading():
            rows = self._connection.execute(
                f"{store.SELECT} WHERE decision_id = ? AND decision_id != '' ORDER BY idx", (decision_id,)
            ).fetchall()
        return list(map(_stored, rows))

    def records(self, start: int = 0, stop: int | None = None) -> Iterator[StoredRecord]:
        """Yield records in index order from `start` to before `stop`, in pages; None: to the end."""
        while True:
            with self._reading():
                rows = self._connection.execute(
                    f"{store.SELECT} WHERE idx >= ? AND idx < ? ORDER BY idx LIMIT ?",
                    (start, store.MAX_INDEX if stop is None else stop, _PAGE),
                ).fetchall()
            yield from map(_stored, rows)
            if len(rows) < _PAGE:
                return
            start = rows[-1][0] + 1

    def trace_ids(self, start: int) -> Iterator[tuple[int, str]]:
        """Yield index and trace id of the records from `start` on that belong to a trace, in index order."""
        while True:
            with self._reading():
                rows = self._connection.execute(
                    "SELECT idx, trace_id FROM record WHERE idx >= ? ORDER BY idx LIMIT ?", (start, _PAGE)
                ).fetchall()
            yield from ((index, trace_id) for index, trace_id in rows if trace_id)
            if len(rows) < _PAGE:
                return
            start = rows[-1][0] + 1

    def holds_decisions(self) -> bool:
        """Return whether there is a record of a decision."""
        with self._reading():
            row = self._connection.execute("SELECT 1 FROM record WHERE decision_id != '' LIMIT 1").fetchone()
        return row is not None

    def key_numbers(self, start: int, *, stop: int = store.MAX_INDEX) -> set[int]:
        """Return the numbers of the record keys that the details in a range are sealed under."""
        with self._reading():
            return store.key_numbers(self._connection, start, stop=stop)

    def highest_epoch(self) -> int:
        """Return the highest epoch that the newest records speak of as applied, 0 where none does.

        Epochs only rise along the log, but for records that were under way together; so its end will do.
        """
        with self._reading():
            row = self._connection.execute(
                """
                SELECT max(epoch) FROM (SELECT epoch, kind, outcome FROM record ORDER BY idx DESC LIMIT ?)
                WHERE kind = 'decision' OR outcome != 'intended'
                """,
                (_NEWEST,),
            ).fetchone()
        return int(row[0] or 0)

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Return the proof that record `index` is in the tree of the first `size` records.

        Raises:
            ValueError: the index is not below the size.
            LedgerCorrupt: a tree hash is missing, as when `size` is beyond what is stored.
        """
        with self._reading():
            return merkle.inclusion_proof(index, size, self._read_node)

    def consistency_proof(self, old_size: int, size: int) -> list[bytes]:
        """Return the proof that the first `old_size` records are the beginning of the first `size`.

        Raises:
            ValueError: the old size is larger.
            LedgerCorrupt: a tree hash is missing, as when `size` is beyond what is stored.
        """
        with self._reading():
            return merkle.consistency_proof(old_size, size, self._read_node)

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` records.

        Raises:
            LedgerCorrupt: a tree hash is missing, as when `size` is beyond what is stored.
        """
        with self._reading():
            return merkle.root_at(size, self._read_node)

    def stored_checkpoint(self) -> str:
        """Return the newest checkpoint in the database (it trails the records by a commit), or empty."""
        with self._reading():
            row = self._connection.execute("SELECT note FROM checkpoint").fetchone()
        return str(row[0]) if row else ""

    def close(self) -> None:
        """Close the view."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> LedgerReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One at a time; what cannot be read is LedgerCorrupt, which every caller knows."""
        with self._lock, store.readable(self._path):
            yield

    def _read_node(self, level: int, position: int) -> bytes:
        return store.read_node(self._connection, level, position=position)

    def _one(self, query: str, *values: object) -> StoredRecord | None:
        with self._reading():
            row = self._connection.execute(query, values).fetchone()
        return _stored(row) if row else None


def _stored(row: tuple[object, ...]) -> StoredRecord:
    leaf, private, _ = store.parts_of(row)
    columns = IndexColumns(*store.columns_in(row))  # type: ignore[arg-type]  # STRICT columns of these types
    detail = store.detail_of(row)
    return StoredRecord(index=int(str(row[0])), leaf=leaf, private=private, columns=columns, detail=detail)
