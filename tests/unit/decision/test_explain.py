"""Explanations: all that fails in order, what each condition saw, and a bound on what is shown."""

from __future__ import annotations

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import NOW, accreditation, agreement, ask
from support.tiny_rules import with_rules

from policyd.decision import explain as module
from policyd.decision.explain import Checked, Explanation, Result, explain
from policyd.model import Action, Status
from policyd.policy.policyset import PolicySet
from policyd.reasons import Reason


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


def failing(explanation: Explanation) -> list[tuple[str, Reason]]:
    """Return what fails of the question and of its first group, in order."""
    checks = (*explanation.question, *explanation.groups[0].checks)
    return [(each.check, each.reason) for each in checks if each.reason is not Reason.NONE]


def rule(explanation: Explanation, uid: str) -> Checked:
    (found,) = [each for group in explanation.groups for each in group.checks if each.check == uid]
    return found


def test_every_check_that_fails_is_listed_in_the_order_of_the_gates(policy: PolicySet) -> None:
    """A name that fails nearly everything shows nearly everything, though the first alone decided."""
    snapshot = tiny.snapshot(
        policy,
        agreement(fields=frozenset({"School.Size"}), gateway="STRICT-1", purposes=frozenset({"any"})),
    )

    explanation = explain(snapshot, ask("Pupil.Name", purposes=("industry",), years=(2018,)), NOW)

    assert failing(explanation) == [
        ("gate:5:deidentified", Reason.GATEWAY_PRECONDITION),
        ("gate:7:agreement-fields", Reason.FIELD_NOT_IN_AGREEMENT),
        ("gate:7:years", Reason.YEAR_NOT_IN_AGREEMENT),
        ("gate:8:intended-purposes", Reason.PURPOSE_PROHIBITED),
        ("gate:8:intended-purposes", Reason.PURPOSE_NOT_ALLOWED),
        ("d10-names-stay-in", Reason.DENIED_BY_RULE),
    ]


def test_all_refusals_of_gates_4_and_5_are_listed_and_no_field_is_looked_at(policy: PolicySet) -> None:
    """What refuses the question as a whole is told whole; then there is nothing to try out on fields."""
    snapshot = tiny.snapshot(policy, agreement(gateway="NEVER-1"))

    explanation = explain(snapshot, ask("Pupil.Fsm", purposes=("nonsense", "marketing", "any")), NOW)

    assert failing(explanation) == [
        ("gate:4:purpose", Reason.PURPOSE_UNKNOWN),
        ("gate:4:purpose", Reason.PURPOSE_NOT_IN_AGREEMENT),
        ("gate:4:purpose", Reason.PURPOSE_NOT_REQUESTABLE),
        ("gate:4:purpose", Reason.PURPOSE_NOT_IN_AGREEMENT),
        ("gate:5:gateway", Reason.GATEWAY_NOT_IN_FORCE),
    ]
    assert explanation.groups[0].checks == ()


def test_a_question_shows_every_check_that_it_passed(policy: PolicySet) -> None:
    """Gates 1 to 5 in order, for each purpose those that depend on it."""
    snapshot = tiny.snapshot(policy, agreement(gateway="STRICT-1"))

    explanation = explain(snapshot, ask("Pupil.Fsm", purposes=("academic", "statistics")), NOW)

    gateway = [
        "gate:5:organisation_kind",
        "gate:5:accredited_person",
        "gate:5:accredited_project",
        "gate:5:accredited_setting",
        "gate:5:not_individual_decision",
    ]
    assert [(each.check, each.purpose) for each in explanation.question] == [
        ("gate:1:data-service", ""),
        ("gate:1:operator", ""),
        ("gate:2:token", ""),
        ("gate:2:requester", ""),
        ("gate:2:organisation", ""),
        ("gate:3:agreement", ""),
        ("gate:3:setting", ""),
        ("gate:3:action", ""),
        ("gate:4:purpose", "academic"),
        ("gate:4:purpose", "statistics"),
        ("gate:5:gateway", ""),
        *((check, "academic") for check in gateway),
        *((check, "statistics") for check in gateway),
    ]
    assert {each.result for each in explanation.question} == {Result.PASSED}


