"""Rules: read, validated by py-abac, and taken apart into parts, targets and conditions."""

from __future__ import annotations

import pytest
from marshmallow import ValidationError

from policyd.errors import SourceError
from policyd.policy import rules as module
from policyd.policy.attributes import DERIVED, Part
from policyd.policy.conditions import FALSE, TRUE
from policyd.policy.reader import Reader
from policyd.policy.rules import RuleSource, attributes_of, glob, read_rule, spell_atom, words_of
from policyd.policy.source import read_text


def read(text: str) -> RuleSource:
    reader = Reader()
    rule = read_rule(reader, read_text(text, "rule.yaml"), DERIVED)
    reader.finish()
    assert rule is not None
    return rule


def test_a_rule_without_conditions_and_targets_holds_for_all() -> None:
    """Parts that are left out hold, and the target is everything."""
    rule = read("{uid: a, why: x, effect: allow, grant: release, rules: {}}")

    assert rule.resource_ids == ("*",)
    assert rule.parts == {}


@pytest.mark.parametrize("part", list(Part))
def test_an_empty_part_holds(part: Part) -> None:
    """A part written as an empty mapping is one alternative without conditions."""
    assert read(f"{{uid: a, why: x, effect: deny, rules: {{{part}: {{}}}}}}").parts == {part: ((),)}


def test_a_list_is_or_and_a_mapping_is_and() -> None:
    """Alternatives keep their order, and each its conditions."""
    rule = read(
        "{uid: a, why: x, effect: deny, rules: {context: ["
        "{$.setting: {condition: Equals, value: a}, $.gateway: {condition: Equals, value: b}}, "
        "{$.purpose: {condition: IsIn, values: [c, d]}}]}}"
    )

    names = [[atom.attribute.name for atom in alternative] for alternative in rule.parts[Part.CONTEXT]]
    assert names == [["setting", "gateway"], ["purpose"]]
    assert [atom.only for atom in rule.parts[Part.CONTEXT][1]] == [frozenset({"c", "d"})]


def test_targets_on_people_and_actions_are_conditions_of_every_alternative() -> None:
    """A target narrows each alternative; with `*` among its patterns it narrows nothing."""
    rule = read(
        "{uid: a, why: x, effect: deny, targets: {subject_id: [r-1, r-2*], action_id: ['*', match]}, rules: "
        "{subject: [{$.roles: {condition: IsEmpty}}, {$.organisation.id: {condition: Equals, value: o}}]}}"
    )

    assert Part.ACTION not in rule.parts
    firsts = [alternative[0] for alternative in rule.parts[Part.SUBJECT]]
    assert [len(alternative) for alternative in rule.parts[Part.SUBJECT]] == [2, 2]
    assert {atom.attribute.name for atom in firsts} == {"requester.id"}
    assert [firsts[0].test(name) for name in ("r-1", "r-22", "r-11", "R-1")] == [TRUE, TRUE, FALSE, FALSE]


def test_equal_conditions_share_a_key_and_others_do_not() -> None:
    """The key is what is written, whatever the order of its words."""
    texts = [
        "{condition: IsIn, values: [a, b]}",
        "{values: [a, b], condition: IsIn}",
        "{condition: IsIn, values: [a]}",
        "{condition: Not, value: {condition: IsIn, values: [a]}}",
    ]
    rules = [read(f"{{uid: a, why: x, effect: deny, rules: {{context: {{$.setting: {t}}}}}}}") for t in texts]

    keys = [rule.parts[Part.CONTEXT][0][0].key for rule in rules]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*", ["", "a.b"], ["a\nb"]),
        ("CIN.*", ["CIN.", "CIN.a"], ["CIN", "cin.a", "xCIN.a", "CIN.a\n"]),
        ("*.UPN", ["a.UPN"], ["aUPN", "a.UPNx"]),
        ("a*b*c", ["abc", "axbxc"], ["ab", "acb"]),
        ("a.b", ["a.b"], ["axb"]),
        ("a-b", ["a-b"], ["aab"]),
    ],
)
def test_only_the_star_is_special_in_a_target(pattern: str, yes: list[str], no: list[str]) -> None:
    """Targets match whole ids; dots and the rest stand for themselves."""
    assert [text for text in yes if not glob(pattern).fullmatch(text)] == []
    assert [text for text in no if glob(pattern).fullmatch(text)] == []


