"""The Merkle tree of RFC 9162 section 2.1: hashes, a tree that only grows, proofs and their checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import compare_digest

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

ReadNode = Callable[[int, int], bytes]
"""Gives the hash of the complete subtree at (level, position): leaves position * 2**level onward."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of one record's bytes. SPEC: RFC 9162 section 2.1.1."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node. SPEC: RFC 9162 section 2.1.1."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The complete subtrees of a tree of some size, widest first: enough to grow it and know its root."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Start from `size` leaves whose complete subtrees have the hashes `peaks`.

        Raises:
            ValueError: the number of peaks does not fit the size.
        """
        if size < 0 or size.bit_count() != len(peaks):
            raise ValueError(f"a tree of {size} leaves does not have {len(peaks)} complete subtrees")
        self.size = size
        self._peaks = list(peaks)

    def push(self, hashed_leaf: bytes) -> list[bytes]:
        """Add a leaf and return the hashes of all subtrees that it completes, lowest first.

        The first is the leaf's own hash; entry ``n`` is the subtree of ``2**n`` leaves ending here.
        """
        completed = [hashed_leaf]
        size = self.size
        while size & 1:
            completed.append(node_hash(self._peaks.pop(), completed[-1]))
            size >>= 1
        self._peaks.append(completed[-1])
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Return the root over all leaves pushed so far."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def nodes(self) -> dict[tuple[int, int], bytes]:
        """Return the hashes of its complete subtrees by level and position."""
        return dict(zip(_cover(0, self.size), self._peaks, strict=True))

    def copy(self) -> Frontier:
        """Return an independent copy."""
        return Frontier(self.size, self._peaks)


def load_frontier(size: int, read_node: ReadNode) -> Frontier:
    """Return the frontier of the first `size` leaves from stored subtree hashes."""
    return Frontier(size, [read_node(level, position) for level, position in _cover(0, size)])


def root_at(size: int, read_node: ReadNode) -> bytes:
    """Return the root of the first `size` leaves from stored subtree hashes."""
    return load_frontier(size, read_node).root()


def _cover(begin: int, end: int) -> list[tuple[int, int]]:
    """List the complete subtrees that tile [begin, end), widest first; begin is aligned to the widest."""
    nodes = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        nodes.append((level, begin >> level))
        begin += 1 << level
    return nodes


def _range_root(begin: int, end: int, read_node: ReadNode) -> bytes:
    hashes = [read_node(level, position) for level, position in _cover(begin, end)]
    return Frontier(end - begin, hashes).root()


def _split(count: int) -> int:
    """Return the largest power of two smaller than `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def inclusion_proof(index: int, size: int, read_node: ReadNode) -> list[bytes]:
    """Return the hashes that lead from leaf `index` to the root of `size` leaves, leaf upward.

    SPEC: RFC 9162 section 2.1.3.1.

    Raises:
        ValueError: the index is not below the size.
    """
    if not 0 <= index < size:
        raise ValueError(f"record {index} is not in a tree of {size}")
    begin, end, path = 0, size, []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_range_root(middle, end, read_node))
            end = middle
        else:
            path.append(_range_root(begin, middle, read_node))
            begin = middle
    path.reverse()
    return path


def consistency_proof(old_size: int, size: int, read_node: ReadNode) -> list[bytes]:
    """Return the hashes that show the first `old_size` leaves of a tree of `size` unchanged.

    Empty where either tree is empty or both are the same. SPEC: RFC 9162 section 2.1.4.1.

    Raises:
        ValueError: the old tree is larger than the new one.
    """
    if not 0 <= old_size <= size:
        raise ValueError(f"a tree of {old_size} is no beginning of a tree of {size}")
    if old_size in (0, size):
        return []
    begin, end, path = 0, size, []
    while old_size != end:
        middle = begin + _split(end - begin)
        if old_size <= middle:
            path.append(_range_root(middle, end, read_node))
            end = middle
        else:
            path.append(_range_root(begin, middle, read_node))
            begin = middle
    if begin:
        path.append(_range_root(begin, end, read_node))
    path.reverse()
    return path


def verify_inclusion(
    hashed_leaf: bytes, index: int, size: int, *, proof: Sequence[bytes], root: bytes
) -> bool:
    """Return whether the proof leads from this leaf at this index to this root.

    False for anything malformed; never raises on bytes and integers. SPEC: RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size or not _all_hashes(hashed_leaf, root, *proof):
        return False
    position, last, running = index, size - 1, hashed_leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            running = node_hash(sibling, running)
            while position and not position & 1:
                position >>= 1
                last >>= 1
        else:
            running = node_hash(running, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and compare_digest(running, root)


def verify_consistency(
    old_size: int, old_root: bytes, *, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether the proof shows that the old tree is the beginning of the new one.

    False for anything malformed; never raises on bytes and integers. SPEC: RFC 9162 section 2.1.4.2.
    """
    if not 0 <= old_size <= size or not _all_hashes(old_root, root, *proof):
        return False
    if old_size == size:
        return not proof and compare_digest(old_root, root)
    if old_size == 0:
        return not proof and compare_digest(old_root, EMPTY_ROOT)
    hashes = list(proof)
    if old_size & (old_size - 1) == 0:
        hashes.insert(0, old_root)
    if not hashes:
        return False
    position, last = old_size - 1, size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old_running = running = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old_running = node_hash(sibling, old_running)
            running = node_hash(sibling, running)
            while position and not position & 1:
                position >>= 1
                last >>= 1
        else:
            running = node_hash(running, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and compare_digest(old_running, old_root) and compare_digest(running, root)


def _all_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
