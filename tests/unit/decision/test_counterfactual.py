"""Counterfactuals over the tiny policy set: each kind of change, minimal sets, and when nothing would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import (
    EVERYTHING,
    NOW,
    accreditation,
    agreement,
    ask,
    at,
    data_service,
    organisation,
    requester,
)
from support.tiny_rules import with_rules

from policyd.decision import counterfactual as module
from policyd.decision.change import Facts, Reinstated, RoleGiven
from policyd.decision.combine import Screen
from policyd.decision.counterfactual import Counterfactual, Search, counterfactuals, relevant
from policyd.decision.decide import decide
from policyd.decision.entitlement import examine
from policyd.decision.lever import State, Vocabulary
from policyd.decision.repair import repairs, wanted
from policyd.decision.snapshot import Snapshot, build_snapshot
from policyd.model import AccreditationLevel, Action, Request, Status
from policyd.policy.policyset import PolicySet
from policyd.reasons import Reason


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


def always() -> bool:
    return True


def budget(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is not None


def search(snapshot: Snapshot, request: Request) -> Counterfactual:
    """Return what would have to change for the one group that is withheld."""
    (found,) = counterfactuals(snapshot, request, NOW, more=always)
    return found


def texts(found: Counterfactual) -> list[list[str]]:
    return [[change.terms.text for change in changes] for changes in found.sets]


SUSPENDED = Status.SUSPENDED
PAST, FUTURE = at("2026-01-01"), at("2026-06-01")
LATER = {"condition": "After", "days_from_now": 0}

KINDS: dict[str, tuple[list[Any], dict[str, Any], list[list[str]]]] = {
    "a data service is suspended": (
        [data_service(status=SUSPENDED)],
        {},
        [["data service `svc-secure` is no longer suspended"]],
    ),
    "the operator of a data service is suspended": (
        [organisation("dept", kind="department", status=SUSPENDED)],
        {},
        [["organisation `dept` is no longer suspended"]],
    ),
    "the operator of a data service changed its name": (
        [organisation("dept", kind="department", changed_at=PAST)],
        {},
        [["organisation `dept` is verified again, after its change of name or control"]],
    ),
    "a requester is suspended": (
        [requester(status=SUSPENDED)],
        {},
        [["requester `researcher-1` is no longer suspended"]],
    ),
    "an organisation is suspended": (
        [organisation(status=SUSPENDED)],
        {},
        [["organisation `uni` is no longer suspended"]],
    ),
    "an organisation changed its name": (
        [organisation(changed_at=PAST)],
        {},
        [["organisation `uni` is verified again, after its change of name or control"]],
    ),
    "an organisation changed its name and is suspended": (
        [organisation(changed_at=PAST, status=SUSPENDED)],
        {},
        [
            [
                "organisation `uni` is no longer suspended",
                "organisation `uni` is verified again, after its change of name or control",
            ]
        ],
    ),
    "an agreement does not exist": (
        [],
        {"agreement": "AG-9"},
        [["the question is asked under agreement `AG-1`"]],
    ),
    "an agreement names another requester": (
        [agreement(requesters=frozenset({"researcher-2"}))],
        {},
        [["agreement `AG-1` names the requester `researcher-1`"]],
    ),
    "an agreement names another data service": (
        [agreement(data_services=frozenset({"svc-open"}))],
        {},
        [["agreement `AG-1` names the data service `svc-secure`"]],
    ),
    "an agreement is suspended": (
        [agreement(status=SUSPENDED)],
        {},
        [["agreement `AG-1` is no longer suspended"]],
    ),
    "an agreement has not started": ([agreement(from_at=FUTURE)], {}, [["agreement `AG-1` has started"]]),
    "an agreement is over": ([agreement(until_at=PAST)], {}, [["agreement `AG-1` has not ended yet"]]),
    "a setting is not approved": (
        [agreement(setting="vault")],
        {},
        [
            ["data service `svc-secure` runs in the setting `vault`"],
            ["agreement `AG-1` approves the setting `secure`"],
        ],
    ),
    "an action is not approved": (
        [agreement(actions=frozenset({Action.RELEASE}))],
        {"action": Action.LINK},
        [
            ["agreement `AG-1` names the action `link`"],
            ["the question is for the action `release`"],
        ],
    ),
    "no purpose is declared": (
        [agreement(purposes=frozenset({"academic"}))],
        {"purposes": ()},
        [["the question declares the purpose `academic`"]],
    ),
    "a purpose is not in the agreement": (
        [agreement(purposes=frozenset({"statistics"}))],
        {},
        [
            ["agreement `AG-1` names the purpose `academic`"],
            ["the question declares the purpose `statistics` instead of `academic`"],
        ],
    ),
    "one of two purposes is prohibited": (
        [agreement(purposes=frozenset({"any"}))],
        {"purposes": ("academic", "marketing")},
        [
            ["the question leaves out `marketing`"],
            ["the question declares the purpose `industry` instead of `marketing`"],
            ["the question declares the purpose `research` instead of `marketing`"],
            ["the question declares the purpose `statistics` instead of `marketing`"],
        ],
    ),
    "a gateway is not in force": (
        [agreement(gateway="NEVER-1")],
        {},
        [
            ["agreement `AG-1` rests on the gateway `OPEN-1`"],
            ["agreement `AG-1` rests on the gateway `PAST-1`"],
            ["agreement `AG-1` rests on the gateway `STRICT-1`"],
        ],
    ),
    "a project is not accredited": (
        [agreement(gateway="STRICT-1", project_accredited=False)],
        {},
        [
            ["agreement `AG-1` rests on the gateway `OPEN-1`"],
            ["agreement `AG-1` rests on the gateway `PAST-1`"],
            ["agreement `AG-1` is for an accredited project"],
        ],
    ),
    "a field is not in the agreement": (
        [agreement(fields=EVERYTHING - {"Pupil.Fsm"})],
        {},
        [["agreement `AG-1` names the field `Pupil.Fsm`"]],
    ),
    "a stated year is not in the agreement": (
        [],
        {"years": (2018, 2020, 2021)},
        [
            ["agreement `AG-1` covers 2020/21 to 2021/22"],
            ["the question states the academic years 2018/19"],
        ],
    ),
    "no year is stated": (
        [],
        {"years": ()},
        [["the question states the academic years 2015/16 to 2019/20"]],
    ),
    "a table has years of its own": (
        [agreement(table_years=(("Pupil", frozenset({2015})),))],
        {},
        [
            ["agreement `AG-1` covers 2018/19 for table `Pupil`"],
            ["the question states the academic years 2015/16"],
        ],
    ),
    "an accreditation is over": (
        [accreditation(until_at=PAST)],
        {},
        [
            [
                "requester `researcher-1` holds a valid accreditation under scheme `scheme-1`, level `full`",
            ],
            ["the question declares the purpose `statistics` instead of `academic`"],
        ],
    ),
    "an accreditation has the id that a proposed one would have": (
        [accreditation(until_at=PAST), accreditation("PROPOSED", scheme="scheme-2", until_at=PAST)],
        {"purposes": ("academic", "statistics")},
        [
            ["requester `researcher-1` holds a valid accreditation under scheme `scheme-1`, level `full`"],
            ["the question leaves out `academic`"],
        ],
    ),
    "an accreditation is suspended": (
        [accreditation(status=SUSPENDED)],
        {},
        [["accreditation `ACC-1` is no longer suspended"]],
    ),
    "two accreditations are suspended": (
        [accreditation(status=SUSPENDED), accreditation("ACC-2", status=SUSPENDED, scheme="scheme-2")],
        {},
        [["accreditation `ACC-1` is no longer suspended", "accreditation `ACC-2` is no longer suspended"]],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_change_is_found(policy: PolicySet, kind: str) -> None:
    """For each thing that may be amiss: all smallest sets of changes, in words, sorted."""
    entries, claims, want = KINDS[kind]

    found = search(tiny.snapshot(policy, *entries), ask("Pupil.Fsm", **claims))

    assert found.search is Search.ALL
    assert texts(found) == want


def test_a_setting_that_a_rule_asks_for_takes_the_service_and_the_agreement(policy: PolicySet) -> None:
    """Names leave the vault only: the data service must run there, and the agreement approve it."""
    found = search(tiny.snapshot(policy), ask("Pupil.Name"))

    assert texts(found) == [
        [
            "data service `svc-secure` runs in the setting `vault`",
            "agreement `AG-1` approves the setting `vault`",
        ]
    ]


def test_a_purpose_that_a_rule_asks_for_is_declared_and_agreed(policy: PolicySet) -> None:
    """A purpose outside the agreement takes both, where none within it would do."""
    snapshot = tiny.snapshot(
        with_rules(
            policy,
            [
                {
                    "uid": "statistics-only",
                    "why": "For tests.",
                    "effect": "allow",
                    "grant": "release",
                    "rules": {"context": {"$.purpose": {"condition": "Equals", "value": "statistics"}}},
                }
            ],
        )
        or policy,
        agreement(purposes=frozenset({"research"})),
    )

    assert texts(search(snapshot, ask("Pupil.Fsm"))) == [
        [
            "agreement `AG-1` names the purpose `statistics`",
            "the question declares the purpose `statistics` instead of `academic`",
        ]
    ]


@pytest.mark.parametrize(
    ("part", "condition", "want"),
    [
        ("subject", {"$.roles": {"condition": "AnyIn", "values": ["linker"]}}, "has the role `linker`"),
        ("action", {"$.action": {"condition": "Equals", "value": "count"}}, "for the action `count`"),
        (
            "context",
            {"$.agreement.basis": {"condition": "Equals", "value": "art-6-1-e"}},
            "states basis `art-6-1-e`",
        ),
        (
            "context",
            {"$.agreement.article9": {"condition": "IsIn", "values": ["art-9-2-g"]}},
            "states the Article 9 condition `art-9-2-g`",
        ),
        (
            "subject",
            {"$.accreditation.scheme": {"condition": "Equals", "value": "scheme-2"}},
            "relies on the accreditation scheme `scheme-2`",
        ),
    ],
)
def test_what_a_rule_that_could_allow_reads_is_changed_to_what_it_names(
    policy: PolicySet, part: str, condition: dict[str, Any], want: str
) -> None:
    """Role, action, basis, Article 9 condition and scheme come from the rule's own condition."""
    rule = {"uid": "one", "why": "x", "effect": "allow", "grant": "release", "rules": {part: condition}}
    changed = with_rules(policy, [rule])
    assert changed is not None

    found = search(tiny.snapshot(changed), ask("Pupil.Fsm"))

    assert found.search is Search.ALL
    assert [len(each) for each in texts(found)] == [1]
    assert want in texts(found)[0][0]


