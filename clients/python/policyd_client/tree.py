"""Checks of Merkle tree proofs (RFC 9162 section 2.1), written apart from the server's own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from hmac import compare_digest

HASH_BYTES = 32


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a record's bytes. SPEC: RFC 9162 section 2.1.1."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node. SPEC: RFC 9162 section 2.1.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def holds_inclusion(
    hashed_leaf: bytes, index: int, size: int, *, proof: Sequence[bytes], root: bytes
) -> bool:
    """Return whether `proof` leads from the leaf at `index` to the `root` of `size` leaves.

    False for anything malformed. The tree is halved from its root down, taking hashes from the end of the
    proof, as section 2.1.3.1 makes them.
    """
    if not 0 <= index < size or not _hashes(hashed_leaf, root, *proof):
        return False
    left_over, siblings = list(proof), []
    while size > 1:
        if not left_over:
            return False
        half = _half(size)
        on_the_left = index < half
        siblings.append((on_the_left, left_over.pop()))
        index, size = (index, half) if on_the_left else (index - half, size - half)
    if left_over:
        return False
    running = hashed_leaf
    for on_the_left, sibling in reversed(siblings):
        running = node_hash(running, sibling) if on_the_left else node_hash(sibling, running)
    return compare_digest(running, root)


def holds_consistency(
    old_size: int, old_root: bytes, *, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether `proof` shows the tree of `old_size` leaves to be the beginning of that of `size`.

    False for anything malformed, and for an empty old tree, of which there is nothing to prove.
    """
    if not 1 <= old_size <= size or not _hashes(old_root, root, *proof):
        return False
    roots = _roots(old_size, size, list(proof), known=old_root)
    return roots is not None and compare_digest(roots[0], old_root) and compare_digest(roots[1], root)


def _roots(old: int, size: int, proof: list[bytes], *, known: bytes | None) -> tuple[bytes, bytes] | None:
    """Return the roots of both trees as the proof gives them, or None when it has the wrong length.

    `known` is the old root while the old tree is still a whole left part, for then the proof leaves it
    out. SPEC: RFC 9162 section 2.1.4.1, SUBPROOF, read backwards.
    """
    if old == size:
        if known is not None:
            return None if proof else (known, known)
        return (proof[0], proof[0]) if len(proof) == 1 else None
    if not proof:
        return None
    half, sibling = _half(size), proof[-1]
    if old <= half:
        inner = _roots(old, half, proof[:-1], known=known)
        return None if inner is None else (inner[0], node_hash(inner[1], sibling))
    inner = _roots(old - half, size - half, proof[:-1], known=None)
    return None if inner is None else (node_hash(sibling, inner[0]), node_hash(sibling, inner[1]))


def _half(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
