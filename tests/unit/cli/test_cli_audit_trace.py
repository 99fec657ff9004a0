"""`policyd audit trace`: from a trace id to its decisions, whatever stands beside the log."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.server import Site, make_site, serving, stub

from policyd.ledger.traces import INDEX

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, dict[str, str]]:
    """A closed log of five decisions, two of them in one trace; trace ids by decision id."""
    site = make_site(tmp_path_factory.mktemp("trace") / "data")
    answers = []
    with serving(site) as running, site.channel(running.address) as channel:
        for number in range(5):
            metadata = [("traceparent", f"00-{TRACE}-{PARENT}-00")] if number in (1, 3) else []
            answers.append(stub(channel).Check(site.question(number), timeout=10, metadata=metadata))
    return site, {answer.decision_id: answer.trace_id for answer in answers}


@pytest.fixture
def log(written: tuple[Site, dict[str, str]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0].config.ledger, tmp_path / "log"))


def decisions(result: Any) -> list[str]:
    assert result.exit_code == 0, result.output
    return [each["decision_id"] for each in json.loads(result.stdout)["decisions"]]


@pytest.mark.parametrize("options", [[], ["--scan"]])
def test_every_decision_of_a_trace_is_found_in_order(
    run: Any, log: Path, written: tuple[Site, dict[str, str]], options: list[str]
) -> None:
    """From the id that the answer carried to the decisions, each time alike, and by reading all."""
    by_id = written[1]
    want = [each for each, trace in by_id.items() if trace == TRACE]
    assert len(want) == 2
    for _ in range(2):
        assert decisions(run("audit", "trace", log, TRACE, "--json", *options)) == want
    for decision_id, trace in by_id.items():
        assert decision_id in decisions(run("audit", "trace", log, trace, "--json", *options))

    assert (log / INDEX).exists() is not bool(options)


def test_output_for_people_has_what_leads_on(
    run: Any, log: Path, written: tuple[Site, dict[str, str]]
) -> None:
    """Record, decision, span and parent are shown; the id may be a whole traceparent, in any case."""
    result = run("audit", "trace", log, f"00-{TRACE.upper()}-{PARENT}-00")

    assert result.exit_code == 0
    for decision_id, trace in written[1].items():
        assert (f"decision    {decision_id}" in result.stdout) is (trace == TRACE)
    assert result.stdout.count(f"below {PARENT}") == 2
    assert "Check release: " in result.stdout


def test_records_of_the_decision_log_standard_are_lines(run: Any, log: Path) -> None:
    """--adl prints one JSON object a line, with the mandatory fields of the standard."""
    lines = run("audit", "trace", log, TRACE, "--adl").stdout.splitlines()

    records = [json.loads(line) for line in lines]
    assert [each["trace_id"] for each in records] == [TRACE, TRACE]
    assert {each["event_name"] for each in records} == {"adl.access_evaluation"}
    assert {each["parent_span_id"] for each in records} == {PARENT}


def test_unknown_trace_ends_with_1(run: Any, log: Path) -> None:
    """Nothing found is said, with the log that was looked in."""
    result = run("audit", "trace", log, "ab" * 16)

    assert result.exit_code == 1
    assert f"no record of trace `{'ab' * 16}` in the log of " in result.stderr


@pytest.mark.parametrize("text", ["", "0" * 32, "ab" * 15, "xy" * 16, "ab" * 16 + "-00"])
def test_what_is_no_trace_id_is_wrong_usage(run: Any, log: Path, text: str) -> None:
    """An id of another form is refused before anything is read."""
    assert run("audit", "trace", log, text).exit_code == 2


def test_new_records_are_found_after_the_index_was_made(
    run: Any, site: Site, server: Any, tmp_path: Path
) -> None:
    """The index catches up each time, also beside a log that is in use."""
    trace = "ab" * 15 + "cd"
    metadata = [("traceparent", f"00-{trace}-{PARENT}-01")]
    with site.channel(server.address) as channel:
        for count in (1, 2):
            stub(channel).Check(site.question(f"trace-{count}"), timeout=10, metadata=metadata)
            assert len(decisions(run("audit", "trace", site.config.ledger, trace, "--json"))) == count


def test_index_of_another_log_is_made_again(run: Any, log: Path, site: Site, server: Any) -> None:
    """An index that was copied from elsewhere hides nothing."""
    run("audit", "trace", site.config.ledger, TRACE)
    shutil.copy(site.config.ledger / INDEX, log / INDEX)

    assert len(decisions(run("audit", "trace", log, TRACE, "--json"))) == 2


def test_index_that_cannot_be_kept_or_lies_costs_no_more_than_time(run: Any, log: Path) -> None:
    """Without an index every record is read; what an index points at wrongly is not shown."""
    (log / INDEX).mkdir()
    assert len(decisions(run("audit", "trace", log, TRACE, "--json"))) == 2
    (log / INDEX).rmdir()
    (log / INDEX).write_bytes(b"no database at all, but long enough to be looked at as one" * 20)
    assert len(decisions(run("audit", "trace", log, TRACE, "--json"))) == 2
    (log / INDEX).unlink()
    assert len(decisions(run("audit", "trace", log, TRACE, "--json"))) == 2
    with closing(sqlite3.connect(log / INDEX)) as connection:
        connection.execute("INSERT INTO trace VALUES (?, 0), (?, 10000)", (TRACE, TRACE))
        connection.commit()

    assert len(decisions(run("audit", "trace", log, TRACE, "--json"))) == 2