GATEWAYS = [f"agreement `AG-1` rests on the gateway `{name}`" for name in ("OPEN-1", "PAST-1")]
STRICT: dict[str, tuple[str, list[Any], dict[str, Any], list[str]]] = {
    "a field identifies": ("Pupil.Upn", [], {}, GATEWAYS),
    "no Article 9 condition": (
        "Pupil.Ethnicity",
        [agreement(gateway="STRICT-1", article9="none")],
        {},
        [
            *(f"agreement `AG-1` states the Article 9 condition `art-9-2-{each}`" for each in "abcdefghij"),
            *GATEWAYS,
        ],
    ),
    "no accredited person": (
        "Pupil.Fsm",
        [accreditation(until_at=PAST)],
        {},
        ["requester `researcher-1` holds a valid accreditation under scheme `scheme-1`, level `full`"],
    ),
    "an accreditation under another scheme": (
        "Pupil.Fsm",
        [accreditation(scheme="scheme-2")],
        {},
        [
            "requester `researcher-1` holds a valid accreditation under scheme `scheme-1`, level `full`",
            "agreement `AG-1` relies on the accreditation scheme `scheme-2`",
        ],
    ),
    "no accredited setting": (
        "Pupil.Fsm",
        [data_service(setting="open"), agreement(gateway="STRICT-1", setting="open")],
        {},
        GATEWAYS,
    ),
    "another kind of organisation": ("Pupil.Fsm", [organisation(kind="charity")], {}, GATEWAYS),
    "a decision about one pupil": (
        "Pupil.Fsm",
        [],
        {"purposes": ("exclusion-review",)},
        ["the question declares the purpose `statistics` instead of `exclusion-review`"]
        + [
            f"the question declares the purpose `{name}` instead of `exclusion-review`"
            for name in ("academic", "industry", "research")
        ],
    ),
}


