"""Obligations from several places: they add up, and the strictest value wins."""

from __future__ import annotations

import itertools
from math import lcm

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.model import NO_OBLIGATIONS, Obligations
from policyd.obligation import MAX_ROUND_TO, merge, unmeetable

_AMOUNT = st.none() | st.integers(1, 10_000)
_WORDS = st.none() | st.frozensets(st.sampled_from(["a", "b", "c"]))
_OWED = st.builds(
    Obligations,
    row_years=st.none() | st.frozensets(st.integers(2015, 2019)),
    row_local_authorities=_WORDS,
    min_cell_count=_AMOUNT,
    round_to=st.none() | st.integers(2, 100),
    retention_days=_AMOUNT,
    output_check=st.booleans(),
    publish_in_register=st.booleans(),
    setting=_WORDS,
    exclude_sealed_epoch=_AMOUNT,
)


@given(_OWED, _OWED, _OWED)
def test_the_order_and_grouping_of_obligations_never_matter(
    a: Obligations, b: Obligations, c: Obligations
) -> None:
    """Merging is commutative, associative and idempotent, and nothing owed adds nothing."""
    assert merge((a, b)) == merge((b, a))
    assert merge((a, merge((b, c)))) == merge((merge((a, b)), c)) == merge((a, b, c))
    assert merge((a, a)) == merge((a,)) == a
    assert merge((NO_OBLIGATIONS, a)) == a
    assert merge(()) == NO_OBLIGATIONS


@given(_OWED, _OWED)
def test_the_merge_is_at_least_as_strict_as_each_part(a: Obligations, b: Obligations) -> None:
    """Fewer rows and settings, larger cells, shorter retention, and a base that is a multiple of each."""
    have = merge((a, b))
    for part in (a, b):
        for name in ("row_years", "row_local_authorities", "setting"):
            if (wanted := getattr(part, name)) is not None:
                assert getattr(have, name) <= wanted
        if part.min_cell_count is not None:
            assert have.min_cell_count is not None
            assert have.min_cell_count >= part.min_cell_count
        if part.retention_days is not None:
            assert have.retention_days is not None
            assert have.retention_days <= part.retention_days
        if part.round_to is not None:
            assert have.round_to is not None
            assert have.round_to % part.round_to == 0
        assert have.output_check >= part.output_check
        assert have.publish_in_register >= part.publish_in_register


@pytest.mark.parametrize(
    ("name", "a", "b", "want"),
    [
        ("row_years", {2015, 2016}, {2016, 2017}, {2016}),
        ("row_years", {2015}, {2016}, set()),
        ("row_local_authorities", {"301"}, {"301", "302"}, {"301"}),
        ("setting", {"secure"}, {"open"}, set()),
        ("min_cell_count", 10, 20, 20),
        ("round_to", 4, 6, 12),
        ("retention_days", 30, 365, 30),
        ("output_check", False, True, True),
        ("publish_in_register", True, False, True),
        ("exclude_sealed_epoch", 4, 5, 5),
    ],
)
def test_the_strictest_value_wins(name: str, a: object, b: object, want: object) -> None:
    """One obligation at a time: what two values of it come to."""
    first, second, wanted = (frozenset(v) if isinstance(v, set) else v for v in (a, b, want))

    for one, other in itertools.permutations((first, second)):
        merged = merge((Obligations(**{name: one}), Obligations(**{name: other})))  # type: ignore[arg-type]
        assert merged == Obligations(**{name: wanted})  # type: ignore[arg-type]


def test_no_part_shares_what_is_not_asked() -> None:
    """An empty set admits nothing and stays; None asks nothing and gives way."""
    assert merge((Obligations(setting=frozenset()), Obligations())).setting == frozenset()
    assert merge((Obligations(setting=None), Obligations(setting=frozenset({"a"})))).setting == {"a"}


@pytest.mark.parametrize(
    ("owed", "want"),
    [
        (Obligations(), False),
        (Obligations(setting=frozenset({"secure"}), row_years=frozenset({2018}), round_to=5), False),
        (Obligations(setting=frozenset()), True),
        (Obligations(row_years=frozenset()), True),
        (Obligations(round_to=MAX_ROUND_TO), False),
        (Obligations(round_to=MAX_ROUND_TO + 1), True),
        (Obligations(row_local_authorities=frozenset()), False),  # an answer of no rows is an answer
    ],
)
def test_what_nobody_can_meet_is_told_apart(owed: Obligations, *, want: bool) -> None:
    """No setting, no row of any year, or a base that no message carries: nothing may be released."""
    assert unmeetable(owed) is want


def test_bases_that_grow_beyond_any_message_cannot_be_met() -> None:
    """Coprime bases multiply; the merge keeps the true multiple, and it counts as unmeetable."""
    bases = (9973, 9967, 9949, 9941)
    merged = merge(Obligations(round_to=base) for base in bases)

    assert merged.round_to == lcm(*bases)
    assert unmeetable(merged)
