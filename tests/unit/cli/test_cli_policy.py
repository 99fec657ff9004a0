"""`policyd policy lint` and `policyd policy test`, and `policyd catalogue import`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.server import POLICY
from support.tiny_policy import tiny_files, write_files

REGISTRY = """\
organisations:
  - {id: uni, kind: university, commercial: false, legal_name: U, status: active, verified_at: 2025-01-01}
requesters:
  - {id: researcher-1, organisation: uni, identity: {issuer: i, subject: researcher-1}, roles: [],
     status: active}
accreditations:
  - {id: ACC-1, requester: researcher-1, organisation: uni, scheme: scheme-1, level: full,
     from: 2025-01-01, until: 2027-01-01, status: active, source: made for tests}
data_services:
  - {id: svc, spiffe_id: "spiffe://test/svc", organisation: uni, setting: secure, status: active}
agreements:
  - {id: AG-1, organisation: uni, requesters: [researcher-1], data_services: [svc], purposes: [research],
     fields: [Pupil.Score, Pupil.Name], years: {from: 2015, until: 2019}, setting: secure,
     actions: [release], gateway: OPEN-1, scheme: scheme-1, project_accredited: true, basis: art-6-1-e,
     article9: art-9-2-j, from: 2025-01-01, until: 2027-01-01, destroy_by: 2027-01-01, status: active}
"""
CASES = """\
registry: registry.yaml
cases:
  - name: scores leave
    ask: {data_service: svc, requester: researcher-1, agreement: AG-1, purposes: [academic],
          fields: [Pupil.Score], years: [2018]}
    now: 2026-03-01
    want: {outcome: release, verdicts: {Pupil.Score: release}}
  - name: names do not
    ask: {data_service: svc, requester: researcher-1, agreement: AG-1, purposes: [academic],
          fields: [Pupil.Name], years: [2018]}
    now: 2026-03-01
    want: {outcome: withhold, verdicts: {Pupil.Name: withhold DENIED_BY_RULE}}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The tiny policy set with two cases that pass."""
    files = {**tiny_files(), "tests/registry.yaml": REGISTRY, "tests/cases.yaml": CASES}
    return write_files(tmp_path / "tiny", files)


def test_the_shipped_policy_set_lints_and_passes_its_tests(run: Any) -> None:
    """No error, no failing case, at least 60 cases."""
    lint, test = run("policy", "lint", POLICY), run("policy", "test", POLICY)

    assert (lint.exit_code, test.exit_code) == (0, 0), lint.stderr + test.stdout
    passed = int(test.stdout.splitlines()[-1].split()[0])
    assert passed >= 60
    assert " 0 errors" in lint.stdout.splitlines()[-1]


def test_lint_json_has_the_documented_keys(run: Any, tiny: Path) -> None:
    """Name, version, digest and the findings with their places."""
    result = run("policy", "lint", tiny, "--json")

    document = json.loads(result.stdout)
    assert list(document) == ["policy", "version", "digest", "findings"]
    assert (document["policy"], document["version"]) == ("tiny", 3)
    for finding in document["findings"]:
        assert list(finding) == ["check", "severity", "file", "line", "column", "message"]
    assert result.exit_code == int(any(each["severity"] == "error" for each in document["findings"]))


def test_lint_errors_end_with_1_and_name_the_check(run: Any, tiny: Path) -> None:
    """A finding line is place, severity, message and the check's id."""
    result = run("policy", "lint", tiny)

    assert result.exit_code == 1
    line = next(line for line in result.stdout.splitlines() if "`a30-dob-by-month` allows for any" in line)
    assert line.split(": ")[1] == "error"
    assert line.endswith("[allow-without-purpose]")
    assert "rules/rules.yaml:" in line


def test_cases_that_pass_end_with_0(run: Any, tiny: Path) -> None:
    """Without `-v` only the count; with it every case and verdict."""
    assert run("policy", "test", tiny).stdout == "2 passed, 0 failed\n"

    verbose = run("policy", "test", tiny, "-v").stdout
    assert "scores leave" in verbose
    assert "Pupil.Name: withhold DENIED_BY_RULE" in verbose


def test_a_case_that_fails_says_where_and_how(run: Any, tiny: Path) -> None:
    """File, line and case, then what was wanted and what came out; exit code 1."""
    text = CASES.replace("withhold DENIED_BY_RULE", "release").replace(
        "outcome: withhold", "outcome: release"
    )
    (tiny / "tests" / "cases.yaml").write_text(text, "utf-8")

    result = run("policy", "test", tiny)

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("FAIL ")
    assert lines[0].endswith("cases.yaml:8:5: names do not")
    assert "outcome: want release, have withhold" in lines[1]
    assert "Pupil.Name: want `release`, have `withhold DENIED_BY_RULE`" in lines[2]
    assert lines[-1] == "1 passed, 1 failed"


def test_test_json_has_the_documented_keys(run: Any, tiny: Path) -> None:
    """One object a case."""
    document = json.loads(run("policy", "test", tiny, "--json").stdout)

    assert [each["case"] for each in document] == ["scores leave", "names do not"]
    for each in document:
        assert list(each) == ["case", "file", "line", "passed", "differences", "outcome", "verdicts"]


def test_no_case_at_all_is_no_pass(run: Any, tmp_path: Path) -> None:
    """A policy set without tests ends with 1."""
    result = run("policy", "test", write_files(tmp_path / "bare", tiny_files()))

    assert (result.exit_code, "no cases were found" in result.stderr) == (1, True)


@pytest.mark.parametrize("command", ["lint", "test"])
def test_a_policy_set_that_is_not_there_names_what_is_missing(run: Any, tmp_path: Path, command: str) -> None:
    """Every missing file at once, and that nothing was loaded."""
    result = run("policy", command, tmp_path / "nowhere")

    assert result.exit_code == 1
    assert "nowhere/policyset.yaml:1:1: cannot be read" in result.stderr
    assert "nothing was loaded" in result.stderr


def test_import_writes_only_where_it_is_told(run: Any, tmp_path: Path) -> None:
    """Without `--out` it counts; with it each table gets a file."""
    source = tmp_path / "fields.csv"
    header = "table,section,field,concept_group,years,default_or_by_request,identification_risk,sensitivity"
    source.write_text(f"{header}\nKS4,Results,KS4_ATT8,Attainment,2015-2019,Default,5,E\n", "utf-8")

    counted = run("catalogue", "import", source)
    written = run("catalogue", "import", source, "--out", tmp_path / "out")

    assert counted.exit_code == written.exit_code == 0, counted.stderr
    assert "1 rows read, 1 fields in 1 tables, 0 duplicates merged" in counted.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["KS4.yaml"]


def test_import_of_something_else_says_what_is_wrong(run: Any, tmp_path: Path) -> None:
    """Bytes that are no text, and a table without the columns."""
    binary, other = tmp_path / "binary.csv", tmp_path / "other.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    other.write_text("a,b\n1,2\n", "utf-8")

    assert "cannot be read as CSV" in run("catalogue", "import", binary).stderr
    result = run("catalogue", "import", other)
    assert (result.exit_code, "has no column `table`" in result.stderr) == (1, True)


SHARED = Path(__file__).parents[4] / "shared" / "facts" / "npd_fields.csv"


@pytest.mark.full
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/facts/npd_fields.csv")
def test_the_published_tables_import_whole(run: Any) -> None:
    """3,838 rows become 3,802 fields; both numbers are printed."""
    result = run("catalogue", "import", os.fspath(SHARED))

    assert result.exit_code == 0
    assert "3838 rows read, 3802 fields" in result.stdout
