"""Ask policyd: questions out, decisions back, and ``NoDecision`` whenever there is none."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from threading import Event, Lock
from types import TracebackType
from typing import Any, TypeVar

import grpc
from pbac.v1 import decision_pb2 as pb
from pbac.v1 import seal_pb2

from policyd_client._clock import Clock, boot_seconds
from policyd_client.epoch import EpochMemory
from policyd_client.errors import NoDecision
from policyd_client.explaining import Explanation, read_explanation
from policyd_client.listing import Listing, read_listing
from policyd_client.model import Action, Decision, Question
from policyd_client.reading import read_answer, refuse
from policyd_client.seals import SealStream, SealWatch
from policyd_client.transport import Pem, open_channels

MAX_BATCH = 100
"""Questions that one BatchCheck may hold."""

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_ACTIONS = {
    Action.RELEASE: pb.ACTION_RELEASE,
    Action.MATCH: pb.ACTION_MATCH,
    Action.VERIFY: pb.ACTION_VERIFY,
    Action.COUNT: pb.ACTION_COUNT,
    Action.LINK: pb.ACTION_LINK,
}
_Response = TypeVar("_Response")


class PolicyClient:
    """A connection to one policyd, or to several that stand in for each other.

    `targets` is one `host:port` or a list of them. `ca`, `certificate` and `key` are PEM bytes or paths
    of PEM files; there is no way to connect without them. `default_deadline_s` bounds each call, all its
    attempts included. Safe to use from many threads. Close it, or use it in a `with`.

    Raises:
        ValueError: a target, a PEM text or the deadline has the wrong form.
        OSError: a PEM file cannot be read.
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        *,
        ca: Pem,
        certificate: Pem,
        key: Pem,
        default_deadline_s: float = 2.0,
        clock: Clock = boot_seconds,
    ) -> None:
        self._default_deadline_s = _check_deadline(default_deadline_s)
        self._clock = clock
        self._epochs = EpochMemory()
        self._closed = Event()
        self._preferred = 0
        self._watches: list[SealWatch] = []
        self._lock = Lock()
        self._channels = open_channels(
            (targets,) if isinstance(targets, str) else tuple(targets),
            ca=ca,
            certificate=certificate,
            key=key,
        )
        self._check = [
            channel.unary_unary(
                "/pbac.v1.DecisionService/Check",
                request_serializer=pb.CheckRequest.SerializeToString,
                response_deserializer=pb.CheckResponse.FromString,
            )
            for channel in self._channels
        ]
        self._batch_check = [
            channel.unary_unary(
                "/pbac.v1.DecisionService/BatchCheck",
                request_serializer=pb.BatchCheckRequest.SerializeToString,
                response_deserializer=pb.BatchCheckResponse.FromString,
            )
            for channel in self._channels
        ]
        self._explain = [
            channel.unary_unary(
                "/pbac.v1.DecisionService/Explain",
                request_serializer=pb.ExplainRequest.SerializeToString,
                response_deserializer=pb.ExplainResponse.FromString,
            )
            for channel in self._channels
        ]
        self._list_fields = [
            channel.unary_unary(
                "/pbac.v1.DecisionService/ListFields",
                request_serializer=pb.ListFieldsRequest.SerializeToString,
                response_deserializer=pb.ListFieldsResponse.FromString,
            )
            for channel in self._channels
        ]
        self._watch_seals: list[SealStream] = [
            channel.unary_stream(
                "/pbac.v1.SealService/WatchSeals",
                request_serializer=seal_pb2.WatchSealsRequest.SerializeToString,
                response_deserializer=seal_pb2.WatchSealsResponse.FromString,
            )
            for channel in self._channels
        ]

    @property
    def epoch(self) -> int:
        """The highest epoch seen so far; no older answer is accepted any more."""
        return self._epochs.highest

    def check(
        self,
        *,
        agreement: str,
        purposes: Sequence[str],
        fields: Sequence[str] = (),
        requester_token: str,
        used_fields: Sequence[str] = (),
        years: Sequence[int] = (),
        action: Action | str = Action.RELEASE,
        record_tokens: Sequence[bytes] = (),
        request_id: str | None = None,
        traceparent: str | None = None,
        deadline_s: float | None = None,
    ) -> Decision:
        """Ask one question (its parts: ``Question``) and return the decision, which may be a refusal.

        Blocks for at most the deadline in seconds. Asks again, elsewhere if it can, only when a node is
        unavailable. `traceparent` (W3C Trace Context) gives the decision its trace.

        Raises:
            NoDecision: no answer came, whatever the cause; release nothing.
            ValueError: the question, the deadline or `traceparent` has the wrong form.
        """
        question = Question(
            agreement=agreement,
            purposes=purposes,
            fields=fields,
            requester_token=requester_token,
            used_fields=used_fields,
            years=years,
            action=action,
            record_tokens=record_tokens,
            request_id=request_id,
        )
        at_least_epoch = self._epochs.highest
        answer, sent_at_s = self._ask(
            self._check,
            _to_wire(question, at_least_epoch),
            deadline_s=deadline_s,
            traceparent=traceparent,
        )
        return self._read(question, answer, at_least_epoch=at_least_epoch, sent_at_s=sent_at_s)

    def check_many(
        self,
        questions: Iterable[Question],
        *,
        traceparent: str | None = None,
        deadline_s: float | None = None,
    ) -> tuple[Decision, ...]:
        """Ask up to ``MAX_BATCH`` independent questions at once; decisions come in their order.

        Raises:
            NoDecision: no answer came to any of them; release nothing.
            ValueError: as for ``check``, or there are too many questions, or two with one request id.
        """
        asked = tuple(questions)
        if not asked:
            return ()
        if len(asked) > MAX_BATCH:
            raise ValueError(f"{len(asked)} questions at once; at most {MAX_BATCH} are allowed")
        if len({question.request_id for question in asked}) < len(asked):
            raise ValueError("two questions have the same `request_id`")
        at_least_epoch = self._epochs.highest
        reply, sent_at_s = self._ask(
            self._batch_check,
            pb.BatchCheckRequest(checks=[_to_wire(question, at_least_epoch) for question in asked]),
            deadline_s=deadline_s,
            traceparent=traceparent,
        )
        if len(reply.answers) != len(asked):
            why = f"{len(reply.answers)} answers came to {len(asked)} questions"
            return tuple(refuse(question, why, clock=self._clock) for question in asked)
        return tuple(
            self._read(question, answer, at_least_epoch=at_least_epoch, sent_at_s=sent_at_s)
            for question, answer in zip(asked, reply.answers, strict=True)
        )

    def explain(
        self, question: Question, *, traceparent: str | None = None, deadline_s: float | None = None
    ) -> Explanation:
        """Ask one question like ``check``, and return the decision with every check that took part.

        Raises:
            NoDecision, ValueError: as for ``check``.
        """
        at_least_epoch = self._epochs.highest
        answer, sent_at_s = self._ask(
            self._explain,
            pb.ExplainRequest(check=_to_wire(question, at_least_epoch)),
            deadline_s=deadline_s,
            traceparent=traceparent,
        )
        decision = self._read(question, answer.answer, at_least_epoch=at_least_epoch, sent_at_s=sent_at_s)
        return read_explanation(decision, answer)

    def list_fields(
        self,
        *,
        agreement: str,
        purposes: Sequence[str],
        requester_token: str,
        action: Action | str = Action.RELEASE,
        table: str = "",
        request_id: str | None = None,
        traceparent: str | None = None,
        deadline_s: float | None = None,
    ) -> Listing:
        """Return what the requester could have, of one `table` or of all; recorded, and no permission.

        Raises:
            NoDecision: no answer came, whatever the cause.
            ValueError: as for ``check``.
        """
        base = Question(
            agreement=agreement,
            purposes=purposes,
            requester_token=requester_token,
            action=action,
            request_id=request_id,
        )
        request = pb.ListFieldsRequest(
            request_id=base.request_id or "",
            requester_token=requester_token,
            agreement_id=agreement,
            purposes=base.purposes,
            action=_ACTIONS[Action(base.action)],
            table=table,
            at_least_epoch=self._epochs.highest,
        )
        answer, _ = self._ask(self._list_fields, request, deadline_s=deadline_s, traceparent=traceparent)
        listing = read_listing(request, answer)
        if not listing.unexpected:
            self._epochs.saw(listing.epoch)
        return listing

    def watch_seals(self) -> SealWatch:
        """Return a watch over this data service's seals; it connects in the background.

        Raises:
            ValueError: the client is closed.
        """
        with self._lock:
            if self._closed.is_set():
                raise ValueError("the client is closed")
            watch = SealWatch(self._watch_seals, epochs=self._epochs, clock=self._clock)
            self._watches.append(watch)
        return watch

    def close(self) -> None:
        """End all calls, watches and connections. Closing twice does nothing."""
        with self._lock:
            self._closed.set()
            watches, self._watches = self._watches, []
        for watch in watches:
            watch.close()
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(
        self, question: Question, answer: pb.CheckResponse, *, at_least_epoch: int, sent_at_s: float
    ) -> Decision:
        decision = read_answer(
            question, answer, at_least_epoch=at_least_epoch, sent_at_s=sent_at_s, clock=self._clock
        )
        if not decision.unexpected:
            self._epochs.saw(decision.epoch)
        return decision

    def _ask(
        self,
        calls: Sequence[Callable[..., _Response]],
        request: Any,
        *,
        deadline_s: float | None,
        traceparent: str | None,
    ) -> tuple[_Response, float]:
        """Return the first answer of any target, and the clock just before it was asked for."""
        metadata = _metadata(traceparent)
        allowed_s = self._default_deadline_s if deadline_s is None else _check_deadline(deadline_s)
        ends_at_s = self._clock() + allowed_s
        pause_s, attempts, problem = _FIRST_PAUSE_S, 0, "the deadline is too short to ask"
        while True:
            first = self._preferred
            for index in (*range(first, len(calls)), *range(first)):
                sent_at_s = self._clock()
                if self._closed.is_set() or sent_at_s >= ends_at_s:
                    break
                attempts += 1
                try:
                    answer = calls[index](request, timeout=ends_at_s - sent_at_s, metadata=metadata)
                except grpc.RpcError as error:
                    code, problem = _describe(error)
                    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                        self._preferred = (index + 1) % len(calls)  # the next question goes elsewhere first
                    if code is not grpc.StatusCode.UNAVAILABLE:
                        raise NoDecision(
                            f"no decision: {code.name}: {problem}", code=code.name, attempts=attempts
                        ) from error
                except ValueError as error:  # grpc refuses a channel that was closed under it
                    raise NoDecision("no decision: the client is closed", code="CANCELLED") from error
                else:
                    self._preferred = index
                    return answer, sent_at_s
            left_s = ends_at_s - self._clock()
            if left_s > 0 and not self._closed.wait(
                min(left_s, pause_s * (0.5 + secrets.randbelow(512) / 1024))
            ):
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                continue
            if self._closed.is_set():
                raise NoDecision("no decision: the client is closed", code="CANCELLED", attempts=attempts)
            raise NoDecision(
                f"no decision: policyd was unavailable for {allowed_s:g} s: {problem}",
                code="UNAVAILABLE",
                attempts=attempts,
            )


