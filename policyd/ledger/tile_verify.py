"""Verifies an exported log from its files alone: entries, tiles, order, checkpoint, signature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from policyd import clock, merkle
from policyd.errors import ConfigError, LedgerCorrupt
from policyd.ledger import note, tiles
from policyd.ledger.bare_hashing import BareHashing
from policyd.ledger.columns import instant_of
from policyd.ledger.entry import columns_in_document, parse_leaf
from policyd.ledger.report import Fault, VerifyReport
from policyd.ledger.verify import MAX_STEP_BACK_MS, Progress
from policyd.ledger.witnessed import TileTree, Witnessed

_PROGRESS_EVERY = 40
"""Bundles between two reports of progress: about ten thousand records."""
_SAMPLED = 16
_RELEASE = b'"kind":"release"'
"""What every record of a release contains, and hardly any other."""


def verify_tiles(
    directory: Path,
    *,
    public_key: str | None = None,
    since: str | None = None,
    receipts: Path | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Verify the export in `directory` and report the first fault of its records, and of its checkpoint.

    `public_key` is the vkey of the log; with None no signature is checked, not even of the checkpoints that
    records of releases hold, and the report says so. `since` is a signed checkpoint held elsewhere: the
    export must begin with it, and only newer records are hashed again. `receipts` is a directory of
    clients' journals, or another node's log, whose receipts must be of this one. Nothing but the files is
    read: no database of this log, no other key.

    Raises:
        LedgerCorrupt: there is no export.
        ConfigError: `public_key` is no vkey, or `receipts` holds none.
    """
    started_s = clock.monotonic()
    work = _Verification(directory, public_key)
    faults = tuple(work.run(since, progress))
    if receipts is not None:
        if work.witnessed is None:
            raise ConfigError("receipts are compared under the log's key: name it")
        faults += tuple(Fault(*found) for found in work.witnessed.receipts(receipts))
    return VerifyReport(
        origin=work.checkpoint.origin,
        vkey="" if work.verifier is None else work.verifier.vkey,
        key_pinned=work.verifier is not None,
        records=work.edge.size - work.start,
        size=work.checkpoint.size,
        signed=work.checkpoint.size if not faults else 0,
        root=work.root,
        faults=faults,
        elapsed_s=clock.monotonic() - started_s,
        bare_records_per_s=work.bare.records_per_s(),
        witnessed=work.witnessed.checked if work.witnessed is not None else 0,
    )


