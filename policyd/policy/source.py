"""Read YAML strictly, keeping the place of every value, so that a file means what it shows.

The rules are at the top of docs/policy-set.md. Every mistake of a file is reported at once, as far
as reading can go on. ``policyd.policy.reader`` turns the nodes into typed values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from policyd.errors import Place, Problem, SourceError

MAX_BYTES = 4 * 1024 * 1024
MAX_NODES = 200_000
MAX_DEPTH = 32
MAX_HIDDEN = 100
"""How many forbidden characters of one file are reported; more of them say nothing new."""

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Absent(Enum):
    """The value of a required key that is not there; the missing key is already a problem."""

    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a file and where it stands; ``key_places`` says where the keys of a mapping stand."""

    value: str | int | bool | Absent | tuple[Node, ...] | dict[str, Node] | None
    place: Place
    key_places: Mapping[str, Place] = field(default_factory=dict)


def plain(node: Node) -> Any:
    """Return the value without places: text, int, bool, None, lists and dicts."""
    if isinstance(node.value, tuple):
        return [plain(entry) for entry in node.value]
    if isinstance(node.value, Mapping):
        return {key: plain(entry) for key, entry in node.value.items()}
    return node.value


def read_yaml(path: Path, *, name: str | None = None) -> Node:
    """Read one YAML file; ``name`` is what messages call it (default: the path as given).

    Raises:
        SourceError: the file cannot be read, or breaks the rules; holds every mistake found.
    """
    called = str(path) if name is None else name
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceError([Problem(Place(called), f"cannot be read: {error.strerror or error}")]) from error
    if len(raw) > MAX_BYTES:
        raise SourceError([Problem(Place(called), f"is over {MAX_BYTES} bytes; split it")])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line_start = before.rfind(b"\n") + 1
        place = Place(called, before.count(b"\n") + 1, len(before[line_start:].decode("utf-8")) + 1)
        found = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise SourceError([Problem(place, found)]) from error
    return read_text(text, called)


def read_text(text: str, file: str) -> Node:
    """Read YAML text; ``file`` is what messages call it.

    Raises:
        SourceError: the text breaks the rules; holds every mistake found.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise SourceError([Problem(Place(file), f"is over {MAX_BYTES} bytes; split it")])
    problems: list[Problem] = []
    builder = _Builder(file, problems)
    node = builder.document(_screen(text, file, problems))
    if problems or node is None:
        raise SourceError(problems)
    return node


# SECURITY: characters that an editor does not show as what they are, or that YAML 1.1 counts as line
# breaks: controls, soft hyphen, bidirectional and zero-width marks (CVE-2021-42574), surrogates.
# tests/vectors/yaml/strict.yaml has a case for each family.
_HIDDEN = re.compile(
    "[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f"
    "\ufeff\ufff0-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e0fff]|\r(?!\n)"
)


def _screen(text: str, file: str, problems: list[Problem]) -> str:
    """Report characters that may not stand in a file, and return the text without them, same columns."""
    if text.startswith("\ufeff"):
        problems.append(Problem(Place(file), "starts with a byte order mark; save the file without one"))
        text = text[1:]
    line, line_start, done = 1, 0, 0
    for match in islice(_HIDDEN.finditer(text), MAX_HIDDEN):
        line += text.count("\n", done, match.start())
        line_start = max(line_start, text.rfind("\n", done, match.start()) + 1)
        done = match.start()
        place = Place(file, line, match.start() - line_start + 1)
        problems.append(Problem(place, _hidden_message(match.group())))
    return _HIDDEN.sub(lambda match: " " if match.group().isspace() else "_", text)


def _hidden_message(character: str) -> str:
    if character == "\t":
        return 'a tab; indent with spaces, or write "\\t" in double quotes'
    return f"invisible or control character U+{ord(character):04X}; remove it"


class _Stop(Exception):
    """Reading cannot go on; the problem says why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