@pytest.mark.parametrize("case", STRICT)
def test_each_precondition_of_a_gateway_has_its_repairs(policy: PolicySet, case: str) -> None:
    """What the gateway asks for, or another gateway that is in force and does not ask for it."""
    name, entries, claims, want = STRICT[case]
    if not any(getattr(each, "gateway", "") for each in entries):
        entries = [*entries, agreement(gateway="STRICT-1")]

    found = search(tiny.snapshot(policy, *entries), ask(name, **claims))

    assert found.search is Search.ALL
    assert sorted(texts(found)) == sorted([each] for each in want)


WIDE = {"uid": "wide", "why": "x", "effect": "allow", "grant": "release", "rules": {}}
ACTIONS = [[f"the question is for the action `{each}`"] for each in ("count", "link", "match", "verify")]


@pytest.mark.parametrize(
    ("rule", "want"),
    [
        ({"grant": "suppress", "targets": {"action_id": "release"}}, ACTIONS),
        ({"obligations": {"rows": {"years": [2016, 2019]}}}, [["2016/17, 2019/20"]]),
        (
            {"obligations": {"setting": "vault"}, "where": {"subject": {"$.accreditation.until": LATER}}},
            [["runs in the setting `vault`", "approves the setting `vault`"]],
        ),
    ],
    ids=["suppressed", "no year is left", "another setting"],
)
def test_grants_that_leave_nothing_together_are_changed_in_what_they_read(
    policy: PolicySet, rule: dict[str, Any], want: list[list[str]]
) -> None:
    """A rule that suppresses, obliges to other years, or to another setting than the data service's."""
    changed = with_rules(policy, [{**WIDE, **rule, "uid": "narrow"}, WIDE])
    assert changed is not None

    found = search(tiny.snapshot(changed), ask("Pupil.Fsm"))

    assert found.search is Search.ALL
    for have, parts in zip(texts(found), want, strict=True):
        assert all(part in text for part, text in zip(parts, have, strict=True)), have


