"""Each interceptor alone: what it lets pass, what it refuses, and that it gives back what it took."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest

from policyd import clock, errors
from policyd.errors import (
    Busy,
    InvalidRequest,
    NotPermitted,
    PolicydError,
    TooLarge,
    TooLate,
    Unauthenticated,
)
from policyd.identity.deny import Denial, DenyList
from policyd.identity.pki import create_authority
from policyd.interceptors.around import Around
from policyd.interceptors.authentication import AuthenticationInterceptor
from policyd.interceptors.authorisation import AuthorisationInterceptor
from policyd.interceptors.call import call_of
from policyd.interceptors.deadline import MAX_DEADLINE_S, DeadlineInterceptor
from policyd.interceptors.decoding import DecodingInterceptor
from policyd.interceptors.errors import STATUS, ErrorInterceptor
from policyd.interceptors.limits import LimitsInterceptor
from policyd.interceptors.tracing import TracingInterceptor

CHECK = "/pbac.v1.DecisionService/Check"
WATCH = "/pbac.v1.SealService/WatchSeals"
HEALTH = "/grpc.health.v1.Health/Check"


class Aborted(Exception):
    """What gRPC raises from `abort`; it is bare there too."""


class Context:
    """The part of a servicer context that interceptors use."""

    def __init__(
        self, *, remaining_s: float | None = 5.0, metadata: Sequence[tuple[str, str]] = (), auth: Any = None
    ) -> None:
        self.remaining_s = remaining_s
        self.metadata = tuple(metadata)
        self.auth = auth or {}
        self.status: grpc.StatusCode | None = None
        self.details = ""

    def time_remaining(self) -> float | None:
        return self.remaining_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self.metadata

    def auth_context(self) -> Any:
        return self.auth

    def code(self) -> grpc.StatusCode | None:
        return self.status

    def abort(self, status: grpc.StatusCode, details: str) -> None:
        self.status, self.details = status, details
        raise Aborted


def enter(interceptor: Around, method: str = CHECK, **context: Any) -> Any:
    """Make one call through an interceptor, and return its context."""
    made: Any = Context(**context)
    with interceptor.call(method, made):
        pass
    return made


# ----- deadline


@pytest.mark.parametrize("remaining_s", [None, 9.2e18, MAX_DEADLINE_S + 1])
def test_no_deadline_or_one_without_end_is_refused(remaining_s: float | None) -> None:
    """gRPC shows a missing deadline as centuries; both are refused, and health is left alone."""
    with pytest.raises(InvalidRequest, match="no deadline within a day"):
        enter(DeadlineInterceptor(), remaining_s=remaining_s)
    enter(DeadlineInterceptor(), HEALTH, remaining_s=remaining_s)


@pytest.mark.parametrize("remaining_s", [0.001, 3610.0, MAX_DEADLINE_S])
def test_a_deadline_passes(remaining_s: float) -> None:
    """Also the hour of a watch over seals, which gRPC rounds up."""
    assert enter(DeadlineInterceptor(), remaining_s=remaining_s).status is None


def test_a_call_whose_time_is_over_is_not_begun() -> None:
    """Its caller has gone: a decision on it would be recorded and never received."""
    with pytest.raises(TooLate, match="nothing was decided"):
        enter(DeadlineInterceptor(), remaining_s=0.0)
    enter(DeadlineInterceptor(), HEALTH, remaining_s=0.0)


# ----- limits


def test_calls_beyond_the_limit_are_refused_and_room_is_given_back() -> None:
    """Two at once are let in, the third is not, and the next after one has ended is; also after an error."""
    limits = LimitsInterceptor(calls=2, watches=1)
    context: Any = Context()
    with limits.call(CHECK, context), limits.call(CHECK, context):
        with pytest.raises(Busy), limits.call(CHECK, context):
            pass
        with limits.call(WATCH, context), limits.call(HEALTH, context):
            pass
    with pytest.raises(KeyError), limits.call(CHECK, context):
        raise KeyError
    with limits.call(CHECK, context), limits.call(CHECK, context):
        pass


def test_watches_do_not_take_the_room_of_calls() -> None:
    """Long-lived streams have a limit of their own."""
    limits = LimitsInterceptor(calls=1, watches=1)
    context: Any = Context()
    with limits.call(WATCH, context):
        with pytest.raises(Busy), limits.call(WATCH, context):
            pass
        with limits.call(CHECK, context):
            pass


# ----- tracing

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_the_callers_trace_goes_on_whatever_its_flags(flags: str) -> None:
    """Ids are taken over; sampling is not the caller's to choose."""
    call = call_of(enter(TracingInterceptor(), metadata=[("traceparent", f"00-{TRACE}-{SPAN}-{flags}")]))

    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, SPAN)


