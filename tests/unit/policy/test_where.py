"""Conditions under `where:`: dates, durations and pairs of attributes (tests/vectors/conditions/where*)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.tiny_policy import load_tiny
from support.tiny_rules import with_rules

from policyd.clock import parse_instant
from policyd.policy.attributes import DERIVED, Attribute, Part, Type
from policyd.policy.conditions import ERROR, FALSE, MISSING, TRUE, WHERE_NAMES
from policyd.policy.policyset import PolicySet, Rule
from policyd.policy.reader import Reader
from policyd.policy.rules import read_rule
from policyd.policy.source import read_text
from policyd.policy.where import Edge, Times, check_where, compile_where, edges_of, times

_VECTORS = Path(__file__).parents[2] / "vectors" / "conditions"
# Every value is text where YAML would make a date of it.
_CASES = yaml.load((_VECTORS / "where.yaml").read_text(encoding="utf-8"), yaml.BaseLoader)  # noqa: S506  (a loader of texts)
_REFUSED = yaml.safe_load((_VECTORS / "where_refused.yaml").read_text(encoding="utf-8"))
_TRUTHS = {"true": TRUE, "false": FALSE, "error": ERROR}
_WRONG: Mapping[Type, tuple[object, ...]] = {
    Type.STRING: (MISSING, None, 1, True, b"a", ["a"], frozenset({"a"})),
    Type.BOOL: (MISSING, None, 0, 1, "true", frozenset({True})),
    Type.STRINGS: (MISSING, None, "a", ["a"], {"a"}, ("a",), 1),
    Type.INSTANT: (MISSING, None, "2026-01-01", 1.0, True, frozenset({1})),
}

ATTRIBUTES = {
    **DERIVED,
    "closed": Attribute("closed", Part.CONTEXT, Type.STRING, values=("red", "green")),
    "other": Attribute("other", Part.CONTEXT, Type.STRING, values=("blue",)),
}


def as_value(written: Any, kind: Type) -> object:
    """Read a value of a vector, every scalar of which is text."""
    if isinstance(written, list):
        return frozenset(written)
    if kind is Type.INSTANT:
        return parse_instant(written)
    if kind is Type.BOOL and written in ("true", "false"):
        return written == "true"
    # One value of a wrong type is written as a number.
    return int(written) if written == "1" else written


def typed(condition: Any) -> Any:
    """Give the numbers of a condition their type back."""
    if isinstance(condition, list):
        return [typed(each) for each in condition]
    if isinstance(condition, dict):
        return {key: int(v) if key == "days_from_now" else typed(v) for key, v in condition.items()}
    return condition


def checked(text: str, name: str) -> list[str]:
    reader = Reader()
    check_where(reader, read_text(text, "rule.yaml"), ATTRIBUTES[name], attributes=ATTRIBUTES)
    return [str(each) for each in reader.problems]


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"{case['of']} {case['condition']}")
def test_a_condition_is_true_false_or_error_of_its_values(case: dict[str, Any]) -> None:
    """Each case of a vector comes out as stated, and each loads."""
    attribute, condition = DERIVED[case["of"]], typed(case["condition"])
    assert checked(yaml.safe_dump(condition, default_flow_style=True), case["of"]) == []
    test = compile_where(condition, attribute)
    for truth, value, others in case["cases"]:
        values = {name: as_value(each, DERIVED[name].type) for name, each in others.items()}
        have = test(as_value(value, attribute.type), values)
        assert have == _TRUTHS[truth], (value, others)


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"{case['of']} {case['condition']}")
def test_a_value_that_is_missing_or_of_another_type_is_an_error(case: dict[str, Any]) -> None:
    """Whatever the other side is, and however the condition is negated."""
    attribute = DERIVED[case["of"]]
    test = compile_where(typed(case["condition"]), attribute)
    for _, _, others in case["cases"]:
        values = {name: as_value(each, DERIVED[name].type) for name, each in others.items()}
        assert [wrong for wrong in _WRONG[attribute.type] if test(wrong, values) != ERROR] == []


@pytest.mark.parametrize("case", _REFUSED, ids=lambda case: f"{case['of']} {case['text']}")
def test_a_condition_that_cannot_be_meant_is_refused_with_its_place(case: dict[str, Any]) -> None:
    """The message says what is wrong, and points at the word."""
    found = checked(case["text"], case["of"])

    assert any(line.startswith(f"rule.yaml:{case['at']}: ") and case["message"] in line for line in found), (
        found
    )


def test_every_condition_has_a_vector() -> None:
    """The vectors leave out no condition that stands under `where`."""
    written = str([case["condition"] for case in _CASES])
    assert [name for name in WHERE_NAMES if f"'{name}'" not in written] == []


@pytest.mark.parametrize(
    ("name", "condition", "want"),
    [
        ("now", {"condition": "Before", "value": "1970-01-02"}, {Edge("", 86_400_000)}),
        (
            "now",
            {"condition": "Within", "from": "1970-01-01", "until": "1970-01-02"},
            {Edge("", 0), Edge("", 86_400_000)},
        ),
        (
            "accreditation.until",
            {"condition": "After", "days_from_now": 2},
            {Edge("accreditation.until", 1 - 2 * 86_400_000)},
        ),
        (
            "accreditation.until",
            {"condition": "Before", "days_from_now": -2},
            {Edge("accreditation.until", 1 + 2 * 86_400_000)},
        ),
        ("accreditation.until", {"condition": "Before", "value": "1970-01-02"}, set()),
        ("setting", {"condition": "SameAs", "attribute": "$.purpose"}, set()),
    ],
)
def test_an_edge_is_where_a_condition_changes_by_itself(
    name: str, condition: dict[str, Any], want: set[Edge]
) -> None:
    """Dates on the clock, and days before or after another instant; found inside logic too."""
    attribute = DERIVED[name]
    nested = {"condition": "Not", "value": {"condition": "AnyOf", "values": [condition]}}

    assert set(edges_of(condition, attribute)) == want
    assert set(edges_of(nested, attribute)) == want


@pytest.mark.parametrize("days", [-40, -1, 0, 1, 30])
@pytest.mark.parametrize("name", ["Before", "After"])
def test_a_duration_changes_at_its_edge_and_nowhere_near_it(days: int, name: str) -> None:
    """The truth is one before the edge and the other from the edge on, to the millisecond."""
    attribute = DERIVED["accreditation.until"]
    condition = {"condition": name, "days_from_now": days}
    until = parse_instant("2026-03-01")
    (edge,) = edges_of(condition, attribute)
    test = compile_where(condition, attribute)
    at = until + edge.at

    around = [test(until, {"now": now}) for now in (at - 86_400_000, at - 1, at, at + 86_400_000)]

    assert around == ([TRUE, TRUE, FALSE, FALSE] if name == "After" else [FALSE, FALSE, TRUE, TRUE])


def test_the_nearest_edges_on_both_sides_are_found() -> None:
    """Of many dates the one at or before now and the next count; spans all count, if they have a value."""
    found = times([Edge("", at) for at in (30, 10, 20, 20)] + [Edge("accreditation.until", 5)])

    assert found == Times((10, 20, 30), (Edge("accreditation.until", 5),))
    missing = {"accreditation.until": MISSING}
    assert [*found.around(20, missing)] == [20, 30]
    assert [*found.around(19, missing)] == [10, 20]
    assert [*found.around(5, missing)] == [10]
    assert [*found.around(99, missing)] == [30]
    assert [*found.around(5, {"accreditation.until": 7})] == [10, 12]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


def tied(policy: PolicySet, where: object, values: dict[str, object]) -> tuple[set[str], set[str]]:
    """Return the fields on which a rule is true for a request, and those on which it is an error."""
    rule = {"uid": "x", "why": "x", "effect": "deny", "rules": {}, "where": {"resource": where}}
    found = with_rules(policy, [rule])
    assert found is not None
    only: Rule = found.rules[0].tied(values)
    return {*policy.index.names(only.true_mask)}, {*policy.index.names(only.error_mask)}


def test_a_condition_ties_fields_to_the_request(policy: PolicySet) -> None:
    """Each distinct value of the fields is compared with the one value of the request."""
    among = {"$.sections": {"condition": "Overlaps", "attribute": "$.roles"}}

    assert tied(policy, among, {"roles": frozenset({"Care"})}) == ({"Pupil.Care"}, set())
    assert tied(policy, among, {"roles": frozenset({"care"})}) == (set(), set())
    assert tied(policy, among, {}) == (set(), {*policy.index.ids})
    table = {"$.table": {"condition": "MemberOf", "attribute": "$.roles"}}
    assert tied(policy, table, {"roles": frozenset({"School"})})[0] == {"School.Size", "School.Laestab"}


def test_a_tie_is_an_error_on_fields_without_the_attribute(policy: PolicySet) -> None:
    """As under `rules`: what is unknown of a field is an error, and error and false is false."""
    same = {"$.by_request": {"condition": "SameAs", "attribute": "$.organisation.commercial"}}
    sure, unsure = tied(policy, same, {"organisation.commercial": True})
    assert sure == {"Pupil.Ethnicity"}
    assert unsure == {*policy.index.ids} - {"Pupil.Ethnicity", "Pupil.Fsm"}

    both = {**same, "$.table": {"condition": "MemberOf", "attribute": "$.roles"}}
    values = {"organisation.commercial": True, "roles": frozenset({"School"})}
    assert tied(policy, both, values) == (set(), {"School.Size", "School.Laestab"})
    either = [{path: condition} for path, condition in both.items()]
    assert tied(policy, either, values) == (
        {"Pupil.Ethnicity", "School.Size", "School.Laestab"},
        unsure - {"School.Size", "School.Laestab"},
    )


def test_a_tie_never_reaches_beyond_the_rules_own_fields(policy: PolicySet) -> None:
    """`where` comes on top of target and resource conditions."""
    rule = {
        "uid": "x",
        "why": "x",
        "effect": "deny",
        "targets": {"resource_id": "*.S*"},
        "rules": {"resource": {"$.level": {"condition": "Equals", "value": "pupil"}}},
        "where": {"resource": {"$.table": {"condition": "MemberOf", "attribute": "$.roles"}}},
    }
    found = with_rules(policy, [rule])
    assert found is not None
    (only,) = found.rules

    assert {*policy.index.names(only.true_mask)} == {"Pupil.Score", "Pupil.Secret"}
    narrowed = only.tied({"roles": frozenset({"School", "Pupil"})})
    assert narrowed.true_mask == only.true_mask
    assert only.tied({"roles": frozenset({"School"})}).true_mask == 0


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("{context: []}", "`context: []` never holds"),
        ("{context: {$.roles: {condition: Includes, attribute: $.setting}}}", "belongs under `subject`"),
        ("{contxt: {}}", "did you mean `context`?"),
        ("[a]", "must be a mapping"),
        ("{context: {now: {condition: Before, value: 2026-01-01}}}", "is not a path"),
        ("{context: {$.nows: {condition: Before, value: 2026-01-01}}}", "did you mean `now`?"),
    ],
)
def test_a_where_block_has_the_shape_of_rules(where: str, message: str) -> None:
    """Parts, then paths, then conditions; anything else is refused."""
    reader = Reader()
    text = f"{{uid: a, why: x, effect: deny, rules: {{}}, where: {where}}}"

    assert read_rule(reader, read_text(text, "rule.yaml"), DERIVED) is None
    assert any(message in str(each) for each in reader.problems), reader.problems