class _Verification:
    """One pass over one export."""

    def __init__(self, directory: Path, public_key: str | None) -> None:
        self._files = tiles.TileReader(directory)
        try:
            self.verifier = None if public_key is None else note.Verifier.from_vkey(public_key)
        except ValueError as error:
            raise ConfigError(f"the key of the log is malformed: {error}") from None
        signed = self._files.checkpoint()
        if signed is None:
            raise LedgerCorrupt(f"no export in `{directory}`: `{tiles.CHECKPOINT}` is missing")
        self._fault: Fault | None = None
        try:
            self.checkpoint = self._read(signed)
        except LedgerCorrupt as error:
            self._fault = Fault(None, f"the checkpoint of the export does not hold: {error}")
            # What it says is worth a look all the same: the records may be whole.
            self.checkpoint = note.parse_checkpoint(note.parse(signed).text)
        self.edge = tiles.Edge()
        self.start = 0
        self.root = merkle.EMPTY_ROOT
        self.bare = BareHashing()
        self.witnessed: Witnessed | None = None
        if self.verifier is not None:
            tree = TileTree(self._files, self.checkpoint.size)
            self.witnessed = Witnessed(tree, verifier=self.verifier, size=self.checkpoint.size)
        self._held: list[Fault] = []

    def run(self, since: str | None, progress: Progress | None) -> Iterator[Fault]:
        if self._fault is not None:
            yield self._fault
        try:
            known = [] if since is None else self._start_at(since)
        except LedgerCorrupt as error:
            yield Fault(None, str(error))
            return
        fault = self._rebuild(known, progress)
        self.root = self.edge.root()
        if fault is not None:
            yield fault
        elif self.root != self.checkpoint.root:
            yield Fault(None, f"the {self.edge.size} records do not give the root of the checkpoint")
        yield from self._held

    def _read(self, signed: str) -> note.Checkpoint:
        if self.verifier is None:
            return note.parse_checkpoint(note.parse(signed).text)
        return note.verify_checkpoint(signed, origin=self.verifier.name, verifier=self.verifier)

    def _start_at(self, signed: str) -> list[bytes]:
        """Take up at a checkpoint held elsewhere; return the hashes beyond the last full tile of leaves."""
        try:
            since = self._read(signed)
        except LedgerCorrupt as error:
            raise LedgerCorrupt(f"the checkpoint to start from does not hold: {error}") from None
        if since.origin != self.checkpoint.origin:
            raise LedgerCorrupt(f"the checkpoint to start from is of log `{since.origin[:80]}`")
        if since.size > self.checkpoint.size:
            raise LedgerCorrupt(
                f"record {self.checkpoint.size} is missing: a checkpoint covers {since.size}, the export less"
            )
        edge = self._files.edge(since.size, of=self.checkpoint.size)
        if edge.root() != since.root:
            raise LedgerCorrupt(
                f"the export does not begin with the {since.size} records of the checkpoint given"
            )
        known = edge.rewind()
        self.edge, self.start = edge, since.size
        return known

    def _rebuild(self, known: list[bytes], progress: Progress | None) -> Fault | None:
        size, latest = self.checkpoint.size, 0
        for number in range(self.edge.size // tiles.WIDTH, -(-size // tiles.WIDTH)):
            first = number * tiles.WIDTH
            width = min(tiles.WIDTH, size - first)
            try:
                leaves = self._files.entries(number, width=width)
                stored = self._files.tile(0, number, width=width)
            except LedgerCorrupt as error:
                return Fault(first, f"records {first} to {first + width - 1}: {error}")
            if number % _SAMPLED == 0:
                for leaf in leaves:
                    self.bare.sample(leaf)
            for at, leaf in enumerate(leaves):
                index, hashed = first + at, merkle.leaf_hash(leaf)
                if hashed != stored[at] or (at < len(known) and hashed != known[at]):
                    path = tiles.tile_path(0, number, width=width)
                    return Fault(index, f"record {index}: its bytes do not give its hash in `{path}`")
                try:
                    made_at = instant_of(leaf)
                    if made_at is None:
                        made_at = _instant_in(leaf)
                except LedgerCorrupt as error:
                    return Fault(index, f"record {index}: {error}")
                if made_at < latest - MAX_STEP_BACK_MS:
                    return Fault(index, f"record {index} is {latest - made_at} ms older than one before it")
                latest = max(latest, made_at)
                if self.witnessed is not None and _RELEASE in leaf:
                    self._held += (Fault(*found) for found in self.witnessed.release(index, leaf))
                if filled := self.edge.push(hashed):
                    fault = self._compare(filled[1:])
                    if fault is not None:
                        return fault
            known = []
            if progress is not None and (number + 1) % _PROGRESS_EVERY == 0:
                progress(self.edge.size, size)
        return self._compare([each for each in self.edge.partial() if each[0]])

    def _compare(self, made: list[tuple[int, int, bytes]]) -> Fault | None:
        """Compare tiles above the leaf hashes with those that the records give."""
        for level, number, tile in made:
            width = len(tile) // merkle.HASH_BYTES
            first = number * tiles.WIDTH ** (level + 1)
            path = tiles.tile_path(level, number, width=width)
            try:
                stored = self._files.tile(level, number, width=width)
            except LedgerCorrupt as error:
                return Fault(first, f"the tree from record {first} on: {error}")
            if b"".join(stored) != tile:
                return Fault(first, f"`{path}` is not what the records from {first} on give")
        return None


def _instant_in(leaf: bytes) -> int:
    """Return when a record of any known kind was made; what it commits to lies elsewhere and is not read.

    Raises:
        LedgerCorrupt: the bytes are no record.
    """
    try:
        made_at = columns_in_document(parse_leaf(leaf), {}).at
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LedgerCorrupt(f"the record lacks a part or holds one of the wrong type: {error}") from None
    if type(made_at) is not int:
        raise LedgerCorrupt("the record's `at` is of the wrong type")
    return made_at
