"""`policyd check`: every way it can end, for people and for machines."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from policyd_client import ExplainedCheck, ExplainedCondition, ExplainedGroup, Explanation
from support.server import Site

from policyd.cli.explanation import show_explanation
from policyd.devsetup import LOGS_FILE
from policyd.identity.keys import create_signing_key
from policyd.ledger.note import Verifier
from policyd.reasons import Reason
from policyd.server import Server

GOOD = ("--agreement", "DS00101", "--purpose", "academic-research", "--year", "2018")


@pytest.fixture
def check(run: Any, site: Site, server: Server) -> Any:
    """Run `policyd check` against the node of these tests."""
    return lambda *arguments: run("check", "--data", site.data, "--address", server.address, *arguments)


def test_released_in_full_ends_with_0(check: Any) -> None:
    """Nothing withheld: exit code 0, and the answer says what to do and where it is recorded."""
    result = check(*GOOD, "--field", "KS4.KS4_ATT8")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("RELEASE  decision ")
    assert "KS4.KS4_ATT8  release" in lines[1]
    assert any(line.startswith("  must: leave out sealed records") for line in lines)
    assert lines[-1].startswith("  ledger policyd.test/policyd/node-1 index ")
    assert re.search(r", proved in the checkpoint of \d+ records$", lines[-1])
    assert result.stderr == ""


def test_something_withheld_ends_with_3(check: Any) -> None:
    """One name withheld of two: exit code 3, each name with its own verdict."""
    result = check(*GOOD, "--field", "KS4.KS4_ATT8", "--field", "SC_Pupil.SENprovision_SPR19")

    assert result.exit_code == 3
    assert result.stdout.startswith("PARTIAL")
    assert "SC_Pupil.SENprovision_SPR19  withhold FIELD_NOT_IN_AGREEMENT  (gate:7:" in result.stdout


def test_everything_withheld_names_no_obligation(check: Any) -> None:
    """A refusal has nothing to be met."""
    result = check(*GOOD, "--field", "SC_Pupil.*")

    assert result.exit_code == 3
    assert "FIELD_WILDCARD" in result.stdout
    assert "must:" not in result.stdout


def test_json_has_the_documented_keys(check: Any) -> None:
    """`--json` prints one object whose keys a script can rely on."""
    result = check(*GOOD, "--field", "SC_Pupil.DOB_SPR19", "--used-field", "KS4.KS4_ATT8", "--json")

    document = json.loads(result.stdout)
    assert list(document) == [
        "outcome",
        "decision_id",
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
    assert set(document["verdicts"]) == {"SC_Pupil.DOB_SPR19", "KS4.KS4_ATT8"}
    for verdict in document["verdicts"].values():
        assert list(verdict) == ["effect", "reason", "rule", "transform"]
        assert verdict["reason"] in set(Reason)
    assert list(document["ledger"]) == ["origin", "index", "checkpoint"]


REFUSED_AS_A_WHOLE = """\
the question
  passed          gate:1:data-service
      the data service is registered and active
  passed          gate:1:operator
      the organisation that runs the data service is active and verified
  passed          gate:2:token
      the requester's token holds
  passed          gate:2:requester
      the requester is registered and active
  passed          gate:2:organisation
      the requester's organisation is active and verified
  passed          gate:3:agreement
      the agreement is in force for this requester and data service
  passed          gate:3:setting
      the agreement names the data service's setting
  failed          gate:3:action  ACTION_NOT_APPROVED
      the agreement names the action
"""
RULES = """\
KS4.A, KS4.B, KS4.C and 1 more
  failed          gate:7:years  YEAR_NOT_IN_AGREEMENT  (fields: 2)
      the year is stated
  not-applicable  a-rule  (fields: 4, research)  rules/a.yaml:3
      Because.
      false $.accreditation.status Equals valid: saw expired (registry)
      error $.accreditation.level Equals full: there is none (registry)