def test_a_rule_tied_to_a_role_is_mended_by_the_role(policy: PolicySet) -> None:
    """What ties a field to the requester can be true for another value of what the requester has."""
    tied = {**WIDE, "where": {"resource": {"$.table": {"condition": "MemberOf", "attribute": "$.roles"}}}}
    named = {
        **WIDE,
        "uid": "named",
        "effect": "deny",
        "rules": {"subject": {"$.roles": {"condition": "AllIn", "values": ["Pupil", "x"]}}},
    }
    del named["grant"]
    changed = with_rules(policy, [tied, named])
    assert changed is not None

    found = search(tiny.snapshot(changed), ask("Pupil.Fsm"))

    assert texts(found) == [["requester `researcher-1` has the role `Pupil`"]]


def test_a_denial_tied_to_a_role_is_not_mended_by_more_roles(policy: PolicySet) -> None:
    """Roles are only ever given, so what one of them forbids is not allowed again by three changes."""
    tied = {
        "uid": "tied",
        "why": "x",
        "effect": "deny",
        "rules": {},
        "where": {"resource": {"$.table": {"condition": "MemberOf", "attribute": "$.roles"}}},
    }
    changed = with_rules(policy, [WIDE, tied])
    assert changed is not None

    found = search(tiny.snapshot(changed, requester(roles=frozenset({"Pupil"}))), ask("Pupil.Fsm"))

    assert (found.search, found.sets) == (Search.LARGER, ())


