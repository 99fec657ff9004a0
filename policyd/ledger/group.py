"""What one commit of a log takes, and what its callers get: places, proofs and a checkpoint."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from policyd import merkle
from policyd.errors import LedgerClosed, NotServing
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


def _held_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class Ticket:
    """One caller's records, and where they come to stand."""

    entries: tuple[Entry, ...]
    first_index: int = 0
    leaf_hashes: tuple[bytes, ...] = ()
    _held: threading.Lock = field(default_factory=_held_lock)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait to be woken, for `timeout_s` at most; return whether it was. One caller at a time."""
        if not self._held.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s)):
            return False
        self._held.release()
        return True

    def wake(self) -> None:
        """Let its caller go on. To be called once."""
        self._held.release()


class Wakeups:
    """Callers whose records have come to an end, and who wake one another: each the next, as it goes on.

    Only one thread of an interpreter runs at a time. Woken all at once, callers spend more time getting
    in one another's way than on what they came for (a third of the rate at 64 of them).
    """

    def __init__(self) -> None:
        """Start with nobody asleep."""
        self._asleep: deque[Ticket] = deque()

    def __bool__(self) -> bool:
        return bool(self._asleep)

    def add(self, group: Group) -> None:
        """Wake the callers of a group, whose end is known by now."""
        group.settled = True
        self._asleep.extend(group.tickets)
        self.next()

    def next(self) -> bool:
        """Wake one caller, if one is asleep; return whether it was the last."""
        try:
            self._asleep.popleft().wake()
        except IndexError:  # not asked for first: another thread may take the last one in between
            return False
        return not self._asleep

    def all(self) -> None:
        """Wake everyone: a caller that was interrupted as it waited has woken nobody."""
        while self._asleep:
            self.next()


@dataclass(slots=True, eq=False)
class Group:
    """What one commit takes, and how that ended."""

    tickets: list[Ticket] = field(default_factory=list)
    records: int = 0
    settled: bool = False
    size: int = 0
    checkpoint: str = ""
    nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    failure: str = ""
    refusal: str = ""

    def receipts(self, ticket: Ticket, *, origin: str) -> Receipts:
        """Return what one of its callers gets, once it has come to its end.

        Raises:
            LedgerClosed: the log has failed.
            NotServing: the required witness is away.
        """
        if self.failure:
            raise LedgerClosed(self.failure)
        if self.refusal:
            raise NotServing(self.refusal)
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
