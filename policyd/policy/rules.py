"""Rules: py-abac policies with our own keys beside them, read, validated and taken apart.

py-abac parses and validates every rule, with the schema of its `Policy.from_json`, and the conditions are
compiled from the objects that it returns; its evaluator never runs here (trust.md section 7).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from py_abac import Policy
from py_abac.policy.policy import PolicySchema, ValidationError

from policyd.errors import Place
from policyd.model import Action, Transform
from policyd.policy.attributes import Attribute, Part, path_name
from policyd.policy.conditions import FALSE, MISSING, TRUE, Test, Truth, check, compile_condition
from policyd.policy.grants import NO_DUTIES, Duties, read_duties, read_grant
from policyd.policy.reader import ID, Reader, nearest
from policyd.policy.source import Node, plain
from policyd.policy.where import NOW, Edge, Values, WhereTest, check_where, compile_where, edges_of


class Effect(StrEnum):
    """What a rule does where it holds."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Atom:
    """One condition on one attribute; equal keys mean the same condition, which is evaluated once.

    ``only`` are the values that make it true, where that is a finite list.
    """

    attribute: Attribute
    key: str
    test: Test
    only: frozenset[str] | None = None

    def truth(self, values: Values) -> Truth:
        """Evaluate the condition on the attributes of a request."""
        return self.test(values.get(self.attribute.name, MISSING))


@dataclass(frozen=True, slots=True)
class WhereAtom:
    """One condition under `where:`, which may look at further attributes; equal keys as for ``Atom``."""

    attribute: Attribute
    key: str
    test: WhereTest
    edges: tuple[Edge, ...] = ()

    def truth(self, values: Values) -> Truth:
        """Evaluate the condition on the attributes of a request."""
        return self.test(values.get(self.attribute.name, MISSING), values)


Alternatives = tuple[tuple[Atom, ...], ...]
"""An *or* of *ands*."""

WhereAlternatives = tuple[tuple[WhereAtom, ...], ...]


@dataclass(frozen=True, slots=True)
class RuleSource:
    """One rule as written: ``resource_ids`` are target patterns, ``parts`` its conditions by part.

    The conditions of ``where`` come on top of those of ``parts``.
    """

    uid: str
    why: str
    effect: Effect
    grant: Transform
    duties: Duties
    resource_ids: tuple[str, ...]
    parts: Mapping[Part, Alternatives]
    where: Mapping[Part, WhereAlternatives]
    place: Place
    content: Any


_SCHEMA = PolicySchema()
"""`Policy.from_json` is this schema made anew for each rule, which takes as long as reading the rule."""

_KEYS = {"uid", "why", "effect", "rules"}
_ALLOW_KEYS = {"grant", "obligations"}
_TARGETS: Mapping[str, tuple[Part, str]] = {
    "subject_id": (Part.SUBJECT, "requester.id"),
    "resource_id": (Part.RESOURCE, "field"),
    "action_id": (Part.ACTION, "action"),
}
_PATTERN = re.compile(r"[A-Za-z0-9_.*-]+", re.ASCII)


