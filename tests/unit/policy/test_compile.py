"""Rules compiled to masks: the resource side solved once, the rest numbered conditions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.tiny_policy import load_tiny
from support.tiny_rules import with_rules

from policyd.policy.catalogue import Intended
from policyd.policy.compile import compile_classes, compile_purposes
from policyd.policy.policyset import PolicySet, Rule
from policyd.purpose import Level, combine


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


def compiled(policy: PolicySet, resource: object, target: str = "*") -> tuple[set[str], set[str]]:
    """Return the fields on which a rule's resource side is true, and those on which it is an error."""
    rule = {
        "uid": "x",
        "why": "x",
        "effect": "deny",
        "targets": {"resource_id": target},
        "rules": {"resource": resource},
    }
    found = with_rules(policy, [rule])
    assert found is not None
    (only,) = found.rules
    return {*policy.index.names(only.true_mask)}, {*policy.index.names(only.error_mask)}


def _is(value: str) -> dict[str, str]:
    return {"condition": "Equals", "value": value}


_BY_REQUEST = {"condition": "IsIn", "values": [True]}
_UNKNOWN = {"Pupil.Care", "Pupil.Dob", "Pupil.Name", "Pupil.Nationality", "Pupil.Ref", "Pupil.Score"} | {
    "Pupil.Secret", "Pupil.Upn", "School.Laestab", "School.Size"
}  # fmt: skip


def test_a_condition_on_fields_is_a_mask(policy: PolicySet) -> None:
    """Each resource attribute selects the fields that have the value."""
    assert compiled(policy, {"$.field": _is("Pupil.Fsm")}) == ({"Pupil.Fsm"}, set())
    assert compiled(policy, {"$.level": _is("school")}) == ({"School.Size", "School.Laestab"}, set())
    assert compiled(policy, {"$.sections": {"condition": "AnyIn", "values": ["Care"]}}) == (
        {"Pupil.Care"},
        set(),
    )
    risky = {"$.identification_risk": {"condition": "Lte", "value": 2}}
    assert compiled(policy, risky) == ({"Pupil.Name", "Pupil.Upn"}, set())
    assert compiled(policy, {"$.sensitivity": {"condition": "AnyIn", "values": ["A", "C"]}}) == (
        {"Pupil.Fsm", "Pupil.Secret"},
        set(),
    )


def test_what_is_unknown_of_a_field_is_an_error_on_it(policy: PolicySet) -> None:
    """A condition and its negation are both in error where the attribute is missing."""
    assert compiled(policy, {"$.by_request": _BY_REQUEST}) == ({"Pupil.Ethnicity"}, _UNKNOWN)
    negated = {"$.by_request": {"condition": "Not", "value": _BY_REQUEST}}
    assert compiled(policy, negated) == ({"Pupil.Fsm"}, _UNKNOWN)


def test_masks_combine_as_truths_do(policy: PolicySet) -> None:
    """Error and false is false, error or true is true, field by field."""
    both = {"$.by_request": _BY_REQUEST, "$.table": _is("School")}
    assert compiled(policy, both) == (set(), {"School.Size", "School.Laestab"})
    either = [{"$.by_request": _BY_REQUEST}, {"$.table": _is("School")}]
    assert compiled(policy, either) == (
        {"Pupil.Ethnicity", "School.Size", "School.Laestab"},
        _UNKNOWN - {"School.Size", "School.Laestab"},
    )


def test_a_target_bounds_truth_and_error_alike(policy: PolicySet) -> None:
    """Outside its target a rule is false, whatever its conditions."""
    assert compiled(policy, {"$.by_request": _BY_REQUEST}, "School.*") == (
        set(),
        {"School.Size", "School.Laestab"},
    )
    assert compiled(policy, {}, "*.S*") == ({"Pupil.Score", "Pupil.Secret", "School.Size"}, set())


def test_several_targets_are_aimed_at_together(policy: PolicySet) -> None:
    """A rule with a list of targets is about the fields of all of them."""
    rule = {
        "uid": "x",
        "why": "x",
        "effect": "deny",
        "targets": {"resource_id": ["Pupil.Fsm", "School.*", "Pupil.Dob"]},
        "rules": {},
    }
    found = with_rules(policy, [rule])

    assert found is not None
    aimed = {"Pupil.Fsm", "School.Size", "School.Laestab", "Pupil.Dob"}
    assert {*policy.index.names(found.rules[0].true_mask)} == aimed