@pytest.mark.parametrize("more", ["", "-", "-more-than-is-known"])
def test_a_later_version_of_traceparent_is_read_as_far_as_it_is_known(more: str) -> None:
    """What version 00 has stays where it is (W3C Trace Context, section 4)."""
    call = call_of(enter(TracingInterceptor(), metadata=[("traceparent", f"01-{TRACE}-{SPAN}-01{more}")]))

    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, SPAN)


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [f"00-{TRACE.upper()}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE}-{SPAN}"],
        [f"00-{TRACE}-{SPAN}-01-more"],
        [f"00-{TRACE}-{SPAN}-01-"],
        [f"01-{TRACE}-{SPAN}-01more"],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-01\n"],
        [f" 00-{TRACE}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"],
    ],
)
def test_anything_else_starts_a_trace_of_its_own(sent: list[str]) -> None:
    """Absent, repeated or malformed: a new random trace without a parent."""
    calls = [
        call_of(enter(TracingInterceptor(), metadata=[("traceparent", text) for text in sent]))
        for _ in range(2)
    ]

    assert len({call.trace_id for call in calls} | {bytes.fromhex(TRACE)}) == 3
    assert all(len(call.trace_id) == 16 and call.parent_span_id == b"" for call in calls)


# ----- authentication


def test_only_the_certificate_says_who_calls() -> None:
    """Without one no call of this API passes; health does not ask."""
    interceptor = AuthenticationInterceptor(trust_domain="policyd.test")

    with pytest.raises(Unauthenticated):
        enter(interceptor, metadata=[("x-spiffe-id", "spiffe://policyd.test/data-service/npd-secure")])
    assert call_of(enter(interceptor, HEALTH)).spiffe_id == ""


SERVICE = "spiffe://policyd.test/data-service/npd-secure"


def _shown(*, spiffe_id: str = SERVICE, age_s: int = 0) -> dict[str, list[bytes]]:
    """Return what gRPC says of a caller whose certificate was made so long ago, for an hour."""
    made = clock.now() - age_s * 1000
    authority = create_authority("policyd.test", now=made)
    pem = authority.client(spiffe_id, now=made, lifetime_s=3600).certificate_pem
    return {"peer_spiffe_id": [spiffe_id.encode()], "x509_pem_cert": [pem]}


def test_the_caller_and_its_certificate_are_filled_in() -> None:
    """For the servicers behind, and for tokens that are bound to a certificate."""
    auth = _shown()

    call = call_of(enter(AuthenticationInterceptor(trust_domain="policyd.test"), auth=auth))

    assert call.spiffe_id == SERVICE
    assert call.certificate_der == ssl.PEM_cert_to_DER_cert(auth["x509_pem_cert"][0].decode())


def test_a_certificate_that_has_ended_is_no_callers_any_more() -> None:
    """The connection that it was good for when it was made may still be open."""
    interceptor = AuthenticationInterceptor(trust_domain="policyd.test")

    enter(interceptor, auth=_shown(age_s=3500))
    with pytest.raises(Unauthenticated, match="connect again"):
        enter(interceptor, auth=_shown(age_s=3700))


def test_a_denied_caller_is_refused_and_not_told_why() -> None:
    """By id or by certificate, as the list is now; the reason is for operators."""
    auth = _shown()
    der = ssl.PEM_cert_to_DER_cert(auth["x509_pem_cert"][0].decode())
    denied = DenyList()
    interceptor = AuthenticationInterceptor(trust_domain="policyd.test", deny_list=lambda: denied)
    enter(interceptor, auth=auth)

    for name in ({"spiffe_id": SERVICE}, {"certificate_sha256": hashlib.sha256(der).hexdigest()}):
        denied = DenyList((Denial("found on a bus", **name),))
        with pytest.raises(NotPermitted, match="deny-list") as caught:
            enter(interceptor, auth=auth)
        assert "bus" not in str(caught.value)
    enter(interceptor, HEALTH, auth=auth)
    denied = DenyList((Denial("another", SERVICE + "-2"),))
    enter(interceptor, auth=auth)


