"""The join of transforms: its laws, and that what it leaves follows from what each part leaves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from policyd.model import Step, Transform, TransformKind
from policyd.transform import MAX_AMOUNT, SUPPRESS, UNIT_CHAINS, UNITS, describe, join

_VECTORS = Path(__file__).parents[1] / "vectors" / "transform"
_JOINS = yaml.safe_load((_VECTORS / "join.yaml").read_text(encoding="utf-8"))


def step(text: str) -> Step:
    kind, _, detail = text.partition(":")
    if detail.isdigit():
        return Step(TransformKind(kind), amount=int(detail))
    return Step(TransformKind(kind), to=detail)


def transform(texts: list[str]) -> Transform:
    return tuple(step(text) for text in texts)


@pytest.mark.parametrize("case", _JOINS, ids=lambda case: f"{case['a']}-{case['b']}")
def test_the_join_is_as_the_vectors_say_in_either_order(case: dict[str, Any]) -> None:
    """Each vector's two transforms come to the third."""
    first, second, want = (transform(case[key]) for key in ("a", "b", "is"))

    assert describe(join(first, second)) == describe(want)
    assert describe(join(second, first)) == describe(want)


_AMOUNTS = st.one_of(st.integers(2, 30), st.integers(2, MAX_AMOUNT))
_SINGLE = st.one_of(
    st.just(()),
    st.just(SUPPRESS),
    st.just(transform(["pseudonymise"])),
    st.sampled_from(sorted(UNITS)).map(lambda unit: (Step(TransformKind.GENERALISE, to=unit),)),
    st.builds(
        lambda kind, amount: (Step(kind, amount=amount),),
        st.sampled_from([TransformKind.BAND, TransformKind.ROUND, TransformKind.TOP_CODE]),
        _AMOUNTS,
    ),
)
# A grant is one step; everything longer is a join of those.
_TRANSFORMS = st.one_of(_SINGLE, st.builds(join, _SINGLE, _SINGLE))


@given(_TRANSFORMS, _TRANSFORMS, _TRANSFORMS)
def test_the_join_is_a_semilattice(a: Transform, b: Transform, c: Transform) -> None:
    """Order, grouping and repetition of rules never matter to what they come to."""
    assert join(a, b) == join(b, a)
    assert join(a, join(b, c)) == join(join(a, b), c)
    assert join(a, a) == a
    assert join(join(a, b), a) == join(a, b)


@given(_TRANSFORMS)
def test_release_is_least_and_suppress_is_greatest(a: Transform) -> None:
    """Leaving the value as it is imposes nothing; suppressing it cannot be undone."""
    assert join((), a) == a
    assert join(SUPPRESS, a) == SUPPRESS


@given(_TRANSFORMS, _TRANSFORMS)
def test_a_join_fits_into_the_messages_that_carry_it(a: Transform, b: Transform) -> None:
    """No width, base or cap outgrows 32 bits, however many rules add to it."""
    assert all(each.amount <= MAX_AMOUNT < 2**32 for each in join(a, b))


Apply = Callable[[Any], Hashable]


def applied(steps: Transform) -> Apply:
    """Return the transform as a function, written down independently of policyd (decision.proto)."""

    def run(value: Any) -> Hashable:
        for each in steps:
            value = _one(each, value)
        return value

    return run


def _one(each: Step, value: Any) -> Any:
    match each.kind:
        case TransformKind.SUPPRESS:
            return None
        case TransformKind.PSEUDONYMISE:
            return ("pseudonym", value)  # one to one, and tells nothing but equality
        case TransformKind.BAND:
            return value // each.amount * each.amount
        case TransformKind.ROUND:
            return (2 * value + each.amount) // (2 * each.amount) * each.amount
        case TransformKind.TOP_CODE:
            return min(value, each.amount)
        case TransformKind.GENERALISE:
            return _generalise(each.to, value)


def _generalise(unit: str, value: Any) -> Any:
    if isinstance(value, str):
        outward = value.split(" ")[0]
        return {"outward-postcode": outward, "postcode-area": outward.rstrip("0123456789")}[unit]
    year, month = value.year, value.month
    return {"month": (year, month), "year": year, "academic-year": year if month >= 9 else year - 1}[unit]


