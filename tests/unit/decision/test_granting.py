"""What rules grant, impose and withhold on a field, also where they have no answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_files, load_tiny, tiny_files
from support.tiny_registry import (
    EVERYTHING,
    NOW,
    accreditation,
    agreement,
    ask,
    group_of,
    organisation,
    spell,
)
from support.tiny_rules import with_rules

from policyd.decision.decide import decide
from policyd.decision.entitlement import entitle
from policyd.decision.snapshot import Snapshot
from policyd.policy.policyset import PolicySet
from policyd.reasons import Reason

_LEVEL = {"subject": {"$.accreditation.level": {"condition": "Equals", "value": "full"}}}
_BY_REQUEST = {"resource": {"$.by_request": {"condition": "IsIn", "values": [True]}}}
_UNKNOWN = accreditation(scheme="other")  # without an accreditation of the scheme its level is missing


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


def allow(uid: str, grant: Any = "release", rules: Any = None, **more: Any) -> dict[str, Any]:
    return {"uid": uid, "why": "x", "effect": "allow", "rules": rules or {}, "grant": grant, **more}


def ruled(policy: PolicySet, rules: list[dict[str, Any]], *entries: Any) -> Snapshot:
    found = with_rules(policy, rules)
    assert found is not None
    return tiny.snapshot(found, *entries)


def test_a_denial_without_an_answer_denies_also_where_it_does_not_know_the_field(policy: PolicySet) -> None:
    """Who is asking and what the field is are both unknown: nothing says that the rule is not meant."""
    deny = {"uid": "d1", "why": "x", "effect": "deny", "rules": {**_LEVEL, **_BY_REQUEST}}
    snapshot = ruled(policy, [allow("a1"), deny], _UNKNOWN)

    have = spell(decide(snapshot, ask("Pupil.Score", "Pupil.Fsm"), NOW))

    assert have == {"Pupil.Score": "withhold RULE_ERROR", "Pupil.Fsm": "release"}


@pytest.mark.parametrize("rules", [_LEVEL, _BY_REQUEST, {**_LEVEL, **_BY_REQUEST}], ids=len)
def test_a_permission_without_an_answer_imposes_and_grants_nothing(rules: Any, policy: PolicySet) -> None:
    """Its transform and its obligations hold, and it never is the rule that decided."""
    unsure = allow("a1", {"round": {"to": 5}}, rules, obligations={"retention_days": 30})
    alone = ruled(policy, [unsure], _UNKNOWN)
    beside = ruled(policy, [unsure, allow("a2")], _UNKNOWN)

    assert spell(decide(alone, ask("Pupil.Score"), NOW)) == {"Pupil.Score": "withhold NO_RULE_ALLOWS"}
    decision = decide(beside, ask("Pupil.Score"), NOW)
    assert spell(decision) == {"Pupil.Score": "transform round:5"}
    assert decision.obligations.retention_days == 30
    assert group_of(decision, "Pupil.Score").rule == "a2"


def test_a_rule_without_an_answer_decides_no_field(policy: PolicySet) -> None:
    """Whichever field it is, the rule that is named is one that is true."""
    snapshot = ruled(policy, [allow("a1", rules=_LEVEL), allow("a2")], _UNKNOWN)

    decision = decide(snapshot, ask(*sorted(EVERYTHING)), NOW)

    granted = [group for group in decision.groups if group.reason is Reason.NONE]
    assert {group.rule for group in granted} == {"a2"}
    assert "Pupil.Care" in granted[0].names


def test_a_transform_that_no_rule_grants_is_of_the_first_that_took_part(policy: PolicySet) -> None:
    """Rounding to 3 and to 5 is rounding to 15."""
    rules = [allow("a1", {"round": {"to": 3}}), allow("a2", {"round": {"to": 5}})]

    decision = decide(ruled(policy, rules), ask("Pupil.Score"), NOW)

    assert spell(decision) == {"Pupil.Score": "transform round:15"}
    assert decision.groups[0].rule == "a1"


def test_a_setting_that_a_rule_asks_for_is_met_or_withholds(policy: PolicySet) -> None:
    """In the setting the data is released and the setting told; in another it is not."""
    for setting, want in (("secure", "release"), ("vault", "withhold OBLIGATION_CONFLICT")):
        snapshot = ruled(policy, [allow("a1", obligations={"setting": setting})])

        decision = decide(snapshot, ask("Pupil.Fsm"), NOW)
        assert spell(decision) == {"Pupil.Fsm": want}
        assert decision.obligations.setting == (frozenset({setting}) if want == "release" else None)


def test_inside_the_department_no_field_is_kept_in_as_never_external(policy: PolicySet) -> None:
    """Sensitivity A bounds who is outside, and no field is bound by it inside."""
    inside = ruled(policy, [allow("a1")], organisation(kind="department"))
    outside = ruled(policy, [allow("a1")])

    kept = [
        {
            name
            for name, verdict in spell(decide(each, ask(*sorted(EVERYTHING)), NOW)).items()
            if "NEVER" in verdict
        }
        for each in (inside, outside)
    ]
    assert kept == [set(), {"Pupil.Secret"}]


def test_conditional_purposes_bind_the_fields_and_purposes_that_they_are_stated_for(tmp_path: Path) -> None:
    """Duties come with the purpose asked for, on the fields that state them, unless it is permitted fully."""
    files = tiny_files()
    old = "    - {purpose: statistics, obligations: {min_cell_count: 20, output_check: true}}\n"
    files["catalogue/School.yaml"] = files["catalogue/School.yaml"].replace(
        old, "    - {purpose: any, obligations: {min_cell_count: 20}}\n"
    )
    files["catalogue/Pupil.yaml"] = files["catalogue/Pupil.yaml"].replace(
        "level: pupil\n",
        "level: pupil\npurposes:\n  allowed: [research]\n  conditional:\n"
        "    - {purpose: statistics, obligations: {round_to: 5}}\n"
        "    - {purpose: individual-decision, obligations: {retention_days: 9}}\n",
    )
    snapshot = ruled(load_files(tmp_path, files), [allow("a1")], agreement(purposes=frozenset({"any"})))

    def owed(name: str, purpose: str) -> dict[str, object]:
        decision = decide(snapshot, ask(name, purposes=(purpose,), years=(2018,)), NOW)
        assert spell(decision) == {name: "release"}
        names = ("min_cell_count", "round_to", "retention_days")
        return {each: value for each in names if (value := getattr(decision.obligations, each)) is not None}

    assert owed("School.Size", "academic") == owed("Pupil.Fsm", "academic") == {}
    assert owed("School.Size", "statistics") == {"min_cell_count": 20}
    assert owed("Pupil.Fsm", "statistics") == {"round_to": 5}
    assert owed("Pupil.Fsm", "exclusion-review") == {"retention_days": 9}


def test_a_column_without_year_needs_every_year_that_is_stated(policy: PolicySet) -> None:
    """One year outside the agreement withholds it, wherever that year stands; so does no year at all."""
    snapshot = tiny.snapshot(policy)
    for years, reason in (
        ((2014, 2018), "NOT_IN_AGREEMENT"),
        ((2018, 2014), "NOT_IN_AGREEMENT"),
        ((), "MISSING"),
    ):
        have = spell(decide(snapshot, ask("Pupil.Care", "Pupil.Fsm", years=years), NOW))

        assert set(have.values()) == {f"withhold YEAR_{reason}"}


def test_fields_of_one_question_whose_years_differ_are_kept_apart(policy: PolicySet) -> None:
    """What is let go and what is not are exact sets of fields, also where they were asked for together."""
    years = (("School", frozenset({2016})),)
    snapshot = tiny.snapshot(policy, agreement(table_years=years))

    decision = decide(snapshot, ask("Pupil.Ethnicity_SPR19", "Pupil.Fsm", "School.Size", "Pupil.Score"), NOW)

    sets = {
        group.names: [policy.index.names(each.mask) for each in group.released] for group in decision.groups
    }
    assert sets == {
        ("Pupil.Ethnicity_SPR19", "Pupil.Fsm", "Pupil.Score"): [
            ("Pupil.Fsm", "Pupil.Score"),
            ("Pupil.Ethnicity",),
        ],
        ("School.Size",): [("School.Size",)],
    }


def test_groups_stand_in_the_order_of_their_first_names(policy: PolicySet) -> None:
    """The last name of a group has no say in it."""
    decision = decide(tiny.snapshot(policy), ask("Pupil.Fsm", "Pupil.Secret", "Pupil.Score"), NOW)

    assert [group.names for group in decision.groups] == [("Pupil.Fsm", "Pupil.Score"), ("Pupil.Secret",)]


def test_one_wildcard_among_unknown_names_refuses_the_question(policy: PolicySet) -> None:
    """Whatever else is asked for, known or not."""
    decision = decide(tiny.snapshot(policy), ask("Pupil.Shoe", "Pupil.*", "Pupil.Fsm"), NOW)

    assert set(spell(decision).values()) == {"withhold FIELD_WILDCARD"}


def test_a_decision_names_the_purposes_that_exist(policy: PolicySet) -> None:
    """A word that is no purpose is nothing to keep a record of."""
    decision = decide(tiny.snapshot(policy), ask("Pupil.Fsm", purposes=("nonsense", "academic")), NOW)

    assert decision.purposes == ("academic",)


@pytest.mark.parametrize(
    ("name", "rows"),
    [("Pupil.Fsm", {2018}), ("Pupil.Ethnicity_ab18", None), ("Pupil.Ethnicity_SPR18", None)],
)
def test_rows_are_bound_where_a_column_carries_no_year(
    name: str, rows: set[int] | None, policy: PolicySet
) -> None:
    """A column with a year of its own, with a term or without, has no rows of other years."""
    decision = decide(tiny.snapshot(policy), ask(name), NOW)

    assert spell(decision) == {name: "release"}
    assert decision.obligations.row_years == rows


def test_fields_on_which_all_is_the_same_are_one_part_of_the_catalogue(policy: PolicySet) -> None:
    """Whichever rules granted them: parts differ in verdict or obligations, so that there are few."""
    rules = [allow("a1"), allow("a2", targets={"resource_id": "Pupil.Fsm"})]

    for purposes in (("academic",), ("academic", "research")):
        found = entitle(ruled(policy, rules), ask("Pupil.Fsm", purposes=purposes), now=NOW)

        assert len(set(found.grades)) == len(found.grades)
        assert [each.rule for each in found.grades if each.reason is Reason.NONE] == ["a1"]


def test_a_withheld_field_that_is_not_used_takes_no_other_with_it(policy: PolicySet) -> None:
    """What is filtered by may all be seen, so what leaves is judged name by name."""
    request = ask("Pupil.Fsm", "Pupil.Secret", used_fields=("Pupil.Score",))

    assert spell(decide(tiny.snapshot(policy), request, NOW)) == {
        "Pupil.Fsm": "release",
        "Pupil.Secret": "withhold FIELD_NEVER_EXTERNAL",
        "Pupil.Score": "release",
    }
