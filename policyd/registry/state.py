"""Puts changes over a registry, and says beforehand, member by member, what they would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from policyd.clock import format_instant
from policyd.model import Registry
from policyd.registry.entry import INSTANTS, Entry, Section, entries, shown


class Effect(StrEnum):
    """What applying a change does to one entry."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class MemberChange:
    """One member of an entry: what it is, what it would be, and the step between, written for people."""

    member: str
    before: str
    after: str
    step: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What would happen to one entry. Added entries list every member they state, unchanged ones none."""

    section: Section
    id: str
    effect: Effect
    members: tuple[MemberChange, ...] = ()


_SIGN = {Effect.ADDED: "+", Effect.CHANGED: "~"}
_SECRET = frozenset({"tokens"})
_MAX_SHOWN = 6


def merge(base: Registry, changes: Registry) -> Registry:
    """Return `base` with the entries of `changes` added or put in place of those with their id."""
    return Registry(
        organisations={**base.organisations, **changes.organisations},
        requesters={**base.requesters, **changes.requesters},
        accreditations={**base.accreditations, **changes.accreditations},
        data_services={**base.data_services, **changes.data_services},
        agreements={**base.agreements, **changes.agreements},
        seals={**base.seals, **changes.seals},
    )


def plan(base: Registry, changes: Registry) -> list[Difference]:
    """Return what `merge` would do to each entry of `changes`, by section and id."""
    differences = []
    for section, entry in entries(changes):
        current = section.of(base).get(entry.id)
        if current == entry:
            differences.append(Difference(section, entry.id, Effect.UNCHANGED))
            continue
        effect = Effect.ADDED if current is None else Effect.CHANGED
        differences.append(Difference(section, entry.id, effect, _members(current, after=entry)))
    return differences


def render(differences: Sequence[Difference]) -> str:
    """Write a plan for people: what would differ, a line an entry and a line a member; then the totals."""
    lines = []
    for difference in differences:
        if difference.effect is Effect.UNCHANGED:
            continue
        lines.append(f"{_SIGN[difference.effect]} {difference.section.noun} {_visible(difference.id)}")
        width = max((len(member.member) for member in difference.members), default=0)
        lines += [f"    {member.member:<{width}}  {member.step}" for member in difference.members]
    totals = [f"{sum(d.effect is effect for d in differences)} {effect}" for effect in Effect]
    lines.append(", ".join(totals))
    return "\n".join(lines)


def _members(before: Entry | None, *, after: Entry) -> tuple[MemberChange, ...]:
    changes = []
    for item in fields(after):
        new = getattr(after, item.name)
        if item.name == "id" or (before is None and new == item.default):
            continue
        old = None if before is None else getattr(before, item.name)
        if before is None:
            text = _shown(item.name, new)
            changes.append(MemberChange(item.name, before="none", after=text, step=text))
        elif old != new:
            changes.append(_member_change(item.name, old=old, new=new))
    return tuple(changes)


def _member_change(name: str, *, old: object, new: object) -> MemberChange:
    before, after = _shown(name, old), _shown(name, new)
    step = f"{before} -> {after}"
    if isinstance(old, frozenset) and isinstance(new, frozenset):
        # Of 400 fields only the one that leaves or comes matters.
        parts = (("-", old - new), ("+", new - old))
        step = " ".join(f"{sign} {_shown(name, part)}" for sign, part in parts if part)
    elif name in _SECRET:
        step = f"{before} -> {after} (tokens are not shown)"
    return MemberChange(name, before=before, after=after, step=step)


def _shown(name: str, value: object) -> str:
    if name in INSTANTS and isinstance(value, int):
        return format_instant(value).removesuffix("T00:00:00Z")
    if name in _SECRET and isinstance(value, tuple):
        return f"[{', '.join(_visible(service) for service, _ in value)}]"
    if isinstance(value, frozenset) and len(value) > _MAX_SHOWN:
        first = shown(frozenset(sorted(value)[:_MAX_SHOWN])).removesuffix("]")
        return _visible(f"{first}, and {len(value) - _MAX_SHOWN} more]")
    return _visible(shown(value))


def _visible(text: str) -> str:
    # SECURITY: whoever approves a change reads it here; an escape sequence or a line break in a name could
    # hide what it does (test_a_plan_shows_what_a_terminal_would_obey).
    return text if text.isprintable() else ascii(text)
