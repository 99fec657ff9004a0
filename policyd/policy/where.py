"""Conditions under `where:`, which py-abac lacks: dates, durations, and one attribute against another.

They are read from the rule's own text, as py-abac never sees them, and have the truth of all others:
a missing attribute or one of another type is an ERROR, and logic is Kleene's (docs/conditions.md).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policyd.clock import parse_instant
from policyd.model import Instant
from policyd.policy.attributes import Attribute, Part, Type, path_name
from policyd.policy.conditions import ERROR, FALSE, MISSING, PYTHON, TRUE, WHERE_NAMES, Truth
from policyd.policy.reader import Reader, nearest
from policyd.policy.source import Node

DAY_MS = 86_400_000
MAX_DAYS = 36_500
"""A hundred years: further away is a slip of the pen."""

Values = Mapping[str, object]
WhereTest = Callable[[object, Values], Truth]
"""Takes the value that the condition is on, and all values of the request except the field's."""

NOW = "now"
_LOGIC = {"AllOf": "values", "AnyOf": "values", "Not": "value"}
_DATES = ("Before", "After", "Within")
_PAIRS: Mapping[str, tuple[frozenset[Type], Type | None]] = {
    "SameAs": (frozenset({Type.STRING, Type.INT, Type.BOOL, Type.STRINGS}), None),
    "MemberOf": (frozenset({Type.STRING}), Type.STRINGS),
    "Includes": (frozenset({Type.STRINGS}), Type.STRING),
    "Overlaps": (frozenset({Type.STRINGS}), Type.STRINGS),
    "PartOf": (frozenset({Type.STRINGS}), Type.STRINGS),
}
"""Types of the attribute that the condition is on, and of the other; None is the same type."""


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """An instant at which a condition may change by time alone.

    It is ``at``, or with an ``attribute`` so many milliseconds after the instant that this holds.
    """

    attribute: str
    at: Instant


@dataclass(frozen=True, slots=True)
class Times:
    """All edges of a policy set: fixed ``instants`` in order, and ``spans`` that depend on attributes."""

    instants: tuple[Instant, ...] = ()
    spans: tuple[Edge, ...] = ()

    def around(self, now: Instant, values: Values) -> Iterator[Instant]:
        """Yield every edge that can be the nearest to ``now`` on either side, for these attributes."""
        after = bisect_right(self.instants, now)
        yield from self.instants[max(0, after - 1) : after + 1]
        for span in self.spans:
            value = values[span.attribute]
            if type(value) is int:
                yield value + span.at


def times(edges: Iterable[Edge]) -> Times:
    """Sort edges into what is fixed and what depends on an attribute."""
    distinct = sorted(set(edges))
    return Times(
        tuple(edge.at for edge in distinct if not edge.attribute),
        tuple(edge for edge in distinct if edge.attribute),
    )


def check_where(
    reader: Reader, node: Node, attribute: Attribute, *, attributes: Mapping[str, Attribute]
) -> None:
    """Record every mistake of one condition; nothing is compiled from a condition with mistakes."""
    optional = {"value", "values", "days_from_now", "from", "until", "attribute"}
    fields = reader.mapping(node, required={"condition"}, optional=optional)
    name = reader.text(fields["condition"])
    if not name:
        return
    if name not in WHERE_NAMES and name not in _LOGIC:
        hint = nearest(name, (*WHERE_NAMES, *_LOGIC))
        message = f"no condition `{name}` under `where`; constants are compared under `rules`{hint}"
        reader.fail(fields["condition"], message)
        return
    wanted = _keys(name, fields)
    for key in sorted(fields.keys() - {"condition", *wanted}):
        takes = " and ".join(f"`{each}`" for each in wanted)
        reader.fail(fields[key], f"condition `{name}` takes {takes}")
    missing = [key for key in wanted if key not in fields]
    if missing:
        also = " or `days_from_now`" if missing == ["value"] and name in _DATES else ""
        reader.fail(node, f"condition `{name}` needs `{missing[0]}`{also}")
        return
    if name == "Not":
        check_where(reader, fields["value"], attribute, attributes=attributes)
    elif name in _LOGIC:
        entries = reader.entries(fields["values"])
        if fields["values"].value == ():
            reader.fail(
                fields["values"], f"condition `{name}` over an empty list is always true or always false"
            )
        for entry in entries:
            check_where(reader, entry, attribute, attributes=attributes)
    elif name in _DATES:
        _check_date(reader, fields, attribute, name)
    else:
        _check_pair(reader, fields, attribute, name, attributes)


def _keys(name: str, fields: Mapping[str, Node]) -> tuple[str, ...]:
    if name in _LOGIC:
        return (_LOGIC[name],)
    if name == "Within":
        return ("from", "until")
    if name in _DATES:
        return ("days_from_now",) if "days_from_now" in fields and "value" not in fields else ("value",)
    return ("attribute",)


