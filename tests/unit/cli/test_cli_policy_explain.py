"""`policyd policy explain`: why a case or a question comes out as it does, and what would change it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.server import POLICY
from support.tiny_policy import tiny_files, write_files

LONG = ("--search-ms", 60_000)
ASK = (
    *("--requester", "researcher-1", "--agreement", "DS00101", "--purpose", "academic-research"),
    *("--now", "2026-03-02T10:00:00Z"),
)


def lines_after(text: str, start: str) -> list[str]:
    """Return the lines that follow the one that begins with ``start``."""
    lines = text.splitlines()
    return lines[next(n for n, line in enumerate(lines) if line.startswith(start)) + 1 :]


def test_a_case_is_explained_with_what_would_have_to_change(run: Any) -> None:
    """The explanation of `check --explain`, then each set of changes under its number; exit code 3."""
    case = "an agreement that names other data services gives nothing"

    result = run("policy", "explain", POLICY, "--case", case, *LONG)

    assert result.exit_code == 3
    assert result.stdout.startswith("WITHHOLD  at ")
    assert "  failed          gate:3:agreement  AGREEMENT_NOT_YOURS" in result.stdout.splitlines()
    assert lines_after(result.stdout, "what would have to change for SC_Pupil.Ethnicity_SPR19") == [
        "  each of these would release it, and nothing smaller would",
        "  1.  data service `npd-direct` runs in the setting `secure-research`",
        "      and agreement `DS00102` names the data service `npd-direct`",
        "  2.  data service `npd-direct` runs in the setting `secure-research`",
        "      and the question is asked under agreement `DS00101`",
    ]


def test_what_is_released_in_full_ends_with_0_and_needs_no_change(run: Any) -> None:
    """The question comes from options and the registry of the policy set's tests."""
    result = run("policy", "explain", POLICY, *ASK, "--field", "SC_Pupil.Ethnicity_SPR19")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("RELEASE  at 2026-03-02T10:00:00Z, recorded nowhere\n")
    assert "must: suppress cells below 10 pupils" in result.stdout
    assert "what would have to change" not in result.stdout


def test_json_has_the_documented_keys_and_says_the_same(run: Any) -> None:
    """Decision, explanation, and counterfactuals whose changes name entry, id, member and values."""
    asked = ("policy", "explain", POLICY, *ASK, "--field", "KS4.KS4_GRADE", "--field", "SC_Pupil.Nationality")

    result = run(*asked, *LONG, "--json")

    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert list(document) == [
        *("outcome", "now", "verdicts", "obligations", "policy_digest", "policy_version"),
        *("explanation", "counterfactuals"),
    ]
    assert document["verdicts"]["KS4.KS4_GRADE"]["effect"] == "withhold"
    assert list(document["explanation"]) == ["question", "groups", "not_shown"]
    found = {each["fields"][0]: each for each in document["counterfactuals"]}
    assert (found["SC_Pupil.Nationality"]["search"], found["SC_Pupil.Nationality"]["sets"]) == ("nothing", [])
    change = found["KS4.KS4_GRADE"]["sets"][0][0]
    assert list(change) == ["entry", "id", "member", "values", "text"]
    assert change["text"] in run(*asked, *LONG).stdout


def test_another_registry_file_is_read_like_the_one_to_apply(run: Any, tmp_path: Path) -> None:
    """What the file says counts, with the mistakes of a registry file reported as such."""
    text = (Path(POLICY) / "tests" / "registry.yaml").read_text("utf-8")
    mine, wrong = tmp_path / "mine.yaml", tmp_path / "wrong.yaml"
    mine.write_text(text.replace("id: DS00101", "id: DS77777"), "utf-8")
    wrong.write_text("requesters: [{id: 3}]\n", "utf-8")
    asked = [*("policy", "explain", POLICY, *ASK, "--field", "SC_Pupil.Ethnicity_SPR19", "--registry")]
    renamed = ["DS77777" if each == "DS00101" else each for each in asked]

    assert run(*renamed, mine).exit_code == 0
    refused = run(*asked, wrong)
    assert refused.exit_code == 1
    assert f"{wrong}:1:" in refused.stderr


def test_a_search_without_time_says_that_there_is_more(run: Any) -> None:
    """With 0 ms nothing is tried, and the answer names the option that gives it longer."""
    result = run("policy", "explain", POLICY, *ASK, "--field", "KS4.KS4_GRADE", "--search-ms", 0)

    assert lines_after(result.stdout, "what would have to change for KS4.KS4_GRADE") == [
        "  more not searched; give it longer with --search-ms"
    ]


def test_a_setting_chooses_the_data_service(run: Any) -> None:
    """Asked through a service in another setting than the agreement's, the gate says so."""
    asked = ("policy", "explain", POLICY, *ASK, "--field", "SC_Pupil.Ethnicity_SPR19")

    result = run(*asked, "--setting", "direct-supply", *LONG)

    assert "SETTING_NOT_APPROVED" in result.stdout
    assert "data service `npd-direct` runs in the setting `secure-research`" in result.stdout


FIELD = ("--field", "KS4.KS4_ATT8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--case", "research matches nobdy"), "did you mean `research matches nobody`?"),
        (("--case", "research matches nobody", *FIELD), "`--case` brings its whole question"),
        (ASK, "name a field with `--field`"),
        ((*ASK[2:], *FIELD), "name the requester with `--requester`"),
        ((*ASK, *FIELD, "--requester", "researcher-11111"), "no requester `researcher-11111`"),
        ((*ASK, *FIELD, "--agreement", "DS0010"), "no agreement `DS0010` in the registry file; did you mean"),
        ((*ASK, *FIELD, "--data-service", "npd-secur"), "did you mean `npd-secure`?"),
        ((*ASK, *FIELD, "--setting", "direct"), "no data service runs in the setting `direct`"),
        ((*ASK, *FIELD, "--setting", "lookup", "--data-service", "npd-secure"), "give one"),
        ((*ASK, *FIELD, "--now", "tomorrow"), "`tomorrow` is not an instant"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_slip_is_named_with_what_was_likely_meant(
    run: Any, arguments: tuple[object, ...], message: str
) -> None:
    """Exit code 2 and one line that says what to write."""
    result = run("policy", "explain", POLICY, *arguments)

    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]


def test_a_case_name_given_twice_is_not_guessed(run: Any, tmp_path: Path) -> None:
    """Both places are named; and without a registry file beside the tests one has to be given."""
    facts = {"tests/facts.yaml": "organisations: []\n"}
    cases = "registry: facts.yaml\ncases:\n" + 2 * (
        "  - name: twice\n"
        "    ask: {data_service: unregistered, requester: nobody, agreement: AG-1, purposes: [academic],\n"
        "          fields: [Pupil.Fsm]}\n"
        "    now: 2026-03-01\n"
        "    want: {outcome: withhold, verdicts: {Pupil.Fsm: withhold DATA_SERVICE_UNKNOWN}}\n"
    )
    tiny = write_files(tmp_path / "tiny", {**tiny_files(), **facts, "tests/cases.yaml": cases})

    twice = run("policy", "explain", tiny, "--case", "twice")
    bare = run("policy", "explain", tiny, *ASK, *FIELD)

    assert (twice.exit_code, bare.exit_code) == (2, 2)
    assert "cases.yaml:3:5" in twice.stderr
    assert "cases.yaml:8:5" in twice.stderr
    assert "name a registry file with `--registry`" in bare.stderr
