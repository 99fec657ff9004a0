"""Calls that fail, hang, move to another node or carry more than a question."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from client_rig import ASK, SIGNED, Decisions, Party, good_answer, make_party
from pbac.v1 import decision_pb2 as pb
from policyd_client import NoDecision, Outcome, PolicyClient, Question, Withheld

Serve = Callable[..., str]
Connect = Callable[..., PolicyClient]


def fail(code: grpc.StatusCode, details: str = "as the test says") -> Callable[..., Any]:
    """Return a Check that ends with `code`."""

    def check(_request: pb.CheckRequest, context: grpc.ServicerContext) -> None:
        context.abort(code, details)

    return check


@pytest.fixture
def closed_port() -> Iterator[str]:
    """A port that refuses connections: bound, never listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def silent_port() -> Iterator[str]:
    """A port that accepts connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_good_answer_is_a_decision(serve: Serve, connect: Connect) -> None:
    """Everything in the answer comes out as a typed value, every kind of obligation included."""
    obligations = [
        {"exclude_sealed": {"epoch": "42"}},
        {"rows": {"years": [2018, 2019]}},
        {"rows": {"years": [2019], "local_authorities": ["301"], "by_local_authority": True}},
        {"min_cell_count": 10},
        {"round_to": 5},
        {"retention_days": 1825},
        {"output_check": True},
        {"publish_in_register": True},
        {"setting": "secure-research"},
    ]
    every_kind = {field.name for field in pb.Obligation.DESCRIPTOR.fields}
    assert {next(iter(one)) for one in obligations} == every_kind
    target = serve(decisions=Decisions(lambda request, _: good_answer(request, obligations=obligations)))

    decision = connect(target).check(**ASK)

    want = decision.obligations
    assert (want.exclude_sealed_epoch, want.row_years) == (42, frozenset({2019}))
    assert want.row_local_authorities == frozenset({"301"})
    assert (want.min_cell_count, want.round_to, want.retention_days) == (10, 5, 1825)
    assert (want.output_check, want.publish_in_register) == (True, True)
    assert want.settings == frozenset({"secure-research"})
    assert decision.released == ("KS4.KS4_ATT8",)
    assert (decision.policy_version, decision.policy_digest) == (3, "6e" * 32)
    assert (decision.ledger_origin, decision.ledger_index) == ("policyd.test/node-1", 17)
    assert (decision.identification_risk, decision.sensitivity) == (4, "E")
    assert decision.trace_id == "4b" * 16
    assert 0 < decision.remaining_s <= 30


def test_no_rows_are_left_where_row_obligations_exclude_each_other(serve: Serve, connect: Connect) -> None:
    """Row obligations are conjunctive: two that share no year admit no row, which is not no limit."""
    rows = [{"exclude_sealed": {"epoch": "42"}}, {"rows": {"years": [2018]}}, {"rows": {"years": [2019]}}]
    target = serve(decisions=Decisions(lambda request, _: good_answer(request, obligations=rows)))

    assert connect(target).check(**ASK).obligations.row_years == frozenset()


def test_the_question_arrives_as_it_was_asked(serve: Serve, connect: Connect) -> None:
    """Every part of a question reaches the server, and the trace goes with it."""
    node = Decisions(lambda request, _: good_answer(request))
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    connect(serve(decisions=node)).check(
        agreement="DS00101",
        purposes=["academic-research"],
        fields=["KS4.KS4_ATT8"],
        used_fields=["SC_Pupil.Gender_SPR19"],
        years=[2018, 2019],
        action="count",
        requester_token=SIGNED,
        record_tokens=[b"\x01" * 32],
        request_id="question-1",
        traceparent=traceparent,
    )

    assert node.asked == [
        pb.CheckRequest(
            request_id="question-1",
            requester_token=SIGNED,
            agreement_id="DS00101",
            purposes=["academic-research"],
            action=pb.ACTION_COUNT,
            fields=["KS4.KS4_ATT8"],
            used_fields=["SC_Pupil.Gender_SPR19"],
            years=[2018, 2019],
            record_tokens=[b"\x01" * 32],
        )
    ]
    assert node.metadata[0]["traceparent"] == traceparent


def test_request_ids_are_fresh(serve: Serve, connect: Connect) -> None:
    """No two questions share a request id, and none can be guessed: 128 random bits."""
    node = Decisions(lambda request, _: good_answer(request))
    client = connect(serve(decisions=node))

    for _ in range(20):
        client.check(**ASK)

    assert len({request.request_id for request in node.asked}) == 20
    assert {len(request.request_id) for request in node.asked} == {32}


AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@pytest.mark.parametrize("code", AGAIN, ids=lambda code: code.name)
def test_a_node_that_is_away_or_stops_is_passed_over(
    code: grpc.StatusCode, serve: Serve, connect: Connect
) -> None:
    """UNAVAILABLE, and a call that the node itself ended, lead to the next node with the same question."""
    stops, stands = Decisions(fail(code)), Decisions(lambda request, _: good_answer(request))
    decision = connect([serve(decisions=stops), serve(decisions=stands)]).check(**ASK)

    assert not decision.unexpected
    assert [request.request_id for request in (*stops.asked, *stands.asked)] == [decision.request_id] * 2


@pytest.mark.parametrize(
    "code",
    [code for code in grpc.StatusCode if code not in (grpc.StatusCode.OK, *AGAIN)],
    ids=lambda code: code.name,
)
def test_every_error_but_unavailable_is_no_decision_at_once(
    code: grpc.StatusCode, serve: Serve, connect: Connect
) -> None:
    """A status other than OK raises NoDecision after one call: the question is not asked again."""
    node = Decisions(fail(code))

    with pytest.raises(NoDecision, match="as the test says") as caught:
        connect(serve(decisions=node)).check(**ASK)

    assert (caught.value.code, caught.value.attempts, len(node.asked)) == (code.name, 1, 1)
    assert isinstance(caught.value, Withheld)


def test_the_deadline_fires(serve: Serve, connect: Connect) -> None:
    """A server that never answers ends in NoDecision when the deadline is over, not later."""
    done = threading.Event()

    def hang(request: pb.CheckRequest, context: grpc.ServicerContext) -> pb.CheckResponse:
        done.wait(30)
        return good_answer(request)

    node = Decisions(hang)
    client = connect(serve(decisions=node), default_deadline_s=0.5)
    started_s = time.monotonic()
    try:
        with pytest.raises(NoDecision) as caught:
            client.check(**ASK)
        took_s = time.monotonic() - started_s
    finally:
        done.set()

    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert 0.4 < took_s < 5
    assert len(node.asked) == 1


def test_every_call_carries_a_deadline(serve: Serve, connect: Connect) -> None:
    """The server is always told how long the client will wait, also in batches."""
    left_s: list[float] = []

    def check(request: pb.CheckRequest, context: grpc.ServicerContext) -> pb.CheckResponse:
        left_s.append(context.time_remaining())
        return good_answer(request)

    def batch(request: pb.BatchCheckRequest, context: grpc.ServicerContext) -> pb.BatchCheckResponse:
        left_s.append(context.time_remaining())
        return pb.BatchCheckResponse(answers=[good_answer(one) for one in request.checks])

    client = connect(serve(decisions=Decisions(check, batch)))
    client.check(**ASK)
    client.check(**ASK, deadline_s=5)
    client.check_many([Question(**ASK)], deadline_s=5)

    # gRPC rounds the time that it tells the server, so whole seconds apart.
    assert 6 < left_s[0] < 11
    assert 0 < left_s[1] < 6
    assert 0 < left_s[2] < 6


def test_an_unavailable_node_is_asked_again_until_it_answers(serve: Serve, connect: Connect) -> None:
    """UNAVAILABLE is retried within the deadline."""
    node = Decisions(lambda request, _: good_answer(request))
    refusals = 3

    def check(request: pb.CheckRequest, context: grpc.ServicerContext) -> pb.CheckResponse:
        if len(node.asked) <= refusals:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not serving")
        return good_answer(request)

    node.check = check
    decision = connect(serve(decisions=node)).check(**ASK)

    assert decision.outcome is Outcome.RELEASE
    assert len(node.asked) == refusals + 1


def test_a_node_that_stays_unavailable_is_no_decision_at_the_deadline(serve: Serve, connect: Connect) -> None:
    """Retries end with the deadline, and the last thing the node said is passed on."""
    node = Decisions(fail(grpc.StatusCode.UNAVAILABLE, "the state is stale"))
    started_s = time.monotonic()

    with pytest.raises(NoDecision, match="the state is stale") as caught:
        connect(serve(decisions=node), default_deadline_s=0.5).check(**ASK)

    assert time.monotonic() - started_s < 5
    assert caught.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert caught.value.attempts == len(node.asked) > 1


def test_another_target_is_asked_when_one_is_gone(serve: Serve, connect: Connect, closed_port: str) -> None:
    """A node that refuses connections is passed over, and the one that answered is asked first next time."""
    node = Decisions(lambda request, _: good_answer(request))
    client = connect([closed_port, serve(decisions=node)])

    for _ in range(3):
        client.check(**ASK).require()

    assert len(node.asked) == 3


def test_another_target_is_asked_when_one_is_silent(serve: Serve, connect: Connect, silent_port: str) -> None:
    """A node that accepts connections and says nothing costs half a second, not the deadline."""
    node = Decisions(lambda request, _: good_answer(request))
    started_s = time.monotonic()

    connect([silent_port, serve(decisions=node)]).check(**ASK).require()

    assert time.monotonic() - started_s < 5
    assert len(node.asked) == 1


def test_another_target_is_asked_when_one_may_not_decide(serve: Serve, connect: Connect) -> None:
    """A node that answers UNAVAILABLE hands the question on to the next."""
    stale = Decisions(fail(grpc.StatusCode.UNAVAILABLE))
    fresh = Decisions(lambda request, _: good_answer(request))

    connect([serve(decisions=stale), serve(decisions=fresh)]).check(**ASK).require()

    assert (len(stale.asked), len(fresh.asked)) == (1, 1)
    assert stale.asked == fresh.asked


def test_the_next_question_goes_elsewhere_after_a_deadline(serve: Serve, connect: Connect) -> None:
    """A node that hangs costs one question its deadline, not every question after it."""
    done = threading.Event()

    def hang(request: pb.CheckRequest, context: grpc.ServicerContext) -> pb.CheckResponse:
        done.wait(30)
        return good_answer(request)

    hung, well = Decisions(hang), Decisions(lambda request, _: good_answer(request))
    client = connect([serve(decisions=hung), serve(decisions=well)])
    try:
        with pytest.raises(NoDecision):
            client.check(**ASK, deadline_s=0.3)
        client.check(**ASK).require()
    finally:
        done.set()

    assert (len(hung.asked), len(well.asked)) == (1, 1)


def test_nobody_there_is_no_decision(connect: Connect, closed_port: str) -> None:
    """Without any server the client raises NoDecision at the deadline."""
    with pytest.raises(NoDecision, match=r"policyd was unavailable for 0\.3 s") as caught:
        connect(closed_port, default_deadline_s=0.3).check(**ASK)

    assert caught.value.code == "UNAVAILABLE"


def test_an_answer_that_cannot_be_parsed_is_no_decision(serve: Serve, connect: Connect) -> None:
    """Bytes that are no protobuf message never become a decision."""
    handler = grpc.method_handlers_generic_handler(
        "pbac.v1.DecisionService",
        {"Check": grpc.unary_unary_rpc_method_handler(lambda request, context: b"\xff\xff\xff")},
    )

    with pytest.raises(NoDecision) as caught:
        connect(serve(handlers=[handler])).check(**ASK)

    assert caught.value.code == "INTERNAL"


def test_an_empty_answer_withholds(serve: Serve, connect: Connect) -> None:
    """A message without any content is no release."""
    decision = connect(serve(decisions=Decisions(lambda *_: pb.CheckResponse()))).check(**ASK)

    assert decision.outcome is Outcome.WITHHOLD
    assert "it answers question ``" in decision.unexpected


def test_a_server_of_another_authority_is_not_talked_to(serve: Serve, connect: Connect) -> None:
    """Without a certificate of the trusted authority a server never sees the question."""
    impostor = Decisions(lambda request, _: good_answer(request))
    target = serve(decisions=impostor, of=make_party())

    with pytest.raises(NoDecision) as caught:
        connect(target, default_deadline_s=0.5).check(**ASK)

    assert caught.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert impostor.asked == []


def test_a_client_of_another_authority_is_not_answered(serve: Serve, connect: Connect) -> None:
    """Mutual TLS: the server turns away a certificate that its authority did not issue."""
    node = Decisions(lambda request, _: good_answer(request))
    stranger = make_party().client
    client = connect(
        serve(decisions=node),
        certificate=stranger.certificate_pem,
        key=stranger.key_pem,
        default_deadline_s=0.5,
    )

    with pytest.raises(NoDecision):
        client.check(**ASK)

    assert node.asked == []


def test_pem_files_can_be_named(serve: Serve, connect: Connect, party: Party, tmp_path: Path) -> None:
    """Certificates and key may be given as paths, as text or as Path."""
    certificate, key = party.client.write(tmp_path, name="client")
    (tmp_path / "ca.pem").write_bytes(party.authority.certificate_pem)
    target = serve(decisions=Decisions(lambda request, _: good_answer(request)))

    client = connect(target, ca=str(tmp_path / "ca.pem"), certificate=certificate, key=key)

    assert client.check(**ASK).outcome is Outcome.RELEASE


@pytest.mark.parametrize("part", ["ca", "certificate", "key"])
@pytest.mark.parametrize("value", [b"", b"not a certificate"], ids=["empty", "text"])
def test_there_is_no_way_around_mutual_tls(part: str, value: bytes, connect: Connect) -> None:
    """Empty or wrong PEM text is refused: grpc would fall back to public roots or to no certificate."""
    with pytest.raises(ValueError, match=f"`{part}` holds no PEM block"):
        connect("127.0.0.1:1", **{part: value})


@pytest.mark.parametrize("targets", [[], "", "localhost", "localhost:", ":50151", ["localhost:50151", "x"]])
def test_targets_without_host_or_port_are_refused(targets: Any, connect: Connect) -> None:
    """A target is host:port, and there is at least one."""
    with pytest.raises(ValueError, match=r"host:port"):
        connect(targets)


@pytest.mark.parametrize("deadline_s", [0, -1, float("inf"), float("nan")])
def test_a_deadline_is_finite_and_positive(deadline_s: float, connect: Connect) -> None:
    """There is no waiting for ever, neither by default nor for one call."""
    with pytest.raises(ValueError, match="a deadline is"):
        connect("127.0.0.1:1", default_deadline_s=deadline_s)
    with pytest.raises(ValueError, match="a deadline is"):
        connect("127.0.0.1:1").check(**ASK, deadline_s=deadline_s)


@pytest.mark.parametrize(
    "traceparent",
    ["", "4bf92f3577b34da6a3ce929d0e0e4736", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff-" + "a" * 32],
)
def test_a_malformed_traceparent_is_refused(traceparent: str, connect: Connect) -> None:
    """A trace that cannot be right is a mistake of the caller, told before anything is sent."""
    with pytest.raises(ValueError, match="`traceparent` is not of the form"):
        connect("127.0.0.1:1").check(**ASK, traceparent=traceparent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": "KS4.KS4_ATT8"}, "`fields` is a list"),
        ({"purposes": "academic-research"}, "`purposes` is a list"),
        ({"used_fields": [1]}, "`used_fields` holds something other than str"),
        ({"years": ["2018"]}, "`years` holds something other than int"),
        ({"years": [True]}, "`years` holds something other than int"),
        ({"record_tokens": ["00"]}, "`record_tokens` holds something other than bytes"),
        ({"action": "publish"}, "`action` is one of"),
    ],
)
def test_a_question_of_the_wrong_form_is_not_sent(
    change: dict[str, Any], message: str, connect: Connect
) -> None:
    """Usual slips, such as a string for a list, are named before anything is sent."""
    with pytest.raises(ValueError, match=message):
        connect("127.0.0.1:1").check(**{**ASK, **change})


def test_the_highest_epoch_goes_with_every_later_question(serve: Serve, connect: Connect) -> None:
    """The client tells each node the highest epoch that any answer has shown."""
    epochs = iter(["7", "9", "9"])

    def check(request: pb.CheckRequest, _context: Any) -> pb.CheckResponse:
        epoch = next(epochs)
        return good_answer(request, epoch=epoch, obligations=[{"exclude_sealed": {"epoch": epoch}}])

    node = Decisions(check)
    client = connect(serve(decisions=node))
    for _ in range(3):
        client.check(**ASK).require()

    assert [request.at_least_epoch for request in node.asked] == [0, 7, 9]
    assert client.epoch == 9


def test_an_untrusted_answer_does_not_move_the_epoch(serve: Serve, connect: Connect) -> None:
    """An answer that is refused leaves no trace in what is asked next."""
    node = Decisions(lambda request, _: good_answer(request, epoch="99"))
    client = connect(serve(decisions=node))

    assert "`exclude_sealed` is for epoch 42" in client.check(**ASK).unexpected
    assert client.epoch == 0


def test_many_questions_come_back_in_their_order(serve: Serve, connect: Connect) -> None:
    """Each question of a batch gets its own decision, whatever the others get."""

    def batch(request: pb.BatchCheckRequest, _context: Any) -> pb.BatchCheckResponse:
        answers = [good_answer(one) for one in request.checks]
        answers[1].outcome = 99  # type: ignore[assignment]  # what a later version may send
        return pb.BatchCheckResponse(answers=answers)

    client = connect(serve(decisions=Decisions(lambda *_: None, batch)))
    have = client.check_many([Question(**{**ASK, "fields": [f"KS4.F{n}"]}) for n in range(3)])

    assert [list(decision.verdicts) for decision in have] == [["KS4.F0"], ["KS4.F1"], ["KS4.F2"]]
    assert [decision.outcome.value for decision in have] == ["release", "withhold", "release"]


@pytest.mark.parametrize(
    "answers", [lambda a: a[:-1], lambda a: [*a, a[0]], lambda a: a[::-1]], ids=["fewer", "more", "swapped"]
)
def test_a_batch_answered_out_of_step_withholds(
    answers: Callable[..., Any], serve: Serve, connect: Connect
) -> None:
    """Answers that are missing, too many or in another order release nothing."""

    def batch(request: pb.BatchCheckRequest, _context: Any) -> pb.BatchCheckResponse:
        return pb.BatchCheckResponse(answers=answers([good_answer(one) for one in request.checks]))

    client = connect(serve(decisions=Decisions(lambda *_: None, batch)))
    have = client.check_many([Question(**ASK), Question(**ASK)])

    assert [decision.outcome for decision in have] == [Outcome.WITHHOLD] * 2
    assert all(decision.unexpected for decision in have)


def test_batches_have_limits(connect: Connect) -> None:
    """No questions are no call, more than a hundred and repeated request ids are mistakes of the caller."""
    client = connect("127.0.0.1:1")

    assert client.check_many([]) == ()
    with pytest.raises(ValueError, match="at most 100"):
        client.check_many([Question(**ASK) for _ in range(101)])
    with pytest.raises(ValueError, match="the same `request_id`"):
        client.check_many([Question(**ASK, request_id="one"), Question(**ASK, request_id="one")])


def test_a_closed_client_decides_nothing(serve: Serve, connect: Connect) -> None:
    """After close() every call raises, and closing again is harmless."""
    client = connect(serve(decisions=Decisions(lambda request, _: good_answer(request))))
    with client:
        client.check(**ASK).require()
    client.close()

    with pytest.raises(NoDecision, match="the client is closed"):
        client.check(**ASK)
    with pytest.raises(ValueError, match="the client is closed"):
        client.watch_seals()


def test_no_token_shows_in_what_is_printed() -> None:
    """A question can be logged without giving its requester's token or record tokens away."""
    question = Question(**{**ASK, "requester_token": "secret-token", "record_tokens": [b"secret" * 5]})

    assert "secret" not in repr(question)
