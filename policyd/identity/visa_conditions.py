"""Holds the conditions of a visa against the other visas of its passport (GA4GH Passport v1.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

MAX_ALTERNATIVES = 16
MAX_CLAUSES = 8

_FIELDS = frozenset({"value", "source", "by"})
"""What a clause may ask about, besides `type`: never a time, and never conditions."""


class Matchable(Protocol):
    """What a clause looks at in a visa; ``by`` is empty where the visa does not say."""

    @property
    def type(self) -> str:
        """The type of the visa."""

    @property
    def value(self) -> str:
        """What it says."""

    @property
    def source(self) -> str:
        """Who says so."""

    @property
    def by(self) -> str:
        """With what authority."""


def alternatives(conditions: object, visas: Sequence[Matchable]) -> Iterator[list[list[int]]]:
    """Yield each alternative that holds, as the positions of the visas that match each of its clauses.

    ``conditions`` is as it stands in the visa, of whatever form; what is not written as it should be never
    holds, nor does an empty list. ``visas`` are those that a clause may be met by, which leaves out any
    that has conditions itself.
    """
    if not isinstance(conditions, list) or len(conditions) > MAX_ALTERNATIVES:
        return
    for clauses in conditions:
        if not isinstance(clauses, list) or not 0 < len(clauses) <= MAX_CLAUSES:
            continue
        met = [[at for at, visa in enumerate(visas) if _meets(clause, visa)] for clause in clauses]
        if all(met):
            yield met


def matches_pattern(pattern: str, text: str) -> bool:
    """Say whether the whole of `text` matches: `?` is one character, `*` any number, nothing else is special.

    At most as many steps as the product of the two lengths.
    """
    at = step = 0
    star, taken = -1, 0  # the last `*`, and how far it reaches as yet
    while at < len(text):
        if step < len(pattern) and pattern[step] == "*":
            star, taken = step, at
            step += 1
        elif step < len(pattern) and pattern[step] in ("?", text[at]):
            step += 1
            at += 1
        elif star >= 0:
            taken += 1
            at, step = taken, star + 1
        else:
            return False
    return not pattern[step:].strip("*")


def _meets(clause: object, visa: Matchable) -> bool:
    if not isinstance(clause, dict) or clause.get("type") != visa.type:
        return False
    asked = {name: want for name, want in clause.items() if name != "type"}
    if not asked or not asked.keys() <= _FIELDS:
        return False
    have = {"value": visa.value, "source": visa.source, "by": visa.by}
    return all(_matches(want, have[name]) for name, want in asked.items())


def _matches(want: object, have: str) -> bool:
    if not isinstance(want, str) or not have:
        return False
    prefix, _, rest = want.partition(":")
    if prefix == "const":
        return rest == have
    if prefix == "pattern":
        return matches_pattern(rest, have)
    if prefix == "split_pattern":
        return any(matches_pattern(rest, part) for part in have.split(";"))
    return False
