"""The search for counterfactuals, step by step: what is tried, what is not, and what its end means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import EVERYTHING, NOW, agreement, ask, organisation, requester

from policyd.decision.change import AgreementCited, Change, Reinstated, RoleGiven
from policyd.decision.counterfactual import (
    MAX_SETS,
    Search,
    _Bench,
    _choices,
    _Goal,
    _result,
    _widen,
    counterfactuals,
)
from policyd.decision.repair import wanted
from policyd.model import Request, Status
from policyd.policy.policyset import PolicySet

A, B, C, D = (RoleGiven("researcher-1", name) for name in "abcd")
SUSPENDED = Status.SUSPENDED


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


def counted(answer: Callable[[int], bool] = lambda _: True) -> tuple[Callable[[], bool], list[int]]:
    """Return a budget, and the list in which its calls are noted."""
    calls: list[int] = []

    def more() -> bool:
        calls.append(len(calls))
        return answer(len(calls))

    return more, calls


def begin(policy: PolicySet, *entries: Any, request: Request) -> tuple[_Bench, _Goal]:
    bench = _Bench(tiny.snapshot(policy, *entries), request, NOW, lambda: True)
    return bench, _Goal(0, request.claimed.fields, wanted(bench.start, request.claimed.fields))


FOUR_APART = (
    agreement(gateway="STRICT-1", fields=EVERYTHING - {"Pupil.Upn"}),
    ask("Pupil.Upn", purposes=("industry",), years=(2018, 2021)),
)
"""A gateway, a field, a year and a purpose are amiss: no change mends two of them."""


@pytest.mark.parametrize(
    ("checks", "left", "want"),
    [
        ([], 2, ()),
        ([(A, B), ()], 2, ()),
        ([(A, B), (B, C), (D, B)], 1, (B,)),
        ([(A, B, C), (C, B)], 1, (C, B)),
        ([(A,), (B,)], 1, ()),
        ([(A, B), (C,)], 2, (C,)),
        ([(A,), (B,), (C,)], 2, ()),
        ([(A,), (B,), (C,)], 3, (A,)),
        ([(A, B), (B,), (B, C)], 2, (B,)),
        ([(A, B), (A, C), (B, D)], 2, (A, B)),
    ],
)
def test_what_is_tried_is_what_one_failing_check_needs(
    checks: list[tuple[Change, ...]], left: int, want: tuple[Change, ...]
) -> None:
    """The check with the fewest repairs; nothing where more checks are apart than changes are left."""
    assert _choices(checks, left=left) == want


def test_three_changes_are_found_together(policy: PolicySet) -> None:
    """As many as are searched for: each of them is needed."""
    snapshot = tiny.snapshot(
        policy, requester(status=SUSPENDED), organisation(status=SUSPENDED), agreement(status=SUSPENDED)
    )

    (found,) = counterfactuals(snapshot, ask("Pupil.Fsm"), NOW, more=lambda: True)

    assert found.search is Search.ALL
    assert found.sets == (
        (
            Reinstated("agreement", "AG-1"),
            Reinstated("organisation", "uni"),
            Reinstated("requester", "researcher-1"),
        ),
    )


def test_nothing_is_judged_where_more_is_amiss_than_changes_are_made(policy: PolicySet) -> None:
    """Four checks without a common repair take four changes, which is known without trying any."""
    more, calls = counted()

    (found,) = counterfactuals(tiny.snapshot(policy, FOUR_APART[0]), FOUR_APART[1], NOW, more=more)

    assert (found.search, found.sets, calls) == (Search.LARGER, (), [])


def test_a_search_that_was_stopped_is_not_taken_up_again(policy: PolicySet) -> None:
    """Also where there would be time again: what comes after would not be all of the smallest size."""
    more, calls = counted(lambda call: call != 2)
    snapshot = tiny.snapshot(policy, agreement(purposes=frozenset({"statistics"})))

    (found,) = counterfactuals(snapshot, ask("Pupil.Fsm", purposes=()), NOW, more=more)

    assert (found.search, found.sets, len(calls)) == (Search.STOPPED, (), 2)


@pytest.mark.parametrize(
    ("entries", "request_"),
    [
        ([agreement(fields=EVERYTHING - {"Pupil.Nationality"})], ask("Pupil.Nationality")),
        ([agreement(status=SUSPENDED)], ask("Pupil.Nationality")),
    ],
    ids=["beside a check that could be mended", "after one"],
)
def test_what_cannot_be_mended_is_nothing_and_not_larger(
    entries: list[Any], request_: Request, policy: PolicySet
) -> None:
    """More changes would not help, whatever else is amiss."""
    (found,) = counterfactuals(tiny.snapshot(policy, *entries), request_, NOW, more=lambda: True)

    assert (found.search, found.sets) == (Search.NOTHING, ())


def test_changes_that_contradict_each_other_are_not_tried_together(policy: PolicySet) -> None:
    """One question is not asked under two agreements."""
    bench, goal = begin(policy, agreement(status=SUSPENDED), request=ask("Pupil.Fsm"))
    goal.edge = [frozenset({AgreementCited("AG-9")})]

    _widen(bench, goal, size=2)

    assert (goal.edge, goal.found, goal.larger) == ([], set(), False)


def test_a_set_that_is_come_upon_twice_is_tried_once(policy: PolicySet) -> None:
    """Whichever of its changes came first."""
    entries = agreement(status=SUSPENDED, setting="vault"), requester(status=SUSPENDED)
    bench, goal = begin(policy, *entries, request=ask("Pupil.Fsm"))
    ours, theirs = Reinstated("agreement", "AG-1"), Reinstated("requester", "researcher-1")
    goal.edge = [frozenset({ours}), frozenset({theirs})]

    _widen(bench, goal, size=2)

    assert goal.edge == [frozenset({ours, theirs})]


def test_that_larger_sets_may_do_is_not_forgotten(policy: PolicySet) -> None:
    """One branch that would go on beyond the last size is enough."""
    bench, goal = begin(policy, FOUR_APART[0], request=FOUR_APART[1])
    goal.edge = [frozenset(), frozenset({AgreementCited("AG-9")})]

    _widen(bench, goal, size=1)

    assert goal.larger


def sets(count: int, *, size: int = 1) -> set[frozenset[Change]]:
    """Return sets of changes, each with one of its own."""
    shared = [RoleGiven("researcher-1", f"z{number}") for number in range(size - 1)]
    return {frozenset({RoleGiven("researcher-1", f"r{number:02}"), *shared}) for number in range(count)}


@pytest.mark.parametrize(
    ("found", "state", "search", "given"),
    [
        (sets(MAX_SETS), {}, Search.ALL, MAX_SETS),
        (sets(MAX_SETS + 1), {}, Search.SOME, MAX_SETS),
        (sets(2), {"stopped": True}, Search.SOME, 2),
        (sets(2) | sets(3, size=2), {}, Search.ALL, 2),
        (set(), {"stopped": True, "larger": True}, Search.STOPPED, 0),
        (set(), {"larger": True, "edge": []}, Search.LARGER, 0),
        (set(), {"edge": [frozenset({A})]}, Search.LARGER, 0),
        (set(), {"edge": []}, Search.NOTHING, 0),
    ],
)
def test_how_a_search_ended_says_what_its_sets_are(
    found: set[frozenset[Change]], state: dict[str, Any], search: Search, given: int, policy: PolicySet
) -> None:
    """Only the smallest are given, in order, and up to a number."""
    bench, goal = begin(policy, request=ask("Pupil.Fsm"))
    goal = _Goal(3, ("Pupil.Fsm",), wanted(bench.start, ("Pupil.Fsm",)), found=found, **state)

    result = _result(goal)

    assert (result.group, result.names, result.search) == (3, ("Pupil.Fsm",), search)
    smallest = [(RoleGiven("researcher-1", f"r{number:02}"),) for number in range(given)]
    assert list(result.sets) == smallest
