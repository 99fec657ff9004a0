"""A compiled policy set: everything that a decision needs of the policies, immutable and shareable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policyd.errors import Place
from policyd.fieldset import FieldIndex
from policyd.model import FieldMask, Instant, Transform
from policyd.policy.catalogue import Field
from policyd.policy.gateways import Gateways
from policyd.policy.grants import Duties
from policyd.policy.rules import Atom
from policyd.purpose import PurposeGraph, PurposeMask


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, its resource side solved for the whole catalogue.

    Over fields: true on ``true_mask``, error on ``error_mask``, false elsewhere. Over the rest of the
    request: ``dynamic`` is an *and* of *ors* of *ands* of atom numbers.
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
    conditions on anything but the field; ``rules`` are in order of uid.
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
    atoms: tuple[Atom, ...]