def test_a_column_of_another_year_is_mended_by_the_agreement_alone(policy: PolicySet) -> None:
    """Its year is in its name, so that stating another one changes nothing."""
    assert texts(search(tiny.snapshot(policy), ask("Pupil.Dob_SPR25"))) == [
        ["agreement `AG-1` covers 2024/25"]
    ]


def test_a_role_that_the_requester_has_is_not_offered(policy: PolicySet) -> None:
    """Of the roles that rules name, only those that are lacking."""
    rules = [
        {**WIDE, "uid": role, "rules": {"subject": {"$.roles": {"condition": "AnyIn", "values": [role]}}}}
        for role in ("linker", "reader")
    ]
    rules[0]["targets"] = {"action_id": "link"}
    changed = with_rules(policy, rules)
    assert changed is not None

    found = search(tiny.snapshot(changed, requester(roles=frozenset({"linker"}))), ask("Pupil.Fsm"))

    assert [
        "requester `researcher-1` has the role `reader`",
    ] in texts(found)
    assert not [text for each in texts(found) for text in each if "has the role `linker`" in text]


def test_a_suppression_beside_a_tied_permission_is_mended_by_another_action(policy: PolicySet) -> None:
    """All that the rules that allow can read is tried, and what is withheld for other reasons is let be."""
    tied = {**WIDE, "where": {"resource": {"$.table": {"condition": "MemberOf", "attribute": "$.roles"}}}}
    narrow = {**WIDE, "uid": "narrow", "grant": "suppress", "targets": {"action_id": "release"}}
    changed = with_rules(policy, [tied, narrow])
    assert changed is not None
    snapshot = tiny.snapshot(changed, requester(roles=frozenset({"Pupil"})))

    found = counterfactuals(snapshot, ask("Pupil.Fsm", "Pupil.Nationality"), NOW, more=always)

    assert [each.search for each in found] == [Search.ALL, Search.NOTHING]
    assert texts(found[0]) == ACTIONS


def test_a_provisional_accreditation_is_offered_with_somebody_to_supervise(policy: PolicySet) -> None:
    """Only where a rule can tell the levels apart, and a colleague is fully accredited."""
    rule = {
        "uid": "novices",
        "why": "x",
        "effect": "allow",
        "grant": "release",
        "rules": {"subject": {"$.accreditation.level": {"condition": "Equals", "value": "provisional"}}},
    }
    changed = with_rules(policy, [rule])
    assert changed is not None
    alone = tiny.snapshot(changed)
    colleague = requester("researcher-2"), accreditation("ACC-2", requester="researcher-2")

    assert search(alone, ask("Pupil.Fsm")).search is Search.NOTHING
    assert texts(search(tiny.snapshot(changed, *colleague), ask("Pupil.Fsm"))) == [
        [
            "requester `researcher-1` holds a valid accreditation under scheme `scheme-1`, "
            "level `provisional` and supervisor `researcher-2`"
        ]
    ]
    (made,) = search(tiny.snapshot(changed, *colleague), ask("Pupil.Fsm")).sets[0]
    assert getattr(made, "level", None) is AccreditationLevel.PROVISIONAL


