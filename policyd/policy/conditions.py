"""Conditions: py-abac's vocabulary, checked strictly and compiled to three-valued closures.

A condition on an attribute is TRUE, FALSE or ERROR. A missing attribute or a value of another type is
ERROR, and so is all of an empty set; logic is Kleene's (``not ERROR`` is ERROR, ``ERROR or TRUE`` is
TRUE, ``ERROR and FALSE`` is FALSE). With FALSE < ERROR < TRUE that makes *and* the minimum, *or* the
maximum, *not* the complement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from policyd.policy.attributes import Attribute, Type
from policyd.policy.reader import Reader, nearest
from policyd.policy.source import Node

FALSE, ERROR, TRUE = 0, 1, 2

Truth = int
Test = Callable[[object], Truth]


class Missing(Enum):
    """The value of an attribute that a request does not have; not the same as null or empty."""

    MISSING = "missing"


MISSING = Missing.MISSING

_STRING = {"Equals", "NotEquals", "Contains", "NotContains", "StartsWith", "EndsWith"}
_NUMERIC = {"Eq", "Neq", "Gt", "Gte", "Lt", "Lte"}
_SET = {"AnyIn", "AllIn"}
_SET_ALONE = {"IsEmpty", "IsNotEmpty"}
_LOGIC = {"AllOf", "AnyOf"}
_ALLOWED: Mapping[Type, frozenset[str]] = {
    Type.STRING: frozenset(_STRING | {"IsIn"}),
    Type.INT: frozenset(_NUMERIC | {"IsIn"}),
    Type.BOOL: frozenset({"IsIn"}),
    Type.STRINGS: frozenset(_SET | _SET_ALONE),
    Type.INSTANT: frozenset(),
}
_KNOWN = _STRING | _NUMERIC | _SET | _SET_ALONE | _LOGIC | {"IsIn", "Not"}

WHERE_NAMES = ("Before", "After", "Within", "SameAs", "MemberOf", "Includes", "Overlaps", "PartOf")
"""Conditions that py-abac lacks; they stand under `where:` (policyd.policy.where)."""

_SHARED = "py-abac keeps the other value on the rule that all threads share"
REFUSED: Mapping[str, str] = {
    "IsNotIn": "write {condition: Not, value: {condition: IsIn, values: [...]}}",
    "AllNotIn": "py-abac means `not all of them in`; write Not of AllIn for that, Not of AnyIn for `none in`",
    "AnyNotIn": "py-abac means `none of them in`; write Not of AnyIn for that",
    "Exists": "leave it out: a missing attribute is an error in every condition, so each implies existence",
    "NotExists": "leave it out: nothing may be granted because an attribute is missing",
    "RegexMatch": "matches anywhere and may backtrack; write IsIn, StartsWith, EndsWith or Contains",
    "CIDR": "no attribute is an address",
    "EqualsObject": "no attribute is an object; a boolean is compared with {condition: IsIn, values: [true]}",
    "Any": "leave the path out: it would hold for every value",
    **{
        f"{name}Attribute": f"{_SHARED}; under `where` write {instead}"
        for name, instead in (
            ("Equals", "{condition: SameAs, attribute: $.name}"),
            ("NotEquals", "Not of {condition: SameAs, attribute: $.name}"),
            ("IsIn", "{condition: MemberOf, attribute: $.name}"),
            ("IsNotIn", "Not of {condition: MemberOf, attribute: $.name}"),
            ("AllIn", "{condition: PartOf, attribute: $.name}"),
            ("AllNotIn", "Not of {condition: PartOf, attribute: $.name}, which is what py-abac means"),
            ("AnyIn", "{condition: Overlaps, attribute: $.name}"),
            ("AnyNotIn", "Not of {condition: Overlaps, attribute: $.name}, which is what py-abac means"),
        )
    },
}
"""py-abac conditions that do not load, with what to write instead."""


def check(reader: Reader, node: Node, attribute: Attribute) -> None:
    """Record every mistake of one condition; nothing is compiled from a condition with mistakes."""
    fields = reader.mapping(node, required={"condition"}, optional={"value", "values", "case_insensitive"})
    name = reader.text(fields["condition"])
    if not name:
        return
    if name in REFUSED:
        reader.fail(fields["condition"], f"condition `{name}` is refused: {REFUSED[name]}")
        return
    if name in WHERE_NAMES:
        reader.fail(fields["condition"], f"condition `{name}` stands under `where`, beside `rules`")
        return
    if name not in _KNOWN:
        reader.fail(fields["condition"], f"unknown condition `{name}`{nearest(name, _KNOWN)}")
        return
    if "case_insensitive" in fields:
        reader.fail(fields["case_insensitive"], "`case_insensitive` is refused: ids are compared exactly")
    wanted = "" if name in _SET_ALONE else "value" if name in _STRING | _NUMERIC | {"Not"} else "values"
    for key in ("value", "values"):
        if key in fields and key != wanted:
            reader.fail(fields[key], f"condition `{name}` takes {f'`{wanted}`' if wanted else 'no value'}")
    if wanted and wanted not in fields:
        reader.fail(node, f"condition `{name}` needs `{wanted}`")
        return
    if name == "Not":
        check(reader, fields["value"], attribute)
    elif name in _LOGIC:
        entries = _some(reader, fields["values"], name)
        for entry in entries:
            check(reader, entry, attribute)
    elif name not in _ALLOWED[attribute.type]:
        usable = ", ".join(sorted(_ALLOWED[attribute.type])) or "Before, After and Within under `where`"
        kind = f"`$.{attribute.name}` is of type {attribute.type.value}"
        reader.fail(fields["condition"], f"condition `{name}` does not fit: {kind}, which takes {usable}")
    elif wanted == "value":
        _check_value(reader, fields["value"], attribute, name)
    elif wanted == "values":
        for entry in _some(reader, fields["values"], name):
            _check_value(reader, entry, attribute, name)


def _some(reader: Reader, node: Node, name: str) -> tuple[Node, ...]:
    entries = reader.entries(node)
    if not entries and isinstance(node.value, tuple):
        reader.fail(node, f"condition `{name}` over an empty list is always true or always false")
    return entries


def _check_value(reader: Reader, node: Node, attribute: Attribute, name: str) -> None:
    if attribute.type is Type.INT:
        # py-abac turns numbers into floats, which hold integers of this size exactly
        reader.integer(node, minimum=-(2**31), maximum=2**31)
    elif attribute.type is Type.BOOL:
        reader.boolean(node)
    else:
        word = reader.text(node)
        whole = name in {"Equals", "NotEquals", "IsIn", "AnyIn", "AllIn"}
        if word and whole and attribute.values and word not in attribute.values:
            reader.fail(
                node, f"`{word}` is no value of `$.{attribute.name}`{nearest(word, attribute.values)}"
            )


def compile_condition(condition: Any, attribute: Attribute) -> Test:
    """Compile a condition object that py-abac parsed; the closure is pure and safe to share.

    The object comes from a rule that ``check`` passed, so that its values have the attribute's type.
    """
    name = type(condition).__name__
    if name == "Not":
        inner = compile_condition(condition.value, attribute)
        return lambda value: TRUE - inner(value)
    if name in _LOGIC:
        tests = tuple(compile_condition(part, attribute) for part in condition.values)
        choose = min if name == "AllOf" else max
        return lambda value: choose(test(value) for test in tests)
    if name in _SET_ALONE:
        empty = name == "IsEmpty"
        return _guarded(frozenset, lambda value: (not value) == empty)
    if name in _SET or name == "IsIn":
        wanted = frozenset(condition.values)
        if name == "AnyIn":
            return _guarded(frozenset, lambda value: not wanted.isdisjoint(value))
        if name == "AllIn":
            # Of all of nothing there is nothing to say: neither may an allow rule grant on it, nor a
            # deny rule be silent (docs/conditions.md).
            within = _guarded(frozenset, lambda value: value <= wanted)
            return lambda value: within(value) if value else ERROR
        return _guarded(PYTHON[attribute.type], lambda value: value in wanted)
    return _guarded(PYTHON[attribute.type], _COMPARE[name](condition.value))


PYTHON: Mapping[Type, type] = {
    Type.STRING: str,
    Type.INT: int,
    Type.BOOL: bool,
    Type.STRINGS: frozenset,
    Type.INSTANT: int,
}
"""The one class whose values an attribute of a type has."""

_COMPARE: Mapping[str, Callable[[Any], Callable[[Any], bool]]] = {
    "Equals": lambda wanted: lambda value: value == wanted,
    "NotEquals": lambda wanted: lambda value: value != wanted,
    "Contains": lambda wanted: lambda value: wanted in value,
    "NotContains": lambda wanted: lambda value: wanted not in value,
    "StartsWith": lambda wanted: lambda value: value.startswith(wanted),
    "EndsWith": lambda wanted: lambda value: value.endswith(wanted),
    "Eq": lambda wanted: lambda value: value == wanted,
    "Neq": lambda wanted: lambda value: value != wanted,
    "Gt": lambda wanted: lambda value: value > wanted,
    "Gte": lambda wanted: lambda value: value >= wanted,
    "Lt": lambda wanted: lambda value: value < wanted,
    "Lte": lambda wanted: lambda value: value <= wanted,
}


def _guarded(kind: type, test: Callable[[Any], bool]) -> Test:
    # type(), not isinstance(): True is an int in Python, and must not be one here
    return lambda value: (TRUE if test(value) else FALSE) if type(value) is kind else ERROR