def _to_wire(question: Question, at_least_epoch: int) -> pb.CheckRequest:
    return pb.CheckRequest(
        request_id=question.request_id or "",
        requester_token=question.requester_token,
        agreement_id=question.agreement,
        purposes=question.purposes,
        action=_ACTIONS[Action(question.action)],
        fields=question.fields,
        used_fields=question.used_fields,
        years=question.years,
        record_tokens=question.record_tokens,
        at_least_epoch=at_least_epoch,
    )


def _metadata(traceparent: str | None) -> tuple[tuple[str, str], ...]:
    if traceparent is None:
        return ()
    if not _TRACEPARENT.fullmatch(traceparent):
        raise ValueError(f"`traceparent` is not of the form 00-<32 hex>-<16 hex>-<2 hex>: `{traceparent}`")
    return (("traceparent", traceparent),)


def _check_deadline(deadline_s: float) -> float:
    if not (math.isfinite(deadline_s) and deadline_s > 0):
        raise ValueError(f"a deadline is a number of seconds above 0, not `{deadline_s}`")
    return deadline_s


def _describe(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """Return the status of a failed call and its text, on one line and without end."""
    if not isinstance(error, grpc.Call):
        return grpc.StatusCode.UNKNOWN, "the call failed"
    return error.code(), " ".join((error.details() or "").split())[:500]