def test_a_purpose_passes_gate_4_only_if_it_may_be_declared_and_is_agreed(policy: PolicySet) -> None:
    """One that may not be declared, or is not in the agreement, is nowhere shown as passed."""
    snapshot = tiny.snapshot(policy, agreement(purposes=frozenset({"research", "any"})))
    both = explain(snapshot, ask("Pupil.Fsm", purposes=("any", "academic")), NOW)
    snapshot = tiny.snapshot(policy, agreement(purposes=frozenset({"research"})))
    other = explain(snapshot, ask("Pupil.Fsm", purposes=("academic", "marketing")), NOW)

    def gate_4(explanation: Explanation) -> list[tuple[str, Reason]]:
        return [
            (each.purpose, each.reason) for each in explanation.question if each.check.startswith("gate:4")
        ]

    assert gate_4(both) == [("any", Reason.PURPOSE_NOT_REQUESTABLE), ("academic", Reason.NONE)]
    assert gate_4(other) == [("academic", Reason.NONE), ("marketing", Reason.PURPOSE_NOT_IN_AGREEMENT)]


def test_after_a_failure_of_gates_1_to_3_nothing_later_is_said(policy: PolicySet) -> None:
    """The checks up to the one that refused, and no more."""
    snapshot = tiny.snapshot(policy, agreement(status=Status.SUSPENDED))

    explanation = explain(snapshot, ask("Pupil.Fsm", purposes=("nonsense",)), NOW)

    assert [each.check for each in explanation.question] == [
        "gate:1:data-service",
        "gate:1:operator",
        "gate:2:token",
        "gate:2:requester",
        "gate:2:organisation",
        "gate:3:agreement",
    ]
    assert failing(explanation) == [("gate:3:agreement", Reason.AGREEMENT_SUSPENDED)]


def test_a_condition_shows_what_it_saw(policy: PolicySet) -> None:
    """A rule that does not hold shows which of its conditions is false and the value that made it so."""
    snapshot = tiny.snapshot(policy, accreditation(until_at=NOW))

    explanation = explain(snapshot, ask("Pupil.Fsm"), NOW)

    assert explanation.decision.groups[0].reason is Reason.NO_RULE_ALLOWS
    shown = rule(explanation, "a10-research")
    assert shown.result is Result.NOT_APPLICABLE
    assert shown.why == "Accredited people research."
    assert shown.place is not None
    assert shown.place.file == "rules/rules.yaml"
    assert [(c.attribute, c.text, c.value, c.source, c.result, c.clause) for c in shown.conditions] == [
        ("accreditation.status", "Equals valid", "expired", "registry", "false", 0),
        ("purpose_within", "AnyIn [research]", "[academic, any, research]", "registry", "true", 1),
    ]


def test_a_missing_attribute_is_an_error_and_shows_no_value(policy: PolicySet) -> None:
    """Without any accreditation its level is in error, and so is the rule that asks for it."""
    snapshot = tiny.snapshot(policy, accreditation(scheme="other"))

    shown = rule(explain(snapshot, ask("Pupil.Score"), NOW), "a40-score-in-bands")

    assert (shown.result, shown.reason) == (Result.ERROR, Reason.NONE)
    assert [(each.value, each.result) for each in shown.conditions] == [("", "error")]


def test_targets_are_conditions_too(policy: PolicySet) -> None:
    """A rule's target for actions shows its patterns."""
    shown = rule(
        explain(tiny.snapshot(policy), ask("Pupil.Ethnicity", action=Action.MATCH), NOW),
        "d20-no-matching-on-ethnicity",
    )

    assert (shown.result, shown.reason) == (Result.FAILED, Reason.DENIED_BY_RULE)
    assert [(each.text, each.value) for each in shown.conditions] == [("matches [match, ver*]", "match")]


def test_a_used_field_that_is_withheld_explains_the_others(policy: PolicySet) -> None:
    """The field itself passes everything, and is withheld for the other."""
    explanation = explain(tiny.snapshot(policy), ask("Pupil.Fsm", used_fields=("Pupil.Nationality",)), NOW)

    assert failing(explanation) == [("gate:9:used-fields", Reason.USED_FIELD_WITHHELD)]


