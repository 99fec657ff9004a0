"""`policyd audit replay` and `policyd audit erase`, over a log that a real node wrote."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pbac.v1 import decision_pb2 as pb
from support.server import Site, make_site, serving, stub

from policyd.canonical import canonical_json
from policyd.clock import format_instant
from policyd.identity.keys import create_wrapping_key
from policyd.ledger.entry import parse_leaf
from policyd.ledger.keystore import DATABASE

PUPIL_OF_RESEARCHER_1 = """
requesters:
  - {id: researcher-4, organisation: org-university-1,
     identity: {issuer: policyd-dev, subject: researcher-4}, roles: [researcher], status: active}
accreditations:
  - {id: ACC-4, requester: researcher-4, organisation: org-university-1, scheme: dea-accredited-researcher,
     level: provisional, supervisor: researcher-1, from: 2026-01-01, until: 2027-01-01, status: active,
     source: Research Accreditation Service}
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A log with decisions of every kind: released, explained, listed, refused early and late."""
    site = make_site(tmp_path_factory.mktemp("replay") / "data")
    site.apply(PUPIL_OF_RESEARCHER_1)
    with serving(site) as running, site.channel(running.address) as channel:
        ask = stub(channel)
        for number in range(3):
            ask.Check(site.question(number, want_receipt=True), timeout=10)
        ask.Explain(pb.ExplainRequest(check=site.question("explained")), timeout=10)
        listing = pb.ListFieldsRequest(
            request_id="listing",
            requester_token=site.token(),
            agreement_id="DS00101",
            purposes=["academic-research"],
            action=pb.ACTION_RELEASE,
            table="KS4",
        )
        ask.ListFields(listing, timeout=10)
        ask.Check(site.question("nobody", requester_token="x.y.z"), timeout=10)  # noqa: S106  # no token
        ask.Check(site.question("odd", fields=["A.b", "SC_Pupil.Gender_SPR19"]), timeout=10)
        ask.Check(site.question("elses", agreement_id="DS00999"), timeout=10)
        for other in ("researcher-3", "researcher-4"):
            ask.Check(site.question(other, requester_token=site.token(other)), timeout=10)
        with site.channel(running.address, service="npd-closed") as closed:
            token = site.token(service="npd-closed")
            stub(closed).Check(site.question("closed", requester_token=token), timeout=10)
    return site


@pytest.fixture
def site(written: Site, tmp_path: Path) -> Site:
    """A copy of the data directory, which a test may change."""
    data = Path(shutil.copytree(written.data, tmp_path / "data"))
    return Site(replace(written.config, data=data))


def decisions(site: Site) -> list[dict[str, Any]]:
    return [leaf for leaf in site.leaves() if leaf["kind"] == "decision"]


def change(site: Site, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(site.config.ledger / "ledger.db", isolation_level=None)) as connection:
        connection.execute(statement, values)


def test_all_decisions_replay(run: Any, site: Site) -> None:
    """Every decision that the node made comes out the same from files alone."""
    result = run("audit", "replay", site.config.ledger, "--all")

    assert result.exit_code == 0, result.output
    assert "11 replayed: 11 same, 0 different, 0 erased, 0 unreadable" in result.stdout


def test_a_node_may_be_running_meanwhile(run: Any, site: Site) -> None:
    """Replay reads; it takes nothing from the node that writes."""
    with serving(site) as running, site.channel(running.address) as channel:
        answer = stub(channel).Check(site.question("live"), timeout=10)

        result = run("audit", "replay", site.config.ledger, answer.decision_id)

    assert (result.exit_code, "1 replayed: 1 same" in result.stdout) == (0, True), result.output


def test_single_decisions_and_later_ones_are_chosen(run: Any, site: Site) -> None:
    """By id, or from an instant on."""
    chosen = [leaf["decision_id"] for leaf in decisions(site)][2:4]
    future = format_instant(decisions(site)[-1]["at"] + 1)

    assert "2 replayed: 2 same" in run("audit", "replay", site.config.ledger, *chosen).stdout
    since = run("audit", "replay", site.config.ledger, "--all", "--since", future)
    assert (since.exit_code, "0 replayed" in since.stdout) == (0, True)
    assert (
        "11 replayed" in run("audit", "replay", site.config.ledger, "--all", "--since", "2020-01-01").stdout
    )


def test_a_difference_is_printed_and_ends_with_1(run: Any, site: Site) -> None:
    """A record that says otherwise than its detail gives is named with the part that differs."""
    leaf = decisions(site)[1]
    wrong = canonical_json({**leaf, "outcome": "withhold"})
    change(site, "UPDATE record SET leaf = ? WHERE decision_id = ?", wrong, leaf["decision_id"])

    result = run("audit", "replay", site.config.ledger, "--all")

    assert result.exit_code == 1
    assert f"DIFFERENT record 5, decision {leaf['decision_id']}" in result.stdout
    assert '    outcome: recorded "withhold", replayed "release"' in result.stdout
    assert "10 same, 1 different" in result.stdout


def test_a_changed_policy_set_cannot_pass_for_the_old_one(run: Any, site: Site) -> None:
    """The set is named by digest; one that was edited where it is kept decides nothing any more."""
    (kept,) = site.config.policies.iterdir()
    rules = next((kept / "rules").glob("*.yaml"))
    rules.write_text(rules.read_text("utf-8").replace("why: ", "why: Indeed, ", 1), "utf-8")

    result = run("audit", "replay", site.config.ledger, "--all")

    assert (result.exit_code, "11 unreadable" in result.stdout) == (1, True)
    assert "restore it from a copy" in result.stdout


def test_json_has_the_documented_keys(run: Any, site: Site) -> None:
    """One object with counts, and each difference."""
    document = json.loads(run("audit", "replay", site.config.ledger, "--all", "--json").stdout)

    assert list(document) == [
        *("origin", "replayed", "same", "different", "erased", "unreadable"),
        *("missing_without_erasure", "not_found", "differences"),
    ]
    assert (document["replayed"], document["same"], document["differences"]) == (11, 11, [])


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 2, "give the ids of decisions, or --all"),
        (("--all", "some-id"), 2, "give the ids of decisions, or --all"),
        (("some-id", "--since", "2026-01-01"), 2, "--since goes with --all"),
        (("--all", "--since", "yesterday"), 2, "`yesterday` is not an instant"),
        (("some-id",), 1, "no decision `some-id` in this log"),
    ],
    ids=["nothing", "both", "since", "instant", "unknown"],
)
def test_wrong_usage_of_replay_is_said(
    run: Any, site: Site, arguments: tuple[str, ...], code: int, text: str
) -> None:
    """What does not go together, and a decision that is not there."""
    result = run("audit", "replay", site.config.ledger, *arguments)

    assert (result.exit_code, text in result.stderr) == (code, True), result.output


def test_another_master_key_reads_nothing(run: Any, site: Site, tmp_path: Path) -> None:
    """The key is named as wrong; it is no matter of the records."""
    create_wrapping_key(tmp_path / "other.key")

    result = run("audit", "replay", site.config.ledger, "--all", "--key", tmp_path / "other.key")

    assert (result.exit_code, "wrapped under master key" in result.stderr) == (2, True)


def test_erasing_a_person_leaves_the_log_valid(run: Any, site: Site) -> None:
    """Details and pseudonym are gone, even where nobody had looked who asked; what is left still verifies."""
    before = [(leaf["decision_id"], leaf["requester"]) for leaf in decisions(site)]
    erase = ("audit", "erase", site.config.ledger, "--requester", "researcher-1", "--why", "asked for it")

    planned = run(*erase, "--plan")
    assert (planned.exit_code, "nothing was erased" in planned.stdout) == (0, True), planned.output
    assert "11 same" in run("audit", "replay", site.config.ledger, "--all").stdout
    result = run(*erase, "--backups-until", "2027-01-31", "--who", "officer-1")

    assert result.exit_code == 0, result.output
    # Of eleven, one brought no token and two are of others; one was refused before anybody looked who asks.
    assert "8 details of questions that `researcher-1` asked" in result.stdout
    assert "made unreadable: 8 details, 1 pseudonyms" in result.stdout
    assert "until 2027-01-31" in result.stdout
    assert [(leaf["decision_id"], leaf["requester"]) for leaf in decisions(site)] == before
    assert run("audit", "verify", site.config.ledger).exit_code == 0
    replayed = run("audit", "replay", site.config.ledger, "--all")
    assert (replayed.exit_code, "3 same, 0 different, 8 erased, 0 unreadable" in replayed.stdout) == (0, True)
    again = run(*erase)
    assert (again.exit_code, "nothing is left to erase" in again.stdout) == (0, True)


def test_an_erasure_is_on_record_without_a_name(run: Any, site: Site) -> None:
    """Intent and outcome, with counts, who erased and why, and when copies die; nobody's id."""
    count = site.count()
    run(
        *("audit", "erase", site.config.ledger, "--requester", "researcher-1", "--why", "asked for it"),
        *("--who", "officer-1", "--backups-until", "2027-01-31"),
    )

    intended, done = site.leaves(count)
    assert (intended["kind"], intended["change"]) == ("state-change", "erasure")
    assert (intended["stage"], done["stage"]) == ("intended", "in-force")
    for leaf in (intended, done):
        told = {name: leaf[name] for name in ("records", "persons", "lost", "backups_until", "who", "why")}
        assert told == {
            "records": 8,
            "persons": 1,
            "lost": False,
            "backups_until": "2027-01-31",
            "who": "officer-1",
            "why": "asked for it",
        }
        assert "researcher" not in json.dumps(leaf)


