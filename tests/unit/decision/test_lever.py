"""Levers: which changes an attribute has, and what rules would see after each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import (
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

from policyd.decision.change import Accredited, Change, PurposeDeclared, Reinstated, RoleGiven, ServiceSetting
from policyd.decision.change_agreement import AgreementTerm
from policyd.decision.counterfactual import _Bench
from policyd.decision.lever import ATTRIBUTES, State, Vocabulary, find_supervisor, permits, pulls
from policyd.model import AccreditationLevel, Action, Status
from policyd.policy.policyset import PolicySet

FULL, PROVISIONAL = AccreditationLevel.FULL, AccreditationLevel.PROVISIONAL
FIVE_YEARS_MS, THREE_YEARS_MS = 157_680_000_000, 94_608_000_000
LAPSED = accreditation(until_at=at("2026-01-01"))
COLLEAGUE = (requester("researcher-2"), accreditation("ACC-2", requester="researcher-2"))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    """The tiny policy set, and a rule that names a word for much else."""
    tiny_set = load_tiny(tmp_path_factory.mktemp("tiny"))
    conditions = {
        "$.accreditation.scheme": {"condition": "Equals", "value": "scheme-2"},
        "$.accreditation.level": {"condition": "Equals", "value": "provisional"},
        "$.roles": {"condition": "AnyIn", "values": ["reader", "linker"]},
    }
    rule = {
        "uid": "one",
        "why": "x",
        "effect": "allow",
        "grant": "release",
        "rules": {
            "subject": conditions,
            "context": {
                "$.agreement.basis": {"condition": "IsIn", "values": ["art-6-1-e", "art-6-1-c"]},
                "$.agreement.compatibility": {"condition": "Equals", "value": "research"},
                "$.agreement.exemption": {"condition": "Equals", "value": "dpa-2-3"},
                "$.setting": {"condition": "Equals", "value": "annexe"},
            },
        },
    }
    found = with_rules(tiny_set, [rule])
    assert found is not None
    return found


def bench(policy: PolicySet, *entries: Any, **claims: Any) -> _Bench:
    return _Bench(tiny.snapshot(policy, *entries), ask("Pupil.Fsm", **claims), NOW, lambda: True)


def changes(state: State, attribute: str, *, mask: int = 0) -> list[Change]:
    return [change for change, _ in pulls(state, attribute, purpose="academic", mask=mask)]


@pytest.mark.parametrize("attribute", [*ATTRIBUTES, "purpose_within", "purpose_notice"])
def test_what_a_pull_promises_is_what_rules_then_see(attribute: str, policy: PolicySet) -> None:
    """The engine, given the facts after the change, works out the very values that were foretold."""
    tried = bench(policy, LAPSED, *COLLEAGUE, purposes=("academic",))

    pulled = list(pulls(tried.start, attribute, purpose="academic", mask=0))

    before = tried.start.seen.trials[0].values
    told = [(change, after) for change, after in pulled if after]
    assert told
    for change, after in told:
        state = tried.judge(frozenset({change}))
        assert state is not None
        values = state.seen.trials[0].values if state.seen.trials else None
        # A change may need another before the gates let it pass; then no rule sees anything.
        if values is not None:
            assert {name: values[name] for name in after} == after
            assert any(values[name] != before[name] for name in after)


@pytest.mark.parametrize(
    ("entries", "want"),
    [
        ((), {FULL: FIVE_YEARS_MS}),
        (COLLEAGUE, {FULL: FIVE_YEARS_MS, PROVISIONAL: THREE_YEARS_MS}),
    ],
    ids=["nobody could supervise", "a colleague could"],
)
def test_an_accreditation_is_proposed_from_now_for_its_longest_term(
    entries: tuple[Any, ...], want: dict[AccreditationLevel, int], policy: PolicySet
) -> None:
    """Five years in full, three provisionally, and who supervises is named for the provisional alone."""
    state = bench(policy, LAPSED, *entries).start

    found = [each for each in changes(state, "accreditation.status") if isinstance(each, Accredited)]

    assert {each.level: each.until_at - each.from_at for each in found} == want
    assert {each.from_at for each in found} == {NOW}
    assert {each.level: each.supervisor for each in found} == {
        level: "researcher-2" if level is PROVISIONAL else None for level in want
    }


def test_other_schemes_are_those_of_rules_and_those_that_the_requester_has(policy: PolicySet) -> None:
    """Sorted, without the agreement's own; with the status they come after new accreditations."""
    others = [accreditation(f"ACC-{name}", scheme=name) for name in ("scheme-9", "scheme-0")]
    state = bench(policy, *others).start
    want = [AgreementTerm("AG-1", "scheme", name) for name in ("scheme-0", "scheme-2", "scheme-9")]

    assert changes(state, "accreditation.scheme") == want
    assert changes(state, "accreditation.status")[-3:] == want


def test_a_suspended_accreditation_is_only_to_be_reinstated(policy: PolicySet) -> None:
    """While it is suspended, no other would count."""
    state = bench(policy, accreditation(status=Status.SUSPENDED)).start

    assert list(pulls(state, "accreditation.status", purpose="academic", mask=0)) == [
        (Reinstated("accreditation", "ACC-1"), {})
    ]


