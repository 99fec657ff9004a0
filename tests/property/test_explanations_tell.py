"""Explanations over random rules and over the cases of the shipped policy set: they tell what decided."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny_registry as tiny
from support.tiny_registry import NOW
from support.tiny_rules import Document, rule_sets
from test_decision_rules import PURPOSES, World, base, seen, worlds

from policyd.canonical import answer_digest
from policyd.decision.decide import decide
from policyd.decision.explain import Explanation, explain
from policyd.decision.snapshot import Snapshot, build_snapshot
from policyd.model import Decision, Request
from policyd.policy.load import load_policy_set
from policyd.policytest.cases import read_case_files
from policyd.policytest.run import request_of
from policyd.reasons import Reason

NPD = Path(__file__).parents[2] / "policies/npd"


def digest(decision: Decision) -> bytes:
    return answer_digest(decision, request_id="q", decision_id="0" * 26, valid_for_ms=1)


def check(snapshot: Snapshot, request: Request, now: int) -> Explanation:
    """Hold what is true of every explanation, and return it."""
    explanation = explain(snapshot, request, now)
    decision = decide(snapshot, request, now)
    assert explanation.decision == decision
    assert digest(explanation.decision) == digest(decision)
    assert [each.group for each in explanation.groups] == list(decision.groups)
    for each in explanation.groups:
        failing = [c for c in (*explanation.question, *each.checks) if c.reason is not Reason.NONE]
        if each.group.reason is Reason.NONE:
            assert failing == []
            assert any(c.check == each.group.rule for c in each.checks)
        else:
            first = failing[0]
            assert (first.reason, first.check) == (each.group.reason, each.group.rule)
    return explanation


@settings(max_examples=300)
@given(
    rule_sets,
    worlds,
    st.lists(st.sampled_from((*PURPOSES, "marketing")), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from([2014, 2018, 2019]), max_size=2, unique=True),
    st.booleans(),
)
def test_the_first_check_that_fails_is_what_decided(
    rules: list[Document], world: World, purposes: list[str], years: list[int], split: bool
) -> None:
    """For every group, reason and rule are those of its first failing check, and the decision is the same."""
    names = [*sorted(tiny.EVERYTHING), "Pupil.Ethnicity_SPR19", "Pupil.Dob_SPR12", "Pupil.NoSuch"]
    fields, used = (names[::2], names[1:2]) if split else (names, [])
    request = tiny.ask(
        *fields, used_fields=tuple(used), purposes=tuple(purposes), action=world.action, years=tuple(years)
    )

    check(seen(rules, world), request, NOW)


def test_every_case_of_the_shipped_policy_set_is_explained() -> None:
    """The test cases in policies/npd reach most reasons; each explanation names what decided."""
    policy = load_policy_set(NPD)
    reached: set[Reason] = set()
    for file in read_case_files(NPD):
        snapshot = build_snapshot(policy, file.registry, epoch=1)
        for case in file.cases:
            explanation = check(snapshot, request_of(snapshot, case), case.now)
            reached |= {group.reason for group in explanation.decision.groups}
    assert len(reached) > 12


def test_a_world_with_every_kind_of_refusal_is_explained() -> None:
    """Refusals of the whole question have no checks on fields."""
    snapshot = tiny.snapshot(base())
    for request in (
        tiny.ask("Pupil.Fsm", who="nobody"),
        tiny.ask("Pupil.Fsm", service="svc-9"),
        tiny.ask("Pupil.Fsm", agreement="AG-9"),
        tiny.ask("Pupil.Fsm", purposes=()),
        tiny.ask("Pupil.Fsm", purposes=("marketing", "nonsense", "commercial")),
        tiny.ask("Pupil.*"),
    ):
        explanation = check(snapshot, request, NOW)
        assert all(each.checks == () for each in explanation.groups)
        assert any(each.reason is not Reason.NONE for each in explanation.question)
