"""Purposes and intended purposes as sets of names (DESIGN.md section 3.3; domain.md section 6)."""

from __future__ import annotations

from collections.abc import Sequence

from reference.source import Document

PROHIBITED, NOT_ALLOWED, CONDITIONAL, FULL = "prohibited", "not-allowed", "conditional", "full"


def up(purposes: Document, name: str) -> set[str]:
    """Return a purpose and everything above it."""
    found = {name}
    for parent in purposes[name].get("parents", []):
        found |= up(purposes, parent)
    return found


def down(purposes: Document, name: str) -> set[str]:
    """Return a purpose and everything below it."""
    return {each for each in purposes if name in up(purposes, each)}


def at_or_below(purposes: Document, name: str, those: Sequence[str]) -> bool:
    """Return whether a purpose is one of those or stands below one."""
    return bool(up(purposes, name) & set(those))


def judge(purposes: Document, levels: Sequence[Document], name: str) -> tuple[str, list[Document]]:
    """Judge one declared purpose against the levels that speak of a field, with what it then owes.

    Prohibited when it is above, at or below anything at or below a prohibited purpose, wherever that is
    stated. Otherwise every level that states any purpose must permit it, and at least one must state some.
    Where a level permits it only on conditions, the conditions of every level that names it are owed.
    """
    for level in levels:
        for prohibited in level.get("prohibited", []):
            for below in down(purposes, prohibited):
                if name in up(purposes, below):
                    return PROHIBITED, []
    stating = [level for level in levels if "allowed" in level or "conditional" in level]
    if not stating:
        return NOT_ALLOWED, []
    weakest = FULL
    owed: list[Document] = []
    for level in stating:
        conditions = [
            each["obligations"]
            for each in level.get("conditional", [])
            if at_or_below(purposes, name, [each["purpose"]])
        ]
        owed += conditions
        if at_or_below(purposes, name, level.get("allowed", [])):
            continue
        if not conditions:
            return NOT_ALLOWED, []
        weakest = CONDITIONAL
    return weakest, owed if weakest == CONDITIONAL else []
