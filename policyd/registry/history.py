"""What a state remembers of its changes: their ids, and lately their hashes and the entries they named."""

from __future__ import annotations

from dataclasses import dataclass

PLAN_WINDOW = 1_000
"""A change may be planned on the newest change or on one of so many before it."""

MAX_NAMES = 1_000
"""A change that names more entries counts as one that named all, so that memory stays bounded."""

Name = tuple[str, str]
"""What a change touches: a section of the registry and an id, or another kind of thing alone."""


@dataclass(frozen=True, slots=True)
class Link:
    """One change: its chain hash, and what it touched; None stands for everything."""

    chain_hash: bytes
    names: frozenset[Name] | None


@dataclass(frozen=True, slots=True)
class History:
    """The last changes, oldest first, and the ids of all. Immutable; adding costs O(log n) amortised.

    INVARIANT: it depends on the changes alone, never on how they were read: every node has to come to
    the same verdict about the next one.
    """

    links: tuple[Link, ...]
    ids: tuple[frozenset[str], ...] = ()
    """Sets that halve in size at least from one to the next, so that there are never many."""

    @classmethod
    def of(cls, start: bytes) -> History:
        """Return the history before the first change, which carries `start`."""
        return cls((Link(start, frozenset()),))

    @property
    def head(self) -> bytes:
        """The chain hash of the newest change."""
        return self.links[-1].chain_hash

    def used(self, change_id: str) -> bool:
        """Say whether a change has this id."""
        return any(change_id in some for some in self.ids)

    def since(self, chain_hash: bytes) -> tuple[Link, ...] | None:
        """Return what came after the change with this hash; None when it is unknown or too long ago."""
        for number in range(len(self.links) - 1, -1, -1):
            if self.links[number].chain_hash == chain_hash:
                return self.links[number + 1 :]
        return None

    def after(self, change_id: str, *, chain_hash: bytes, names: frozenset[Name] | None) -> History:
        """Return the history with one more change."""
        ids, newest = list(self.ids), frozenset({change_id})
        while ids and len(ids[-1]) < 2 * len(newest):
            newest |= ids.pop()
        if names is not None and len(names) > MAX_NAMES:
            names = None
        return History((*self.links[-PLAN_WINDOW:], Link(chain_hash, names)), (*ids, newest))
