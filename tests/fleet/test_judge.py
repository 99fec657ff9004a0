"""The judge finds each fault that is planted in a history, and nothing in a history that is right."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.history import (
    Answered,
    Asked,
    Began,
    History,
    Recorded,
    Released,
    SealAsked,
    SealReturned,
    from_dict,
    read,
    to_dict,
)
from fleet.judge import judge

VECTORS = sorted((Path(__file__).parents[1] / "vectors" / "histories").glob("*.yaml"))
CASES = [case for file in VECTORS for case in yaml.safe_load(file.read_text("utf-8"))]
NAMES = [case["name"] for case in CASES]
PLANTED = {
    "decision": "a node decides though its lease has run out",
    "made-late": "a question that waited in a paused node is answered from before the pause",
    "row": "a client leaves out the wrong record",
    "row-of-old-answer": "an answer from before the seal is used when no answer is out any more",
    "table": "a table that is behind is a fault before any seal is missed",
    "back": "a client accepts an answer from before one that it held",
    "unrecorded": "an answer that no ledger has",
    "unfounded": "rows leave without a decision",
}


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_judge_finds_what_is_planted(case: dict[str, Any]) -> None:
    """Exactly the rules that a history breaks are named, whatever the order in which its events came."""
    events = [from_dict(entry) for entry in case["events"]]
    shuffled = list(events)
    random.Random(5).shuffle(shuffled)  # noqa: S311  # the same order in each run

    for ordered in (events, shuffled):
        verdict = judge(ordered)
        assert sorted(fault.rule for fault in verdict.faults) == case["want"], str(verdict)
        for what, number in case.get("counts", {}).items():
            assert verdict.counts[what] == number


def test_every_rule_is_planted() -> None:
    """No rule of the judge is without a history that breaks it."""
    wanted = {rule for case in CASES for rule in case["want"]}
    by_name = {case["name"]: case["want"] for case in CASES}

    assert wanted == set(PLANTED)
    assert all(rule in by_name[name] for rule, name in PLANTED.items())
    assert len(set(NAMES)) == len(NAMES)


def test_a_fault_names_its_events() -> None:
    """Whoever reads a fault sees the seal, the question, the answer and the rows that it is about."""
    case = next(case for case in CASES if case["name"] == PLANTED["decision"])

    faults = judge(map(from_dict, case["events"])).faults

    for fault in faults:
        text = str(fault)
        assert "`node-2`" in text or "`p1`" in text
        assert "'seal-returned'" in text
        assert "'asked'" in text
        assert "100 ms" in text


def test_a_history_survives_its_file(tmp_path: Path) -> None:
    """What is kept for whoever looks into a fault is judged as it was."""
    for case in CASES:
        events = [from_dict(entry) for entry in case["events"]]
        History(events).save(tmp_path / "history.jsonl")
        assert list(read(tmp_path / "history.jsonl")) == events


@pytest.mark.parametrize(
    "entries",
    [
        [{"at": 1, "event": "seal-returned", "seal": "s1", "state": "in_force", "epoch": 1}],
        [{"at": 1, "event": "lift-asked", "seal": "s1"}],
        [
            {
                "at": 1,
                "event": "answered",
                "client": "c",
                "query": "q",
                "node": "n",
                "decision": "d",
                "epoch": 1,
            }
        ],
        [{"at": 1, "event": "asked", "client": "c", "query": "q"}] * 2,
        [{"at": 1, "event": "recorded", "node": "n", "decision": "d", "epoch": 1}] * 2,
        [to_dict(SealAsked(1.0, "s", "p")), to_dict(SealReturned(2.0, "s", "in_force"))],
        [to_dict(SealAsked(1.0, "s", "p")), to_dict(SealReturned(2.0, "s", "in force", 1))],
        [to_dict(SealAsked(3.0, "s", "p")), to_dict(SealReturned(2.0, "s", "in_force", 1))],
    ],
    ids=[
        "no seal",
        "no seal to lift",
        "no question",
        "asked twice",
        "recorded twice",
        "no epoch",
        "no state",
        "too early",
    ],
)
def test_a_history_that_contradicts_itself_is_refused(entries: list[dict[str, Any]]) -> None:
    """A recorder that lost events must not pass for a fleet that did well."""
    with pytest.raises(ValueError):
        judge(map(from_dict, entries))


@pytest.mark.parametrize("entry", [{"event": "sealed"}, {"at": 1, "event": "asked", "client": "c", "q": 1}])
def test_an_event_that_is_not_known_is_refused(entry: dict[str, Any]) -> None:
    """A misspelt event would be one that is never judged."""
    with pytest.raises(ValueError, match="event"):
        from_dict(entry)


def test_two_faults_among_thousands_of_seals_are_found() -> None:
    """A long history is judged as a short one is, and each fault of it is found."""
    seals, each = 1_000, 20
    history = History()
    others = frozenset(f"other-{number}" for number in range(100))
    for number in range(seals):
        at, epoch = float(number), number + 2
        history.add(SealAsked(at, f"s{number}", f"p{number}"))
        history.add(SealReturned(at + 0.1, f"s{number}", "in_force", epoch))
        for query in range(each):
            when, client, name = at + 0.2 + query * 0.01, f"c{query}", f"{number}-{query}"
            late = (number, query) == (700, 3)
            got = epoch - late
            records = others | {f"p{number // 2}"} if (number, query) == (999, 19) else others
            history.add(Asked(when, client, name))
            history.add(Answered(when + 0.001, client, name, "node-1", name, got, got))
            history.add(Began(when + 0.002, client, name, got))
            history.add(Released(when + 0.003, client, name, history.same(records)))
            history.add(Recorded(when, "node-1", name, got))

    verdict = judge(history.events)

    assert verdict.counts["answered"] == seals * each
    assert [fault.rule for fault in verdict.faults] == ["decision", "row"]