@pytest.mark.parametrize("direction", ["question", "answer"])
def test_a_stream_is_looked_at_again_for_each_message(direction: str) -> None:
    """A caller that is denied in the middle has no further question read and no further answer sent."""
    denied, sent, read = DenyList(), [], []
    interceptor = AuthenticationInterceptor(trust_domain="policyd.test", deny_list=lambda: denied)

    def talk(questions: Iterator[int], context: Any) -> Iterator[int]:
        if direction == "question":
            read.extend(questions)
            return
        yield from (1, 2, 3)

    def ask() -> Iterator[int]:
        nonlocal denied
        yield 1
        denied = DenyList((Denial("x", SERVICE),))
        yield 2

    details: Any = Details()
    handler = interceptor.intercept_service(lambda _: grpc.stream_stream_rpc_method_handler(talk), details)
    context: Any = Context(auth=_shown())
    with pytest.raises(NotPermitted):  # noqa: PT012  # the refusal comes in the middle of the loop
        for answer in handler.stream_stream(ask(), context):
            sent.append(answer)
            denied = DenyList((Denial("x", SERVICE),))

    assert (read, sent) == (([1], []) if direction == "question" else ([], [1]))


def test_a_streamed_question_with_one_answer_is_looked_at_too() -> None:
    """Whatever the shape of the call, a message of a stream passes only while its caller may call."""
    denied = DenyList()
    interceptor = AuthenticationInterceptor(trust_domain="policyd.test", deny_list=lambda: denied)

    def ask() -> Iterator[int]:
        nonlocal denied
        yield 1
        denied = DenyList((Denial("x", SERVICE),))
        yield 2

    details: Any = Details()
    handler = interceptor.intercept_service(
        lambda _: grpc.stream_unary_rpc_method_handler(lambda questions, context: sum(questions)), details
    )
    context: Any = Context(auth=_shown())
    assert handler.stream_unary(iter([1, 2]), context) == 3
    with pytest.raises(NotPermitted):
        handler.stream_unary(ask(), context)


# ----- errors


