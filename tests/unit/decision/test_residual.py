"""The rules that are left for one request: the same as when every condition of every rule is evaluated."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from support.tiny_policy import load_tiny
from support.tiny_registry import NOW
from support.tiny_rules import Author, with_rules

from policyd.decision import residual
from policyd.decision.residual import Residual, Residuals
from policyd.policy.conditions import ERROR, FALSE, MISSING, TRUE, Truth
from policyd.policy.policyset import PolicySet, Rule

VALUES: Mapping[str, list[object]] = {
    "requester.id": ["researcher-1", "researcher-2"],
    "organisation.kind": ["university", "press", MISSING, 7],
    "organisation.commercial": [True, False, 1, MISSING],
    "accreditation.status": ["valid", "none", "expired"],
    "accreditation.level": ["full", MISSING],
    "accreditation.until": [NOW, NOW + 1, MISSING, "never"],
    "roles": [frozenset({"researcher"}), frozenset[str](), ["researcher"]],
    "action": ["release", "count"],
    "setting": ["secure", "open", None],
    "purpose": ["academic", "statistics"],
    "purpose_within": [frozenset({"research", "any"}), frozenset({"statistics"})],
    "purpose_notice": [True, False, 0],
    "gateway": ["OPEN-1"],
    "agreement.article9": ["none"],
    "agreement.basis": ["none", "full"],
    "now": [NOW, NOW + 400 * 86_400_000],
}

AHEAD = {"condition": "After", "days_from_now": 0}
TRUE_ONLY = {"condition": "IsIn", "values": [True]}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("policy") / "tiny")


def plain_truth(rule: Rule, policy: PolicySet, values: Mapping[str, object]) -> Truth:
    """Evaluate all of a rule, nothing kept and nothing left out."""
    return min(
        (
            max(
                min((policy.atoms[number].truth(values) for number in numbers), default=TRUE)
                for numbers in alternatives
            )
            for alternatives in rule.dynamic
        ),
        default=TRUE,
    )


@pytest.mark.parametrize("seed", range(12))
def test_what_is_left_is_what_a_loop_over_all_rules_finds(
    policy: PolicySet, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many requests that share values, and with room for two values an attribute only."""
    monkeypatch.setattr(residual, "MAX_VALUES", 2)
    rng = random.Random(seed)  # noqa: S311  (cases, not secrets)
    documents = [Author(seed).rule(f"r{number}", rng.choice(["allow", "deny"])) for number in range(30)]
    # Rules that cannot be combined do not load; here they need not grant anything in particular.
    compiled = with_rules(
        policy, [{**each, "grant": "release"} if "grant" in each else each for each in documents]
    )
    assert compiled is not None
    residuals = Residuals(compiled.rules, compiled.atoms)
    for _ in range(60):
        values = {name: rng.choice(some) for name, some in VALUES.items()}

        left = residuals.of(values)

        want = [
            (rule.tied(values) if rule.ties else rule, plain_truth(rule, compiled, values))
            for rule in compiled.rules
        ]
        assert list(left.every_rule()) == want
        assert list(left.held.values()) == [each for each in want if each[1] != FALSE]


def test_a_value_of_the_wrong_type_is_not_taken_for_an_equal_one(policy: PolicySet) -> None:
    """1 equals True in Python and is no boolean: it is an error, whichever of the two came first."""
    rule = {
        "uid": "r1",
        "why": "commercial only",
        "effect": "allow",
        "grant": "release",
        "rules": {"subject": {"$.organisation.commercial": {"condition": "IsIn", "values": [True]}}},
    }
    compiled = with_rules(policy, [rule])
    assert compiled is not None
    residuals = Residuals(compiled.rules, compiled.atoms)

    truths = [
        [truth for _, truth in residuals.of({"organisation.commercial": value}).every_rule()]
        for value in (1, True, 1, False, 0, MISSING)
    ]

    assert truths == [[1], [2], [1], [0], [1], [1]]


