"""Puts changes over a registry, and says beforehand, member by member, what they would change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Protocol, cast

from policyd.clock import format_instant
from policyd.model import Registry, Requester, Seal
from policyd.persistent import PersistentMap
from policyd.registry.entry import INSTANTS, SECTIONS, Entry, Section, entries, shown
from policyd.registry.people import Requesters
from policyd.registry.seals import SealMap


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


class RegistryEdit:
    """A registry in the making. Belongs to one thread; the one it starts from stays as it is."""

    def __init__(self, base: Registry) -> None:
        self._maps: dict[str, MutableMapping[str, Entry]] = {
            key: _kept(section, section.of(base)).edit() for key, section in SECTIONS.items()
        }
        self.registry = Registry(**cast("dict[str, Any]", self._maps))
        """Always as it is by now; not to be kept."""

    def put(self, changes: Registry) -> None:
        """Add the entries of ``changes``, or put them in place of those with their id.

        Raises:
            ValueError: a seal has a token that is not 32 bytes long.
        """
        for key, section in SECTIONS.items():
            self._maps[key].update(section.of(changes))

    def lift(self, seals: Iterable[str]) -> None:
        """Take seals away.

        Raises:
            KeyError: there is none of that id.
        """
        for id_ in seals:
            del self._maps["seals"][id_]

    def done(self) -> Registry:
        """Return the registry as it is now; this ends the edit.

        It shares with the one that the edit began with all that was not changed.
        """
        done = {key: cast("_Edit", made).done() for key, made in self._maps.items()}
        return Registry(**cast("dict[str, Any]", done))


def merge(base: Registry, changes: Registry) -> Registry:
    """Return `base` with the entries of `changes` added or put in place of those with their id.

    Linear in `changes` where `base` was made by `RegistryEdit`, otherwise in both.
    """
    if isinstance(base.requesters, PersistentMap):
        edit = RegistryEdit(base)
        edit.put(changes)
        return edit.done()
    return Registry(
        organisations={**base.organisations, **changes.organisations},
        requesters={**base.requesters, **changes.requesters},
        accreditations={**base.accreditations, **changes.accreditations},
        data_services={**base.data_services, **changes.data_services},
        agreements={**base.agreements, **changes.agreements},
        seals={**base.seals, **changes.seals},
    )


class _Kept(Protocol):
    """What the edit of a section begins with."""

    def edit(self) -> MutableMapping[str, Entry]:
        """Return a map to change, which starts as this one."""


class _Edit(Protocol):
    def done(self) -> Mapping[str, Entry]:
        """Return the map as it is now."""


def _kept(section: Section, entries: Mapping[str, Entry]) -> _Kept:
    if isinstance(entries, PersistentMap | SealMap):
        return cast("_Kept", entries)
    if section.type is Seal:
        return cast("_Kept", SealMap(cast("Mapping[str, Seal]", entries)))
    if section.type is Requester:
        return cast("_Kept", Requesters(cast("Mapping[str, Requester]", entries)))
    return cast("_Kept", PersistentMap(entries))


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
