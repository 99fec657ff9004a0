"""`policyd registry`: plan, apply, list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.server import Site, registry_text

ONE = ("--as", "registrar-1", "--yes")
TWO = (*ONE, "--approve", "approver-1")


def _state(run: Any, site: Site) -> dict[str, Any]:
    result = run("registry", "list", "--data", site.data, "--json")
    assert result.exit_code == 0
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_plan_changes_nothing(run: Any, own: Site, file: Path) -> None:
    """`--dry-run` says what would change; state and epoch stay."""
    before = _state(run, own)

    result = run("registry", "apply", file, "--data", own.data, "--dry-run")

    assert result.exit_code == 0
    assert "~ agreement DS00101\n    status  active -> suspended" in result.stdout
    assert "researcher-4" in result.stdout
    assert f"planned on epoch {before['epoch']}; nothing was changed" in result.stdout
    assert _state(run, own) == before


def test_nothing_is_applied_in_nobodys_name(run: Any, own: Site, file: Path) -> None:
    """Without `--as`, only a dry run is possible."""
    before = _state(run, own)

    result = run("registry", "apply", file, "--data", own.data, "--yes")

    assert (result.exit_code, "--as" in result.stderr) == (2, True)
    assert _state(run, own) == before


def test_apply_is_one_change_and_the_second_time_none(run: Any, own: Site, file: Path) -> None:
    """The epoch grows by one; applying the same file again changes nothing."""
    before = _state(run, own)

    first = run("registry", "apply", file, "--data", own.data, *TWO, "--why", "case 7")
    after = _state(run, own)
    second = run("registry", "apply", file, "--data", own.data, *TWO)

    assert first.exit_code == second.exit_code == 0
    assert f"applied as epoch {before['epoch'] + 1}" in first.stdout
    assert after["epoch"] == before["epoch"] + 1
    assert f"nothing to change; the state stays at epoch {after['epoch']}" in second.stdout
    assert _state(run, own) == after


def test_list_shows_each_entry_with_its_status(run: Any, own: Site) -> None:
    """One line an entry, and the epoch."""
    lines = run("registry", "list", "--data", own.data).stdout.splitlines()

    assert "agreement DS00101 (active)" in lines
    assert "requester researcher-2 (suspended)" in lines
    assert lines[-1] == "epoch 3"


def test_json_list_has_the_documented_keys(run: Any, own: Site) -> None:
    """`epoch` and `registry`, by section and id."""
    document = _state(run, own)

    assert list(document) == ["epoch", "registry"]
    assert "DS00101" in json.dumps(document["registry"]["agreements"])


def test_mistakes_are_all_named_and_nothing_is_applied(run: Any, own: Site, tmp_path: Path) -> None:
    """A file with two mistakes ends with 1, both with their places."""
    before = _state(run, own)
    bad = tmp_path / "bad.yaml"
    text = registry_text().replace("org-university-1,\n     identity", "org-nowhere,\n     identity", 1)
    bad.write_text(text.replace("status: suspended", "status: paused", 1), "utf-8")

    result = run("registry", "apply", bad, "--data", own.data, *TWO)

    assert result.exit_code == 1
    assert "`paused`" in result.stderr
    assert "nothing was loaded" in result.stderr
    assert "bad.yaml:" in result.stderr
    assert _state(run, own) == before


@pytest.mark.parametrize("why", ["two\nlines", "x" * 501])
def test_a_reason_that_cannot_be_recorded_is_refused(run: Any, own: Site, file: Path, why: str) -> None:
    """The reason goes into the ledger as one line; another form is wrong usage."""
    before = _state(run, own)

    result = run("registry", "apply", file, "--data", own.data, *TWO, "--why", why)

    assert result.exit_code == 2
    assert _state(run, own) == before


def test_a_file_that_is_not_there_is_named(run: Any, own: Site) -> None:
    """The path and what the system says about it."""
    result = run("registry", "apply", "no-such.yaml", "--data", own.data, *TWO)

    assert result.exit_code == 1
    assert "no-such.yaml:1:1: cannot be read" in result.stderr
