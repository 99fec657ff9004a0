"""The purpose algebra: closures over a purpose graph, and how levels of intended purposes combine.

Byun & Li, VLDB Journal 17(4) 2008, with the strict closure on graphs (DESIGN.md section 3.3). A set
of purposes is a Python integer, one bit a purpose, whose positions belong to one graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

PurposeMask = int
"""A set of purposes as bits; bit ``i`` is ``PurposeGraph.ids[i]``."""


class PurposeError(ValueError):
    """A purpose, or the graph, cannot be used; ``purpose`` is the id at fault."""

    def __init__(self, purpose: str, message: str) -> None:
        self.purpose = purpose
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Purpose:
    """One node of the graph. ``notice`` says where the public is told of it, empty when nowhere."""

    id: str
    label: str
    parents: tuple[str, ...] = ()
    requestable: bool = True
    notice: str = ""
    dpv: str = ""


class PurposeGraph:
    """A directed acyclic graph of purposes with one root; immutable once built, safe to share."""

    def __init__(self, purposes: Iterable[Purpose], root: str) -> None:
        """Build the graph and its closures, positions in the order given.

        Raises:
            PurposeError: a duplicate id, an unknown parent, a cycle, a root that is missing or has
                parents, or a second purpose without parents.
        """
        listed = tuple(purposes)
        self.ids: tuple[str, ...] = tuple(purpose.id for purpose in listed)
        self.root = root
        self._position: dict[str, int] = {}
        for purpose in listed:
            if purpose.id in self._position:
                raise PurposeError(purpose.id, f"purpose `{purpose.id}` is defined twice")
            self._position[purpose.id] = len(self._position)
        self.purposes: Mapping[str, Purpose] = MappingProxyType({purpose.id: purpose for purpose in listed})
        _check_shape(self.purposes, root)
        order = _topological(self.purposes)
        ups = [0] * len(listed)
        for name in order:
            own = self._position[name]
            ups[own] = 1 << own
            for parent in self.purposes[name].parents:
                ups[own] |= ups[self._position[parent]]
        downs = [1 << position for position in range(len(listed))]
        for name in reversed(order):
            for parent in self.purposes[name].parents:
                downs[self._position[parent]] |= downs[self._position[name]]
        self._ups = tuple(ups)
        self._downs = tuple(downs)
        self.all: PurposeMask = (1 << len(listed)) - 1
        self.requestable: PurposeMask = self.mask(purpose.id for purpose in listed if purpose.requestable)

    def bit(self, purpose: str) -> PurposeMask:
        """Return the purpose as a set of one.

        Raises:
            PurposeError: the graph has no such purpose.
        """
        position = self._position.get(purpose)
        if position is None:
            raise PurposeError(purpose, f"purpose `{purpose}` is not in the purpose graph")
        return 1 << position

    def mask(self, purposes: Iterable[str]) -> PurposeMask:
        """Return the purposes as a set.

        Raises:
            PurposeError: the graph lacks one of them.
        """
        result = 0
        for purpose in purposes:
            result |= self.bit(purpose)
        return result

    def names(self, mask: PurposeMask) -> tuple[str, ...]:
        """Return the ids in a set, in the graph's order."""
        return tuple(self.ids[position] for position in _positions(mask))

    def down(self, mask: PurposeMask) -> PurposeMask:
        """Return the purposes of the set and all their descendants."""
        result = 0
        for position in _positions(mask):
            result |= self._downs[position]
        return result

    def up(self, mask: PurposeMask) -> PurposeMask:
        """Return the purposes of the set and all their ancestors."""
        result = 0
        for position in _positions(mask):
            result |= self._ups[position]
        return result


