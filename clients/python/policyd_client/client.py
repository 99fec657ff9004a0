"""Ask policyd: questions out, decisions back, and ``NoDecision`` whenever there is none."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Literal

from pbac.v1 import decision_pb2 as pb
from pbac.v1 import seal_pb2

from policyd_client._clock import Clock, boot_seconds
from policyd_client.calls import Answered, Calls
from policyd_client.epoch import EpochMemory
from policyd_client.explaining import Explanation, read_explanation
from policyd_client.listing import Listing, read_listing
from policyd_client.model import Action, Decision, Question, Receipt
from policyd_client.note import Logs, Pin, read_logs
from policyd_client.proving import Proving
from policyd_client.reading import read_answer, refuse
from policyd_client.reporting import Reporter
from policyd_client.seals import SealStream, SealWatch
from policyd_client.transport import Pem, open_channels, own_spiffe_id

MAX_BATCH = 100
"""Questions that one BatchCheck may hold."""

_SERVICE = "/pbac.v1.DecisionService/"
_ACTIONS = {
    Action.RELEASE: pb.ACTION_RELEASE,
    Action.MATCH: pb.ACTION_MATCH,
    Action.VERIFY: pb.ACTION_VERIFY,
    Action.COUNT: pb.ACTION_COUNT,
    Action.LINK: pb.ACTION_LINK,
}


class PolicyClient:
    """A connection to one policyd, or to several that stand in for each other.

    `targets` is one `host:port` or a list of them. `ca`, `certificate` and `key` are PEM bytes or paths
    of PEM files; there is no way to connect without them. `logs` pins the key of every node's log: a
    tlog-policy file, or vkeys by origin. `journal` is a file in which the client keeps what the logs have
    shown it; without one that is kept in memory. `receipts="off"` goes without proof that decisions are
    recorded. `default_deadline_s` bounds each call, all its attempts included. Safe to use from many
    threads. Close it, or use it in a `with`.

    Raises:
        ValueError: a target, a PEM text, a vkey, the journal or the deadline has the wrong form, or no log
            is pinned.
        OSError: a file cannot be read, or the journal not be written.
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        *,
        ca: Pem,
        certificate: Pem,
        key: Pem,
        logs: Logs | None = None,
        journal: str | os.PathLike[str] | None = None,
        receipts: Literal["verify", "off"] = "verify",
        default_deadline_s: float = 2.0,
        clock: Clock = boot_seconds,
    ) -> None:
        pins = _read_pins(logs, journal, receipts)
        self._clock = clock
        self._epochs = EpochMemory()
        self._watches: list[SealWatch] = []
        self._lock = Lock()
        self._channels = open_channels(
            (targets,) if isinstance(targets, str) else tuple(targets),
            ca=ca,
            certificate=certificate,
            key=key,
        )
        calls = Calls(self._channels, default_deadline_s=default_deadline_s, clock=clock)
        self._calls = calls
        self._proving = None
        if pins is not None:
            try:
                self._proving = Proving(
                    pins,
                    spiffe_id=own_spiffe_id(certificate),
                    journal=None if journal is None else Path(journal),
                    calls=calls,
                    clock=clock,
                )
            except BaseException:
                for channel in self._channels:
                    channel.close()
                raise
        self._reporter = Reporter(calls, self._proving)
        self._check = calls.method(_SERVICE + "Check", pb.CheckRequest, pb.CheckResponse.FromString)
        self._batch_check = calls.method(
            _SERVICE + "BatchCheck", pb.BatchCheckRequest, pb.BatchCheckResponse.FromString
        )
        self._explain = calls.method(_SERVICE + "Explain", pb.ExplainRequest, pb.ExplainResponse.FromString)
        self._list_fields = calls.method(
            _SERVICE + "ListFields", pb.ListFieldsRequest, pb.ListFieldsResponse.FromString
        )
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

        Blocks for at most the deadline in seconds, and after a restart with a journal, once, as long again
        for the log to be proved. Asks again, elsewhere if it can, only when a node is unavailable or stops.
        `traceparent` (W3C Trace Context) gives the decision its trace.

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
        request = self._to_wire(question)
        answered = self._calls.ask(self._check, request, deadline_s=deadline_s, traceparent=traceparent)
        return self._read(question, request, answered.message, answered=answered)

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
        batch = pb.BatchCheckRequest(checks=[self._to_wire(question) for question in asked])
        answered = self._calls.ask(self._batch_check, batch, deadline_s=deadline_s, traceparent=traceparent)
        reply = answered.message
        if len(reply.answers) != len(asked):
            why = f"{len(reply.answers)} answers came to {len(asked)} questions"
            return tuple(refuse(question, why, clock=self._clock) for question in asked)
        return tuple(
            self._read(question, request, answer, answered=answered, shared=reply.checkpoints)
            for question, request, answer in zip(asked, batch.checks, reply.answers, strict=True)
        )

    def explain(
        self, question: Question, *, traceparent: str | None = None, deadline_s: float | None = None
    ) -> Explanation:
        """Ask one question like ``check``, and return the decision with every check that took part.

        Raises:
            NoDecision, ValueError: as for ``check``.
        """
        request = self._to_wire(question)
        answered = self._calls.ask(
            self._explain,
            pb.ExplainRequest(check=request),
            deadline_s=deadline_s,
            traceparent=traceparent,
        )
        answer = answered.message.answer
        decision = self._read(question, request, answer, answered=answered, rpc="Explain")
        return read_explanation(decision, answered.message)

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
        answered = self._calls.ask(self._list_fields, request, deadline_s=deadline_s, traceparent=traceparent)
        if self._proving is None:
            listing = read_listing(request, answered.message)
        else:
            check = self._proving.listing(
                request, answered.message, action=Action(base.action), target=answered.target
            )
            listing = read_listing(request, answered.message, check=check)
        if not listing.unexpected:
            self._epochs.saw(listing.epoch)
        return listing

    def report_release(
        self,
        decision: Decision,
        *,
        rows: int,
        obligations_met: Collection[str] = (),
        result_digest: bytes = b"",
        deadline_s: float | None = None,
    ) -> Receipt | None:
        """Report what came of a decision, once; return the proof that this is recorded.

        Call it before the rows are handed on, also with 0 `rows` when the query found none or was given up.
        `obligations_met` are names such as `rows` or `min_cell_count`; `result_digest` is an HMAC-SHA-256 of
        the result under a key that the data service keeps. Without receipts the return is None.

        Raises:
            NotReported: it is not known to be recorded; hand nothing on. It may be reported again.
            AlreadyReported: it was reported before.
            ValueError: a part is malformed, or rows came of a decision that was not used.
        """
        return self._reporter.report(
            decision,
            rows=rows,
            obligations_met=obligations_met,
            result_digest=result_digest,
            deadline_s=deadline_s,
        )

    def prove_logs(self) -> None:
        """Have every log that has moved prove now that it only grew, as happens by itself within 10 s.

        Blocks for at most a deadline for each proof. What it finds shows when decisions are used.
        """
        if self._proving is not None:
            self._proving.prove()

    def watch_seals(self) -> SealWatch:
        """Return a watch over this data service's seals; it connects in the background.

        Raises:
            ValueError: the client is closed.
        """
        with self._lock:
            if self._calls.closed.is_set():
                raise ValueError("the client is closed")
            watch = SealWatch(self._watch_seals, epochs=self._epochs, clock=self._clock)
            self._watches.append(watch)
        return watch

    def close(self) -> None:
        """End all calls, watches and connections. Closing twice does nothing."""
        with self._lock:
            self._calls.closed.set()
            watches, self._watches = self._watches, []
        for watch in watches:
            watch.close()
        for channel in self._channels:
            channel.close()
        if self._proving is not None:
            self._proving.close()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(
        self,
        question: Question,
        request: pb.CheckRequest,
        answer: pb.CheckResponse,
        *,
        answered: Answered[Any],
        rpc: str = "Check",
        shared: Sequence[str] = (),
    ) -> Decision:
        proof: dict[str, Any] = {}
        if self._proving is not None:
            proof["trouble"] = self._proving.trouble
            proof["check"] = self._proving.decision(
                question, request, answer, target=answered.target, rpc=rpc, shared=shared
            )
        decision = read_answer(
            question,
            answer,
            at_least_epoch=request.at_least_epoch,
            sent_at_s=answered.sent_at_s,
            clock=self._clock,
            **proof,
        )
        if not decision.unexpected:
            self._epochs.saw(decision.epoch)
        return decision

    def _to_wire(self, question: Question) -> pb.CheckRequest:
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
            at_least_epoch=self._epochs.highest,
            want_receipt=self._proving is not None,
        )


def _read_pins(
    logs: Logs | None, journal: str | os.PathLike[str] | None, receipts: str
) -> Mapping[str, Pin] | None:
    """Return the pinned logs, None where receipts are off."""
    if receipts not in ("verify", "off"):
        raise ValueError(f"`receipts` is `verify` or `off`, not `{receipts}`")
    if receipts == "off":
        if logs is not None or journal is not None:
            raise ValueError("`receipts` is off, so `logs` and `journal` have no use: leave them out")
        return None
    if logs is None:
        raise ValueError(
            "no log is pinned, so no decision could be proved to be recorded: give `logs`, such as the file "
            'logs.tlog-policy that `policyd dev` writes, or say `receipts="off"` to go without proof'
        )
    return read_logs(logs)