def _check_date(reader: Reader, fields: Mapping[str, Node], attribute: Attribute, name: str) -> None:
    if attribute.type is not Type.INSTANT:
        kind = f"`$.{attribute.name}` is of type {attribute.type.value}"
        reader.fail(fields["condition"], f"condition `{name}` does not fit: {kind}, and takes no dates")
        return
    if "days_from_now" in fields:
        reader.integer(fields["days_from_now"], minimum=-MAX_DAYS, maximum=MAX_DAYS)
        if attribute.name == NOW:
            reader.fail(
                fields["days_from_now"], "`$.now` is always as many days from now as it is; write a date"
            )
        return
    before = len(reader.problems)
    bounds = [reader.instant(fields[key]) for key in ("value", "from", "until") if key in fields]
    if name == "Within" and len(reader.problems) == before and bounds[0] >= bounds[1]:
        reader.fail(fields["until"], "`until` must be later than `from`, or it is never true")


def _check_pair(
    reader: Reader,
    fields: Mapping[str, Node],
    attribute: Attribute,
    name: str,
    attributes: Mapping[str, Attribute],
) -> None:
    place = fields["attribute"]
    path = reader.text(place)
    if not path:
        return
    own = f"`$.{attribute.name}` is of type {attribute.type.value}"
    fits, wanted = _PAIRS[name]
    if attribute.type not in fits:
        reader.fail(fields["condition"], f"condition `{name}` does not fit: {own}")
        return
    other_name = path_name(path)
    if other_name is None:
        reader.fail(place, f"`{path}` is not a path; write `$.name` or `$.name.name`")
        return
    other = attributes.get(other_name)
    if other is None:
        reader.fail(place, f"unknown attribute `{other_name}`{nearest(other_name, attributes)}")
    elif other.part is Part.RESOURCE:
        reader.fail(place, f"`{path}` belongs to the field; put the condition on it, under `where: resource`")
    elif other.name == attribute.name:
        reader.fail(place, f"`{path}` is compared with itself")
    elif other.type is not (wanted or attribute.type):
        need = (wanted or attribute.type).value
        reader.fail(
            place, f"condition `{name}` needs another of type {need}; `{path}` is of type {other.type.value}"
        )
    elif attribute.values and other.values and set(attribute.values).isdisjoint(other.values):
        reader.fail(place, f"`{path}` and `$.{attribute.name}` have no value in common")


def compile_where(written: Mapping[str, Any], attribute: Attribute) -> WhereTest:
    """Compile the text of a condition that ``check_where`` passed; the closure is pure and shareable."""
    name = written["condition"]
    if name == "Not":
        inner = compile_where(written["value"], attribute)
        return lambda value, values: TRUE - inner(value, values)
    if name in _LOGIC:
        tests = tuple(compile_where(each, attribute) for each in written["values"])
        choose = min if name == "AllOf" else max
        return lambda value, values: choose(test(value, values) for test in tests)
    if name in _PAIRS:
        return _pair(name, attribute, str(path_name(written["attribute"])))
    if "days_from_now" in written:
        return _duration(written["days_from_now"] * DAY_MS, TRUE if name == "After" else FALSE)
    if name == "Within":
        start, end = parse_instant(written["from"]), parse_instant(written["until"])
        return _dated(lambda value: start <= value < end)
    bound = parse_instant(written["value"])
    return _dated((lambda value: value >= bound) if name == "After" else (lambda value: value < bound))


def _dated(test: Callable[[Any], bool]) -> WhereTest:
    return lambda value, _: (TRUE if test(value) else FALSE) if type(value) is int else ERROR


def _duration(after: int, later: Truth) -> WhereTest:
    """Compare with the instant ``after`` milliseconds from now; ``later`` is the truth from there on."""

    def test(value: object, values: Values) -> Truth:
        now = values.get(NOW, MISSING)
        if type(value) is not int or type(now) is not int:
            return ERROR
        return later if value >= now + after else TRUE - later

    return test


def _pair(name: str, attribute: Attribute, other: str) -> WhereTest:
    mine = PYTHON[attribute.type]
    wanted = _PAIRS[name][1]
    theirs = PYTHON[wanted or attribute.type]
    compare = _COMPARE[name]

    def test(value: object, values: Values) -> Truth:
        with_value = values.get(other, MISSING)
        if type(value) is not mine or type(with_value) is not theirs:
            return ERROR
        # Of all of nothing there is nothing to say (docs/conditions.md).
        if name == "PartOf" and not value:
            return ERROR
        return TRUE if compare(value, with_value) else FALSE

    return test


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "SameAs": lambda value, other: value == other,
    "MemberOf": lambda value, other: value in other,
    "Includes": lambda value, other: other in value,
    "Overlaps": lambda value, other: not value.isdisjoint(other),
    "PartOf": lambda value, other: value <= other,
}


def edges_of(written: Mapping[str, Any], attribute: Attribute) -> Iterator[Edge]:
    """Yield every edge of the text of a condition that ``check_where`` passed."""
    name = written["condition"]
    if name == "Not":
        yield from edges_of(written["value"], attribute)
    elif name in _LOGIC:
        for each in written["values"]:
            yield from edges_of(each, attribute)
    elif "days_from_now" in written:
        # `value >= now + days` holds up to and at `value - days`, so one millisecond later it does not.
        yield Edge(attribute.name, 1 - written["days_from_now"] * DAY_MS)
    elif name in _DATES and attribute.name == NOW:
        for key in ("value", "from", "until"):
            if key in written:
                yield Edge("", parse_instant(written[key]))