class _Builder:
    """Turns the events of one document into nodes."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self._file = file
        self._problems = problems
        self._count = 0
        self._events: Iterator[yaml.Event] = iter(())

    def document(self, text: str) -> Node | None:
        """Return the one document of the text, or None when reading had to stop."""
        self._events = yaml.parse(text, Loader=_PARSER)
        node = None
        try:
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    if node is not None:
                        raise _Stop(Problem(self._place(event), "a second document; one document a file"))
                    if event.version or event.tags:
                        self._report(event, "a % directive; remove it")
                    node = self._node(next(self._events), depth=1)
        except _Stop as stop:
            self._problems.append(stop.problem)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(self._file, mark.line + 1, mark.column + 1) if mark else Place(self._file)
            what = ", ".join(part for part in (error.context, error.problem) if part)
            self._problems.append(Problem(place, f"is not well-formed YAML: {what}"))
        except yaml.YAMLError as error:
            what = " ".join(str(error).split())
            self._problems.append(Problem(Place(self._file), f"is not well-formed YAML: {what}"))
        else:
            if node is None:
                self._problems.append(Problem(Place(self._file), "is empty"))
        return node

    def _place(self, event: yaml.Event) -> Place:
        mark = event.start_mark
        return Place(self._file, mark.line + 1, mark.column + 1) if mark else Place(self._file)

    def _report(self, event: yaml.Event, message: str) -> None:
        self._problems.append(Problem(self._place(event), message))

    def _node(self, event: yaml.Event, *, depth: int) -> Node:
        place = self._place(event)
        self._count += 1
        if self._count > MAX_NODES:
            raise _Stop(Problem(place, f"more than {MAX_NODES} values; split the file"))
        if depth > MAX_DEPTH:
            raise _Stop(Problem(place, f"nested deeper than {MAX_DEPTH} levels; flatten it"))
        if isinstance(event, yaml.AliasEvent):
            self._report(event, f"alias `*{event.anchor}`; write the value out again")
            return Node(None, place)
        if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            raise _Stop(Problem(place, "is not well-formed YAML: a value was expected"))
        if event.anchor is not None:
            self._report(event, f"anchor `&{event.anchor}`; remove it and write the value out where needed")
        if event.tag is not None:
            tag = _shorten(event.tag.replace("tag:yaml.org,2002:", "!!"))
            self._report(event, f"tag `{tag}`; remove it (quote a value to make it text)")
        if isinstance(event, yaml.ScalarEvent):
            return Node(self._scalar(event), place)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(item, depth=depth + 1))
            return Node(tuple(items), place)
        return self._mapping(place, depth=depth)

    def _mapping(self, place: Place, *, depth: int) -> Node:
        values: dict[str, Node] = {}
        places: dict[str, Place] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            before = len(self._problems)
            key = self._node(event, depth=depth + 1)
            explained = len(self._problems) > before
            value = self._node(next(self._events), depth=depth + 1)
            if not isinstance(key.value, str):
                if not explained:
                    self._report(event, _key_message(key.value))
            elif key.value in places:
                first = places[key.value]
                self._report(event, f"key `{_shorten(key.value)}` is given twice, first on line {first.line}")
            else:
                values[key.value] = value
                places[key.value] = key.place
        return Node(values, place, places)

    def _scalar(self, event: yaml.ScalarEvent) -> str | int | bool | None:
        if event.style:  # quoted or a block; plain is '' in libyaml and None in the Python parser
            if event.style == '"' and (match := _HIDDEN.search(event.value.replace("\t", " "))):
                self._report(event, f"escape for {_hidden_message(match.group())}")
            return event.value
        message = _pitfall(event.value)
        if message:
            self._report(event, message)
            return None
        if event.value in _WORDS:
            return _WORDS[event.value]
        return int(event.value) if _INTEGER.fullmatch(event.value) else event.value


_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}
_INTEGER = re.compile(r"-?[1-9][0-9]{0,17}|0")
_LONG_NUMBER = re.compile(r"[-+.0-9][-+.:_0-9a-fxo]*", re.ASCII | re.IGNORECASE)

# SPEC: YAML 1.1 type repository (bool, null, int, float, merge, value) and the YAML 1.2 core schema;
# a plain word that either of them reads as anything but text is refused unless both agree.
_PITFALLS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.ASCII | re.IGNORECASE), message)
    for pattern, message in (
        (r"true", 'is a boolean; write true, or "{}" for text'),
        (r"false", 'is a boolean; write false, or "{}" for text'),
        (r"y|yes|on", 'is true to some YAML readers; write true, or "{}" for text'),
        (r"n|no|off", 'is false to some YAML readers; write false, or "{}" for text'),
        (r"~|null", 'is null to some YAML readers; write null, or "{}" for text'),
        (r"<<", "is a merge key; write the keys out"),
        (r"=", 'is a default key to some YAML readers; write "{}" for text'),
        (
            r"[-+]?0[xbo][0-9a-f_]*",
            'is a hexadecimal, octal or binary number; write it in decimal, or "{}" for text',
        ),
        (
            r"[-+]?0[0-9_]+",
            'is an octal number to some YAML readers; write it without leading zeros, or "{}" for text',
        ),
        (
            r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9_]*)?",
            'is a base-60 number to some YAML readers; write "{}" for text',
        ),
        (
            r"[-+]?([0-9][0-9_]*)?\.?[0-9_]+e[-+]?[0-9]+|[-+]?[0-9][0-9_]*\.e[-+]?[0-9]+",
            'is a float; write "{}" for text',
        ),
        (r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)", 'is a float; write an integer, or "{}" for text'),
        (r"[-+]?\.(inf|nan)", 'is a float; write "{}" for text'),
        (
            r"\+[0-9][0-9_]*|-0|[-+]?[0-9]+_[0-9_]*",
            'is not a plain decimal integer; write it without sign, zero or underscore, or "{}" for text',
        ),
        (r"-?[0-9]{19,}", 'has more than 18 digits; write "{}" for text'),
    )
)


def _pitfall(word: str) -> str:
    """Return what is wrong with a plain word, empty when it is read alike everywhere."""
    if not word:
        return 'no value; write null, "" for empty text, or leave the key out'
    if word in _WORDS:
        return ""
    if len(word) > 5 and not (word[0].isdigit() or word[0] in "+-."):
        return ""  # longer than `false`, and not a number: most words of a catalogue
    if len(word) > 64:  # one linear look, where the patterns below could backtrack for long
        return f"`{_shorten(word)}` looks like a number; quote it" if _LONG_NUMBER.fullmatch(word) else ""
    for pattern, message in _PITFALLS:
        if pattern.fullmatch(word):
            shown = _shorten(word)
            return f"`{shown}` {message.format(shown)}"
    return ""


def _key_message(value: object) -> str:
    if isinstance(value, tuple | Mapping):
        return "a key must be text, not a list or mapping"
    spelling = "null" if value is None else str(value).lower()
    return f'key `{spelling}` must be text; write "{spelling}"'


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