not shown: 7 rules about other questions, or beyond the first 200
"""


def test_an_explanation_of_a_refusal_follows_the_decision(check: Any) -> None:
    """`--explain` adds every check of the gates up to the one that refused, word for word."""
    result = check(*GOOD, "--field", "KS4.KS4_ATT8", "--action", "match", "--explain")

    assert result.exit_code == 3
    assert result.stdout.startswith("WITHHOLD  decision ")
    assert result.stdout[result.stdout.index("the question\n") :] == REFUSED_AS_A_WHOLE


def test_rules_are_printed_with_place_reason_and_what_they_saw(capsys: pytest.CaptureFixture[str]) -> None:
    """A group's names are cut short; a missing value says so."""
    conditions = (
        ExplainedCondition("accreditation.status", "Equals valid", "expired", "registry", "false", 0, 0),
        ExplainedCondition("accreditation.level", "Equals full", "", "registry", "error", 0, 0),
    )
    checks = (
        ExplainedCheck(
            "gate:7:years", "failed", "YEAR_NOT_IN_AGREEMENT", "the year is stated", "", "", 2, ()
        ),
        ExplainedCheck(
            "a-rule", "not-applicable", "NONE", "Because.", "rules/a.yaml:3", "research", 4, conditions
        ),
    )
    group = ExplainedGroup(("KS4.A", "KS4.B", "KS4.C", "KS4.D"), checks)
    decision: Any = None  # is not printed here

    show_explanation(Explanation(decision, (), (group,), 7))

    assert capsys.readouterr().out == RULES


def test_an_explanation_says_why_each_name_came_out_as_it_did(check: Any) -> None:
    """The deciding rule is there with its place, and as JSON the whole tree with its keys."""
    arguments = (*GOOD, "--field", "KS4.KS4_ATT8", "--field", "SC_Pupil.NoSuch", "--explain")

    text = check(*arguments).stdout
    document = json.loads(check(*arguments, "--json").stdout)

    rule = document["verdicts"]["KS4.KS4_ATT8"]["rule"]
    assert f"  passed          {rule}  (fields: 1, academic-research)  rules/" in text
    assert "  failed          gate:6:field  FIELD_UNKNOWN  (fields: 1)" in text
    assert list(document["explanation"]) == ["question", "groups", "not_shown"]
    names = [group["names"] for group in document["explanation"]["groups"]]
    assert names == [["KS4.KS4_ATT8"], ["SC_Pupil.NoSuch"]]
    for group in document["explanation"]["groups"]:
        for step in group["checks"]:
            assert list(step) == [
                *("check", "result", "reason", "why", "place", "purpose", "fields", "conditions"),
            ]


