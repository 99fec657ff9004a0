"""What the drawn policy sets, registries and questions share: their words, and what there is to name."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from reference.source import Document

ORGANISATION_KINDS = ("university", "department", "local-authority", "commercial-company")
SETTINGS = ("secure", "vault", "open")
SCHEMES = ("scheme-1", "scheme-2")
ARTICLE9 = ("none", "art-9-2-j")
LETTERS = "ABCDE"
SECTIONS = ("Care", "Home")
ROLES = ("researcher", "analyst", "Care", "Pupil")
"""Two of them are also the names of a section and of a table, which rules may tie to them."""

T = TypeVar("T")


@dataclass
class Draft:
    """A policy set while it is drawn: what is there to be named. ``columns`` are patterns by field id."""

    purposes: dict[str, Document] = field(default_factory=dict)
    gateways: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)


def some(rng: random.Random, values: Sequence[T], most: int) -> list[T]:
    """Return one to ``most`` different values."""
    return rng.sample(list(values), rng.randint(1, min(most, len(values))))
