"""One node at work: its current snapshot, who may ask, and the path from question to answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pbac.v1 import decision_pb2 as pb

from policyd import canonical, clock, ids
from policyd.decision.cache import Decider
from policyd.decision.explain import explain
from policyd.errors import NotServing, PolicydError, TokenError
from policyd.identity.token import TokenVerifier
from policyd.interceptors.call import Call
from policyd.ledger.entry import Entry
from policyd.ledger.group import Receipts
from policyd.model import Claimed, Decision, Instant, Request, Verified
from policyd.persistent import TokenSet
from policyd.registry.change import State
from policyd.service.answer import write_answer, write_listing
from policyd.service.explanation import write_explanation
from policyd.service.facts import LISTING, Question
from policyd.service.lease import Lease
from policyd.service.recording import Marks, Recorded, Recorder


@dataclass(frozen=True, slots=True)
class Current:
    """What the node decides on now. Replaced whole, by one assignment, when the state moves."""

    decider: Decider
    seals: Mapping[str, TokenSet]
    """Tokens under seal, by id of the data service that knows them."""
    state: State
    """All changes up to the epoch, added up: what administrators read and plan on."""

    @property
    def epoch(self) -> int:
        """The last state change in it."""
        return self.decider.snapshot.epoch


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a question is decided on, and until when an answer may leave once that is not the newest."""

    current: Current
    until_s: float


