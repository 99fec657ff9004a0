"""What one commit of a log takes, and what its callers get: places, proofs and a checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from policyd import merkle
from policyd.ledger.entry import Entry
from policyd.ledger.reader import LedgerReader


@dataclass(frozen=True, slots=True)
class Receipts:
    """Where a caller's records are: consecutive indices from `first_index`, in the order given.

    ``checkpoint`` is the signed note over the first ``size`` records, which include these; ``nodes`` are
    the tree hashes that proofs up to it take.
    """

    origin: str
    first_index: int
    leaf_hashes: tuple[bytes, ...]
    size: int
    checkpoint: str
    nodes: Mapping[tuple[int, int], bytes] = field(repr=False, compare=False)

    def proof(self, offset: int) -> list[bytes]:
        """Return the inclusion proof of the record at `first_index + offset` under the checkpoint.

        Reads nothing from the disk: all it takes was at hand when the group was committed.
        """
        return merkle.inclusion_proof(
            self.first_index + offset, self.size, lambda level, position: self.nodes[level, position]
        )


@dataclass(slots=True, eq=False)
class Ticket:
    """One caller's records, and where they come to stand."""

    entries: tuple[Entry, ...]
    first_index: int = 0
    leaf_hashes: tuple[bytes, ...] = ()


@dataclass(slots=True, eq=False)
class Group:
    """What one commit takes; everyone in it waits for the same event."""

    tickets: list[Ticket] = field(default_factory=list)
    records: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    size: int = 0
    checkpoint: str = ""
    nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    failure: str = ""
    refusal: str = ""

    def receipts_of(self, ticket: Ticket, *, origin: str) -> Receipts:
        """Return what one caller gets of a group that is committed and signed for."""
        return Receipts(
            origin=origin,
            first_index=ticket.first_index,
            leaf_hashes=ticket.leaf_hashes,
            size=self.size,
            checkpoint=self.checkpoint,
            nodes=self.nodes,
        )

    def growth_proof(self, reader: LedgerReader) -> Callable[[int, int], list[bytes]]:
        """Return what gives consistency proofs up to this group, from memory where it can.

        From where the group starts all that a proof takes is at hand; else the stored tree is read.
        """

        def proof(old_size: int, size: int) -> list[bytes]:
            try:
                return merkle.consistency_proof(
                    old_size, size, lambda level, position: self.nodes[level, position]
                )
            except KeyError:
                return reader.consistency_proof(old_size, size)

        return proof
