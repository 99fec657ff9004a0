"""Case files are read strictly, and every mistake in them is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tiny_policy import load_tiny

from policyd.errors import SourceError
from policyd.policytest.cases import read_case_files
from policyd.policytest.run import Result, run_cases

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
  - {id: AG-1, organisation: uni, requesters: [researcher-1], data_services: [svc],
     purposes: [research, statistics], fields: [Pupil.Score, Pupil.Name, School.Size],
     years: {from: 2015, until: 2019}, setting: secure, actions: [release], gateway: OPEN-1,
     scheme: scheme-1, project_accredited: true, basis: art-6-1-e, article9: art-9-2-j,
     from: 2025-01-01, until: 2027-01-01, destroy_by: 2027-01-01, status: active}
"""
CASE = """\
  - name: scores leave
    ask: {data_service: svc, requester: researcher-1, agreement: AG-1, purposes: [academic],
          fields: [Pupil.Score], years: [2018]}
    now: 2026-03-01
    want:
      outcome: release
      verdicts: {Pupil.Score: release}
"""


def write(directory: Path, cases: str, *, registry: str = REGISTRY) -> Path:
    """Write a `tests` folder with one case file."""
    folder = directory / "tests"
    folder.mkdir()
    (folder / "registry.yaml").write_text(registry, "utf-8")
    (folder / "cases.yaml").write_text(f"registry: registry.yaml\ncases:\n{cases}", "utf-8")
    return directory


def results(directory: Path, cases: str) -> list[Result]:
    policy = load_tiny(directory / "policy")
    return list(run_cases(policy, read_case_files(write(directory, cases))))


def mistakes(directory: Path, cases: str, *, registry: str = REGISTRY) -> list[str]:
    with pytest.raises(SourceError) as caught:
        read_case_files(write(directory, cases, registry=registry))
    return [str(problem) for problem in caught.value.problems]


def test_a_case_that_comes_out_as_wanted_has_no_differences(tmp_path: Path) -> None:
    """Outcome, verdicts, rule and obligations all as wanted."""
    case = CASE + "      rule: {Pupil.Score: a10-research}\n      obligations: {rows: {years: [2018]}}\n"

    (result,) = results(tmp_path, case)

    assert result.differences == ()


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("outcome: release", "outcome: withhold", "outcome: want withhold, have release"),
        (
            "{Pupil.Score: release}",
            "{Pupil.Score: withhold FIELD_UNKNOWN}",
            "Pupil.Score: want `withhold FIELD_UNKNOWN`, have `release`",
        ),
        (
            "{Pupil.Score: release}",
            "{Pupil.Score: release}\n      rule: {Pupil.Score: a20-statistics}",
            "rule of Pupil.Score: want `a20-statistics`, have `a10-research`",
        ),
        (
            "{Pupil.Score: release}",
            "{Pupil.Score: release}\n      obligations: {retention_days: 9}",
            "obligation retention_days: want 9, have None",
        ),
        (
            "{Pupil.Score: release}",
            "{Pupil.Score: release}\n      obligations: {rows: {years: [2017, 2016]}}",
            "obligation row_years: want [2016, 2017], have [2018]",
        ),
    ],
    ids=["outcome", "verdict", "rule", "obligation", "rows"],
)
def test_each_difference_is_said_with_both_sides(tmp_path: Path, old: str, new: str, difference: str) -> None:
    """What was wanted and what came out, for whatever differs and nothing else."""
    (result,) = results(tmp_path, CASE.replace(old, new))

    assert result.differences == (difference,)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data_service: svc": "data_service: unregistered"}, "DATA_SERVICE_UNKNOWN"),
        ({"requester: researcher-1": "requester: nobody"}, "REQUESTER_UNKNOWN"),
        ({"requester: researcher-1": "requester: unverified"}, "REQUESTER_UNVERIFIED"),
        ({"agreement: AG-1": "agreement: AG-9"}, "AGREEMENT_UNKNOWN"),
        ({"now: 2026-03-01": "now: 2027-06-01"}, "AGREEMENT_EXPIRED"),
        ({"now: 2026-03-01": "now: 2024-03-01"}, "AGREEMENT_NOT_STARTED"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_case_may_be_about_any_gate(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    """Words stand for who is not there, and each case has an instant of its own."""
    case = CASE.replace("outcome: release", "outcome: withhold")
    case = case.replace("Pupil.Score: release", f"Pupil.Score: withhold {reason}")
    for old, new in changes.items():
        assert old in case
        case = case.replace(old, new)

    (result,) = results(tmp_path, case)

    assert result.differences == ()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("fields: [Pupil.Score]", "fields: [Pupil.Score, Pupil.Name]", "`Pupil.Name` has no wanted verdict"),
        ("{Pupil.Score: release}", "{Pupil.Score: release, Pupil.Dob: release}", "`Pupil.Dob` is not asked"),
        ("    now: 2026-03-01\n", "", "`now`"),
        ("now: 2026-03-01", "now: yesterday", "yesterday"),
        ("      outcome: release\n", "", "`outcome`"),
        ("outcome: release", "outcome: perhaps", "`perhaps`"),
        ("data_service: svc", "data_service: svx", "data service `svx` is not in the registry"),
        ("name: scores leave", "nome: scores leave", "`nome`"),
        ("years: [2018]", "years: [18]", "18"),
        (
            "{Pupil.Score: release}",
            "{Pupil.Score: release}\n      rule: {Pupil.Dob: x}",
            "`Pupil.Dob` is not",
        ),
        ("{Pupil.Score: release}", "{Pupil.Score: release}\n      obligations: {burn: true}", "`burn`"),
        ("years: [2018]", "years: [2018], action: read", "`read`"),
    ],
)
def test_a_mistake_in_a_case_is_named_with_its_place(tmp_path: Path, old: str, new: str, text: str) -> None:
    """File, line, column and the word at fault; no case is run."""
    assert old in CASE

    found = mistakes(tmp_path, CASE.replace(old, new))

    assert any(text in each for each in found), found
    assert all("cases.yaml:" in each for each in found)


def test_all_mistakes_of_all_files_come_at_once(tmp_path: Path) -> None:
    """Two cases and the registry, each with a mistake of its own."""
    bad = CASE.replace("outcome: release", "outcome: perhaps") + CASE.replace("    now: 2026-03-01\n", "")

    found = mistakes(tmp_path, bad, registry=REGISTRY.replace("kind: university", "kind: circus"))

    assert len(found) >= 3
    assert {Path(text.split(":")[0]).name for text in found} == {"cases.yaml", "registry.yaml"}


def test_a_registry_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The name in the case file, and that it has to lie beside it."""
    write(tmp_path, CASE)
    (tmp_path / "tests" / "registry.yaml").unlink()

    with pytest.raises(SourceError, match=r"no file `registry.yaml` beside this one"):
        read_case_files(tmp_path)


def test_a_folder_without_cases_gives_none(tmp_path: Path) -> None:
    """A policy set without tests is no error here; `policy test` makes it one."""
    assert read_case_files(tmp_path) == []