def follows_from(fine: Apply, coarse: Apply, values: list[Any]) -> bool:
    """Return whether what ``coarse`` leaves is a function of what ``fine`` leaves."""
    image: dict[Hashable, Hashable] = {}
    return all(image.setdefault(fine(value), coarse(value)) == coarse(value) for value in values)


_NUMBERS = list(range(-70, 260))
_DAYS = [date(2015, 1, 1) + timedelta(days=day) for day in range(0, 1500, 3)]
_POSTCODES = [f"{area}{district} 1AA" for area in ("S", "SW", "LS") for district in (1, 2, 10, 11)]


def _shapes(amounts: tuple[int, ...]) -> list[Transform]:
    caps = [(Step(TransformKind.TOP_CODE, amount=cap),) for cap in (10, 45)]
    cells = [
        (Step(kind, amount=amount),)
        for kind in (TransformKind.BAND, TransformKind.ROUND)
        for amount in amounts
    ]
    return [(), *caps, *cells, *(cap + cell for cap in caps for cell in cells)]


def test_a_joined_number_follows_from_each_part() -> None:
    """Over numbers, whoever holds either part's output could work out the join's, so it tells no more."""
    shapes = _shapes((2, 3, 4, 5, 6, 7, 9, 10, 12, 15, 20, 25))
    functions = {shape: applied(shape) for shape in shapes}
    kept = 0
    for a, b in itertools.combinations(shapes, 2):
        joined = join(a, b)
        if joined == SUPPRESS:
            continue
        kept += 1
        result = applied(joined)
        assert follows_from(functions[a], result, _NUMBERS), (describe(a), describe(joined))
        assert follows_from(functions[b], result, _NUMBERS), (describe(b), describe(joined))
    assert kept > 500


@pytest.mark.parametrize(
    ("units", "values"),
    [(["month", "year", "academic-year"], _DAYS), (["outward-postcode", "postcode-area"], _POSTCODES)],
)
def test_a_joined_unit_follows_from_each_part(units: list[str], values: list[Any]) -> None:
    """Over dates and postcodes the joined unit can be worked out from either unit."""
    for a, b in itertools.product(units, repeat=2):
        joined = join(transform([f"generalise:{a}"]), transform([f"generalise:{b}"]))
        for unit in (a, b):
            fine = applied(transform([f"generalise:{unit}"]))
            assert follows_from(fine, applied(joined), values), (a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [("round:5", "round:10"), ("band:5", "round:5"), ("generalise:year", "generalise:academic-year")],
)
def test_where_neither_follows_the_join_suppresses(a: str, b: str) -> None:
    """The enumeration can fail: these pairs do tell each other apart, and their join is `suppress`."""
    values: list[Any] = _DAYS if a.startswith("generalise") else _NUMBERS
    first, second = transform([a]), transform([b])

    assert not follows_from(applied(first), applied(second), values)
    assert not follows_from(applied(second), applied(first), values)
    assert join(first, second) == SUPPRESS


def test_units_in_a_chain_are_units() -> None:
    """Each chain of units runs from fine to coarse, and the join of two is the coarser."""
    for chain in UNIT_CHAINS:
        for fine, coarse in itertools.combinations(chain, 2):
            assert join(transform([f"generalise:{fine}"]), transform([f"generalise:{coarse}"])) == transform(
                [f"generalise:{coarse}"]
            )
    assert {unit for chain in UNIT_CHAINS for unit in chain} < UNITS


def test_a_transform_is_written_as_policy_tests_write_it() -> None:
    """Steps in the order in which they are applied, joined by `then`."""
    assert describe(transform(["top_code:60", "round:5"])) == "top_code:60 then round:5"
    assert describe(transform(["generalise:year"])) == "generalise:year"
    assert describe(()) == ""


def test_two_forms_of_one_transform_that_no_rule_combines_leave_nothing() -> None:
    """Pseudonyms of two kinds cannot be computed from each other."""
    one, other = (Step(TransformKind.PSEUDONYMISE, to=to) for to in ("a", "b"))

    assert join((one,), (other,)) == join((other,), (one,)) == SUPPRESS