def test_what_is_shown_is_bounded_and_says_so(policy: PolicySet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules beyond the bound are counted, the one that decides is shown all the same."""
    request = ask(*sorted(tiny.EVERYTHING))
    whole = explain(tiny.snapshot(policy), request, NOW)
    monkeypatch.setattr(module, "MAX_RULES", 2)

    short = explain(tiny.snapshot(policy), request, NOW)

    def rules(explanation: Explanation) -> int:
        return sum(each.place is not None for group in explanation.groups for each in group.checks)

    assert short.not_shown - whole.not_shown == rules(whole) - rules(short) > 0
    others = [
        each.check
        for group in short.groups
        for each in group.checks
        if each.place is not None and each.check != group.group.rule
    ]
    assert len(others) == 2
    for group in short.groups:
        if not group.group.rule.startswith("gate:"):
            assert any(each.check == group.group.rule for each in group.checks)


def test_rules_about_other_questions_are_counted_and_not_shown(policy: PolicySet) -> None:
    """Who declares one purpose does not learn which other one, or which setting, would do."""
    snapshot = tiny.snapshot(policy, accreditation(until_at=NOW))

    explanation = explain(snapshot, ask("Pupil.Score"), NOW)

    shown = {each.check for each in explanation.groups[0].checks}
    assert "a20-statistics" not in shown  # for another purpose
    assert "d30-by-request-is-known" not in shown  # for another setting
    assert "a40-score-in-bands" in shown  # for other people
    assert explanation.not_shown == 2


def test_a_name_that_is_no_field_is_explained_and_others_beside_it(policy: PolicySet) -> None:
    """An unknown name fails the first check on fields, and that is all there is to say of it."""
    explanation = explain(tiny.snapshot(policy), ask("Pupil.Shoe", "Pupil.Hat", "Pupil.Fsm"), NOW)

    unknown, known = explanation.groups
    assert [(each.check, each.reason, each.fields) for each in unknown.checks] == [
        ("gate:6:field", Reason.FIELD_UNKNOWN, 2)
    ]
    assert (known.checks[0].check, known.checks[0].result) == ("gate:6:field", Result.PASSED)


def test_a_wildcard_refuses_the_whole_question(policy: PolicySet) -> None:
    """It is the last check of the question, and no field is looked at."""
    explanation = explain(tiny.snapshot(policy), ask("Pupil.*", "Pupil.Fsm"), NOW)

    last = explanation.question[-1]
    assert (last.check, last.result, last.reason) == (
        "gate:6:wildcard",
        Result.FAILED,
        Reason.FIELD_WILDCARD,
    )
    assert [each.checks for each in explanation.groups] == [()] * len(explanation.groups)


@pytest.mark.parametrize(
    ("part", "attribute", "condition", "value"),
    [
        ("subject", "$.organisation.commercial", {"condition": "IsIn", "values": [False]}, "false"),
        ("context", "$.purpose_notice", {"condition": "IsIn", "values": [True]}, "true"),
        ("subject", "$.roles", {"condition": "AnyIn", "values": ["researcher"]}, "[researcher]"),
        ("context", "$.setting", {"condition": "Equals", "value": "secure"}, "secure"),
    ],
)
def test_values_are_spelt_as_rules_spell_them(
    part: str, attribute: str, condition: object, value: str, policy: PolicySet
) -> None:
    """Booleans are `true` and `false`, sets are lists, and text is itself."""
    deny = {"uid": "r1", "why": "x", "effect": "deny", "rules": {part: {attribute: condition}}}
    compiled = with_rules(policy, [deny])
    assert compiled is not None

    shown = rule(explain(tiny.snapshot(compiled), ask("Pupil.Fsm"), NOW), "r1")

    assert [(each.value, each.result) for each in shown.conditions] == [(value, "true")]


@pytest.mark.parametrize(("length", "last"), [(199, "1"), (200, "1"), (201, "…"), (300, "…")])
def test_long_values_are_cut(length: int, last: str, policy: PolicySet) -> None:
    """A value is for people: 200 characters of it are enough."""
    name = "researcher-".ljust(length, "1")
    compiled = with_rules(
        policy,
        [
            {
                "uid": "r1",
                "why": "A long name.",
                "effect": "allow",
                "grant": "release",
                "rules": {"subject": {"$.requester.id": {"condition": "StartsWith", "value": "researcher"}}},
            }
        ],
    )
    assert compiled is not None
    snapshot = tiny.snapshot(compiled, tiny.requester(name), agreement(requesters=frozenset({name})))

    shown = rule(explain(snapshot, ask("Pupil.Fsm", who=name), NOW), "r1")

    (condition,) = shown.conditions
    assert (len(condition.value), condition.value[-1]) == (min(length, 200), last)


def test_a_check_is_about_no_field_unless_it_says_so(policy: PolicySet) -> None:
    """What is left out of a check or an explanation counts for nothing."""
    whole = explain(tiny.snapshot(policy), ask("Pupil.Fsm"), NOW)

    assert Checked("gate:1:data-service", Result.PASSED).fields == 0
    assert Explanation(whole.decision, whole.question, whole.groups, whole.valid_until).not_shown == 0