class Node:
    """Answers questions: decide, record, and only then answer. Safe for many threads."""

    def __init__(
        self, current: Current, *, recorder: Recorder, verifier: TokenVerifier, lease: Lease
    ) -> None:
        self._current = current
        self._lease = lease
        self._recorder = recorder
        self._verifier = verifier
        self._moved = threading.Condition()
        self._refusing = ""
        self._draining = False
        self._unrecorded = 0

    @property
    def current(self) -> Current:
        """What the node decides on now.

        Raises:
            NotServing: it may not decide at all; says why.
        """
        # SECURITY: the lease before the state. What a lease was given for is never newer than what is read
        # after it, so nothing is decided on a state that was older than its lease
        # (test_a_seal_in_force_holds_on_every_node).
        if why := self._refusing or self._lease.missing:
            raise NotServing(why)
        return self._current

    @property
    def applied(self) -> Current:
        """What the node has taken up, whether or not it may decide on it now."""
        return self._current

    def move_to(self, current: Current) -> None:
        """Decide on ``current`` from now on."""
        with self._moved:
            self._current = current
            self._moved.notify_all()

    def refuse(self, why: str) -> None:
        """Answer nothing from now on; empty text ends that."""
        with self._moved:
            self._refusing = why
            self._moved.notify_all()

    def drain(self) -> None:
        """End the long-lived streams; questions in progress are still answered."""
        with self._moved:
            self._draining = True
            self._moved.notify_all()

    @property
    def unrecorded(self) -> int:
        """How many decisions could not be recorded since the start; none of them was answered."""
        return self._unrecorded

    @property
    def refusing(self) -> str:
        """Why the node answers nothing: its own reason or the ledger's; empty while it answers."""
        return self._refusing or self._recorder.failure or self._lease.missing

    def wait_beyond(self, epoch: int, *, timeout_s: float) -> Current:
        """Wait until the node is past ``epoch``, or for ``timeout_s``, and return what is current.

        Raises:
            NotServing: the node refuses, or is going down.
        """
        with self._moved:
            self._moved.wait_for(
                lambda: self._draining or self._refusing or self._current.epoch > epoch, timeout_s
            )
            if self._draining:
                raise NotServing("this node is going down: ask another")
        return self.current

    def answer(
        self,
        checks: Sequence[pb.CheckRequest],
        claims: Sequence[Claimed],
        call: Call,
        *,
        timeout_s: float,
    ) -> list[pb.CheckResponse]:
        """Decide the questions on one snapshot, record them in one commit, and return the answers.

        ``claims`` are the questions as read, in the order of ``checks``; ``timeout_s`` is what is left of
        the caller's deadline.

        Raises:
            NotServing: the node may not decide, or no longer may when the record is made, or is below an
                epoch that a question demands.
            LedgerBusy, LedgerClosed: nothing was recorded, so nothing is answered.
        """
        now = clock.now()
        taken = self._take(max(check.at_least_epoch for check in checks))
        current = taken.current
        recorded: list[Recorded] = []
        for check, claimed in zip(checks, claims, strict=True):
            question = self._question(check, claimed, call, now, rpc="Check")
            decision, until = current.decider.decide_until(question.request, now)
            recorded.append(
                self._record(current, question, decision, until=until, call=call, wait_s=timeout_s)
            )
        return self._commit(taken, checks, recorded, call, timeout_s=timeout_s)

    def explain(
        self, check: pb.CheckRequest, claimed: Claimed, call: Call, *, timeout_s: float
    ) -> pb.ExplainResponse:
        """Decide one question, record that, and return the answer with how it came about.

        Raises:
            NotServing, LedgerBusy, LedgerClosed: as ``answer``.
        """
        now = clock.now()
        taken = self._take(check.at_least_epoch)
        current = taken.current
        question = self._question(check, claimed, call, now, rpc="Explain")
        explanation = explain(current.decider.snapshot, question.request, now)
        decision, until = explanation.decision, explanation.valid_until
        each = self._record(current, question, decision, until=until, call=call, wait_s=timeout_s)
        (answer,) = self._commit(taken, [check], [each], call, timeout_s=timeout_s)
        return write_explanation(explanation, answer)

    def list_fields(
        self, listing: pb.ListFieldsRequest, claimed: Claimed, call: Call, *, timeout_s: float
    ) -> pb.ListFieldsResponse:
        """List what a requester could have, record that, and return the answer.

        Raises:
            NotServing, LedgerBusy, LedgerClosed: as ``answer``.
        """
        now = clock.now()
        taken = self._take(listing.at_least_epoch)
        current = taken.current
        verified = self._verify(listing.requester_token, call, now)
        question = Question(
            rpc=LISTING,
            request=Request(claimed, verified),
            token_digest=_token_digest(verified, listing.requester_token),
            at_least_epoch=listing.at_least_epoch,
            table=listing.table,
        )
        decision = current.decider.list_fields(question.request, now, table=listing.table)
        each = self._record(current, question, decision, until=now, call=call, wait_s=timeout_s)
        receipts = self._append(taken, [each.entry], timeout_s=timeout_s)
        return write_listing(
            decision,
            request_id=listing.request_id,
            decision_id=each.decision_id,
            trace_id=call.trace_id,
            receipt=pb.Receipt(
                origin=receipts.origin,
                index=receipts.first_index,
                leaf=each.entry.leaf,
                proof=receipts.proof(0),
                checkpoint=receipts.checkpoint,
            ),
        )

    def _question(
        self, check: pb.CheckRequest, claimed: Claimed, call: Call, now: Instant, *, rpc: str
    ) -> Question:
        verified = self._verify(check.requester_token, call, now)
        return Question(
            rpc=rpc,
            request=Request(claimed, verified),
            token_digest=_token_digest(verified, check.requester_token),
            at_least_epoch=check.at_least_epoch,
            record_tokens=tuple(check.record_tokens),
            want_receipt=check.want_receipt,
        )

    def _record(
        self,
        current: Current,
        question: Question,
        decision: Decision,
        *,
        until: Instant,
        call: Call,
        wait_s: float,
    ) -> Recorded:
        marks = Marks(
            decision_id=ids.decision_id(),
            trace_id=call.trace_id,
            span_id=ids.span_id(),
            parent_span_id=call.parent_span_id,
        )
        snapshot = current.decider.snapshot
        return self._recorder.record(snapshot, question, decision, until=until, marks=marks, wait_s=wait_s)

    def _commit(
        self,
        taken: _Taken,
        checks: Sequence[pb.CheckRequest],
        recorded: Sequence[Recorded],
        call: Call,
        *,
        timeout_s: float,
    ) -> list[pb.CheckResponse]:
        """Record decisions in one commit, and return the answers."""
        receipts = self._append(taken, [each.entry for each in recorded], timeout_s=timeout_s)
        answers = []
        for number, (check, each) in enumerate(zip(checks, recorded, strict=True)):
            receipt = pb.Receipt(origin=receipts.origin, index=receipts.first_index + number)
            if check.want_receipt:
                receipt.leaf = each.entry.leaf
                receipt.proof.extend(receipts.proof(number))
                receipt.checkpoint = receipts.checkpoint
            answers.append(
                write_answer(
                    each.decision,
                    request_id=check.request_id,
                    decision_id=each.decision_id,
                    trace_id=call.trace_id,
                    valid_for_ms=each.valid_for_ms,
                    receipt=receipt,
                )
            )
        return answers

    def _append(self, taken: _Taken, entries: Sequence[Entry], *, timeout_s: float) -> Receipts:
        """Record, and then ask again whether an answer may leave (DESIGN.md section 3.6).

        The process may have been stopped, or told to stop, since the snapshot was taken. The record
        stands all the same.
        """
        try:
            receipts = self._recorder.append(entries, timeout_s=timeout_s)
        except PolicydError:
            with self._moved:
                self._unrecorded += len(entries)
            raise
        if self.current.epoch != taken.current.epoch and clock.boot_seconds() > taken.until_s:
            raise NotServing("the state moved on while this was decided, too long ago: ask again")
        return receipts

    def _take(self, at_least_epoch: int) -> _Taken:
        """Return what to decide a question on, whose instant was read before.

        Raises:
            NotServing: the node may not decide, or is below `at_least_epoch`.
        """
        until_s = self._lease.until_s
        current = self.current
        if current.epoch < at_least_epoch:
            raise NotServing(
                f"this node is at epoch {current.epoch}, the question needs {at_least_epoch}: ask another"
            )
        return _Taken(current, until_s)

    def _verify(self, token: str, call: Call, now: Instant) -> Verified:
        try:
            verified = self._verifier.verify(
                token, data_service=call.spiffe_id, now=now, certificate_der=call.certificate_der
            )
        except TokenError as error:
            return Verified(call.spiffe_id, None, error.code)
        return Verified(call.spiffe_id, verified)


def _token_digest(verified: Verified, sent: str) -> bytes:
    return verified.token.digest if verified.token else canonical.token_digest(sent)
