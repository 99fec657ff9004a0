"""docs/conditions.md: every answer in its table is what py-abac and policyd say of the value beside it."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any

import py_abac.policy.conditions as py_abac_conditions
import pytest
import yaml
from py_abac import AccessRequest, Policy
from py_abac.context import EvaluationContext

from policyd.clock import parse_instant
from policyd.policy.attributes import Attribute, Part, Type
from policyd.policy.conditions import (
    ERROR,
    FALSE,
    MISSING,
    REFUSED,
    TRUE,
    WHERE_NAMES,
    check,
    compile_condition,
)
from policyd.policy.reader import Reader
from policyd.policy.source import read_text
from policyd.policy.where import check_where, compile_where

_CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[2] / "vectors" / "conditions" / "table.yaml").read_text(encoding="utf-8")
)
_SPELLED = {TRUE: "T", FALSE: "F", ERROR: "E"}
_OURS = [case for case in _CASES if case["ours"] != "refused"]
_THEIRS = [case for case in _CASES if "py_abac" in case]


def name_of(case: dict[str, Any]) -> str:
    return f"{case['type']} {case['condition']}"


def parsed(condition: dict[str, Any]) -> Policy:
    rules = {"context": {"$.thing": condition}}
    return Policy.from_json(
        {"uid": "u", "description": "d", "effect": "allow", "rules": rules, "targets": {}}
    )


def ask_py_abac(policy: Policy, context: dict[str, Any]) -> str:
    asked = {"id": "x", "attributes": {}}
    request = AccessRequest.from_json(
        {"subject": asked, "resource": asked, "action": asked, "context": context}
    )
    return "T" if policy.rules.is_satisfied(EvaluationContext(request)) else "F"


@pytest.mark.parametrize("case", _THEIRS, ids=name_of)
def test_the_table_says_what_py_abac_answers(case: dict[str, Any]) -> None:
    """Its own evaluator, asked on one thread about the four values of a row."""
    policy = parsed(case["condition"])
    other = {"other": case["other"]} if "other" in case else {}
    values = [{"thing": case[column], **other} for column in ("true", "false", "wrong")]
    values.insert(2, {} if case.get("both_missing") else other)

    assert "".join(ask_py_abac(policy, context) for context in values) == case["py_abac"]


def typed(value: object, kind: Type) -> object:
    if isinstance(value, list):
        return frozenset(value)
    if kind is Type.INSTANT and value != "text":
        return parse_instant(str(value))
    return value


@pytest.mark.parametrize("case", _OURS, ids=name_of)
def test_the_table_says_what_policyd_answers(case: dict[str, Any]) -> None:
    """The compiled condition, asked about the four values of a row."""
    kind = Type(case["type"])
    attribute = Attribute("thing", Part.CONTEXT, kind)
    values: dict[str, object] = {"now": parse_instant("2026-03-01")}
    if "other" in case:
        values["other"] = typed(case["other"], kind)
    asked = [typed(case[column], kind) for column in ("true", "false", "wrong")]
    if case["condition"]["condition"] in WHERE_NAMES:
        test = compile_where(case["condition"], attribute)
        found = [test(value, values) for value in asked]
        missing = {} if case.get("both_missing") else values
        found.insert(2, test(MISSING, missing))
    else:
        one = compile_condition(parsed(case["condition"]).rules.context["$.thing"], attribute)
        found = [one(value) for value in asked]
        found.insert(2, one(MISSING))

    assert "".join(_SPELLED[truth] for truth in found) == case["ours"]


@pytest.mark.parametrize("case", _CASES, ids=name_of)
def test_a_row_that_is_not_refused_loads_and_one_that_is_does_not(case: dict[str, Any]) -> None:
    """The loader knows every condition of the table by name."""
    kind = Type(case["type"])
    other = case.get("other")
    attributes = {
        "thing": Attribute("thing", Part.CONTEXT, kind),
        "other": Attribute("other", Part.CONTEXT, Type.STRINGS if isinstance(other, list) else Type.STRING),
    }
    reader = Reader()
    node = read_text(yaml.safe_dump(case["condition"], default_flow_style=True), "rule.yaml")

    if case["condition"]["condition"] in WHERE_NAMES:
        check_where(reader, node, attributes["thing"], attributes=attributes)
    else:
        check(reader, node, attributes["thing"])

    if case["ours"] == "refused":
        assert any("is refused" in str(problem) for problem in reader.problems)
    else:
        assert reader.problems == []


def test_every_condition_of_py_abac_and_of_ours_has_a_row() -> None:
    """Nothing that py-abac can parse is left out, and nothing that it cannot but we can."""
    theirs = set()
    for package in pkgutil.iter_modules(py_abac_conditions.__path__):
        module = __import__(f"{py_abac_conditions.__name__}.{package.name}", fromlist=["x"])
        if package.ispkg:
            theirs |= {name for name, value in vars(module).items() if isinstance(value, type)}

    rows = {case["condition"]["condition"] for case in _CASES}
    assert rows == {name for name in theirs if not name.endswith("Schema")} | set(WHERE_NAMES)
    refused = {case["condition"]["condition"] for case in _CASES if case["ours"] == "refused"}
    assert refused == set(REFUSED)