def _all_errors(kind: type[PolicydError]) -> Iterator[type[PolicydError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _all_errors(each)


def _make(kind: type[PolicydError]) -> PolicydError:
    if kind is errors.SourceError:
        return errors.SourceError([])
    return kind("something secret")


@pytest.mark.parametrize(
    "kind",
    sorted(
        (each for each in _all_errors(PolicydError) if each.__module__ == "policyd.errors"),
        key=lambda each: each.__name__,
    ),
)
def test_every_error_has_one_status(kind: type[PolicydError]) -> None:
    """Those meant for callers keep their text; every other is INTERNAL and says nothing."""
    made: Any = Context()

    with pytest.raises(Aborted), ErrorInterceptor().call(CHECK, made):
        raise _make(kind)

    assert made.status is STATUS.get(kind, grpc.StatusCode.INTERNAL)
    assert ("something secret" in made.details) == (kind in STATUS)


@pytest.mark.parametrize("error", [KeyError("secret"), ValueError("secret"), MemoryError(), RecursionError()])
def test_what_is_not_ours_is_internal_with_a_number(error: Exception) -> None:
    """The text of a foreign exception never leaves."""
    made: Any = Context()

    with pytest.raises(Aborted), ErrorInterceptor().call(CHECK, made):
        raise error

    assert made.status is grpc.StatusCode.INTERNAL
    assert "secret" not in made.details
    assert made.details.startswith("a fault of this server; no decision was made (")


def test_what_was_aborted_further_in_keeps_its_status() -> None:
    """An abort inside is not turned into INTERNAL on its way out."""
    made: Any = Context()

    with pytest.raises(Aborted), ErrorInterceptor().call(CHECK, made):
        made.abort(grpc.StatusCode.NOT_FOUND, "not here")

    assert (made.status, made.details) == (grpc.StatusCode.NOT_FOUND, "not here")


def test_what_is_not_built_says_so() -> None:
    """The generated base class raises NotImplementedError."""
    made: Any = Context()

    with pytest.raises(Aborted), ErrorInterceptor().call(CHECK, made):
        raise NotImplementedError

    assert made.status is grpc.StatusCode.UNIMPLEMENTED


# ----- wrapping


class Recorder(Around):
    """Notes when it is entered and left."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def call(self, method: str, context: grpc.ServicerContext) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def noted() -> Iterator[None]:
            self.events.append(f"enter {method}")
            try:
                yield
            finally:
                self.events.append("leave")

        return noted()


class Details:
    method = CHECK
    invocation_metadata = ()


def test_a_streamed_answer_is_wrapped_while_it_is_read() -> None:
    """Errors of a stream arise while it is iterated, so that is when the interceptor is around it."""
    recorder = Recorder()

    def stream(request: Any, context: Any) -> Iterator[int]:
        recorder.events.append("first")
        yield 1
        recorder.events.append("second")

    details: Any = Details()
    handler = recorder.intercept_service(lambda _: grpc.unary_stream_rpc_method_handler(stream), details)

    assert list(handler.unary_stream(None, None)) == [1]
    assert recorder.events == [f"enter {CHECK}", "first", "second", "leave"]


def test_an_unknown_method_stays_unknown() -> None:
    """No handler in, no handler out; gRPC then says UNIMPLEMENTED itself."""
    details: Any = Details()

    assert Recorder().intercept_service(lambda _: None, details) is None


def test_bytes_that_cannot_be_read_are_refused_inside_the_call() -> None:
    """Decoding fails outside of every interceptor, so its error waits until it can be answered."""
    from pbac.v1 import decision_pb2 as pb

    details: Any = Details()
    handler = DecodingInterceptor(most_bytes=20, larger=["/other"]).intercept_service(
        lambda _: grpc.unary_unary_rpc_method_handler(
            lambda request, context: request, pb.CheckRequest.FromString
        ),
        details,
    )

    good = handler.request_deserializer(pb.CheckRequest(request_id="r").SerializeToString())
    assert handler.unary_unary(good, None).request_id == "r"
    bad = handler.request_deserializer(b"\xff\xff")
    with pytest.raises(InvalidRequest, match="the bytes are no message"):
        handler.unary_unary(bad, None)


def test_what_one_method_takes_is_too_large_for_another() -> None:
    """The transport has one limit for all; each method but the large ones is bounded before it is read."""
    from pbac.v1 import decision_pb2 as pb

    def handler_of(larger: list[str]) -> Any:
        details: Any = Details()
        return DecodingInterceptor(most_bytes=20, larger=larger).intercept_service(
            lambda _: grpc.unary_unary_rpc_method_handler(
                lambda request, context: request, pb.CheckRequest.FromString
            ),
            details,
        )

    just, over = (pb.CheckRequest(request_id="x" * size).SerializeToString() for size in (18, 19))

    bounded, large = handler_of([]), handler_of([Details().method])
    assert bounded.unary_unary(bounded.request_deserializer(just), None).request_id == "x" * 18
    with pytest.raises(TooLarge, match="over 20 bytes"):
        bounded.unary_unary(bounded.request_deserializer(over), None)
    assert large.unary_unary(large.request_deserializer(over), None).request_id == "x" * 19


def test_a_caller_whom_a_method_is_not_for_does_not_reach_it() -> None:
    """Who may call is asked with the verified identity, for methods of this API alone."""
    asked = []

    def permit(method: str, spiffe_id: str) -> None:
        asked.append((method, spiffe_id))
        if spiffe_id != "spiffe://policyd.test/admin/registrar-1":
            raise NotPermitted("not for you")

    interceptor = AuthorisationInterceptor(permit)
    good: Any = Context()
    bad: Any = Context()
    for context, name in ((good, "admin/registrar-1"), (bad, "data-service/npd-secure")):
        call_of(context).spiffe_id = f"spiffe://policyd.test/{name}"
    with interceptor.call(CHECK, good):
        reached = True
    with (
        pytest.raises(NotPermitted, match="not for you"),
        interceptor.call(CHECK, bad),
    ):
        reached = False
    with interceptor.call(HEALTH, bad):
        pass

    assert reached
    assert [method for method, _ in asked] == [CHECK, CHECK]
