"""A compiled policy set: everything that a decision needs of the policies, immutable and shareable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from policyd.errors import Place
from policyd.fieldset import FieldIndex
from policyd.model import FieldMask, Instant, Transform
from policyd.policy.catalogue import Field
from policyd.policy.conditions import ERROR, TRUE, Truth
from policyd.policy.gateways import Gateways
from policyd.policy.grants import Duties
from policyd.policy.rules import Atom, WhereAtom
from policyd.policy.where import Times, Values, WhereTest
from policyd.purpose import PurposeGraph, PurposeMask

Split = tuple[Callable[[object], Truth], Mapping[object, FieldMask]]
"""A condition on one attribute of fields, and which fields have each distinct value of it."""


def solve(alternatives: Sequence[Sequence[Split]], everything: FieldMask) -> tuple[FieldMask, FieldMask]:
    """Return the fields on which an *or* of *ands* is true, and those on which it is not false."""
    any_true = any_not_false = 0
    for alternative in alternatives:
        true = not_false = everything
        for test, values in alternative:
            here_true = here_not_false = 0
            for value, mask in values.items():
                truth = test(value)
                if truth >= ERROR:
                    here_not_false |= mask
                if truth == TRUE:
                    here_true |= mask
            true &= here_true
            not_false &= here_not_false
        any_true |= true
        any_not_false |= not_false
    return any_true, any_not_false


@dataclass(frozen=True, slots=True)
class Tie:
    """A condition that ties an attribute of the field to one of the request; ``masks`` by its values."""

    test: WhereTest
    masks: Mapping[object, FieldMask]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, its resource side solved for the whole catalogue.

    Over fields: true on ``true_mask``, error on ``error_mask``, false elsewhere. Over the rest of the
    request: ``dynamic`` is an *and* of *ors* of *ands* of atom numbers. With ``ties``, an *or* of
    *ands*, the masks are the most that it can reach, and ``tied`` gives those of one request.
    """

    uid: str
    why: str
    allow: bool
    grant: Transform
    duties: Duties
    true_mask: FieldMask
    error_mask: FieldMask
    dynamic: tuple[tuple[tuple[int, ...], ...], ...]
    place: Place
    ties: tuple[tuple[Tie, ...], ...] = ()

    def tied(self, values: Values) -> Rule:
        """Return the rule as it is for one request: its masks narrowed by its ties, of which it has some."""
        reach = self.true_mask | self.error_mask
        true, not_false = solve(
            [[(partial(_apply, tie.test, values), tie.masks) for tie in each] for each in self.ties], reach
        )
        sure = self.true_mask & true
        return replace(self, true_mask=sure, error_mask=not_false & ~sure)


def _apply(test: WhereTest, values: Values, value: object) -> Truth:
    return test(value, values)


@dataclass(frozen=True, slots=True)
class ConditionalUse:
    """Duties of a conditional purpose: for purposes at or below it, on the fields that state it."""

    purposes: PurposeMask
    fields: FieldMask
    duties: Duties


@dataclass(frozen=True, slots=True)
class Classes:
    """The classification of all fields as masks."""

    risk: tuple[FieldMask, ...]
    """By identification risk; index 0 is unused."""
    sensitivity: Mapping[str, FieldMask]
    """By letter, in alphabetical order."""
    withdrawn: FieldMask


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Catalogue, purposes, gateways and rules, versioned as one thing and named by ``digest``.

    ``full[i]``, ``conditional[i]`` and ``prohibited[i]`` are the fields for which the graph's purpose
    ``i`` is fully permitted, permitted with conditions, and prohibited. ``atoms`` are the distinct
    conditions on anything but the field; ``rules`` are in order of uid; at ``times`` a condition may
    change by itself.
    """

    name: str
    version: int
    description: str
    effective_from: Instant
    digest: str
    graph: PurposeGraph
    index: FieldIndex
    fields: tuple[Field, ...]
    classes: Classes
    full: tuple[FieldMask, ...]
    conditional: tuple[FieldMask, ...]
    prohibited: tuple[FieldMask, ...]
    conditional_uses: tuple[ConditionalUse, ...]
    gateways: Gateways
    rules: tuple[Rule, ...]
    atoms: tuple[Atom | WhereAtom, ...]
    times: Times
