"""Conditions of rules: true, false or error, after Kleene (DESIGN.md section 3.4, docs/policy-set.md).

An attribute that is not in the dict is missing. A missing attribute, or one of another type than the
condition is for, is an error and never a false.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from reference.source import Document, instant

YES, NO, ERROR = "true", "false", "error"

Attributes = Mapping[str, Any]


def conjunction(answers: Iterable[str]) -> str:
    """``error and false`` is false, ``error and true`` is error."""
    seen = set(answers)
    if NO in seen:
        return NO
    return ERROR if ERROR in seen else YES


def disjunction(answers: Iterable[str]) -> str:
    """``error or true`` is true, ``error or false`` is error."""
    seen = set(answers)
    if YES in seen:
        return YES
    return ERROR if ERROR in seen else NO


def negation(answer: str) -> str:
    """``not error`` is error."""
    return {YES: NO, NO: YES, ERROR: ERROR}[answer]


def rule_holds(rule: Document, attributes: Attributes) -> str:
    """Say whether a rule's targets and all parts of its ``rules`` and ``where`` hold of the attributes."""
    answers = [_target_holds(rule.get("targets", {}), attributes)]
    for part in [*rule["rules"].values(), *rule.get("where", {}).values()]:
        alternatives = part if isinstance(part, list) else [part]
        answers.append(disjunction(_all_hold(each, attributes) for each in alternatives))
    return conjunction(answers)


def _all_hold(conditions: Document, attributes: Attributes) -> str:
    return conjunction(
        condition_holds(condition, path.removeprefix("$."), attributes)
        for path, condition in conditions.items()
    )


def _target_holds(targets: Document, attributes: Attributes) -> str:
    """Targets are names with ``*`` for any characters; several names for one target are alternatives."""
    names = {"subject_id": "requester.id", "resource_id": "field", "action_id": "action"}
    for target, attribute in names.items():
        patterns = targets.get(target, "*")
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), attributes[attribute]):
                break
        else:
            return NO
    return YES


def condition_holds(condition: Document, attribute: str, attributes: Attributes) -> str:
    """Evaluate one condition on one attribute."""
    name = condition["condition"]
    if name == "Not":
        return negation(condition_holds(condition["value"], attribute, attributes))
    if name == "AllOf":
        return conjunction(condition_holds(each, attribute, attributes) for each in condition["values"])
    if name == "AnyOf":
        return disjunction(condition_holds(each, attribute, attributes) for each in condition["values"])
    if attribute not in attributes:
        return ERROR
    value = attributes[attribute]
    if name in ("Before", "After", "Within"):
        return _compare_dates(name, value, condition, attributes["now"])
    if "attribute" in condition:
        return _compare_two(name, value, attributes.get(condition["attribute"].removeprefix("$.")))
    if name == "IsIn":
        # A boolean is no number: 1 is not in [true].
        wanted = condition["values"]
        if not all(type(each) is type(value) for each in wanted):
            return ERROR
        return YES if value in wanted else NO
    answer = _compare(name, value, condition)
    return ERROR if answer is None else YES if answer else NO


def _compare_dates(name: str, value: Any, condition: Document, now: Any) -> str:
    """A period begins with its first instant and ends before its last, as those of agreements do."""
    if name == "Within":
        after = value >= instant(condition["from"])
        return YES if after and value < instant(condition["until"]) else NO
    if "value" in condition:
        bound = instant(condition["value"])
    else:
        bound = now + condition["days_from_now"] * 24 * 60 * 60 * 1000
    return YES if (value < bound) == (name == "Before") else NO


def _compare_two(name: str, value: Any, other: Any) -> str:
    """Compare with another attribute of the request; None is one that is missing."""
    if other is None:
        return ERROR
    if name == "PartOf" and not value:
        return ERROR
    if name == "SameAs":
        holds = value == other
    elif name == "MemberOf":
        holds = value in other
    elif name == "Includes":
        holds = other in value
    elif name == "Overlaps":
        holds = any(each in other for each in value)
    else:
        holds = all(each in other for each in value)
    return YES if holds else NO


def _compare(name: str, value: Any, condition: Document) -> bool | None:
    """Compare; None when the value is of another type than the condition is for."""
    if name in ("Equals", "NotEquals", "Contains", "NotContains", "StartsWith", "EndsWith"):
        if not isinstance(value, str):
            return None
        text = condition["value"]
        answers: dict[str, bool] = {
            "Equals": value == text,
            "NotEquals": value != text,
            "Contains": text in value,
            "NotContains": text not in value,
            "StartsWith": value[: len(text)] == text,
            "EndsWith": value.endswith(text),
        }
        return answers[name]
    if name in ("Eq", "Neq", "Gt", "Gte", "Lt", "Lte"):
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        number = condition["value"]
        answers = {
            "Eq": value == number,
            "Neq": value != number,
            "Gt": value > number,
            "Gte": value >= number,
            "Lt": value < number,
            "Lte": value <= number,
        }
        return answers[name]
    if not isinstance(value, frozenset | set):
        return None
    if name == "AllIn" and not value:
        return None  # all of nothing: see docs/conditions.md
    if name == "IsEmpty":
        return len(value) == 0
    if name == "IsNotEmpty":
        return len(value) > 0
    among = [each in condition["values"] for each in value]
    return {"AnyIn": any(among), "AllIn": all(among)}[name]