def read_rule(reader: Reader, node: Node, attributes: Mapping[str, Attribute]) -> RuleSource | None:
    """Read one rule; None when it has mistakes, which are all on record then."""
    before = len(reader.problems)
    fields = reader.mapping(node, required=_KEYS, optional={"targets", "where", *_ALLOW_KEYS})
    uid = reader.ident(fields["uid"], ID)
    why = reader.text(fields["why"])
    effect = reader.one_of(fields["effect"], Effect)
    if effect is Effect.DENY:
        for key in _ALLOW_KEYS & fields.keys():
            reader.fail(fields[key], f"a deny rule takes no `{key}`")
    elif "grant" not in fields and fields["effect"].value == Effect.ALLOW.value:
        reader.fail(node, "an allow rule says what it grants; write `grant: release` or a transform")
    targets = _read_targets(reader, fields.get("targets"))
    parts = reader.mapping(fields["rules"], optional=[part.value for part in Part])
    for name, part in parts.items():
        _check_part(reader, part, Part(name), attributes, check)
    where = reader.mapping(fields.get("where"), optional=[part.value for part in Part])
    for name, part in where.items():
        _check_part(reader, part, Part(name), attributes, partial(check_where, attributes=attributes))
    grant = read_grant(reader, fields.get("grant"))
    duties = read_duties(reader, fields["obligations"]) if "obligations" in fields else NO_DUTIES
    if len(reader.problems) > before:
        return None
    document = {
        "uid": uid,
        "description": why,
        "effect": effect.value,
        "targets": {key: list(patterns) for key, patterns in targets.items()},
        "rules": {name: plain(part) for name, part in parts.items()},
    }
    try:
        policy: Policy = _SCHEMA.load(document)
    except ValidationError as error:
        reader.fail(node, f"py-abac refuses rule `{uid}`: {' '.join(str(error).split())}")
        return None
    return RuleSource(
        uid=uid,
        why=why,
        effect=effect,
        grant=grant,
        duties=duties,
        resource_ids=targets.get("resource_id", ("*",)),
        parts=_compile_parts(policy, document, targets, attributes),
        where={Part(name): _compile_where(part, attributes) for name, part in where.items()},
        place=node.place,
        content=plain(node),
    )


def glob(pattern: str) -> re.Pattern[str]:
    """Compile a target pattern, in which only `*` is special."""
    return re.compile("[^\n]*".join(re.escape(piece) for piece in pattern.split("*")))


def _read_targets(reader: Reader, node: Node | None) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key, value in reader.mapping(node, optional=list(_TARGETS)).items():
        entries = reader.entries(value) if isinstance(value.value, tuple) else (value,)
        if not entries:
            reader.fail(value, f"`{key}` over an empty list never matches")
        for entry in entries:
            pattern = reader.text(entry)
            if pattern and not _PATTERN.fullmatch(pattern):
                reader.fail(entry, f"`{pattern}`: a target is an id in which only `*` is special")
            elif pattern and key == "action_id" and not any(map(glob(pattern).fullmatch, Action)):
                reader.fail(entry, f"target `{pattern}` names no action{nearest(pattern, Action)}")
            found[key] = (*found.get(key, ()), pattern)
    return found


def _check_part(
    reader: Reader,
    node: Node,
    part: Part,
    attributes: Mapping[str, Attribute],
    check_one: Callable[[Reader, Node, Attribute], None],
) -> None:
    if node.value == ():
        reader.fail(node, f"`{part}: []` never holds; leave it out or write a mapping")
    alternatives = reader.entries(node) if isinstance(node.value, tuple) else (node,)
    for alternative in alternatives:
        conditions = reader.table(alternative)
        if not conditions and len(alternatives) > 1:
            reader.fail(alternative, "an empty alternative always holds")
        for path, condition in conditions.items():
            place = alternative.key_places[path]
            name = path_name(path)
            if name is None:
                reader.fail(place, f"`{path}` is not a path; write `$.name` or `$.name.name`")
            elif name not in attributes:
                reader.fail(place, f"unknown attribute `{name}`{nearest(name, attributes)}")
            elif attributes[name].part is not part:
                reader.fail(place, f"`{path}` belongs under `{attributes[name].part}`, not `{part}`")
            else:
                check_one(reader, condition, attributes[name])


def _compile_parts(
    policy: Policy,
    document: Mapping[str, Any],
    targets: Mapping[str, tuple[str, ...]],
    attributes: Mapping[str, Attribute],
) -> dict[Part, Alternatives]:
    parts: dict[Part, Alternatives] = {}
    for name in document["rules"]:
        parsed, written = getattr(policy.rules, name), document["rules"][name]
        if not isinstance(parsed, list):
            parsed, written = [parsed], [written]
        parts[Part(name)] = tuple(
            tuple(
                _atom(attributes[str(path_name(path))], condition, text[path])
                for path, condition in alternative.items()
            )
            for alternative, text in zip(parsed, written, strict=True)
        )
    for key in ("subject_id", "action_id"):
        patterns = tuple(pattern for pattern in targets.get(key, ("*",)))
        if "*" not in patterns:
            part, name = _TARGETS[key]
            aimed = _target_atom(attributes[name], patterns)
            parts[part] = tuple((aimed, *alternative) for alternative in parts.get(part, ((),)))
    return parts


