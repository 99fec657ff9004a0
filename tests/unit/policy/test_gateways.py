"""Legal gateways: in force between two dates, and never where one of them is unknown."""

from __future__ import annotations

import pytest

from policyd.clock import parse_instant
from policyd.policy.gateways import Check, Gateway, Precondition, read_gateways
from policyd.policy.reader import Reader
from policyd.policy.source import read_text

FROM, UNTIL = parse_instant("2020-01-01"), parse_instant("2026-06-01")


def read(valid_from: str, valid_until: str, preconditions: str = "[]") -> Gateway:
    reader = Reader()
    text = (
        "min_cell_count_floor: 10\ngateways:\n"
        f"  - {{id: G-1, label: x, valid_from: {valid_from}, valid_until: {valid_until}, source: x, "
        f"preconditions: {preconditions}}}\n"
    )
    found = read_gateways(reader, read_text(text, "gateways.yaml"), None)
    reader.finish()
    assert found.min_cell_count_floor == 10
    return found.by_id["G-1"]


@pytest.mark.parametrize(
    ("valid_from", "valid_until", "want"),
    [
        ("2020-01-01", "2026-06-01", [False, True, True, False, False]),
        ("2020-01-01", "open", [False, True, True, True, True]),
        ("2020-01-01", "unknown", [False] * 5),
        ("unknown", "2026-06-01", [False] * 5),
        ("unknown", "open", [False] * 5),
        ("unknown", "unknown", [False] * 5),
    ],
)
def test_a_gateway_is_in_force_from_its_first_instant_to_before_its_last(
    valid_from: str, valid_until: str, want: list[bool]
) -> None:
    """Just before, at and within, at the end and after; unknown on either side is never."""
    gateway = read(valid_from, valid_until)

    assert [gateway.in_force(now) for now in (FROM - 1, FROM, UNTIL - 1, UNTIL, UNTIL + 1)] == want


def test_preconditions_come_with_what_they_admit() -> None:
    """Kinds and settings are kept as sets; the other checks have none."""
    gateway = read(
        "2020-01-01",
        "open",
        "[{check: organisation_kind, kinds: [university, school]}, "
        "{check: accredited_setting, settings: [a]}, {check: deidentified}]",
    )

    assert gateway.preconditions == (
        Precondition(Check.ORGANISATION_KIND, frozenset({"university", "school"})),
        Precondition(Check.ACCREDITED_SETTING, frozenset({"a"})),
        Precondition(Check.DEIDENTIFIED),
    )


def test_the_vocabulary_of_checks_is_closed() -> None:
    """Each check of docs/policy-set.md loads, and there are no others."""
    values = {Check.ORGANISATION_KIND: ", kinds: [a]", Check.ACCREDITED_SETTING: ", settings: [a]"}
    listed = ", ".join(f"{{check: {check}{values.get(check, '')}}}" for check in Check)

    assert {each.check for each in read("2020-01-01", "open", f"[{listed}]").preconditions} == set(Check)
    assert len(Check) == 7
