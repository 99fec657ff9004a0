"""Conditions: the truth table of each, Kleene's logic, and what does not load (tests/vectors/conditions)."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import py_abac.policy.conditions as py_abac_conditions
import pytest
import yaml
from py_abac import Policy

from policyd.policy.attributes import Attribute, Part, Type
from policyd.policy.conditions import (
    _KNOWN,
    ERROR,
    FALSE,
    MISSING,
    REFUSED,
    TRUE,
    Test,
    check,
    compile_condition,
)
from policyd.policy.reader import Reader
from policyd.policy.source import plain, read_text

_VECTORS = Path(__file__).parents[2] / "vectors" / "conditions"
_TRUTH = yaml.safe_load((_VECTORS / "truth.yaml").read_text(encoding="utf-8"))
_REFUSED = yaml.safe_load((_VECTORS / "refused.yaml").read_text(encoding="utf-8"))

ATTRIBUTES = {
    **{each.value: Attribute("thing", Part.CONTEXT, each) for each in Type},
    "closed": Attribute("thing", Part.CONTEXT, Type.STRING, values=("red", "green", "blue")),
}


class Text(str):
    """A subclass of str, which is no string here."""


WRONG: Mapping[Type, tuple[object, ...]] = {
    Type.STRING: (None, 1, 1.0, True, b"abc", ["abc"], frozenset({"abc"}), {"abc": 1}, Text("abc"), object()),
    Type.INT: (None, "3", 3.0, True, False, float("nan"), float("inf"), [3], frozenset({3})),
    Type.BOOL: (None, 0, 1, "true", "", [True], 1.0),
    Type.STRINGS: (None, "a", ["a"], ("a",), {"a"}, {"a": 1}, 1, True),
}


def compiled(text: str, attribute: Attribute) -> Test:
    reader = Reader()
    node = read_text(text, "rule.yaml")
    check(reader, node, attribute)
    reader.finish()
    document = {
        "uid": "u",
        "description": "d",
        "effect": "allow",
        "rules": {"context": {"$.thing": plain(node)}},
        "targets": {},
    }
    return compile_condition(Policy.from_json(document).rules.context["$.thing"], attribute)


def as_value(value: object) -> object:
    return frozenset(value) if isinstance(value, list) else value


@pytest.mark.parametrize("case", _TRUTH, ids=lambda case: str(case["condition"]))
def test_a_condition_is_true_false_or_error(case: dict[str, Any]) -> None:
    """Each vector's condition, parsed by py-abac, holds of these values, and not of those."""
    attribute = ATTRIBUTES[case["attribute"]]
    test = compiled(yaml.safe_dump(case["condition"], default_flow_style=True), attribute)

    assert [value for value in case["true"] if test(as_value(value)) != TRUE] == []
    assert [value for value in case["false"] if test(as_value(value)) != FALSE] == []
    assert [value for value in case.get("error", ()) if test(as_value(value)) != ERROR] == []


@pytest.mark.parametrize("case", _TRUTH, ids=lambda case: str(case["condition"]))
def test_what_is_missing_or_of_another_type_is_an_error(case: dict[str, Any]) -> None:
    """No condition, however negated, is true or false of a value that is not there or of a wrong type."""
    attribute = ATTRIBUTES[case["attribute"]]
    test = compiled(yaml.safe_dump(case["condition"], default_flow_style=True), attribute)

    assert test(MISSING) == ERROR
    assert [value for value in WRONG[attribute.type] if test(value) != ERROR] == []


@pytest.mark.parametrize("case", _REFUSED, ids=lambda case: f"{case['type']} {case['text']}")
def test_a_condition_that_surprises_is_refused_with_its_place(case: dict[str, Any]) -> None:
    """The message says what to write instead, and points at the word that is wrong."""
    reader = Reader()

    check(reader, read_text(case["text"], "rule.yaml"), ATTRIBUTES[case["type"]])

    found = [str(problem) for problem in reader.problems]
    assert any(line.startswith(f"rule.yaml:{case['at']}: ") and case["message"] in line for line in found), (
        found
    )