def _compile_where(node: Node, attributes: Mapping[str, Attribute]) -> WhereAlternatives:
    written = plain(node)
    return tuple(
        tuple(
            _where_atom(attributes[str(path_name(path))], condition)
            for path, condition in alternative.items()
        )
        for alternative in (written if isinstance(written, list) else [written])
    )


def _where_atom(attribute: Attribute, written: Mapping[str, Any]) -> WhereAtom:
    key = json.dumps(["where", attribute.name, written], sort_keys=True)
    return WhereAtom(attribute, key, compile_where(written, attribute), tuple(edges_of(written, attribute)))


def _atom(attribute: Attribute, condition: Any, written: Mapping[str, Any]) -> Atom:
    only = None
    if written["condition"] == "Equals":
        only = frozenset({written["value"]})
    elif written["condition"] == "IsIn":
        only = frozenset(str(value) for value in written["values"])
    key = json.dumps([attribute.name, written], sort_keys=True)
    return Atom(attribute, key, compile_condition(condition, attribute), only)


def spell_atom(atom: Atom | WhereAtom) -> str:
    """Return a condition as one line of text, such as `Equals valid` or `Not (AnyIn [a, b])`."""
    written = json.loads(atom.key)
    if written[0] == "target":
        return f"matches [{', '.join(written[2])}]"
    return _spell(written[-1])


def _spell(written: Mapping[str, Any]) -> str:
    name = str(written["condition"])
    if "values" in written:
        return f"{name} [{', '.join(map(_spell_value, written['values']))}]"
    if "value" in written:
        return f"{name} {_spell_value(written['value'])}"
    # Conditions under `where:` have names for their parts: `Within from 2025-01-01 until 2026-01-01`.
    parts = (f"{key} {value}" for key, value in written.items() if key != "condition")
    return " ".join([name, *parts])


def _spell_value(value: object) -> str:
    if isinstance(value, dict):
        return f"({_spell(value)})"
    return json.dumps(value) if isinstance(value, bool) else str(value)


def words_of(atom: Atom | WhereAtom) -> frozenset[str]:
    """Return the whole words that a condition names as values of its attribute."""
    return frozenset(_words(json.loads(atom.key)[-1]))


_WHOLE = frozenset({"Equals", "NotEquals", "IsIn", "AnyIn", "AllIn"})
"""Conditions whose values are whole words; of the others they are pieces."""


def _words(written: Any) -> Iterator[str]:
    if isinstance(written, dict):
        for each in (written.get("value"), *written.get("values", ())):
            if isinstance(each, str) and written["condition"] in _WHOLE:
                yield each
            yield from _words(each)


def attributes_of(atom: Atom | WhereAtom) -> frozenset[str]:
    """Return every attribute that a condition reads."""
    return frozenset({atom.attribute.name, *_read(json.loads(atom.key)[-1])})


def _read(written: Any) -> Iterator[str]:
    if isinstance(written, dict):
        if "attribute" in written:
            yield str(path_name(written["attribute"]))
        if "days_from_now" in written:
            yield NOW
        for each in (written.get("value"), *written.get("values", ())):
            yield from _read(each)


def _target_atom(attribute: Attribute, patterns: tuple[str, ...]) -> Atom:
    globs = tuple(glob(pattern) for pattern in patterns)

    def test(value: object) -> int:
        # Both target attributes are always present and text.
        return TRUE if any(each.fullmatch(str(value)) for each in globs) else FALSE

    return Atom(attribute, json.dumps(["target", attribute.name, sorted(patterns)]), test)
