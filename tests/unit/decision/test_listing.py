"""Listings: what could be had, no more than Check would give, and nothing said of the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import NOW, agreement, ask, spell

from policyd.decision.cache import Decider
from policyd.decision.decide import decide
from policyd.decision.listing import list_fields
from policyd.decision.snapshot import Snapshot
from policyd.model import Action, ColumnSet, Effect, Obligations, Outcome, Status
from policyd.policy.policyset import PolicySet
from policyd.reasons import Reason

PURPOSES = ("academic", "industry", "statistics", "marketing", "exclusion-review", "nonsense")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def snapshot(policy: PolicySet) -> Snapshot:
    return tiny.snapshot(policy, agreement(purposes=frozenset({"any"})))


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_listing_is_what_check_does_not_withhold(snapshot: Snapshot, purpose: str, action: Action) -> None:
    """Asking for the whole catalogue by name gives the same verdicts on the same fields."""
    everything = ask(*snapshot.policy.index.ids, purposes=(purpose,), action=action)
    nothing = ask(purposes=(purpose,), action=action)

    listing = list_fields(snapshot, nothing, NOW)
    checked = spell(decide(snapshot, everything, NOW))

    want = {name: verdict for name, verdict in checked.items() if not verdict.startswith("withhold")}
    assert spell(listing) == want
    assert (listing.outcome is Outcome.WITHHOLD) == (not want)


def test_two_purposes_list_what_both_permit(snapshot: Snapshot) -> None:
    """As in a decision, each field has its most protective verdict."""
    purposes = ("academic", "statistics")

    listing = list_fields(snapshot, ask(purposes=purposes), NOW)

    checked = spell(decide(snapshot, ask(*snapshot.policy.index.ids, purposes=purposes), NOW))
    assert spell(listing) == {n: v for n, v in checked.items() if not v.startswith("withhold")}


def test_one_table_ignores_case_and_an_unknown_one_lists_nothing(snapshot: Snapshot) -> None:
    """The table narrows the listing and the outcome with it."""
    school = list_fields(snapshot, ask(), NOW, table="sChool")

    assert set(spell(school)) == {"School.Size", "School.Laestab"}
    assert school.outcome is Outcome.RELEASE
    nowhere = list_fields(snapshot, ask(), NOW, table="Nowhere")
    assert (nowhere.outcome, nowhere.groups) == (Outcome.WITHHOLD, ())


@pytest.mark.parametrize(("table", "other"), [("School", "Pupil"), ("Pupil", "School")])
def test_fields_of_no_year_are_not_listed(table: str, other: str, policy: PolicySet) -> None:
    """A field of the agreement whose table has no year in it could never be had."""
    snapshot = tiny.snapshot(policy, agreement(table_years=((table, frozenset()),)))

    assert {name.split(".")[0] for name in spell(list_fields(snapshot, ask(), NOW))} == {other}


def test_fields_of_different_years_are_listed_together(policy: PolicySet) -> None:
    """What could be had in some year is listed, though in no year all of it."""
    years = (("School", frozenset({2016})), ("Pupil", frozenset({2018})))

    listing = list_fields(tiny.snapshot(policy, agreement(table_years=years)), ask(), NOW)

    assert spell(listing) == spell(list_fields(tiny.snapshot(policy), ask(), NOW))


def test_a_listing_is_about_all_that_it_lists(policy: PolicySet) -> None:
    """Groups stand in the order of their first fields, and the classes are those of all groups."""
    listing = list_fields(tiny.snapshot(policy), ask(), NOW)

    assert [group.names[0] for group in listing.groups] == ["Pupil.Care", "Pupil.Dob", "Pupil.Ref"]
    assert listing.groups[0].names[-1].startswith("School.")  # so by first field, and not by last
    for group in listing.groups:
        assert group.released == (ColumnSet("", 0, policy.index.mask(group.names)[0]),)
    assert (listing.identification_risk, listing.sensitivity) == (2, "BCDE")


def test_fields_that_more_rules_grant_are_listed_with_the_others(tmp_path: Path) -> None:
    """Where a second rule gives no more than the first, the verdict is one and the group is one."""
    more = (
        "- {uid: z90, why: x, effect: allow, targets: {resource_id: School.*}, rules: {}, grant: release}\n"
    )
    policy = load_tiny(tmp_path, rules=more)
    snapshot = tiny.snapshot(policy)

    first = list_fields(snapshot, ask(), NOW).groups[0]

    assert first.rule == "a10-research"
    assert {"Pupil.Fsm", "School.Size"} <= set(first.names)


def test_a_refused_question_says_why_and_lists_nothing(policy: PolicySet) -> None:
    """One group without names carries the reason that Check would give."""
    suspended = tiny.snapshot(policy, agreement(status=Status.SUSPENDED))
    cases = [
        (tiny.snapshot(policy), ask(agreement="AG-9"), Reason.AGREEMENT_UNKNOWN),
        (suspended, ask(), Reason.AGREEMENT_SUSPENDED),
        (tiny.snapshot(policy), ask(purposes=()), Reason.PURPOSE_MISSING),
    ]
    for snapshot, request, reason in cases:
        listing = list_fields(snapshot, request, NOW)
        (group,) = listing.groups
        assert (group.effect, group.reason, group.names) == (Effect.WITHHOLD, reason, ())
        assert (listing.outcome, listing.obligations.exclude_sealed_epoch) == (Outcome.WITHHOLD, None)


def test_obligations_that_nobody_could_meet_list_nothing(policy: PolicySet) -> None:
    """The listed fields together owe what no data service could do; then none of them is promised."""
    wide = [
        replace(rule, duties=replace(rule.duties, fixed=Obligations(round_to=2**20 - number)))
        if rule.uid in ("a10-research", "a30-dob-by-month")
        else rule
        for number, rule in enumerate(policy.rules)
    ]
    snapshot = tiny.snapshot(replace(policy, rules=tuple(wide)))

    listing = list_fields(snapshot, ask(), NOW)

    assert [group.reason for group in listing.groups] == [Reason.OBLIGATION_CONFLICT]
    assert listing.outcome is Outcome.WITHHOLD


def test_the_cache_lists_the_same(snapshot: Snapshot) -> None:
    """A listing before and after the entitlement is kept equals one without a cache."""
    decider = Decider(snapshot)
    for _ in range(2):
        assert decider.list_fields(ask(), NOW, table="Pupil") == list_fields(
            snapshot, ask(), NOW, table="Pupil"
        )