def _positions(mask: PurposeMask) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def _check_shape(purposes: Mapping[str, Purpose], root: str) -> None:
    if root not in purposes:
        raise PurposeError(root, f"root purpose `{root}` is not defined")
    for purpose in purposes.values():
        for parent in purpose.parents:
            if parent not in purposes:
                raise PurposeError(
                    purpose.id, f"purpose `{purpose.id}` names the parent `{parent}`, which is not defined"
                )
        if purpose.id == root and purpose.parents:
            raise PurposeError(root, f"root purpose `{root}` has parents; the root has none")
        if purpose.id != root and not purpose.parents:
            raise PurposeError(
                purpose.id, f"purpose `{purpose.id}` has no parents; only the root `{root}` may stand alone"
            )


def _topological(purposes: Mapping[str, Purpose]) -> list[str]:
    """Return all ids, parents before children (Kahn's algorithm)."""
    children: dict[str, list[str]] = {name: [] for name in purposes}
    waiting = {name: len(set(purpose.parents)) for name, purpose in purposes.items()}
    for name, purpose in purposes.items():
        for parent in set(purpose.parents):
            children[parent].append(name)
    order = [name for name, count in waiting.items() if count == 0]
    for name in order:
        for child in children[name]:
            waiting[child] -= 1
            if waiting[child] == 0:
                order.append(child)
    if len(order) < len(purposes):
        cycle = _find_cycle(purposes, set(purposes) - set(order))
        raise PurposeError(cycle[0], f"purpose `{cycle[0]}` is its own ancestor: {' < '.join(cycle)}")
    return order


def _find_cycle(purposes: Mapping[str, Purpose], stuck: set[str]) -> list[str]:
    """Walk up from a purpose that never became free; every such walk meets itself."""
    name = min(stuck)
    walk: list[str] = []
    while name not in walk:
        walk.append(name)
        name = min(parent for parent in purposes[name].parents if parent in stuck)
    return [*walk[walk.index(name) :], name]


@dataclass(frozen=True, slots=True)
class Level:
    """Intended purposes as one level (catalogue, class, table, section, field) gives them, not closed.

    ``states`` is whether the level gives ``allowed`` or ``conditional`` at all: a level that states an
    empty set permits nothing, one that states none leaves it to the others.
    """

    allowed: PurposeMask = 0
    conditional: PurposeMask = 0
    prohibited: PurposeMask = 0
    states: bool = field(kw_only=True)

    def __post_init__(self) -> None:
        if not self.states and self.allowed | self.conditional:
            raise ValueError("a level with allowed or conditional purposes states them")


@dataclass(frozen=True, slots=True)
class Permitted:
    """All levels together; the three sets are closed and share no purpose."""

    full: PurposeMask
    conditional: PurposeMask
    prohibited: PurposeMask


class Compliance(StrEnum):
    """Whether a declared purpose complies with intended purposes."""

    FULL = "full"
    CONDITIONAL = "conditional"
    PROHIBITED = "prohibited"
    NOT_ALLOWED = "not-allowed"


def combine(graph: PurposeGraph, levels: Sequence[Level]) -> Permitted:
    """Combine the levels of one field; a level may restrict what another permits, never widen it."""
    permitted = full = graph.all
    prohibited = 0
    for level in levels:
        prohibited |= level.prohibited
        if level.states:
            allowed = graph.down(level.allowed)
            full &= allowed
            permitted &= allowed | graph.down(level.conditional)
    if not any(level.states for level in levels):
        permitted = full = 0  # closed world: silence permits nothing
    closed = graph.up(graph.down(prohibited))
    return Permitted(full & ~closed, permitted & ~full & ~closed, closed)


def complies(permitted: Permitted, purposes: PurposeMask) -> Compliance:
    """Judge the declared purposes, all of which must comply; the weakest names the answer.

    No purpose at all is NOT_ALLOWED.
    """
    if purposes & permitted.prohibited:
        return Compliance.PROHIBITED
    if not purposes or purposes & ~(permitted.full | permitted.conditional):
        return Compliance.NOT_ALLOWED
    return Compliance.CONDITIONAL if purposes & permitted.conditional else Compliance.FULL