@pytest.mark.parametrize(
    ("entries", "request_"),
    [
        ([], ask("Pupil.Fsm", service="svc-9")),
        ([], ask("Pupil.Fsm", who="nobody")),
        ([], ask("Pupil.NoSuch")),
        ([], ask("Pupil.*")),
        ([], ask("Pupil.Fsm", "Pupil.*")),
        ([], ask("Pupil.Nationality")),
        ([], ask("Pupil.Secret")),
        ([], ask("Pupil.Fsm", used_fields=("Pupil.Nationality",))),
        ([requester(organisation="gone")], ask("Pupil.Fsm")),
        ([data_service(organisation="gone")], ask("Pupil.Fsm")),
    ],
    ids=[
        "data service unknown",
        "requester unknown",
        "field unknown",
        "wildcard",
        "wildcard beside a field",
        "field withdrawn",
        "level A",
        "used field withdrawn",
        "organisation unknown",
        "operator unknown",
    ],
)
def test_what_nobody_may_change_has_no_counterfactual(
    policy: PolicySet, entries: list[Any], request_: Request
) -> None:
    """Who asks, what is supplied and what never leaves the department are not for anybody to change."""
    for found in counterfactuals(tiny.snapshot(policy, *entries), request_, NOW, more=always):
        assert (found.search, found.sets) == (Search.NOTHING, ())


def test_names_beyond_repair_come_apart_from_the_others(policy: PolicySet) -> None:
    """A question refused as a whole is one group; the withdrawn field in it does not hide what would help."""
    snapshot = tiny.snapshot(policy, agreement(status=SUSPENDED))

    found = counterfactuals(snapshot, ask("Pupil.Fsm", "Pupil.Nationality", "Pupil.Odd"), NOW, more=always)

    assert [(each.group, each.names, each.search) for each in found] == [
        (0, ("Pupil.Fsm",), Search.ALL),
        (0, ("Pupil.Nationality", "Pupil.Odd"), Search.NOTHING),
    ]


def test_a_used_field_that_is_withheld_is_what_has_to_be_released(policy: PolicySet) -> None:
    """The others are withheld for its sake, so what releases it releases them."""
    snapshot = tiny.snapshot(policy, agreement(fields=EVERYTHING - {"Pupil.Score"}))

    found = counterfactuals(snapshot, ask("Pupil.Fsm", used_fields=("Pupil.Score",)), NOW, more=always)

    assert [texts(each) for each in found] == [[["agreement `AG-1` names the field `Pupil.Score`"]]] * 2


def test_more_than_three_changes_are_not_searched(policy: PolicySet) -> None:
    """Four things amiss are said to take more than three changes, not that nothing would do."""
    snapshot = tiny.snapshot(
        policy,
        requester(status=SUSPENDED),
        organisation(status=SUSPENDED),
        data_service(status=SUSPENDED),
        agreement(status=SUSPENDED),
    )

    assert search(snapshot, ask("Pupil.Fsm")).search is Search.LARGER


def test_a_budget_that_runs_out_is_said_and_what_is_given_still_holds(policy: PolicySet) -> None:
    """After any number of judgements: nothing yet, some, or all; never a set that the full answer lacks."""
    snapshot, request = tiny.snapshot(policy, agreement(setting="vault")), ask("Pupil.Name")
    needed = 0

    def counted() -> bool:
        nonlocal needed
        needed += 1
        return True

    (whole,) = counterfactuals(snapshot, request, NOW, more=counted)
    seen = []
    for count in range(needed + 1):
        (found,) = counterfactuals(snapshot, request, NOW, more=budget(count))
        assert set(found.sets) <= set(whole.sets)
        assert found.search in ((Search.SOME, Search.ALL) if found.sets else (Search.STOPPED,))
        seen.append(found.search)
    assert (seen[0], seen[-1]) == (Search.STOPPED, Search.ALL)
    assert Search.ALL not in seen[:-1]


