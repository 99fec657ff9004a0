"""What an allow rule grants and obliges, read from YAML."""

from __future__ import annotations

import pytest

from policyd.model import NO_OBLIGATIONS, Obligations, Transform
from policyd.policy.grants import NO_DUTIES, Duties, read_duties, read_grant
from policyd.policy.reader import Reader
from policyd.policy.source import read_text
from policyd.transform import UNITS, describe


def grant(text: str) -> tuple[Transform, list[str]]:
    reader = Reader()
    return read_grant(reader, read_text(text, "g")), [str(each) for each in reader.problems]


def duties(text: str) -> tuple[Duties, list[str]]:
    reader = Reader()
    return read_duties(reader, read_text(text, "d")), [str(each) for each in reader.problems]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("release", ""),
        ("suppress", "suppress"),
        ("pseudonymise", "pseudonymise"),
        ("{band: {width: 2}}", "band:2"),
        ("{band: {width: 2147483648}}", "band:2147483648"),
        ("{round: {to: 10}}", "round:10"),
        ("{top_code: {at: 1}}", "top_code:1"),
        *((f"{{generalise: {{to: {unit}}}}}", f"generalise:{unit}") for unit in sorted(UNITS)),
    ],
)
def test_a_grant_is_a_release_or_one_transform(text: str, want: str) -> None:
    """Each spelling of docs/policy-set.md gives its step."""
    found, problems = grant(text)

    assert problems == []
    assert describe(found) == want


@pytest.mark.parametrize(
    "text",
    [
        '""',
        "Release",
        "null",
        "true",
        "1",
        "[]",
        "[release]",
        "{}",
        "{release: {}}",
        "{band: 5}",
        "{band: {}}",
        "{band: {width: 1}}",
        "{band: {width: 0}}",
        "{band: {width: -5}}",
        '{band: {width: "5"}}',
        "{band: {width: true}}",
        "{band: {width: 2147483649}}",
        "{round: {to: 1}}",
        "{round: {width: 5}}",
        "{top_code: {at: 0}}",
        "{generalise: year}",
        "{generalise: {to: []}}",
        "{generalise: {to: Year}}",
        "{generalise: {to: year, from: month}}",
        "{band: {width: 5}, top_code: {at: 60}}",
        "{suppress: {}}",
    ],
)
def test_any_other_grant_is_a_mistake(text: str) -> None:
    """Nothing is guessed: a grant that is not understood is reported."""
    assert grant(text)[1] != []


def test_no_obligations_are_no_duties() -> None:
    """A rule without `obligations` asks nothing."""
    assert read_duties(Reader(), None) == NO_DUTIES
    assert NO_DUTIES.resolve(frozenset({"301"})) == NO_OBLIGATIONS


def test_every_obligation_is_read() -> None:
    """All keys of docs/policy-set.md at once."""
    found, problems = duties(
        "{min_cell_count: 10, round_to: 5, retention_days: 1825, output_check: true, "
        "publish_in_register: true, setting: secure-research, "
        "rows: {local_authority: own, years: [2018, 2019]}}"
    )

    assert problems == []
    assert found.resolve(frozenset({"301"})) == Obligations(
        row_years=frozenset({2018, 2019}),
        row_local_authorities=frozenset({"301"}),
        min_cell_count=10,
        round_to=5,
        retention_days=1825,
        output_check=True,
        publish_in_register=True,
        setting=frozenset({"secure-research"}),
    )


def test_rows_of_an_organisation_without_authority_are_none() -> None:
    """`own` of nobody's area is an empty set, which admits no row."""
    found, _ = duties("{rows: {local_authority: own}}")

    assert found.resolve(frozenset()).row_local_authorities == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "x",
        "{min_cell_count: 0}",
        "{min_cell_count: true}",
        "{round_to: 1}",
        "{retention_days: 0}",
        "{retention_days: 2147483648}",
        "{output_check: false}",
        "{output_check: yes-please}",
        "{setting: [a]}",
        "{setting: Secure}",
        "{rows: {local_authority: theirs}}",
        "{rows: {years: 2018}}",
        "{rows: {years: [18]}}",
        "{rows: {years: [2018, 2018]}}",
        "{rows: {schools: [1]}}",
        "{exclude_sealed: true}",
    ],
)
def test_any_other_obligation_is_a_mistake(text: str) -> None:
    """An obligation that is not understood never loads as none."""
    assert duties(text)[1] != []