def test_a_part_without_conditions_is_no_clause(policy: PolicySet) -> None:
    """What always holds is not evaluated for every question."""
    rule = {"uid": "x", "why": "x", "effect": "deny", "rules": {"context": {}, "subject": [{}]}}
    found = with_rules(policy, [rule])

    assert found is not None
    assert found.rules[0].dynamic == ()


def test_suppress_agrees_with_every_transform(policy: PolicySet) -> None:
    """It leaves nothing that another could spoil, so two rules may meet on a field when one suppresses."""
    rules = [
        {"uid": uid, "why": "x", "effect": "allow", "rules": {}, "grant": grant}
        for uid, grant in (("x", "suppress"), ("y", "pseudonymise"))
    ]

    assert with_rules(policy, rules) is not None


def test_classes_are_masks_of_the_fields_that_have_them(policy: PolicySet) -> None:
    """One mask for each risk from 1 to 5, for each letter, and for what was withdrawn."""
    fields = [replace(each, withdrawn="x") if each.id == "Pupil.Fsm" else each for each in policy.fields]

    found = compile_classes(fields)

    assert len(found.risk) == 6
    for position, field in enumerate(fields):
        has = [risk for risk in range(6) if found.risk[risk] >> position & 1]
        letters = [letter for letter, mask in found.sensitivity.items() if mask >> position & 1]
        assert (has, set(letters)) == ([field.identification_risk], set(field.sensitivity))
    assert policy.index.names(found.withdrawn) == ("Pupil.Fsm", "Pupil.Nationality")


def test_purposes_are_masks_of_what_each_field_says(policy: PolicySet) -> None:
    """Of every field and purpose the masks say what the field's own levels say, and whose duties it owes."""
    graph, says_nothing = policy.graph, Intended(Level(states=False), ())
    fields = [  # two kinds of levels with a condition, told apart by a level that says nothing
        replace(each, levels=(*each.levels, says_nothing)) if each.id == "School.Size" else each
        for each in policy.fields
    ]

    found = compile_purposes(graph, fields)

    for position, field in enumerate(fields):
        want = combine(graph, [each.level for each in field.levels])
        for number in range(len(graph.ids)):
            have = [
                masks[number] >> position & 1 for masks in (found.full, found.conditional, found.prohibited)
            ]
            assert have == [mask >> number & 1 for mask in (want.full, want.conditional, want.prohibited)]
    (use,) = found.uses
    assert policy.index.names(use.fields) == ("School.Laestab", "School.Size")
    assert graph.names(use.purposes) == ("statistics",)


def test_conditions_are_numbered_once(policy: PolicySet) -> None:
    """Rules that look at one thing in one way share its number, and resource conditions have none."""
    numbered = {number for rule in policy.rules for number in _numbers(rule)}

    assert numbered == set(range(len(policy.atoms)))
    assert len({atom.key for atom in policy.atoms}) == len(policy.atoms)
    assert all(atom.attribute.part != "resource" for atom in policy.atoms)


def _numbers(rule: Rule) -> list[int]:
    return [number for part in rule.dynamic for alternative in part for number in alternative]


def test_a_thousand_rules_over_few_conditions_have_few_numbers(policy: PolicySet) -> None:
    """The number of conditions evaluated for a question does not grow with the rules that share them."""
    rules = [
        {
            "uid": f"r{number}",
            "why": "x",
            "effect": "deny",
            "rules": {"context": {"$.setting": _is(f"setting-{number % 5}")}},
        }
        for number in range(1000)
    ]
    found = with_rules(policy, rules)

    assert found is not None
    assert len(found.rules) == 1000
    assert len(found.atoms) == 5


def test_a_policy_set_can_be_loaded_twice_to_the_same_masks(policy: PolicySet, tmp_path: Path) -> None:
    """Compiling is a function of the files."""
    again = load_tiny(tmp_path)

    assert [(rule.uid, rule.true_mask, rule.error_mask, rule.dynamic) for rule in again.rules] == [
        (rule.uid, rule.true_mask, rule.error_mask, rule.dynamic) for rule in policy.rules
    ]
