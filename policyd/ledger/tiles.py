"""An exported log in the form of C2SP tlog-tiles: paths, tiles and entry bundles, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policyd import merkle
from policyd.errors import LedgerCorrupt

CHECKPOINT = "checkpoint"
WIDTH = 256
"""SPEC: C2SP tlog-tiles. A full tile has so many hashes, a full bundle so many entries."""
_LENGTH_BYTES = 2
_MAX_ENTRY_BYTES = 65_535
_MAX_NOTE_BYTES = 65_536


def tile_path(level: int, number: int, *, width: int = WIDTH) -> str:
    """Return where a tile of hashes lies below the export's directory; `width` under 256: a partial one."""
    return f"tile/{level}/{_name(number, width)}"


def entries_path(number: int, *, width: int = WIDTH) -> str:
    """Return where a bundle of entries lies below the export's directory."""
    return f"tile/entries/{_name(number, width)}"


def _name(number: int, width: int) -> str:
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return "/".join(groups) + (f".p/{width}" if width < WIDTH else "")


def pack_entries(leaves: Sequence[bytes]) -> bytes:
    """Return a bundle: each entry behind its length, 16 bits, big-endian.

    Raises:
        LedgerCorrupt: an entry is longer than its length can say.
    """
    for place, leaf in enumerate(leaves):
        if len(leaf) > _MAX_ENTRY_BYTES:
            raise LedgerCorrupt(f"entry {place} of the bundle has {len(leaf)} bytes, over {_MAX_ENTRY_BYTES}")
    return b"".join(len(leaf).to_bytes(_LENGTH_BYTES, "big") + leaf for leaf in leaves)


