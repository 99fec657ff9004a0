"""Ids have their form, differ, and sort by the time at which they were made."""

from __future__ import annotations

import re
from typing import Any

from policyd import ids

ULID = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")


def test_decision_ids_are_ulids_in_lower_case() -> None:
    """26 characters of Crockford's alphabet, no two alike."""
    made = {ids.decision_id() for _ in range(2_000)}

    assert len(made) == 2_000
    assert all(ULID.fullmatch(each) for each in made)


def test_decision_ids_sort_by_time(monkeypatch: Any) -> None:
    """A later millisecond sorts later, whatever the random part is."""
    instants = [0, 1, 31, 32, 1_770_000_000_000, 1_770_000_000_001, 2**47]
    made = []
    for instant in instants:
        monkeypatch.setattr(ids.time, "time_ns", lambda instant=instant: instant * 1_000_000)
        made.append(ids.decision_id())

    assert made == sorted(made)
    number = 0
    for letter in made[4]:
        number = number << 5 | "0123456789abcdefghjkmnpqrstvwxyz".index(letter)
    assert number >> 80 == 1_770_000_000_000


def test_trace_and_span_ids_are_never_zero(monkeypatch: Any) -> None:
    """W3C Trace Context forbids all zeros, so a draw of zeros is drawn again."""
    draws = [bytes(16), b"\x01" * 16, bytes(8), bytes(8), b"\x02" * 8]
    monkeypatch.setattr(ids.os, "urandom", lambda size: draws.pop(0))

    assert ids.trace_id() == b"\x01" * 16
    assert ids.span_id() == b"\x02" * 8
    assert not draws


def test_token_ids_are_random_hex() -> None:
    """32 hex digits."""
    assert re.fullmatch(r"[0-9a-f]{32}", ids.token_id())
    assert ids.token_id() != ids.token_id()