def test_every_condition_of_py_abac_is_known_or_refused() -> None:
    """A condition that py-abac can parse is compiled by us or refused by name; none slips through."""
    names = set()
    for package in pkgutil.iter_modules(py_abac_conditions.__path__):
        module = __import__(f"{py_abac_conditions.__name__}.{package.name}", fromlist=["x"])
        if package.ispkg:
            names |= {name for name, value in vars(module).items() if isinstance(value, type)}
    assert len(names) > 25
    assert {name for name in names if not name.endswith("Schema")} <= _KNOWN | set(REFUSED)
    assert not _KNOWN & set(REFUSED)


def test_every_known_condition_has_a_truth_table() -> None:
    """The vectors leave out no condition that loads."""
    assert {word for case in _TRUTH for word in _KNOWN if f"'{word}'" in str(case["condition"])} == _KNOWN


class _Parsed:
    """A condition as py-abac hands it over; the three below are true, false and in error of `x`."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


def _parsed(name: str, **parts: Any) -> Any:
    return type(name, (_Parsed,), {})(**parts)


def _of_truth(truth: int) -> Any:
    # IsEmpty of a text is the error: it asks for a set whatever the attribute.
    return {
        TRUE: _parsed("Equals", value="x"),
        FALSE: _parsed("Equals", value="y"),
        ERROR: _parsed("IsEmpty"),
    }[truth]


@pytest.mark.parametrize("first", [FALSE, ERROR, TRUE])
@pytest.mark.parametrize("second", [FALSE, ERROR, TRUE])
def test_logic_is_kleenes(first: int, second: int) -> None:
    """Error and false is false, error or true is true, not error is error, in either order."""
    text = ATTRIBUTES["string"]
    both = [_of_truth(first), _of_truth(second)]

    assert [compile_condition(each, text)("x") for each in both] == [first, second]
    assert compile_condition(_parsed("AllOf", values=both), text)("x") == {
        FALSE in (first, second): FALSE,
        first == second == TRUE: TRUE,
    }.get(True, ERROR)
    assert compile_condition(_parsed("AnyOf", values=both), text)("x") == {
        TRUE in (first, second): TRUE,
        first == second == FALSE: FALSE,
    }.get(True, ERROR)
    inverse = {TRUE: FALSE, FALSE: TRUE, ERROR: ERROR}[first]
    assert compile_condition(_parsed("Not", value=both[0]), text)("x") == inverse


def test_a_name_that_folds_to_the_wanted_one_is_another_name() -> None:
    """Texts are compared as they are: no case folding, no normalisation."""
    test = compiled("{condition: Equals, value: k}", ATTRIBUTES["string"])

    assert test("k") == TRUE
    assert [value for value in ("K", "\u212a", "\uff4b", "k\u200b") if test(value) != FALSE] == []


@pytest.mark.parametrize(
    ("attribute", "text", "mistakes"),
    [
        ("int", "{condition: Eq, value: -2147483648}", 0),
        ("int", "{condition: Eq, value: -2147483649}", 1),
        ("int", "{condition: Eq, value: 2147483648}", 0),
        ("int", "{condition: Eq, value: 2147483649}", 1),
        ("string", "{condition: IsIn, values: a}", 1),
        ("string", "{condition: IsIn, values: []}", 1),
        ("closed", "{condition: Equals, value: 12}", 1),
        ("closed", "{condition: Equals, value: purple}", 1),
        ("closed", "{condition: StartsWith, value: gr}", 0),
        ("closed", "{condition: Contains, value: e}", 0),
    ],
)
def test_each_mistake_of_a_condition_is_reported_once(attribute: str, text: str, mistakes: int) -> None:
    """Integers go as far as py-abac keeps them exact, and a part of a word need not be a word of the list."""
    reader = Reader()

    check(reader, read_text(text, "rule.yaml"), ATTRIBUTES[attribute])

    assert len(reader.problems) == mistakes, reader.problems
