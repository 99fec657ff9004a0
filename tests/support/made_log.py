"""A log in memory, whose keeper may be honest or not: signs any tree, and proves what it likes."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from policyd_client import Checkpoint, Receipt
from policyd_client.note import Pin, open_checkpoint, read_logs

from policyd import merkle
from policyd.ledger import note

ORIGIN = "policyd.test/made"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
VKEY = note.Verifier(ORIGIN, KEY.public_key()).vkey


def pins(origin: str = ORIGIN) -> dict[str, Pin]:
    """Return the pinned key of the log."""
    vkey = note.Verifier(origin, KEY.public_key()).vkey
    return dict(read_logs({origin: vkey}))


class MadeLog:
    """Records are numbers; a `branch` makes them differ from `fork_at` on."""

    def __init__(self, *, branch: str = "", fork_at: int = 0, origin: str = ORIGIN) -> None:
        self.origin = origin
        self._branch, self._fork_at = branch, fork_at
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._frontier = merkle.Frontier()
        self._roots = [merkle.EMPTY_ROOT]

    def leaf(self, index: int) -> bytes:
        return f"{index} {self._branch if index >= self._fork_at else ''}".encode()

    def grow(self, size: int) -> None:
        """Add records until there are `size`."""
        while self._frontier.size < size:
            index = self._frontier.size
            for level, each in enumerate(self._frontier.push(merkle.leaf_hash(self.leaf(index)))):
                self._nodes[level, index >> level] = each
            self._roots.append(self._frontier.root())

    def checkpoint(self, size: int) -> Checkpoint:
        """Return the signed checkpoint of the first `size` records, as a client reads it."""
        self.grow(size)
        signed = note.sign_checkpoint(note.Checkpoint(self.origin, size, self._roots[size]), KEY)
        return open_checkpoint(signed, pins(self.origin))

    def receipt(self, size: int) -> Receipt:
        """Return what a client has of the last of `size` records."""
        index = size - 1
        return Receipt(index, merkle.leaf_hash(self.leaf(index)), self.checkpoint(size))

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        self.grow(size)
        return merkle.consistency_proof(old_size, size, lambda level, at: self._nodes[level, at])