def test_single_details_are_erased(run: Any, site: Site) -> None:
    """By the id of the decision; the person keeps the pseudonym."""
    chosen = decisions(site)[0]["decision_id"]

    result = run("audit", "erase", site.config.ledger, "--decision", chosen, "--why", "asked for it")

    assert "made unreadable: 1 details, 0 pseudonyms" in result.stdout
    assert "destroy them, or record --backups-until" in result.stdout
    assert "10 same, 0 different, 1 erased" in run("audit", "replay", site.config.ledger, "--all").stdout


def test_a_person_gets_another_pseudonym_afterwards(run: Any, site: Site) -> None:
    """The node starts again, decides, and nothing links the new records to the old ones."""
    old = {leaf["requester"] for leaf in decisions(site)}
    run("audit", "erase", site.config.ledger, "--requester", "researcher-1", "--why", "asked for it")

    with serving(site) as running, site.channel(running.address) as channel:
        stub(channel).Check(site.question("after"), timeout=10)

    new = decisions(site)[-1]["requester"]
    assert new
    assert new not in old


def test_a_supervisor_in_details_of_others_is_said(run: Any, site: Site) -> None:
    """What others asked stays readable, although it names the person; the operator is told how much it is."""
    erase = ("audit", "erase", site.config.ledger, "--why", "asked for it", "--plan", "--requester")

    supervisor, nobody = run(*erase, "researcher-1").stdout, run(*erase, "researcher-2").stdout

    assert "1 details of questions that others asked name `researcher-1`" in supervisor
    assert "0 details of questions that `researcher-2` asked" in nobody
    assert "others asked" not in nobody
    assert "the registry still names the person" in nobody