@pytest.mark.parametrize(
    ("arguments", "reason", "hint"),
    [
        (("--requester", "researcher-99"), "REQUESTER_UNKNOWN", "registry list --data"),
        (("--data-service", "npd-nowhere"), "DATA_SERVICE_UNKNOWN", "data service `npd-nowhere` is not reg"),
        (("--agreement", "DS00999"), "AGREEMENT_NOT_YOURS", "agreement `DS00999` is not registered, or"),
        (("--requester", "a b"), "REQUESTER_UNVERIFIED", "docs/tokens.md"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_a_likely_slip_comes_with_a_hint(check: Any, arguments: Any, reason: str, hint: str) -> None:
    """Who asks with an unknown name is told where the known ones are listed, on stderr."""
    result = check(*GOOD, "--field", "KS4.KS4_ATT8", *arguments)

    assert result.exit_code == 3
    assert reason in result.stdout
    assert hint in result.stderr


def test_a_token_from_a_file_is_used_as_it_is(check: Any, site: Site, tmp_path: Path) -> None:
    """`--token-file` replaces the locally minted token; a line break at its end does no harm."""
    file = tmp_path / "token"
    file.write_text(site.token() + "\n", "ascii")
    assert check(*GOOD, "--field", "KS4.KS4_ATT8", "--token-file", file).exit_code == 0

    file.write_text("expired", "ascii")
    result = check(*GOOD, "--field", "KS4.KS4_ATT8", "--token-file", file)
    assert result.exit_code == 3
    assert "gate:2:malformed" in result.stdout


@pytest.mark.parametrize("action", ["release", "match", "verify", "count", "link"])
def test_every_action_can_be_asked(check: Any, action: str) -> None:
    """The agreement has release and count; the others are withheld."""
    result = check(*GOOD, "--field", "KS4.KS4_ATT8", "--action", action)

    if action in ("release", "count"):
        assert result.exit_code == 0
    else:
        assert (result.exit_code, "ACTION_NOT_APPROVED" in result.stdout) == (3, True)


def test_no_node_there_ends_with_4(run: Any, site: Site) -> None:
    """Unreachable is no decision."""
    result = run(
        *("check", "--data", site.data, "--address", "127.0.0.1:1", "--deadline", "0.3", *GOOD),
        *("--field", "KS4.KS4_ATT8"),
    )

    assert result.exit_code == 4
    assert result.stdout == ""
    assert result.stderr.startswith("no decision: policyd was unavailable for 0.3 s")


def test_without_the_trusted_logs_nothing_is_asked(run: Any, site: Site, tmp_path: Path) -> None:
    """The file is named, with the command that makes it; a decision without proof is no way out."""
    data = shutil.copytree(site.data, tmp_path / "data")
    (data / LOGS_FILE).unlink()

    result = run("check", "--data", data, *GOOD, "--field", "KS4.KS4_ATT8")

    assert result.exit_code == 2
    assert f"{LOGS_FILE}` is missing: `policyd dev --data {data}` makes it" in result.stderr


def test_a_log_with_another_key_is_no_decision(run: Any, site: Site, server: Server, tmp_path: Path) -> None:
    """A node that signs with a key that nobody pinned has decided nothing."""
    data = shutil.copytree(site.data, tmp_path / "data")
    other = Verifier(site.config.origin, create_signing_key(tmp_path / "other.key").private.public_key())
    (data / LOGS_FILE).write_text(f"log {other.vkey}\n", "utf-8")

    result = run("check", "--data", data, "--address", server.address, *GOOD, "--field", "KS4.KS4_ATT8")

    assert result.exit_code == 4
    assert "is not signed by the pinned key" in result.stderr


def test_a_malformed_question_ends_with_4_and_the_servers_words(check: Any) -> None:
    """INVALID_ARGUMENT is no decision either; the text says which part is wrong."""
    result = check(*GOOD, "--field", "KS4.KS4_ATT8", "--field", "SC_Pupil.Gendér")

    assert result.exit_code == 4
    assert "INVALID_ARGUMENT: fields[1] is not a field name" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--deadline", "0"), "a deadline is a number of seconds above 0"),
        (("--deadline", "nan"), "a deadline is a number of seconds above 0"),
        (("--address", "nowhere"), "target `nowhere` is not host:port"),
        (("--year", "spring"), "'spring' is not a valid integer"),
        (("--action", "read"), "'read' is not one of 'release'"),
        (("--token-file", "no-such-file"), "does not exist"),
        (("--data-service", "a b"), "cannot name a data service"),
        (("--data-service", "../x"), "cannot name a data service"),
        (("--data-service", ""), "cannot name a data service"),
        (("--no-such-option",), "No such option"),
    ],
    ids=str,
)
def test_wrong_usage_ends_with_2_and_says_what(check: Any, arguments: Any, text: str) -> None:
    """Each wrong argument is named; nothing is asked."""
    result = check(*GOOD, "--field", "KS4.KS4_ATT8", *arguments)

    assert result.exit_code == 2
    assert text in result.stderr


def test_a_token_file_that_is_no_text_ends_with_2(check: Any, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are the wrong file."""
    file = tmp_path / "token"
    file.write_bytes(b"\xff\xfe\x91")

    result = check(*GOOD, "--field", "KS4.KS4_ATT8", "--token-file", file)

    assert result.exit_code == 2
    assert "is not UTF-8 text" in result.stderr


def test_without_an_agreement_nothing_is_asked(check: Any) -> None:
    """The agreement is mandatory."""
    result = check("--field", "KS4.KS4_ATT8")

    assert (result.exit_code, "Missing option '--agreement'" in result.stderr) == (2, True)


def test_two_checks_at_once_do_not_disturb_each_other(check: Any, site: Site) -> None:
    """A check leaves no certificate or key behind that another could pick up half written."""
    before = sorted(path for path in site.data.rglob("*") if "nodes" not in path.parts)

    assert check(*GOOD, "--field", "KS4.KS4_ATT8").exit_code == 0

    assert sorted(path for path in site.data.rglob("*") if "nodes" not in path.parts) == before


@pytest.mark.parametrize(
    "command",
    [
        ("check", "--agreement", "DS00101"),
        ("serve",),
        ("registry", "list"),
        ("registry", "apply", "registry.yaml"),
    ],
    ids=" ".join,
)
def test_a_data_directory_that_is_not_there_says_how_to_make_one(
    run: Any, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Every command that needs one ends with 2 and names `policyd dev`."""
    missing = tmp_path / "nowhere"

    result = run(*command, "--data", missing)

    assert result.exit_code == 2
    assert f"no node is set up in `{missing}`: `policyd dev --data {missing}`" in result.stderr
    assert not missing.exists()