def test_a_set_whose_parts_could_not_be_tried_is_not_given(policy: PolicySet) -> None:
    """One judgement short of knowing that no part of the set does, there is no set."""
    snapshot, request = tiny.snapshot(policy), ask("Pupil.Name")
    calls = [budget(count) for count in range(40)]

    found = [counterfactuals(snapshot, request, NOW, more=each)[0] for each in calls]

    first = next(number for number, each in enumerate(found) if each.sets)
    assert found[first].sets == found[-1].sets
    assert all(each.search is Search.STOPPED for each in found[:first])


def test_of_a_set_that_holds_too_much_the_smallest_part_is_taken(policy: PolicySet) -> None:
    """Should the search ever come upon more than is needed, no part of what it gives does it all the same."""
    snapshot, request = tiny.snapshot(policy, agreement(status=SUSPENDED)), ask("Pupil.Fsm")
    bench = module._Bench(snapshot, request, NOW, always)
    goal = module._Goal(0, ("Pupil.Fsm",), wanted(bench.start, ("Pupil.Fsm",)))
    needed, idle = Reinstated("agreement", "AG-1"), RoleGiven("researcher-1", "linker")

    assert module._least(bench, goal, frozenset({needed, idle})) == {needed}
    assert module._least(bench, goal, frozenset({needed})) == {needed}


def test_it_is_the_same_every_time_and_asks_for_each_judgement(policy: PolicySet) -> None:
    """No clock, no chance: equal results, and as many calls of ``more`` as sets were judged."""
    snapshot, request = tiny.snapshot(policy, agreement(setting="vault")), ask("Pupil.Name", "Pupil.Fsm")
    calls: list[int] = []

    def counted() -> bool:
        calls.append(1)
        return True

    first = counterfactuals(snapshot, request, NOW, more=counted)
    many = len(calls)

    assert first == counterfactuals(snapshot, request, NOW, more=counted)
    assert len(calls) == 2 * many > 0


def test_a_reason_without_repairs_is_an_error_and_never_nothing(policy: PolicySet) -> None:
    """A gate over fields that this search does not know must not come out as "nothing would release it"."""
    snapshot, request = tiny.snapshot(policy), ask("Pupil.Fsm")
    seen = examine(snapshot, request, now=NOW)
    unknown = Screen(-1, Reason.YEAR_MISSING, "new-gate")
    seen = replace(seen, trials=[replace(seen.trials[0], screens=[unknown])])
    facts = Facts(tiny.registry(), request.claimed)
    state = State(facts, snapshot, seen, decide(snapshot, request, NOW), NOW, Vocabulary(policy))

    with pytest.raises(AssertionError, match="no repairs are known for YEAR_MISSING"):
        list(repairs(state, wanted(state, ("Pupil.Fsm",))))


def test_nothing_is_searched_where_nothing_is_withheld(policy: PolicySet) -> None:
    """A release needs no change."""
    assert counterfactuals(tiny.snapshot(policy), ask("Pupil.Fsm"), NOW, more=always) == ()


def test_a_slice_of_the_registry_decides_as_the_whole_does(policy: PolicySet) -> None:
    """The entries that are taken are enough: the same decision, with supervisors among them."""
    snapshot = tiny.snapshot(
        policy,
        accreditation(level=AccreditationLevel.PROVISIONAL, supervisor="researcher-2"),
        requester("researcher-2"),
        requester("researcher-3"),
        accreditation("ACC-2", requester="researcher-2"),
        agreement("AG-2"),
    )
    request = ask("Pupil.Fsm", "Pupil.Score", "Pupil.Name")

    slice_ = relevant(snapshot, request, now=NOW, provisional=False)

    assert sorted(slice_.requesters) == ["researcher-1", "researcher-2"]
    assert list(slice_.agreements) == ["AG-1"]
    small = build_snapshot(policy, slice_, epoch=7)
    assert decide(small, request, NOW) == decide(snapshot, request, NOW)
