"""Registry entries as plain values for storage and digests, and back: each entry has exactly one form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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

    def of(self, registry: Registry) -> Mapping[str, Entry]:
        """Return this section's entries by id."""
        return cast("Mapping[str, Entry]", getattr(registry, self.key))


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
    for key, members in _section(value, where="registry").items():
        if key not in SECTIONS:
            raise ValueError(f"registry: unknown section `{key}`")
        section = SECTIONS[key]
        sections[key] = {
            id_: _entry(section, id_=id_, value=entry) for id_, entry in _section(members, where=key).items()
        }
    return Registry(**cast("dict[str, Any]", sections))


def _section(value: object, *, where: str) -> dict[str, object]:
    try:
        return _mapping(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


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


_SAFE_INTEGER = 2**53 - 1
_REPEATED = frozenset({"organisation", "issuer", "kind", "scheme", "source", "setting", "gateway"})
"""Texts that thousands of entries have in common: one copy of each is enough."""

_Read = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class _Member:
    """One member of a kind of entry, and what reads it; ``default`` is MISSING where it is mandatory."""

    name: str
    read: _Read
    default: object


def _entry(section: Section, *, id_: str, value: object) -> Entry:
    where = f"{section.noun} `{id_}`"
    if not isinstance(value, dict):
        raise ValueError(f"{where}: must be a mapping")
    arguments: dict[str, Any] = {"id": id_}
    for member in _MEMBERS[section.key]:
        name = member.name
        if name in value:
            try:
                typed = member.read(value[name])
            except ValueError as error:
                raise ValueError(f"{where}: {name}: {error}") from None
            # INVARIANT: one entry, one form; a default that is written out is another form.
            if typed == member.default:
                raise ValueError(f"{where}: {name}: {_NOT_CANONICAL}")
            arguments[name] = typed
        elif member.default is MISSING:
            raise ValueError(f"{where}: member `{name}` is missing")
    if len(arguments) != len(value) + 1:
        known = {member.name for member in _MEMBERS[section.key]}
        raise ValueError(f"{where}: unknown member `{min(map(str, value.keys() - known))}`")
    return section.type(**arguments)


_NOT_CANONICAL = "is not in canonical form"
_OTHER_TYPE = "has another type than it should"


def _reader(hint: Any) -> _Read:
    """Return what reads a value of one of the shapes used in model.py, in canonical form alone."""
    origin = get_origin(hint)
    if origin is UnionType:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
        return _reader(hint)
    if origin is frozenset:
        (item,) = get_args(hint)
        return _read_words if item is str else _set(item)
    if origin is tuple:
        _, item = get_args(get_args(hint)[0])
        return _pairs(_reader(item))
    if hint is bytes:
        return _read_bytes
    if hint is int:
        return _read_integer
    return _word(hint) if issubclass(hint, StrEnum) else _plainly(hint)


def _plainly(kind: type) -> _Read:
    def read(value: object) -> object:
        if type(value) is not kind:
            raise ValueError(_OTHER_TYPE)
        return value

    return read


def _read_integer(value: object) -> object:
    if type(value) is not int:
        raise ValueError(_OTHER_TYPE)
    if not -_SAFE_INTEGER <= value <= _SAFE_INTEGER:
        raise ValueError("is beyond 2**53 - 1")
    return value


def _shared(value: object) -> object:
    if type(value) is not str:
        raise ValueError(_OTHER_TYPE)
    return intern(value)


def _word(kind: type[StrEnum]) -> _Read:
    words = {word.value: word for word in kind}

    def read(value: object) -> object:
        if type(value) is not str:
            raise ValueError(_OTHER_TYPE)
        if value not in words:
            raise ValueError("unknown word")
        return words[value]

    return read


def _read_words(value: object) -> object:
    if type(value) is not list:
        raise ValueError("must be a list")
    if any(type(word) is not str for word in value):
        raise ValueError(_OTHER_TYPE)
    # Agreements by the thousand name the same fields: one copy of each name is enough.
    found = frozenset(map(intern, value))
    if len(found) != len(value) or sorted(value) != value:
        raise ValueError(_NOT_CANONICAL)
    return found


def _set(item: Any) -> _Read:
    read_item = _reader(item)

    def read(value: object) -> object:
        if type(value) is not list:
            raise ValueError("must be a list")
        found = frozenset(map(read_item, value))
        if len(found) != len(value) or sorted(value) != value:
            raise ValueError(_NOT_CANONICAL)
        return found

    return read


def _pairs(read_item: _Read) -> _Read:
    def read(value: object) -> object:
        if type(value) is not dict:
            raise ValueError("must be a mapping")
        for key in value:
            if type(key) is not str:
                raise ValueError("must be a mapping of texts")
        return tuple([(intern(key), read_item(value[key])) for key in sorted(value)])

    return read


def _read_bytes(value: object) -> object:
    if type(value) is not str:
        raise ValueError(_OTHER_TYPE)
    found = bytes.fromhex(value)
    if found.hex() != value:
        raise ValueError(_NOT_CANONICAL)
    return found


def _dated(read: _Read) -> _Read:
    def read_instant(value: object) -> object:
        instant = read(value)
        if not is_dated(instant):
            raise ValueError("is before 1900 or after 9999")
        return instant

    return read_instant


def _members_of(kind: type[Entry]) -> tuple[_Member, ...]:
    hints = get_type_hints(kind)
    found = []
    for item in fields(kind):
        if item.name != "id":
            read = _shared if item.name in _REPEATED else _reader(hints[item.name])
            read = _dated(read) if item.name in INSTANTS else read
            found.append(_Member(item.name, read, item.default))
    return tuple(found)


_MEMBERS = {section.key: _members_of(section.type) for section in SECTIONS.values()}


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("must be a mapping")
    return value
