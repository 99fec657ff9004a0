"""Instants as text: one form each way, and nothing that only looks like a date."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd import clock

YEAR_1 = -62_135_596_800_000
YEAR_9999 = 253_402_300_799_999


@given(st.integers(min_value=YEAR_1, max_value=YEAR_9999))
def test_what_is_written_is_read_back(instant: int) -> None:
    """Every millisecond of the years 1 to 9999."""
    assert clock.parse_instant(clock.format_instant(instant)) == instant


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01", 0),
        ("2026-02-05", 1_770_249_600_000),
        ("2026-02-05T09:30:00Z", 1_770_283_800_000),
        ("2026-02-05T09:30:00.250Z", 1_770_283_800_250),
        ("2024-02-29", 1_709_164_800_000),
    ],
)
def test_a_date_is_its_midnight_in_utc(text: str, instant: int) -> None:
    """Dates and times to the second or millisecond."""
    assert clock.parse_instant(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "today",
        "2026-2-5",
        "2026-02-05 ",
        "2026-02-05\n",
        "20260205",
        "2026-02-30",
        "2026-13-01",
        "2025-02-29",
        "0000-01-01",
        "2026-02-05T09:30Z",
        "2026-02-05T09:30:00",
        "2026-02-05T09:30:00+00:00",
        "2026-02-05t09:30:00z",
        "2026-02-05T24:00:00Z",
        "2026-02-05T09:30:60Z",
        "2026-02-05T09:30:00.25Z",
        "٢٠٢٦-02-05",
    ],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    """No other form, no impossible date, no digits of another script."""
    with pytest.raises(ValueError, match="is not a"):
        clock.parse_instant(text)


def test_now_is_of_this_century_and_monotonic_does_not_step_back() -> None:
    """Milliseconds since the epoch; seconds that only grow."""
    assert clock.parse_instant("2025-01-01") < clock.now() < clock.parse_instant("2125-01-01")
    first = clock.monotonic()
    assert clock.monotonic() >= first
