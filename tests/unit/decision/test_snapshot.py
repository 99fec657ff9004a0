"""Agreements are compiled against one policy set; what it does not know is kept apart and reported."""

from __future__ import annotations

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import agreement

from policyd.policy.policyset import PolicySet


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


def test_an_agreement_is_its_fields_year_by_year(policy: PolicySet) -> None:
    """A table that states years has those, every other the years of the agreement, and no other field."""
    compiled = tiny.snapshot(
        policy,
        agreement(
            fields=frozenset({"Pupil.Fsm", "Pupil.Score", "School.Size"}),
            years=frozenset({2017, 2018}),
            table_years=(("sChool", frozenset({2018, 2019})),),
        ),
    ).agreements["AG-1"]

    assert policy.index.names(compiled.fields) == ("Pupil.Fsm", "Pupil.Score", "School.Size")
    assert {year: policy.index.names(mask) for year, mask in compiled.by_year.items()} == {
        2017: ("Pupil.Fsm", "Pupil.Score"),
        2018: ("Pupil.Fsm", "Pupil.Score", "School.Size"),
        2019: ("School.Size",),
    }
    assert (compiled.unknown_fields, compiled.unknown_purposes) == ((), ())


def test_the_purposes_of_an_agreement_are_closed(policy: PolicySet) -> None:
    """Every purpose at or below one that it names, and none above."""
    compiled = tiny.snapshot(policy, agreement(purposes=frozenset({"individual-decision"}))).agreements[
        "AG-1"
    ]

    assert set(policy.graph.names(compiled.purposes)) == {"individual-decision", "exclusion-review"}


def test_what_the_policy_set_does_not_know_is_reported_in_order(policy: PolicySet) -> None:
    """Unknown fields and purposes give nothing, and are named, each among its kind."""
    compiled = tiny.snapshot(
        policy,
        agreement(
            fields=frozenset({"Pupil.Fsm", "Pupil.Shoe", "Hat.Size"}), purposes=frozenset({"fun", "food"})
        ),
    ).agreements["AG-1"]

    assert policy.index.names(compiled.fields) == ("Pupil.Fsm",)
    assert compiled.unknown_fields == ("Hat.Size", "Pupil.Shoe")
    assert compiled.unknown_purposes == ("food", "fun")
    assert compiled.purposes == 0


def test_snapshots_of_the_same_state_are_equal(policy: PolicySet) -> None:
    """What is worked out beside the state, to be quicker, is no part of it."""
    assert tiny.snapshot(policy) == tiny.snapshot(policy)
