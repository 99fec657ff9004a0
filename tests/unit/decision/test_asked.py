"""Names dealt out by verdict: each once, and with exactly its own fields."""

from __future__ import annotations

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import NOW, agreement, ask, group_of, spell

from policyd.decision.asked import sort_names
from policyd.decision.decide import decide
from policyd.decision.entitlement import entitle
from policyd.policy.policyset import PolicySet


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("name", ["Pupil.Fsm", "Pupil.Shoe", "Pupil.Secret", "Pupil.Ethnicity_SPR25"])
def test_a_name_that_comes_twice_is_answered_once(name: str, policy: PolicySet) -> None:
    """Whether it is let go, withheld, or no field at all; also when it is used twice."""
    snapshot = tiny.snapshot(policy)

    for request in (ask(name, name), ask(used_fields=(name, name)), ask(name, used_fields=(name, name))):
        assert group_of(decide(snapshot, request, NOW), name).names == (name,)


def test_columns_withheld_for_two_reasons_of_years_are_told_apart(policy: PolicySet) -> None:
    """A column whose year is outside the agreement, beside one for which the question states no year."""
    for names in (("Pupil.Fsm", "Pupil.Ethnicity_SPR25"), ("Pupil.Ethnicity_SPR25", "Pupil.Fsm")):
        decision = decide(tiny.snapshot(policy), ask(*names, years=()), NOW)

        assert spell(decision) == {
            "Pupil.Fsm": "withhold YEAR_MISSING",
            "Pupil.Ethnicity_SPR25": "withhold YEAR_NOT_IN_AGREEMENT",
        }


def test_a_pile_has_the_fields_of_its_names_and_no_others(policy: PolicySet) -> None:
    """Also where columns of one year come under several verdicts, and some are withheld for the year."""
    snapshot = tiny.snapshot(policy, agreement(table_years=(("Pupil", frozenset({2019})),)))
    names = (
        "Pupil.Fsm",
        "Pupil.Dob",
        "School.Size",
        "Pupil.Secret",
        "Pupil.Ethnicity_SPR20",
        "Pupil.Dob_SPR20",
    )
    request = ask(*names)
    index = policy.index

    piles = sort_names(index, entitle(snapshot, request, now=NOW), request.claimed)

    assert sorted(name for pile in piles for name in pile.names) == sorted(names)
    for pile in piles:
        fields: dict[tuple[str, int], int] = {}
        for column in map(index.resolve, pile.names):
            assert column is not None
            fields[column.sheet] = fields.get(column.sheet, 0) | column.bit
        assert {(each.term, each.year): each.mask for each in pile.sets} == fields


def test_only_what_the_agreement_names_is_withheld_for_its_year(policy: PolicySet) -> None:
    """What an earlier gate withholds is not in the agreement, as far as years go."""
    fields = frozenset({"Pupil.Fsm", "Pupil.Secret", "Pupil.Dob"})
    snapshot = tiny.snapshot(policy, agreement(fields=fields))

    found = entitle(snapshot, ask("Pupil.Fsm"), now=NOW)

    assert policy.index.names(found.in_agreement) == ("Pupil.Dob", "Pupil.Fsm")
