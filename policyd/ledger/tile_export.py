"""Writes a log as C2SP tlog-tiles: plain files that anyone can check with the log's public key."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from policyd import merkle
from policyd.errors import ConfigError, LedgerClosed, LedgerCorrupt
from policyd.files import sync
from policyd.ledger import note, store, tiles
from policyd.ledger.proving import log_verifier, newest_checkpoint
from policyd.ledger.reader import LedgerReader
from policyd.ledger.verify import Progress

_PROGRESS_EVERY = 10_000


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did: the log is there up to `size`, and `added` of its records are new."""

    origin: str
    size: int
    added: int
    files: int


def export(
    directory: Path, target: Path, *, public_key: str | None = None, progress: Progress | None = None
) -> ExportReport:
    """Write the log in `directory` to `target`, up to its newest stored checkpoint.

    Only what is new is written when the log is there already; no file under its checkpoint is changed.
    Every file appears whole, the checkpoint last, so that no reader sees one without its tiles. What
    stands beside a leaf (private part, sealed detail) is not written. The log may be in use.
    `public_key` is the vkey that its checkpoints must carry; None trusts the one stored in the log.

    Raises:
        LedgerCorrupt: the records do not give the signed root, or `target` holds another log.
        LedgerClosed: another export into `target` is under way.
        ConfigError: `public_key` is no vkey, or `target` cannot be written.
    """
    with LedgerReader(directory) as reader:
        verifier = log_verifier(reader, public_key)
        signed, checkpoint = newest_checkpoint(directory, reader, verifier=verifier)
        try:
            target.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(target):
                work = _Export(reader, target, checkpoint)
                held = work.resume(verifier)
                work.write(progress)
                work.publish(signed)
        except OSError as error:
            raise ConfigError(f"`{target}` cannot be written: {error}") from error
    return ExportReport(
        origin=verifier.name, size=checkpoint.size, added=checkpoint.size - held, files=work.files
    )


class _Export:
    """One export: the edge of what is there already, and what has been written."""

    def __init__(self, reader: LedgerReader, target: Path, checkpoint: note.Checkpoint) -> None:
        self._reader = reader
        self._target = target
        self._checkpoint = checkpoint
        self._edge = tiles.Edge()
        self._known: list[bytes] = []
        self._touched: set[Path] = set()
        self._full: list[Path] = []
        self.files = 0

    def resume(self, verifier: note.Verifier) -> int:
        """Take up where the export in the target ended; return how many records it holds."""
        there = tiles.TileReader(self._target)
        signed = there.checkpoint()
        if signed is None:
            return 0
        try:
            held = note.verify_checkpoint(signed, origin=verifier.name, verifier=verifier)
        except LedgerCorrupt as error:
            raise LedgerCorrupt(f"`{self._target}` holds another export: {error}") from None
        if held.size > self._checkpoint.size:
            raise LedgerCorrupt(
                f"`{self._target}` holds {held.size} records, the log {self._checkpoint.size}: "
                "restore the newest copy of the log"
            )
        self._edge = there.edge(held.size, of=held.size)
        if self._edge.root() != held.root:
            raise LedgerCorrupt(f"the tiles in `{self._target}` do not give the root signed beside them")
        self._known = self._edge.rewind()
        return held.size

    def write(self, progress: Progress | None) -> None:
        """Write the tiles and bundles that are new, and check that they give the signed root."""
        edge, size = self._edge, self._checkpoint.size
        first = edge.size
        bundle: list[bytes] = []
        for record in self._reader.records(first, size):
            index, hashed = edge.size, record.leaf_hash
            if record.index != index:
                raise LedgerCorrupt(f"record {index} is missing: the next is {record.index}")
            at = index - first
            if at < len(self._known) and self._known[at] != hashed:
                raise LedgerCorrupt(f"record {index} is not the one that `{self._target}` holds")
            bundle.append(record.leaf)
            if (index + 1) % tiles.WIDTH == 0:
                self._put_full(tiles.entries_path(index // tiles.WIDTH), tiles.pack_entries(bundle))
                bundle.clear()
            for level, number, tile in edge.push(hashed):
                self._put_full(tiles.tile_path(level, number), tile)
            if progress is not None and edge.size % _PROGRESS_EVERY == 0:
                progress(edge.size, size)
        # What was written above lies beyond the checkpoint that stands: nobody relies on it yet.
        if edge.size != size or edge.root() != self._checkpoint.root:
            raise LedgerCorrupt(
                f"the first {size} records do not give the root that is signed for them: "
                f"run `policyd audit verify`, and check that `{self._target}` belongs to this log"
            )
        for level, number, tile in edge.partial():
            self._put(tiles.tile_path(level, number, width=len(tile) // merkle.HASH_BYTES), tile)
        if bundle:
            path = tiles.entries_path(size // tiles.WIDTH, width=len(bundle))
            self._put(path, tiles.pack_entries(bundle))

    def publish(self, signed: str) -> None:
        """Make everything durable, then the checkpoint, then drop partial tiles that are full now."""
        for folder in self._touched:
            sync(folder)
        store.replace_file(self._target / tiles.CHECKPOINT, signed)
        # SPEC: C2SP tlog-tiles. A partial tile may go once the full one is there, and not before.
        for path in self._full:
            shutil.rmtree(path.with_name(path.name + ".p"), ignore_errors=True)

    def _put_full(self, name: str, data: bytes) -> None:
        self._put(name, data)
        self._full.append(self._target / name)

    def _put(self, name: str, data: bytes) -> None:
        path = self._target / name
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() == data:
                return
        folders = [self._target / folder for folder in Path(name).parents]
        for folder in reversed(folders):
            folder.mkdir(exist_ok=True, mode=0o700)
        store.replace_bytes(path, data)
        self._touched.update(folders)
        self.files += 1


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LedgerClosed(f"another export into `{target}` is under way: wait for it") from None
    finally:
        os.close(descriptor)
