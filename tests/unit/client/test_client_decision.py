"""One decision is good for one query, while it lives, and only for what it released."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
from client_rig import ASK, good_answer
from google.protobuf.json_format import ParseDict
from pbac.v1 import decision_pb2 as pb
from policyd_client import (
    AlreadyReported,
    AlreadyUsed,
    Decision,
    Expired,
    Outcome,
    Question,
    Step,
    StepKind,
    Withheld,
)
from policyd_client.model import Life
from policyd_client.reading import read_answer


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def decide(clock: Clock, *, took_s: float = 0.0, **changes: Any) -> Decision:
    """Return the decision in a good answer with `changes`, which took `took_s` seconds to come."""
    question = Question(**ASK)
    answer = good_answer(pb.CheckRequest(request_id=question.request_id, fields=question.fields), **changes)
    sent_at_s = clock.now_s
    clock.now_s += took_s
    return read_answer(question, answer, at_least_epoch=0, sent_at_s=sent_at_s, clock=clock)


def decide_all(*verdicts: dict[str, Any], outcome: str) -> Decision:
    """Return a decision with these verdicts."""
    names = [name for verdict in verdicts for name in verdict["fields"]]
    question = Question(**{**ASK, "fields": names})
    answer = good_answer(pb.CheckRequest(request_id=question.request_id), outcome=outcome, verdicts=verdicts)
    if outcome == "OUTCOME_WITHHOLD":
        answer.ClearField("obligations")
    clock = Clock()
    return read_answer(question, answer, at_least_epoch=0, sent_at_s=clock.now_s, clock=clock)


RELEASED = {"effect": "EFFECT_RELEASE", "reason": "NONE", "rule": "r", "fields": ["A.a"]}
CHANGED = {
    "effect": "EFFECT_TRANSFORM",
    "reason": "NONE",
    "rule": "r",
    "fields": ["A.b"],
    "transform": [{"top_code": {"at": 60}}, {"round": {"to": 5}}],
}
WITHHELD = {
    "effect": "EFFECT_WITHHOLD",
    "reason": "FIELD_WITHDRAWN",
    "rule": "gate:6:field",
    "fields": ["A.c"],
}


def test_a_decision_is_good_for_one_query() -> None:
    """The first use passes, the second raises, however much life is left."""
    decision = decide(Clock())

    with decision.use() as used:
        assert used is decision
    with pytest.raises(AlreadyUsed, match="was used for a query already"):
        decision.use()


def test_a_decision_of_a_log_that_is_not_trusted_any_more_is_not_used() -> None:
    """A fork that is found after the answer came stops its use all the same."""
    trouble = [""]
    request = pb.CheckRequest(request_id="r", fields=ASK["fields"])
    decision = read_answer(
        Question(**ASK, request_id="r"),
        good_answer(request),
        at_least_epoch=0,
        sent_at_s=0.0,
        clock=lambda: 0.0,
        trouble=lambda origin: trouble[0] and f"{origin} {trouble[0]}",
    )
    trouble[0] = "forked"

    with pytest.raises(Withheld, match="node-1 forked"):
        decision.use()
    trouble[0] = ""
    decision.use()


def test_a_decision_is_reported_once_until_it_arrives() -> None:
    """The same report, under the same id, as often as it fails; never another after it arrived."""
    life = Life(lambda: 0.0, 60.0)
    life.spend("d")
    first = life.begin_report("d", rows=1)
    with pytest.raises(AlreadyReported):
        life.begin_report("d", rows=1)
    life.report_failed()

    assert life.begin_report("d", rows=1) == first
    assert len(first) == 32


def test_what_was_reported_as_given_up_cannot_be_used() -> None:
    """A report of no rows ends the decision, whether it arrived or not."""
    life = Life(lambda: 0.0, 60.0)
    life.begin_report("d", rows=0)
    life.report_failed()

    with pytest.raises(AlreadyUsed):
        life.spend("d")


def test_a_copy_of_a_decision_is_not_a_second_one() -> None:
    """Copies share the one use."""
    decision = decide(Clock())
    copied = copy.copy(decision)
    copied.use()

    with pytest.raises(AlreadyUsed):
        decision.use()


def test_only_one_of_many_threads_may_use_a_decision() -> None:
    """Of sixteen threads that use one decision at once, one succeeds."""
    decision, together, won = decide(Clock()), threading.Barrier(16), []

    def run() -> None:
        together.wait()
        try:
            decision.use()
        except AlreadyUsed:
            return
        won.append(1)

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1


def test_a_decision_lives_from_before_it_was_asked_for() -> None:
    """The time that the answer took counts, and the last millisecond is the last."""
    clock = Clock()
    decision = decide(clock, took_s=3.0, valid_for_ms=5000)

    assert decision.remaining_s == 2.0
    clock.now_s += 2.0
    assert decision.remaining_s == 0.0
    with pytest.raises(Expired, match="too old"):
        decision.use()


def test_a_decision_may_be_used_until_its_life_is_over() -> None:
    """Just before the end it still may be used."""
    clock = Clock()
    decision = decide(clock, valid_for_ms=5000)
    clock.now_s += 4.999

    decision.use()


def test_an_answer_that_arrives_too_late_withholds() -> None:
    """An answer whose life ended on the way is not acted on."""
    decision = decide(Clock(), took_s=5.0, valid_for_ms=5000)

    assert decision.outcome is Outcome.WITHHOLD
    assert "its 5000 ms were over when it arrived" in decision.unexpected


def test_a_refusal_needs_no_life() -> None:
    """A refusal that arrives late keeps its own reason: there is nothing to release."""
    clock = Clock()
    verdict = {**WITHHELD, "fields": ["KS4.KS4_ATT8"]}
    decision = decide(
        clock, took_s=90.0, outcome="OUTCOME_WITHHOLD", verdicts=[verdict], obligations=[], valid_for_ms=0
    )

    assert decision.unexpected == ""
    assert dict(decision.withheld) == {"KS4.KS4_ATT8": "FIELD_WITHDRAWN"}


def test_verdicts_are_sorted_by_what_may_happen() -> None:
    """Released, transformed and withheld names come apart, with steps and reasons."""
    decision = decide_all(RELEASED, CHANGED, WITHHELD, outcome="OUTCOME_PARTIAL")

    steps = (Step(StepKind.TOP_CODE, amount=60), Step(StepKind.ROUND, amount=5))
    assert decision.released == ("A.a",)
    assert dict(decision.transformed) == {"A.b": steps}
    assert dict(decision.withheld) == {"A.c": "FIELD_WITHDRAWN"}
    assert [str(verdict) for verdict in decision.verdicts.values()] == [
        "release",
        "transform top_code:60 then round:5",
        "withhold FIELD_WITHDRAWN",
    ]


def test_require_passes_when_nothing_is_withheld() -> None:
    """A full release, transforms included, meets require()."""
    decision = decide_all(RELEASED, CHANGED, outcome="OUTCOME_RELEASE")

    assert decision.require() is decision
    assert decision.require("A.b") is decision


def test_require_refuses_a_part_unless_the_names_are_given() -> None:
    """A partial release is refused as a whole and accepted for the names that may leave."""
    decision = decide_all(RELEASED, CHANGED, WITHHELD, outcome="OUTCOME_PARTIAL")

    with pytest.raises(Withheld, match=r"`A.c` \(FIELD_WITHDRAWN\)") as caught:
        decision.require()
    assert dict(caught.value.reasons) == {"A.c": "FIELD_WITHDRAWN"}
    assert caught.value.decision_id == decision.decision_id
    with pytest.raises(Withheld):
        decision.require("A.a", "A.c")
    assert decision.require("A.a", "A.b") is decision


def test_require_refuses_a_name_that_was_not_asked() -> None:
    """Nothing is known about a name that was not in the question, so it may not leave."""
    decision = decide_all(RELEASED, outcome="OUTCOME_RELEASE")

    with pytest.raises(Withheld, match="NOT_ASKED"):
        decision.require("A.z")


def test_a_refusal_cannot_be_used() -> None:
    """A decision that withholds everything raises with every reason."""
    decision = decide_all(WITHHELD, outcome="OUTCOME_WITHHOLD")

    with pytest.raises(Withheld, match="FIELD_WITHDRAWN"):
        decision.require()
    with pytest.raises(Withheld, match="FIELD_WITHDRAWN"):
        decision.use()


def test_every_step_of_the_protocol_has_a_type() -> None:
    """Each kind of transform step in the protocol comes out as its own kind, so none is lost."""
    steps = [
        {"pseudonymise": {}},
        {"generalise": {"to": "outward-postcode"}},
        {"band": {"width": 5}},
        {"round": {"to": 10}},
        {"top_code": {"at": 60}},
    ]
    assert {next(iter(step)) for step in steps} == {f.name for f in pb.TransformStep.DESCRIPTOR.fields}
    assert len(ParseDict({"transform": steps}, pb.VerdictGroup()).transform) == 5

    decision = decide_all({**CHANGED, "transform": steps}, outcome="OUTCOME_RELEASE")

    have = [str(step) for step in decision.transformed["A.b"]]
    assert have == ["pseudonymise", "generalise:outward-postcode", "band:5", "round:10", "top_code:60"]


def test_verdicts_cannot_be_changed() -> None:
    """What was decided stays as it is."""
    decision = decide_all(RELEASED, outcome="OUTCOME_RELEASE")

    with pytest.raises(TypeError):
        decision.verdicts["A.z"] = decision.verdicts["A.a"]  # type: ignore[index]  # the point of the test
