"""Answers that must not be acted on, over the wire: tests/vectors/client/hostile_answers.yaml."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from client_rig import SIGNED, Decisions, good_answer
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from pbac.v1 import decision_pb2 as pb
from policyd_client import UNEXPECTED_ANSWER, Decision, Effect, Outcome, PolicyClient, Question, Withheld
from policyd_client.reading import read_answer

TABLE = yaml.safe_load(
    (Path(__file__).parents[2] / "vectors/client/hostile_answers.yaml").read_text(encoding="utf-8")
)
QUESTION = {key: value for key, value in TABLE["question"].items() if key != "at_least_epoch"}
UNKNOWN_FIELD = bytes.fromhex("b83e01")


def at(container: Any, path: str) -> Any:
    """Return what is at a dotted path of a JSON value or a message; the empty path is all of it."""
    for step in path.split(".") if path else ():
        if isinstance(container, dict):
            container = container[step]
        else:
            container = container[int(step)] if step.isdigit() else getattr(container, step)
    return container


def hostile(case: dict[str, Any], request: pb.CheckRequest) -> pb.CheckResponse:
    """Return the answer of one case to `request`."""
    answer = {"request_id": request.request_id, **copy.deepcopy(TABLE["answers"][case["from"]])}
    for path, value in case.get("set", {}).items():
        parent, _, last = path.rpartition(".")
        container = at(answer, parent)
        container[int(last) if last.isdigit() else last] = value
    for path in case.get("drop", []):
        parent, _, last = path.rpartition(".")
        container = at(answer, parent)
        del container[int(last) if last.isdigit() else last]
    message = ParseDict(answer, pb.CheckResponse())
    if "unknown" in case:
        at(message, case["unknown"]).MergeFromString(UNKNOWN_FIELD)
    return message


@pytest.fixture
def ask(serve: Callable[..., str], connect: Callable[..., PolicyClient]) -> Callable[..., Decision]:
    """Ask the table's question of a server that answers as one case says; epoch 41 was seen before."""

    def run(case: dict[str, Any]) -> Decision:
        def check(request: pb.CheckRequest, _context: Any) -> pb.CheckResponse:
            if request.fields == ["first"]:
                epoch = str(TABLE["question"]["at_least_epoch"])
                return good_answer(request, epoch=epoch, obligations=[{"exclude_sealed": {"epoch": epoch}}])
            return hostile(case, request)

        client = connect(serve(decisions=Decisions(check)))
        client.check(**{**QUESTION, "fields": ["first"], "used_fields": []}, requester_token=SIGNED).require()
        return client.check(**QUESTION, requester_token=SIGNED)

    return run


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"].replace(" ", "-"))
def test_a_hostile_answer_withholds_everything_and_says_why(
    case: dict[str, Any], ask: Callable[..., Decision]
) -> None:
    """Whatever is wrong with an answer, every name is withheld and the words of the table are given."""
    decision = ask(case)

    assert case["say"] in decision.unexpected
    assert "\n" not in decision.unexpected
    assert decision.outcome is Outcome.WITHHOLD
    assert {(v.effect, v.reason) for v in decision.verdicts.values()} == {
        (Effect.WITHHOLD, UNEXPECTED_ANSWER)
    }
    assert list(decision.verdicts) == QUESTION["fields"] + QUESTION["used_fields"]
    assert (decision.released, dict(decision.transformed), decision.remaining_s) == ((), {}, 0.0)
    with pytest.raises(Withheld, match="not as expected"):
        decision.require()
    with pytest.raises(Withheld, match="not as expected"):
        decision.use()


@pytest.mark.parametrize("name", ["release", "partial", "withhold"])
def test_the_unchanged_answers_of_the_table_are_accepted(name: str, ask: Callable[..., Decision]) -> None:
    """The table's good answers pass, so that each case fails for what it changes and nothing else."""
    decision = ask({"from": name})

    assert decision.unexpected == ""
    assert decision.outcome == name
    assert decision.decision_id == TABLE["answers"][name]["decision_id"]
    assert (decision.ledger_origin, decision.epoch) == ("policyd.test/node-1", 42)


@pytest.mark.parametrize("path", ["", "receipt"])
def test_unknown_parts_that_only_inform_are_ignored(path: str, ask: Callable[..., Decision]) -> None:
    """A later version may add information to the answer and its receipt; restrictions stand elsewhere."""
    decision = ask({"from": "release", "unknown": path})

    assert decision.unexpected == ""
    assert decision.outcome is Outcome.RELEASE


def test_a_damaged_answer_is_read_without_error_and_never_says_more() -> None:
    """Of 10,000 answers with damaged bytes, none raises, and none releases what the good answer withheld."""
    seed = 20260205
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
    question = Question(**QUESTION, requester_token=SIGNED, request_id="question-1")
    accepted = refused = 0

    for _ in range(10_000):
        wire = bytearray(
            hostile({"from": "partial"}, pb.CheckRequest(request_id="question-1")).SerializeToString()
        )
        for _ in range(chance.randint(1, 3)):
            wire[chance.randrange(len(wire))] = chance.randrange(256)
        try:
            answer = pb.CheckResponse.FromString(bytes(wire))
        except DecodeError:
            continue
        decision = read_answer(question, answer, at_least_epoch=41, sent_at_s=0.0, clock=lambda: 1.0)
        assert list(decision.verdicts) == list(question.names)
        if decision.unexpected:
            refused += 1
            assert decision.outcome is Outcome.WITHHOLD
        else:
            accepted += 1
            assert "KS4.KS4_DOB" in decision.withheld
            assert decision.obligations.exclude_sealed_epoch == decision.epoch >= 41

    assert accepted > 100
    assert refused > 1000
