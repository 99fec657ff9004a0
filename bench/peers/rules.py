"""Generate rules that any attribute-based engine can express, from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = (
    "university",
    "research-institute",
    "local-authority",
    "school",
    "government-department",
    "charity",
    "commercial-company",
    "training-provider",
)
STATUSES = ("none", "valid", "expired")
SETTINGS = ("secure-research", "direct-supply", "authority")
LETTERS = ("B", "C", "D", "E")
MAX_RISK = 5


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; an empty slot holds for everything, and all slots must hold.

    ``within`` holds for the purposes at or below any of those named, ``letters`` for a field with any of
    these sensitivities, ``without`` for one with none of them. ``coarsen`` is a unit of ``generalise``.
    """

    uid: str
    allow: bool
    kinds: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    risks: tuple[int, ...] = ()
    letters: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    coarsen: str = ""
    min_cell_count: int = 0


CORE = (
    Rule("core-secure", True, statuses=("valid",), settings=("secure-research",), risks=(4, 5)),
    Rule("core-direct", True, statuses=("valid",), settings=("direct-supply",), risks=(5,), without=("B",)),
    Rule("core-authority", True, settings=("authority",), risks=(3, 4, 5), without=("B", "C")),
    Rule("core-names", False, risks=(1,)),
    Rule("core-expired", False, statuses=("expired",), letters=("B", "C", "D")),
    Rule("core-company", False, kinds=("commercial-company",), letters=("B", "C")),
)
"""What gives every question a mixed answer, however few rules there are."""


def generate_rules(count: int, *, purposes: Sequence[str], tables: Sequence[str], seed: int) -> list[Rule]:
    """Return ``count`` distinct rules, the core among them; the same for the same arguments."""
    chance = random.Random(f"{seed}/{count}")  # noqa: S311
    found: dict[tuple[object, ...], Rule] = {}
    while len(found) < count - len(CORE):
        rule = _generate(chance, f"rule-{len(found):05d}", purposes, tables)
        content = tuple(getattr(rule, slot) for slot in Rule.__slots__ if slot != "uid")
        found.setdefault(content, rule)
    return [*CORE[:count], *found.values()]


def _generate(chance: random.Random, uid: str, purposes: Sequence[str], tables: Sequence[str]) -> Rule:
    """Make one rule: who, in what setting, for what purpose, on what kind of field."""

    def some(values: Sequence[str], most: int) -> tuple[str, ...]:
        return tuple(sorted(chance.sample(values, chance.randint(1, most))))

    allow = chance.random() < 0.7
    aim = chance.choice(("tables", "risks", "letters"))
    floor = chance.randint(2, MAX_RISK)
    if not allow:  # narrow, as prohibitions are: broad ones by the thousand would leave nothing to ask for
        return Rule(
            uid,
            allow=False,
            kinds=some(KINDS, 1),
            statuses=("none", "expired") if aim == "risks" else (),
            settings=some(SETTINGS, 1),
            within=some(purposes, 1),
            tables=some(tables, 2),
            risks=tuple(range(1, floor)) if aim == "risks" else (),
            letters=some(LETTERS, 2) if aim == "letters" else (),
        )
    return Rule(
        uid,
        allow=True,
        kinds=some(KINDS, 2),
        statuses=("valid",) if chance.random() < 0.6 else (),
        settings=some(SETTINGS, 1) if chance.random() < 0.7 else (),
        within=some(purposes, 2),
        tables=some(tables, 3) if aim == "tables" or chance.random() < 0.3 else (),
        risks=tuple(range(floor, MAX_RISK + 1)),
        without=some(LETTERS, 2) if aim == "letters" else (),
        coarsen=chance.choice(("month", "year")) if chance.random() < 0.1 else "",
        min_cell_count=10 if chance.random() < 0.3 else 0,
    )