def test_a_running_node_refuses_the_erasure(run: Any, site: Site) -> None:
    """Keys in memory would outlive it; the log's lock says that a node runs."""
    with serving(site):
        result = run(
            "audit", "erase", site.config.ledger, "--requester", "researcher-1", "--why", "asked for it"
        )

    assert (result.exit_code, "another process has the log" in result.stderr) == (4, True)
    assert "11 same" in run("audit", "replay", site.config.ledger, "--all").stdout


def test_details_that_vanish_without_an_erasure_are_found(run: Any, site: Site) -> None:
    """A key that somebody deletes behind policyd's back is no erasure, and replay ends with 1."""
    with closing(sqlite3.connect(site.config.ledger / DATABASE, isolation_level=None)) as connection:
        connection.execute("DELETE FROM record_key")

    result = run("audit", "replay", site.config.ledger, "--all")

    assert (result.exit_code, "11 details are missing and no erasure" in result.stderr) == (1, True)


def test_lost_keys_are_put_on_record(run: Any, site: Site) -> None:
    """Without its keys a node does not start; once the loss is on record it does."""
    erase = ("audit", "erase", site.config.ledger, "--lost", "--why", "the disk failed")
    there = run(*erase)
    assert (there.exit_code, "is there: move it away first" in there.stderr) == (1, True)
    for path in site.config.ledger.glob(f"{DATABASE}*"):
        path.unlink()

    result = run(*erase)

    assert (result.exit_code, "the keys of 11 details are lost" in result.stdout) == (0, True), result.output
    replayed = run("audit", "replay", site.config.ledger, "--all")
    assert (replayed.exit_code, "11 erased" in replayed.stdout) == (0, True)
    with serving(site) as running, site.channel(running.address) as channel:
        stub(channel).Check(site.question("after"), timeout=10)
    assert "1 same" in run("audit", "replay", site.config.ledger, "--all").stdout
    assert parse_leaf(canonical_json(site.leaves()[-2]))["lost"] is True


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--why", "x"), "give one of --requester, --decision and --lost"),
        (("--why", "x", "--requester", "r", "--lost"), "give one of"),
        (("--why", "x", "--lost", "--plan"), "--plan goes with --requester or --decision"),
        (("--requester", "researcher-1"), "Missing option '--why'"),
        (("--requester", "researcher-1", "--why", "Researcher-1 asked"), "names the person"),
        (("--decision", "some-id", "--why", "x"), "no decision `some-id`"),
        (("--requester", "researcher-1", "--why", "two\nlines"), "one line"),
        (("--requester", "researcher-1", "--why", "x", "--backups-until", "soon"), "not an instant"),
    ],
    ids=["nothing", "two", "lost", "why", "name", "unknown", "lines", "date"],
)
def test_wrong_usage_of_erase_is_said(run: Any, site: Site, arguments: tuple[str, ...], text: str) -> None:
    """Nothing is erased unless it is clear what, and why, in words that may stay for ever."""
    result = run("audit", "erase", site.config.ledger, *arguments)

    assert (result.exit_code, text in result.stderr) == (2, True), result.output
    assert "11 same" in run("audit", "replay", site.config.ledger, "--all").stdout


def test_a_directory_that_is_not_the_nodes_log_is_refused(run: Any, site: Site) -> None:
    """Erasing works on the log of the node that is set up there, and on no copy."""
    other = Path(shutil.copytree(site.config.ledger, site.data / "nodes" / "node-2"))

    result = run("audit", "erase", other, "--requester", "researcher-1", "--why", "x")

    assert (result.exit_code, "is not the log of the node" in result.stderr) == (2, True)
