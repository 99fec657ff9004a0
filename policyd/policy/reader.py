"""Read typed values out of YAML nodes, collecting every mistake instead of stopping at the first.

A loader makes one ``Reader``, reads what it expects, and calls ``finish`` before it uses anything::

    reader = Reader()
    top = reader.mapping(reader.file(path), required={"name", "version"}, optional={"about"})
    name = reader.ident(top["name"], ID)
    version = reader.integer(top["version"], minimum=1)
    about = reader.text(top.get("about"), default="nothing said")
    reader.finish()

After a mistake each method returns ``default``. ``None`` in place of a node stands for an optional
key that is not there and gives ``default`` without a problem; required keys are always in the result
of ``mapping``, those that are missing as nodes whose problem is already on record.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Hashable, Iterable
from pathlib import Path
from typing import TypeVar

from policyd.clock import parse_instant
from policyd.errors import Place, Problem, SourceError
from policyd.model import Instant
from policyd.policy.source import Absent, Node, read_yaml

ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}", re.ASCII)
"""Purposes, rules, organisations, data services, seals and the like."""

CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
"""Gateways, agreements, requesters and accreditations."""

FIELD_ID = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z0-9_]+", re.ASCII)
"""``Table.Field``."""

WORD = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
"""A table or field name alone."""

T = TypeVar("T")
Text = TypeVar("Text", bound=str)
Key = TypeVar("Key", bound=Hashable)


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean `x`?`` for the closest valid word, or which words are valid."""
    known = sorted(valid)
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{folded[close[0]]}`?"
    if not known:
        return ""
    listed = ", ".join(f"`{name}`" for name in known[:12])
    return f"; expected one of {listed}{' ...' if len(known) > 12 else ''}"


class Reader:
    """Collects the problems of one load; not for use by several threads."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def fail(self, where: Node | Place, message: str) -> None:
        """Record a mistake; once per absent node is enough, so those are left out."""
        if isinstance(where, Node):
            if where.value is Absent.ABSENT:
                return
            where = where.place
        self.problems.append(Problem(where, message))

    def finish(self) -> None:
        """Raise SourceError with all problems on record, if there are any."""
        if self.problems:
            raise SourceError(self.problems)

    def file(self, path: Path, *, name: str | None = None) -> Node:
        """Read a YAML file strictly; a file that does not read gives an absent node."""
        try:
            return read_yaml(path, name=name)
        except SourceError as error:
            self.problems.extend(error.problems)
            return Node(Absent.ABSENT, Place(str(path) if name is None else name))

    def mapping(
        self, node: Node | None, *, required: Collection[str] = (), optional: Collection[str] = ()
    ) -> dict[str, Node]:
        """Read a mapping with exactly these keys; unknown and missing keys are problems."""
        found = self.table(node)
        place = node.place if node is not None else Place("")
        known = {*required, *optional}
        for key in found:
            if key not in known and node is not None:
                self.fail(node.key_places[key], f"unknown key `{key}`{nearest(key, known)}")
        present = {key: value for key, value in found.items() if key in known}
        for key in sorted(set(required) - set(present)):
            if node is not None and isinstance(node.value, dict):
                self.fail(node, f"key `{key}` is missing")
            present[key] = Node(Absent.ABSENT, place)
        return present

    def table(self, node: Node | None) -> dict[str, Node]:
        """Read a mapping whose keys are data; places of keys are in ``node.key_places``."""
        value = self._typed(node, dict, "a mapping")
        return {} if value is None else dict(value)

    def entries(self, node: Node | None) -> tuple[Node, ...]:
        """Read a list of anything."""
        value = self._typed(node, tuple, "a list")
        return () if value is None else value

    def text(self, node: Node | None, *, default: str = "") -> str:
        """Read text that is not blank."""
        value = self._typed(node, str, "text")
        if value is not None and node is not None and not value.strip():
            self.fail(node, "must not be empty")
            return default
        return default if value is None else value

    def integer(
        self, node: Node | None, *, minimum: int | None = None, maximum: int | None = None, default: int = 0
    ) -> int:
        """Read an integer between ``minimum`` and ``maximum``, both included."""
        value = self._typed(node, int, "an integer")
        if value is None or node is None:
            return default
        if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
            self.fail(node, f"must be {_range(minimum, maximum)}, not {value}")
            return default
        return value

    def boolean(self, node: Node | None, *, default: bool = False) -> bool:
        """Read true or false."""
        value = self._typed(node, bool, "true or false")
        return default if value is None else value

    def instant(self, node: Node | None, *, default: Instant = 0) -> Instant:
        """Read a date (midnight UTC) or a date and time in UTC, as milliseconds since the epoch."""
        value = self._typed(node, str, "a date such as 2026-02-05 or 2026-02-05T09:30:00Z")
        if value is None or node is None:
            return default
        try:
            return parse_instant(value)
        except ValueError as error:
            self.fail(node, str(error))
            return default

    def one_of(self, node: Node | None, values: Iterable[Text], *, default: Text | None = None) -> Text:
        """Read one of the given words; a ``StrEnum`` class gives its member. ``values`` is not empty.

        Without a ``default`` the first word stands in after a mistake.
        """
        members = {str(value): value for value in values}
        fallback = next(iter(members.values())) if default is None else default
        word = self._typed(node, str, "a word")
        if word is None or node is None:
            return fallback
        if word not in members:
            self.fail(node, f"unknown value `{_shorten(word)}`{nearest(word, members)}")
            return fallback
        return members[word]

    def ident(self, node: Node | None, pattern: re.Pattern[str], *, default: str = "") -> str:
        """Read an identifier that matches the whole pattern (``ID``, ``CODE``, ``FIELD_ID``, ``WORD``)."""
        word = self.text(node, default=default)
        if node is not None and word != default and not pattern.fullmatch(word):
            self.fail(node, f"`{_shorten(word)}` is not an id of the form {pattern.pattern}")
            return default
        return word

    def texts(self, node: Node | None) -> tuple[str, ...]:
        """Read a list of texts, none of them twice."""
        return self.each(node, self.text)

    def idents(self, node: Node | None, pattern: re.Pattern[str]) -> tuple[str, ...]:
        """Read a list of identifiers, none of them twice."""
        return self.each(node, lambda entry: self.ident(entry, pattern))

    def integers(
        self, node: Node | None, *, minimum: int | None = None, maximum: int | None = None
    ) -> tuple[int, ...]:
        """Read a list of integers, none of them twice."""
        return self.each(node, lambda entry: self.integer(entry, minimum=minimum, maximum=maximum))

    def each(self, node: Node | None, read: Callable[[Node], Key]) -> tuple[Key, ...]:
        """Read every entry of a list with ``read``; leaves out what failed, reports what comes twice."""
        found: dict[Key, Place] = {}
        for entry in self.entries(node):
            before = len(self.problems)
            value = read(entry)
            if len(self.problems) > before:
                continue
            if value in found:
                self.fail(entry, f"`{value}` is listed twice, first on line {found[value].line}")
            found.setdefault(value, entry.place)
        return tuple(found)

    def _typed(self, node: Node | None, kind: type[T], called: str) -> T | None:
        if node is None or node.value is Absent.ABSENT:
            return None
        # bool is a subclass of int, and `true` is not a number
        if not isinstance(node.value, kind) or (kind is int and isinstance(node.value, bool)):
            self.fail(node, f"must be {called}, not {_kind(node.value)}")
            return None
        return node.value


def _range(minimum: int | None, maximum: int | None) -> str:
    if maximum is None:
        return f"at least {minimum}"
    return f"at most {maximum}" if minimum is None else f"from {minimum} to {maximum}"


def _kind(value: object) -> str:
    if isinstance(value, bool) or value is None:
        word = "null" if value is None else str(value).lower()
        return f'{word} (write "{word}" for text)'
    if isinstance(value, int):
        return f'the integer {value} (write "{value}" for text)'
    if isinstance(value, tuple):
        return "a list"
    return "a mapping" if isinstance(value, dict) else f"the text `{_shorten(str(value))}`"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
