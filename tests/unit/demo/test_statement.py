"""Which fields a statement touches, and which statements are not worked out at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from policyd_client import Action

from policyd.demo.statement import declare, fields_of
from policyd.demo.syntax import MAX_CHARACTERS, Refused
from policyd.demo.tables import SCHEMA

CASES = yaml.safe_load(Path(__file__).with_name("statements.yaml").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES["understood"], ids=lambda case: case["name"])
def test_fields_and_action_follow_from_the_statement(case: dict[str, Any]) -> None:
    """Fields that leave, fields that are used, and the action are exactly those of the table."""
    have = fields_of(case["sql"], SCHEMA)

    assert (have.action.value, list(have.fields), list(have.used_fields)) == (
        case["action"],
        case["fields"],
        case["used"],
    )


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: case["name"])
def test_what_cannot_be_worked_out_is_refused_with_a_reason(case: dict[str, Any]) -> None:
    """The reason names the form; nothing is asked."""
    with pytest.raises(Refused) as caught:
        fields_of(case["sql"], SCHEMA)

    assert case["says"] in str(caught.value)


@pytest.mark.parametrize(
    "sql", ["(" * 5000, "SELECT " + "-" * 9000 + "1", "SELECT " * 1400, "\0", "SELECT 'x"]
)
def test_nonsense_is_refused_and_never_quoted(sql: str) -> None:
    """A statement that does not parse is refused without its text."""
    with pytest.raises(Refused) as caught:
        fields_of(sql, SCHEMA)

    assert len(str(caught.value)) < 60


def test_a_statement_over_the_limit_is_not_parsed() -> None:
    """Length is checked first."""
    with pytest.raises(Refused, match="characters"):
        fields_of("SELECT UPN_SPR19 FROM SC_Pupil".ljust(MAX_CHARACTERS + 1), SCHEMA)


def test_every_literal_becomes_a_bound_value() -> None:
    """No value of the statement stays in its text."""
    have = fields_of(
        "SELECT UPN_SPR19 FROM SC_Pupil WHERE URN_SPR19 IN (7, 1.5) AND UPN_SPR19 <> 'it''s' LIMIT 3", SCHEMA
    )

    assert sorted(map(str, have.values.values())) == ["1.5", "3", "7", "it's"]
    assert "it" not in have.tree.sql()


@pytest.mark.parametrize(
    ("derived", "declared", "want"),
    [
        (Action.COUNT, None, Action.COUNT),
        (Action.COUNT, Action.RELEASE, Action.RELEASE),
        (Action.VERIFY, Action.MATCH, Action.MATCH),
        (Action.RELEASE, Action.LINK, Action.LINK),
    ],
)
def test_a_stronger_action_may_be_declared(derived: Action, declared: Action | None, want: Action) -> None:
    """What is declared is asked for when it lets out at least as much."""
    assert declare(derived, declared) is want


@pytest.mark.parametrize(
    ("derived", "declared"),
    [(Action.RELEASE, Action.COUNT), (Action.RELEASE, Action.VERIFY), (Action.VERIFY, Action.COUNT)],
)
def test_a_weaker_action_is_refused(derived: Action, declared: Action) -> None:
    """A release that calls itself a count is not asked at all."""
    with pytest.raises(Refused, match=f"`{derived}`"):
        declare(derived, declared)