@pytest.mark.parametrize(
    "entries",
    [
        [COLLEAGUE[0]],
        [COLLEAGUE[1], replace(COLLEAGUE[0], status=Status.SUSPENDED)],
        [replace(each, organisation="dept") for each in COLLEAGUE],
        [COLLEAGUE[0], replace(COLLEAGUE[1], level=PROVISIONAL, supervisor="researcher-1")],
        [COLLEAGUE[0], replace(COLLEAGUE[1], until_at=NOW)],
        [COLLEAGUE[0], replace(COLLEAGUE[1], scheme="scheme-2")],
    ],
    ids=["not accredited", "suspended", "of another organisation", "provisional", "expired", "other scheme"],
)
def test_who_is_not_a_colleague_in_full_standing_cannot_supervise(
    entries: list[Any], policy: PolicySet
) -> None:
    """Nor can anybody supervise himself."""
    snapshot = tiny.snapshot(policy, *entries)

    assert find_supervisor(snapshot, snapshot.requesters_by_id["researcher-1"], tiny.SCHEME, now=NOW) is None


def test_the_first_colleague_by_id_is_named_to_supervise(policy: PolicySet) -> None:
    """Whatever the order of the registry."""
    third = (requester("researcher-3"), accreditation("ACC-3", requester="researcher-3"))
    snapshot = tiny.snapshot(policy, *third, *COLLEAGUE)

    found = find_supervisor(snapshot, snapshot.requesters_by_id["researcher-1"], tiny.SCHEME, now=NOW)

    assert found == "researcher-2"


def test_settings_are_those_of_rules_gateways_and_the_agreement(policy: PolicySet) -> None:
    """Sorted, without the one in which the data service runs."""
    state = bench(policy, data_service(setting="secure"), organisation()).start

    assert changes(state, "setting") == [ServiceSetting("svc-secure", name) for name in ("annexe", "vault")]


def test_roles_are_those_of_rules_that_the_requester_lacks(policy: PolicySet) -> None:
    """Each is had on top of the others."""
    state = bench(policy, requester(roles=frozenset({"linker", "researcher"}))).start

    assert list(pulls(state, "roles", purpose="academic", mask=0)) == [
        (RoleGiven("researcher-1", "reader"), {"roles": frozenset({"linker", "reader", "researcher"})})
    ]


def test_an_agreement_may_state_what_rules_name_and_it_does_not(policy: PolicySet) -> None:
    """Gateways that are in force; conditions of Article 9 by law where no rule names one."""
    state = bench(policy, agreement(basis="art-6-1-c", article9="art-9-2-a")).start

    def stated(attribute: str) -> list[str]:
        found = changes(state, attribute)
        assert all(isinstance(each, AgreementTerm) for each in found)
        return [each.terms.values[0] for each in found]

    assert "art-6-1-c" not in stated("agreement.basis")
    assert "art-6-1-e" in stated("agreement.basis")
    assert stated("gateway") == ["PAST-1", "STRICT-1"]
    assert stated("agreement.article9") == [f"art-9-2-{each}" for each in "bcdefghij"]


def test_words_of_a_term_are_those_of_rules_wherever_they_name_one(policy: PolicySet) -> None:
    """Then the law's list of conditions is of no use, and a term that no rule names has no words at all."""
    condition = {"$.agreement.article9": {"condition": "IsIn", "values": ["none", "art-9-2-g"]}}
    rule = {"uid": "r", "why": "x", "effect": "allow", "grant": "release", "rules": {"context": condition}}
    changed = with_rules(policy, [rule])
    assert changed is not None
    state = bench(changed).start

    assert changes(state, "agreement.article9") == [
        AgreementTerm("AG-1", "article9", name) for name in ("art-9-2-g", "none")
    ]
    assert changes(state, "agreement.compatibility") == []


def test_the_words_of_an_attribute_are_sorted_and_of_it_alone(policy: PolicySet) -> None:
    """What rules name, each once."""
    words = Vocabulary(policy)

    assert words.of("roles") == ("linker", "reader")
    assert words.of("accreditation.scheme") == ("scheme-2",)
    assert words.of("requester.id") == ()
    assert words.tell_provisional
    others = tuple(atom for atom in policy.atoms if atom.attribute.name != "accreditation.level")
    assert not Vocabulary(replace(policy, atoms=others)).tell_provisional


def test_actions_are_all_the_others(policy: PolicySet) -> None:
    """In the order of the list of actions."""
    state = bench(policy, action=Action.LINK).start

    have = list(pulls(state, "action", purpose="academic", mask=0))

    assert [after["action"] for _, after in have] == [
        each.value for each in Action if each is not Action.LINK
    ]


@pytest.mark.parametrize("declared", [("academic",), ("academic", "statistics")])
def test_other_purposes_may_be_declared_and_are_permitted_for_all_the_fields(
    declared: tuple[str, ...], policy: PolicySet
) -> None:
    """One of several can also be left out; what that lets rules see, only the engine can tell."""
    state = bench(policy, purposes=declared).start
    school, _ = policy.index.mask(["School.Size"])
    care, _ = policy.index.mask(["Pupil.Care"])

    have = list(pulls(state, "purpose", purpose="academic", mask=school | care))

    left_out = [(PurposeDeclared("", "academic"), {})] if len(declared) > 1 else []
    assert have[: len(left_out)] == left_out
    offered = [change.terms.values[0] for change, _ in have[len(left_out) :]]
    assert offered == [each for each in ("statistics",) if each not in declared]


def test_a_purpose_is_permitted_where_it_is_for_every_field(policy: PolicySet) -> None:
    """In full or on conditions; one field for which it is not is enough."""
    school, _ = policy.index.mask(["School.Size"])
    fsm, _ = policy.index.mask(["Pupil.Fsm"])

    assert permits(policy, "statistics", school | fsm)
    assert permits(policy, "industry", fsm)
    assert not permits(policy, "marketing", fsm)
    assert not permits(policy, "individual-decision", school | fsm)