@pytest.mark.parametrize(
    ("part", "condition", "words", "read_"),
    [
        ("rules", "{$.setting: {condition: Equals, value: a}}", {"a"}, {"setting"}),
        ("rules", "{$.setting: {condition: StartsWith, value: a}}", set(), {"setting"}),
        (
            "rules",
            "{$.setting: {condition: Not, value: {condition: AnyOf, values: "
            "[{condition: IsIn, values: [a, b]}, {condition: NotEquals, value: c}]}}}",
            {"a", "b", "c"},
            {"setting"},
        ),
        (
            "where",
            "{$.purpose_within: {condition: Includes, attribute: $.purpose}}",
            set(),
            {"purpose_within", "purpose"},
        ),
        ("where", "{$.now: {condition: After, value: 2026-01-01}}", set(), {"now"}),
    ],
)
def test_a_condition_tells_the_words_it_names_and_the_attributes_it_reads(
    part: str, condition: str, words: set[str], read_: set[str]
) -> None:
    """Whole words at any depth and no pieces of words; of pairs and durations, both attributes."""
    rules = "rules: {}, " if part == "where" else ""
    rule = read(f"{{uid: a, why: x, effect: deny, {rules}{part}: {{context: {condition}}}}}")

    parts = rule.where if part == "where" else rule.parts
    (((atom,),),) = parts.values()
    assert words_of(atom) == words
    assert attributes_of(atom) == read_


def test_a_duration_reads_the_clock_and_a_target_names_no_words() -> None:
    """`days_from_now` is held against `$.now`; patterns of a target are not words."""
    rule = read(
        "{uid: a, why: x, effect: deny, targets: {action_id: match}, rules: {}, where: {subject: "
        "{$.accreditation.until: {condition: Before, days_from_now: 30}}}}"
    )

    (((until,),),) = rule.where.values()
    (((target,),),) = rule.parts.values()
    assert attributes_of(until) == {"accreditation.until", "now"}
    assert (words_of(target), attributes_of(target)) == (set(), {"action"})


@pytest.mark.parametrize(
    ("block", "attribute", "condition", "want"),
    [
        ("rules", "$.setting", "{condition: Equals, value: open}", "Equals open"),
        ("rules", "$.purpose_notice", "{condition: IsIn, values: [true, false]}", "IsIn [true, false]"),
        ("rules", "$.roles", "{condition: IsEmpty}", "IsEmpty"),
        (
            "rules",
            "$.setting",
            "{condition: Not, value: {condition: IsIn, values: [a, b]}}",
            "Not (IsIn [a, b])",
        ),
        (
            "where",
            "$.now",
            "{condition: Within, from: 2025-01-01, until: 2026-01-01}",
            "Within from 2025-01-01 until 2026-01-01",
        ),
        ("where", "$.setting", "{condition: SameAs, attribute: $.gateway}", "SameAs attribute $.gateway"),
    ],
)
def test_a_condition_is_spelt_on_one_line(block: str, attribute: str, condition: str, want: str) -> None:
    """Explanations show conditions as they are written, without braces and quotes."""
    part = "subject" if attribute == "$.roles" else "context"
    other = "rules: {}, " if block == "where" else ""
    rule = read(f"{{uid: a, why: x, effect: deny, {other}{block}: {{{part}: {{{attribute}: {condition}}}}}}}")

    ((atoms,),) = (rule.where if block == "where" else rule.parts).values()
    assert [spell_atom(atom) for atom in atoms] == [want]


def test_what_py_abac_refuses_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should py-abac find fault with a rule in which we found none, its words are a problem of the rule."""

    class Strict:
        @staticmethod
        def load(document: object) -> None:
            raise ValidationError("no\nthanks")

    monkeypatch.setattr(module, "_SCHEMA", Strict)

    with pytest.raises(SourceError, match=r"^rule\.yaml:1:1: py-abac refuses rule `a`: no thanks$"):
        read("{uid: a, why: x, effect: allow, grant: release, rules: {}}")
