"""What others hold of a log, in its own records of releases and in clients' journals, must still be in it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from policyd import merkle
from policyd.errors import ConfigError, LedgerCorrupt
from policyd.ledger import note, store
from policyd.ledger.reader import LedgerReader
from policyd.ledger.release_record import checkpoints_in
from policyd.ledger.tiles import WIDTH, TileReader

JOURNALS = "*.jsonl*"
"""The journals in a directory of receipts, with those that were put aside under a number."""
_RECENT = 4_096

Finding = tuple[int | None, str]
"""The first record at fault, where it is about one, and what is wrong."""


class StoredTree:
    """The tree of a log's database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # Trees of nearly one size have nearly all their subtrees in common.
        self._node = lru_cache(_RECENT)(self._read_node)

    def root(self, size: int) -> bytes:
        """Return the root over the first `size` records."""
        return merkle.root_at(size, self._node)

    def leaf_hash(self, index: int) -> bytes:
        """Return the hash of one record."""
        return self._node(0, index)

    def _read_node(self, level: int, position: int) -> bytes:
        return store.read_node(self._connection, level, position=position)


class TileTree:
    """The tree of an export of `size` records."""

    def __init__(self, files: TileReader, size: int) -> None:
        self._files = files
        self._size = size

    def root(self, size: int) -> bytes:
        """Return the root over the first `size` records."""
        return self._files.edge(size, of=self._size).root()

    def leaf_hash(self, index: int) -> bytes:
        """Return the hash of one record."""
        number, at = divmod(index, WIDTH)
        return self._files.tile(0, number, width=min(WIDTH, self._size - number * WIDTH))[at]


class Witnessed:
    """Holds checkpoints and receipts of others against the tree of one log of `size` records."""

    def __init__(self, tree: StoredTree | TileTree, *, verifier: note.Verifier, size: int) -> None:
        self._tree = tree
        self._verifier = verifier
        self._size = size
        self._root = lru_cache(_RECENT)(lambda of: _readable(tree.root, of))
        self.checked = 0
        """Checkpoints and receipts that were looked at."""

    def release(self, index: int, leaf: bytes) -> Iterator[Finding]:
        """Check the checkpoints of this log that the record of a release at `index` holds.

        The records before it have been verified, so that the tree over them can be relied on.
        """
        for signed in checkpoints_in(leaf):
            yield from self._checkpoint(signed, where=f"record {index}", at_most=index)

    def receipts(self, directory: Path) -> Iterator[Finding]:
        """Check the journals in a directory; of another node's log, its records of releases.

        Raises:
            ConfigError: there is neither a journal nor a log.
        """
        if (directory / store.DATABASE).is_file():
            with LedgerReader(directory) as other:
                for record in other.records():
                    if record.columns.kind == "release":
                        where = f"record {record.index} of `{other.origin}`"
                        for signed in checkpoints_in(record.leaf):
                            yield from self._checkpoint(signed, where=where, at_most=self._size)
            return
        journals = sorted(directory.glob(JOURNALS))
        if not journals:
            raise ConfigError(
                f"no journal ({JOURNALS}) and no log in `{directory}`: give the clients' directory"
            )
        for journal in journals:
            yield from self._journal(journal)

    def _journal(self, path: Path) -> Iterator[Finding]:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    return  # its client was killed while it wrote this
                where = f"`{path.name}` line {number}"
                try:
                    yield from self._line(json.loads(line), where)
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    yield None, f"{where} cannot be read: {error}"

    def _line(self, entry: dict[str, Any], where: str) -> Iterator[Finding]:
        if entry["origin"] != self._verifier.name:
            return
        kind = entry["kind"]
        if kind == "leaf":
            yield from self._leaf(int(entry["index"]), bytes.fromhex(entry["leaf_hash"]), where)
        elif kind in ("checkpoint", "proved"):
            yield from self._checkpoint(str(entry["note"]), where=where, at_most=self._size)
        elif kind == "fork":
            for signed in entry["notes"]:
                yield from self._checkpoint(str(signed), where=where, at_most=self._size)
        else:
            raise ValueError(f"`{kind}` is not known")

    def _leaf(self, index: int, leaf_hash: bytes, where: str) -> Iterator[Finding]:
        self.checked += 1
        if not 0 <= index < self._size:
            yield self._size, f"record {index} is missing: {where} is a receipt for it"
            return
        if _readable(self._tree.leaf_hash, index) != leaf_hash:
            yield index, f"record {index} is not the one for which {where} is a receipt"

    def _checkpoint(self, signed: str, *, where: str, at_most: int) -> Iterator[Finding]:
        """Check one signed note; that of another log, or without this log's signature, shows nothing."""
        try:
            claimed = note.parse_checkpoint(note.parse(signed).text)
        except LedgerCorrupt as error:
            yield None, f"the checkpoint in {where} cannot be read: {error}"
            return
        if claimed.origin != self._verifier.name:
            return
        self.checked += 1
        if claimed.size <= at_most and self._root(claimed.size) == claimed.root:
            return
        try:
            note.verify_checkpoint(signed, origin=self._verifier.name, verifier=self._verifier)
        except LedgerCorrupt:
            return
        if claimed.size > at_most:
            yield (
                at_most,
                f"record {at_most} is missing: the checkpoint in {where} covers {claimed.size} records",
            )
        else:
            yield (
                None,
                f"the log was rewritten, or shows others something else: its first {claimed.size} records do "
                f"not give the root that it signed and {where} holds",
            )


def _readable(read: Callable[[int], bytes], number: int) -> bytes:
    """Return a hash of the tree; none where it cannot be read, which is like no claim."""
    try:
        return read(number)
    except LedgerCorrupt:
        return b""
