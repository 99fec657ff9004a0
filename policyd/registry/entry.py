"""Registry entries as plain values for storage and digests, and back: each entry has exactly one form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from sys import intern
from types import MappingProxyType, NoneType, UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from policyd.model import Accreditation, Agreement, DataService, Organisation, Registry, Requester, Seal

Entry = Organisation | Requester | Accreditation | DataService | Agreement | Seal


@dataclass(frozen=True, slots=True)
class Section:
    """One kind of entry: its key in files and bodies, and what one is called."""

    key: str
    noun: str
    type: type[Entry]

    def of(self, registry: Registry) -> dict[str, Entry]:
        """Return this section's entries by id."""
        return cast("dict[str, Entry]", getattr(registry, self.key))


SECTIONS: Mapping[str, Section] = MappingProxyType(
    {
        section.key: section
        for section in (
            Section("organisations", "organisation", Organisation),
            Section("requesters", "requester", Requester),
            Section("accreditations", "accreditation", Accreditation),
            Section("data_services", "data service", DataService),
            Section("agreements", "agreement", Agreement),
            Section("seals", "seal", Seal),
        )
    }
)
"""In the order in which they refer to each other, which is the order of files and listings."""


INSTANTS = frozenset({"verified_at", "changed_at", "from_at", "until_at", "destroy_by"})
"""Members that hold an instant."""

_FIRST_INSTANT = -2_208_988_800_000
_LAST_INSTANT = 253_402_300_799_999


def is_dated(value: object) -> bool:
    """Say whether `value` is an instant that can be written as a date from 1900 to 9999."""
    return isinstance(value, int) and _FIRST_INSTANT <= value <= _LAST_INSTANT


def entries(registry: Registry) -> Iterator[tuple[Section, Entry]]:
    """Yield every entry, by section and id."""
    for section in SECTIONS.values():
        for _, entry in sorted(section.of(registry).items()):
            yield section, entry


def to_dict(registry: Registry) -> dict[str, object]:
    """Return the registry as strings, integers, booleans, lists and mappings, ready for canonical JSON.

    Sections without entries and optional members at their default are left out; sets are sorted.
    """
    return {
        key: {id_: _members(entry) for id_, entry in section.of(registry).items()}
        for key, section in SECTIONS.items()
        if section.of(registry)
    }


def from_dict(value: object) -> Registry:
    """Read what `to_dict` wrote.

    Raises:
        ValueError: an unknown, missing or mistyped member; the message names section, id and member.
    """
    sections: dict[str, dict[str, Entry]] = {}
    for key, members in _mapping(value, where="registry").items():
        if key not in SECTIONS:
            raise ValueError(f"registry: unknown section `{key}`")
        section = SECTIONS[key]
        sections[key] = {
            id_: _entry(section, id_=id_, value=entry) for id_, entry in _mapping(members, where=key).items()
        }
    return Registry(**cast("dict[str, Any]", sections))


def shown(value: object) -> str:
    """Write one member for people: sets as lists, absent as `none`."""
    plain = _plain(value)
    if isinstance(plain, list):
        return "[" + ", ".join(shown(item) for item in plain) + "]"
    if isinstance(plain, dict):
        return "{" + ", ".join(f"{key}: {shown(item)}" for key, item in plain.items()) + "}"
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return "none" if plain is None else str(plain)


def _members(entry: Entry) -> dict[str, object]:
    members: dict[str, object] = {}
    for item in fields(entry):
        value = getattr(entry, item.name)
        if item.name != "id" and (item.default is MISSING or value != item.default):
            members[item.name] = _plain(value)
    return members


def _plain(value: object) -> object:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset):
        # Enumerated words are text, and sort and compare as such.
        return [item.value if isinstance(item, StrEnum) else item for item in sorted(value)]
    if isinstance(value, tuple):
        return {key: _plain(item) for key, item in sorted(value)}
    return value


_HINTS = {section.key: get_type_hints(section.type) for section in SECTIONS.values()}


def _entry(section: Section, *, id_: str, value: object) -> Entry:
    where = f"{section.noun} `{id_}`"
    members = _mapping(value, where=where)
    hints = _HINTS[section.key]
    arguments: dict[str, Any] = {"id": id_}
    for item in fields(section.type):
        if item.name in members:
            if item.name == "id":
                raise ValueError(f"{where}: unknown member `id`")
            typed = _typed(hints[item.name], members[item.name], where=f"{where}: {item.name}")
            if item.name in INSTANTS and not (typed is None or is_dated(typed)):
                raise ValueError(f"{where}: {item.name}: is before 1900 or after 9999")
            arguments[item.name] = typed
        elif item.name != "id" and item.default is MISSING:
            raise ValueError(f"{where}: member `{item.name}` is missing")
    unknown = sorted(members.keys() - arguments.keys())
    if unknown:
        raise ValueError(f"{where}: unknown member `{unknown[0]}`")
    entry = section.type(**arguments)
    # INVARIANT: one entry, one form; a default that is written out or an unsorted set is another form.
    if _members(entry) != members:
        raise ValueError(f"{where}: is not in canonical form")
    return entry


def _typed(hint: Any, value: object, *, where: str) -> object:
    """Return `value` as the type of a model field; `hint` is one of the shapes used in model.py."""
    origin = get_origin(hint)
    if origin is UnionType:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
        return _typed(hint, value, where=where)
    if origin is frozenset:
        (item_hint,) = get_args(hint)
        if not isinstance(value, list):
            raise ValueError(f"{where}: must be a list")
        if item_hint is str and all(type(item) is str for item in value):
            # Agreements by the thousand name the same fields: one copy of each name is enough.
            return frozenset(map(intern, value))
        return frozenset(_typed(item_hint, item, where=where) for item in value)
    if origin is tuple:
        _, item_hint = get_args(get_args(hint)[0])
        pairs = sorted(_mapping(value, where=where).items())
        return tuple((key, _typed(item_hint, item, where=where)) for key, item in pairs)
    if hint is bytes and isinstance(value, str):
        return bytes.fromhex(value)
    if isinstance(hint, type) and issubclass(hint, StrEnum) and isinstance(value, str):
        if value not in set(hint):
            raise ValueError(f"{where}: unknown word")
        return hint(value)
    if type(value) is not hint:
        raise ValueError(f"{where}: has another type than it should")
    return value


def _mapping(value: object, *, where: str) -> dict[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{where}: must be a mapping")
    return value