def unpack_entries(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle.

    Raises:
        LedgerCorrupt: the last entry is cut short.
    """
    leaves: list[bytes] = []
    at = 0
    while at < len(bundle):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(bundle[at:start], "big")
        if at > len(bundle) or start > len(bundle):
            raise LedgerCorrupt(f"entry {len(leaves)} of the bundle is cut short")
        leaves.append(bundle[start:at])
    return leaves


class Edge:
    """The partial tiles at the right edge of a tree: enough to grow it tile by tile and to know its root."""

    __slots__ = ("_partial", "size")

    def __init__(self, size: int = 0, partial: Sequence[Sequence[bytes]] = ()) -> None:
        """Start from a tree of `size` leaves and the hashes of its partial tiles, one list a level.

        Raises:
            LedgerCorrupt: a tile has not as many hashes as the size asks for.
        """
        self.size = size
        self._partial = [list(hashes) for hashes in partial]
        for level, hashes in enumerate(self._partial):
            if len(hashes) != (size // WIDTH**level) % WIDTH:
                raise LedgerCorrupt(f"a tree of {size} has no tile of {len(hashes)} hashes on level {level}")
        if size // WIDTH ** len(self._partial):
            raise LedgerCorrupt(f"a tree of {size} has more than {len(self._partial)} levels of tiles")

    def push(self, hashed_leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf; return level, number and bytes of each tile that it fills, lowest first."""
        filled: list[tuple[int, int, bytes]] = []
        self.size += 1
        hashed, level, end = hashed_leaf, 0, self.size
        while True:
            if level == len(self._partial):
                self._partial.append([])
            hashes = self._partial[level]
            hashes.append(hashed)
            if len(hashes) < WIDTH:
                return filled
            end //= WIDTH
            filled.append((level, end - 1, b"".join(hashes)))
            hashed = _root_of(hashes)
            hashes.clear()
            level += 1

    def rewind(self) -> list[bytes]:
        """Go back to the last full tile of leaf hashes; return the hashes that were beyond it."""
        beyond, self._partial[:1] = (self._partial or [[]])[0], [[]]
        self.size -= len(beyond)
        return beyond

    def partial(self) -> list[tuple[int, int, bytes]]:
        """Return level, number and bytes of each partial tile, lowest level first."""
        return [
            (level, self.size // WIDTH ** (level + 1), b"".join(hashes))
            for level, hashes in enumerate(self._partial)
            if hashes
        ]

    def root(self) -> bytes:
        """Return the root of the tree; it covers every hash of every partial tile."""
        peaks: list[bytes] = []
        for hashes in reversed(self._partial):
            start = 0
            for bit in reversed(range(8)):
                if len(hashes) >> bit & 1:
                    peaks.append(_root_of(hashes[start : start + (1 << bit)]))
                    start += 1 << bit
        return merkle.Frontier(self.size, peaks).root()


def _root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root of a complete subtree, whose number of hashes is a power of two."""
    row = list(hashes)
    while len(row) > 1:
        row = [merkle.node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


class TileReader:
    """The files of one export. A partial tile that is gone is read from the full one that replaced it."""

    def __init__(self, directory: Path) -> None:
        """Read below `directory`; nothing is opened yet."""
        self.directory = directory

    def checkpoint(self) -> str | None:
        """Return the signed note as it is, not checked; None where there is none.

        Raises:
            LedgerCorrupt: it is too large or cannot be read.
        """
        data = self._file(CHECKPOINT, _MAX_NOTE_BYTES)
        return None if data is None else data.decode("utf-8", errors="replace")

    def tile(self, level: int, number: int, *, width: int = WIDTH, wider: int = WIDTH) -> list[bytes]:
        """Return the first `width` hashes of a tile; `wider` is how many it has in the tree as exported.

        Raises:
            LedgerCorrupt: it is missing or not of its size.
        """
        for wide in dict.fromkeys((width, wider, WIDTH)):
            path = tile_path(level, number, width=wide)
            data = self._file(path, WIDTH * merkle.HASH_BYTES)
            if data is None:
                continue
            if len(data) != wide * merkle.HASH_BYTES:
                raise LedgerCorrupt(f"`{path}` has {len(data)} bytes, not {wide * merkle.HASH_BYTES}")
            return [
                data[at : at + merkle.HASH_BYTES]
                for at in range(0, width * merkle.HASH_BYTES, merkle.HASH_BYTES)
            ]
        raise LedgerCorrupt(f"`{tile_path(level, number, width=width)}` is missing")

    def entries(self, number: int, *, width: int = WIDTH) -> list[bytes]:
        """Return the first `width` entries of a bundle.

        Raises:
            LedgerCorrupt: it is missing, its framing is broken, or it has another number of entries.
        """
        for wide in dict.fromkeys((width, WIDTH)):
            path = entries_path(number, width=wide)
            data = self._file(path, WIDTH * (_LENGTH_BYTES + _MAX_ENTRY_BYTES))
            if data is None:
                continue
            try:
                leaves = unpack_entries(data)
            except LedgerCorrupt as error:
                raise LedgerCorrupt(f"`{path}`: {error}") from None
            if len(leaves) != wide:
                raise LedgerCorrupt(f"`{path}` has {len(leaves)} entries, not {wide}")
            return leaves[:width]
        raise LedgerCorrupt(f"`{entries_path(number, width=width)}` is missing")

    def edge(self, size: int, *, of: int) -> Edge:
        """Return the right edge that the tree of `of` leaves had when there were `size`.

        Raises:
            LedgerCorrupt: a tile is missing or not of its size.
        """
        partial, level, left = [], 0, size
        while left:
            width = left % WIDTH
            left //= WIDTH
            wider = min(WIDTH, of // WIDTH**level - left * WIDTH)
            partial.append(self.tile(level, left, width=width, wider=wider) if width else [])
            level += 1
        return Edge(size, partial)

    def _file(self, path: str, limit: int) -> bytes | None:
        try:
            with (self.directory / path).open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LedgerCorrupt(f"`{path}` cannot be read: {error.strerror}") from error
        if len(data) > limit:
            raise LedgerCorrupt(f"`{path}` has more than {limit} bytes")
        return data