def test_the_clock_is_never_kept(policy: PolicySet) -> None:
    """A condition on the date is evaluated anew each millisecond and leaves nothing behind."""
    rule = {
        "uid": "r1",
        "why": "from now on",
        "effect": "deny",
        "rules": {"subject": {"$.organisation.kind": {"condition": "Equals", "value": "press"}}},
        "where": {"context": {"$.now": {"condition": "After", "value": "2026-03-01T12:00:00Z"}}},
    }
    compiled = with_rules(policy, [rule])
    assert compiled is not None
    residuals = Residuals(compiled.rules, compiled.atoms)

    found = [
        bool(residuals.of({"organisation.kind": "press", "now": NOW + ms}).held) for ms in (-2, -1, 0, 1)
    ]

    assert found == [False, False, True, True]
    assert [list(watched.seen) for watched in residuals._watched] == [["press"]]


def residuals_of(policy: PolicySet, *conditions: Mapping[str, object]) -> Residuals:
    """Return what is kept of rules with one condition each on the organisation of who asks."""
    rules = [
        {
            "uid": f"r{number}",
            "why": "a condition",
            "effect": "allow",
            "grant": "release",
            "rules": {"subject": condition},
        }
        for number, condition in enumerate(conditions)
    ]
    compiled = with_rules(policy, rules)
    assert compiled is not None
    return Residuals(compiled.rules, compiled.atoms)


def test_all_conditions_on_a_value_that_has_no_answer_are_in_error(policy: PolicySet) -> None:
    """Of two rules that ask for different values, neither is true of a value of the wrong type."""
    residuals = residuals_of(
        policy,
        {"$.organisation.commercial": {"condition": "IsIn", "values": [True]}},
        {"$.organisation.commercial": {"condition": "IsIn", "values": [False]}},
    )

    assert [truth for _, truth in residuals.of({"organisation.commercial": 1}).every_rule()] == [ERROR, ERROR]


def test_values_are_kept_up_to_a_limit_and_then_forgotten(
    policy: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value is kept beside the others, a missing one too, until one comes for which there is no room."""
    monkeypatch.setattr(residual, "MAX_VALUES", 2)
    residuals = residuals_of(policy, {"$.organisation.kind": {"condition": "Equals", "value": "press"}})
    (watched,) = residuals._watched
    kept = []

    for value in ("press", MISSING, "press", "charity", "press"):
        residuals.of({"organisation.kind": value})
        kept.append(list(watched.seen))

    assert kept == [["press"], ["press", MISSING], ["press", MISSING], ["charity"], ["charity", "press"]]


def test_only_rules_with_more_to_find_out_are_looked_at_one_by_one(
    policy: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found for the values of single attributes is the whole truth about the other rules."""
    press = {"$.organisation.kind": {"condition": "Equals", "value": "press"}}
    rules = [
        {"uid": "r1", "rules": {"subject": press}},
        {"uid": "r2", "rules": {}, "where": {"subject": {"$.accreditation.until": AHEAD}}},
        {"uid": "r3", "rules": {"subject": [press, {"$.organisation.commercial": TRUE_ONLY}]}},
        {"uid": "r4", "rules": {}},
    ]
    compiled = with_rules(policy, [{**rule, "why": "a rule", "effect": "deny"} for rule in rules])
    assert compiled is not None
    looked_at = []
    evaluate = Residual.evaluate

    def spy(self: Residual, rule: Rule) -> Truth:
        looked_at.append(rule.uid)
        return evaluate(self, rule)

    monkeypatch.setattr(Residual, "evaluate", spy)
    values = {
        "organisation.kind": "press",
        "organisation.commercial": False,
        "accreditation.until": NOW - 1,
        "now": NOW,
    }

    left = Residuals(compiled.rules, compiled.atoms).of(values)

    assert looked_at == ["r2", "r3"]
    assert [rule.uid for rule, _ in left.held.values()] == ["r1", "r3", "r4"]
