"""`policyd fields`: what could be had, for people and for machines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.server import Site

from policyd.server import Server

GOOD = ("--agreement", "DS00101", "--purpose", "academic-research")


@pytest.fixture
def fields(run: Any, site: Site, server: Server) -> Any:
    """Run `policyd fields` against the node of these tests."""
    return lambda *arguments: run("fields", "--data", site.data, "--address", server.address, *arguments)


def test_fields_stand_below_their_verdict(fields: Any) -> None:
    """One heading for each verdict with the number of its fields, then obligations and the record."""
    result = fields(*GOOD, "--table", "KS4")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("PARTIAL  decision ")
    assert "    KS4.KS4_ATT8" in lines
    assert any(line.startswith("  release  (") for line in lines)
    assert any(line.startswith("  must: leave out sealed records") for line in lines)
    assert lines[-1].startswith("  ledger policyd.test/policyd/node-1 index ")


def test_json_has_the_documented_keys(fields: Any) -> None:
    """`--json` prints one object whose keys a script can rely on."""
    document = json.loads(fields(*GOOD, "--json").stdout)

    assert list(document) == [
        "outcome",
        "decision_id",
        "reason",
        "rule",
        "verdicts",
        "obligations",
        "identification_risk",
        "sensitivity",
        "policy_digest",
        "policy_version",
        "epoch",
        "trace_id",
        "ledger",
        "unexpected",
    ]
    assert document["verdicts"]["KS4.KS4_ATT8"]["effect"] == "release"


def test_a_refusal_ends_with_3_says_why_and_hints(fields: Any) -> None:
    """The reason, the gate, and what most likely is wrong."""
    result = fields("--agreement", "DS00999", "--purpose", "academic-research")

    assert result.exit_code == 3
    assert "  withhold AGREEMENT_NOT_YOURS  (gate:3:agreement)" in result.stdout
    assert "agreement `DS00999` is not registered, or" in result.stderr
    assert "must:" not in result.stdout


def test_a_table_that_is_not_there_ends_with_3(fields: Any) -> None:
    """Nothing is listed, and no reason is invented."""
    result = fields(*GOOD, "--table", "Nowhere")

    assert (result.exit_code, "nothing could be had" in result.stdout) == (3, True)


def test_no_node_there_ends_with_4(fields: Any) -> None:
    """Unreachable is no decision."""
    result = fields(*GOOD, "--address", "127.0.0.1:1", "--deadline", "0.3")

    assert result.exit_code == 4
    assert result.stderr.startswith("no decision: policyd was unavailable for 0.3 s")
