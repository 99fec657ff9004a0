"""Transforms give the coarser value, and nothing at all for what they do not understand."""

from __future__ import annotations

import pytest
from policyd_client import Step, StepKind

from policyd.demo.transforms import (
    Value,
    band,
    generalise,
    knows,
    pseudonymiser,
    round_half_up,
    seal_token,
    top_code,
)


@pytest.mark.parametrize(
    ("value", "to", "want"),
    [
        ("2009-03-01", "month", "2009-03"),
        ("2009-03-01", "year", "2009"),
        ("2009-03", "year", "2009"),
        ("2009-08-31", "academic-year", "2008/2009"),
        ("2009-09-01", "academic-year", "2009/2010"),
        ("ZA1 4QX", "outward-postcode", "ZA1"),
        ("ZA1A4QX", "outward-postcode", "ZA1A"),
        ("za1 4qx", "postcode-area", "ZA"),
        ("Z12 4QX", "outward-postcode", "Z12"),
        ("2009-03-01", "outward-postcode", None),
        ("ZA1 4QX", "year", None),
        ("ZA1 4QX", "week", None),
        ("2009-13-01", "month", None),
        ("1 March 2009", "year", None),
        ("2009-03-01T00:00", "year", None),
        ("", "year", None),
        (20090301, "year", None),
        (b"2009-03-01", "year", None),
        (None, "year", None),
    ],
)
def test_generalise_gives_the_unit_or_nothing(value: Value, to: str, want: str | None) -> None:
    """Dates and postcodes come out as the coarser unit; anything else as NULL."""
    assert generalise(value, to) == want


@pytest.mark.parametrize(
    ("value", "banded", "rounded", "capped"),
    [
        (0, 0, 0, 0),
        (9, 0, 10, 9),
        (14, 10, 10, 14),
        (15, 10, 20, 15),
        (25.5, 20, 30, 20),
        (-3, -10, 0, -3),
        ("37", 30, 40, 20),
        ("37.5", 30, 40, 20),
        ("x37", None, None, None),
        (None, None, None, None),
        (b"37", None, None, None),
        (float("nan"), None, None, None),
        (float("inf"), None, None, None),
        ("nan", None, None, None),
        ("1.e999", None, None, None),
    ],
)
def test_numbers_are_banded_rounded_and_capped(
    value: Value, banded: int | None, rounded: int | None, capped: float | None
) -> None:
    """Bands of 10 from 0, nearest 10 with halves up, cap of 20; what is no number becomes NULL."""
    assert (band(value, 10), round_half_up(value, 10), top_code(value, 20)) == (banded, rounded, capped)


def test_one_pupil_has_one_pseudonym_in_an_agreement_and_another_elsewhere() -> None:
    """Pseudonyms link within an agreement, not across agreements or services, and are not the value."""
    first, again = pseudonymiser(b"k", "DS1"), pseudonymiser(b"k", "DS1")
    other, elsewhere = pseudonymiser(b"k", "DS2"), pseudonymiser(b"j", "DS1")

    assert first("pupil-17") == again("pupil-17") != first("pupil-18")
    assert len({first("pupil-17"), other("pupil-17"), elsewhere("pupil-17")}) == 3
    assert first(None) is None


def test_a_seal_token_is_hmac_sha_256_of_the_reference() -> None:
    """The token is the one of docs/registry.md (RFC 4231, test case 2)."""
    have = seal_token(b"Jefe", "what do ya want for nothing?")

    assert have.hex() == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


@pytest.mark.parametrize(
    "step",
    [
        Step(StepKind.GENERALISE, "decade"),
        Step(StepKind.GENERALISE),
        Step(StepKind.BAND, amount=1),
        Step(StepKind.ROUND),
        Step(StepKind.TOP_CODE, amount=0),
    ],
    ids=str,
)
def test_a_step_that_is_not_known_is_said_so(step: Step) -> None:
    """Units and amounts outside the contract are not attempted."""
    assert not knows(step)
