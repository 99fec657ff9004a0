"""Reads what Redis holds as changes, and says of anything that policyd did not write what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from policyd.errors import StateAstray
from policyd.registry.change import Change
from policyd.registry.redis_script import CHAIN, CHANGE, Keys
from policyd.registry.wire import head_bytes, read_change

_ID = re.compile(rb"([1-9][0-9]{0,15})-0", re.ASCII)
_HASH = re.compile(rb"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest change: its number and chain hash; 0 and GENESIS before the first."""

    epoch: int
    chain_hash: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """Reads entries of one stream; ``place`` is how messages name the server."""

    place: str
    keys: Keys

    @property
    def repair(self) -> str:
        """What to do about keys that hold something else."""
        return (
            f"delete `{self.keys.log}` and `{self.keys.bodies}` and run `policyd registry republish` on the"
            " node with the highest epoch"
        )

    def number(self, entry_id: bytes) -> int:
        """Return the epoch that an entry id names.

        Raises:
            StateAstray: it names none.
        """
        match = _ID.fullmatch(entry_id)
        if match is None:
            raise StateAstray(
                f"{self.place} has an entry in `{self.keys.log}` that policyd did not write; {self.repair}"
            )
        return int(match[1])

    def head(self, entry_id: bytes, chain: bytes) -> Head:
        """Return the head that the newest entry names; the entry itself is not verified by that.

        Raises:
            StateAstray: it has another form than policyd writes.
        """
        epoch = self.number(entry_id)
        if _HASH.fullmatch(chain) is None:
            raise StateAstray(f"change {epoch} in {self.place} has no chain hash; {self.repair}")
        return Head(epoch, bytes.fromhex(chain.decode()))

    def change(self, epoch: int, fields: Mapping[bytes, bytes], body: bytes | None) -> Change:
        """Return the change under a number; signatures and links are for `change.extend` to check.

        Raises:
            StateAstray: it has another form than policyd writes, or lacks its body.
        """
        where = f"change {epoch} in {self.place}"
        if body is None:
            raise StateAstray(f"{where} lacks its body; {self.repair}")
        try:
            change = read_change(fields.get(CHANGE, b""), body)
        except ValueError as error:
            raise StateAstray(f"{where} cannot be read: {error}; {self.repair}") from None
        want = {CHANGE: head_bytes(change), CHAIN: change.chain_hash.hex().encode()}
        if change.epoch != epoch or fields != want:
            raise StateAstray(f"{where} is not stored as policyd stores it; {self.repair}")
        return change

    def torn(self, epoch: int | str, count: int | str) -> StateAstray:
        """Return the error that says that entries are missing."""
        return StateAstray(
            f"{self.place} has lost entries: the newest of `{self.keys.log}` is change {epoch}, and there are"
            f" {count} of them; {self.repair}"
        )
