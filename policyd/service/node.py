"""One node at work: its current snapshot, its ledger and its keys, and the path from question to answer."""

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
from policyd.ledger.decision_record import decision_record
from policyd.ledger.entry import Entry
from policyd.ledger.group import Receipts
from policyd.ledger.writer import Ledger
from policyd.model import Claimed, Decision, Instant, Request, Verified
from policyd.service.answer import write_answer, write_listing
from policyd.service.explanation import write_explanation

STALE_AFTER_S = 5.0
"""How long a node goes on answering without having read the state to its end."""
VALID_FOR_MS = 60_000
"""How long an answer may be used: the bound of DESIGN.md section 3.6."""


@dataclass(frozen=True, slots=True)
class Current:
    """What the node decides on now. Replaced whole, by one assignment, when the state moves."""

    decider: Decider
    seals: Mapping[str, frozenset[bytes]]
    """Tokens under seal, by id of the data service that knows them."""

    @property
    def epoch(self) -> int:
        """The last state change in it."""
        return self.decider.snapshot.epoch


@dataclass(frozen=True, slots=True)
class _Decided:
    decision: Decision
    decision_id: str
    valid_for_ms: int
    entry: Entry


class Node:
    """Answers questions: decide, record, and only then answer. Safe for many threads."""

    def __init__(
        self, current: Current, *, ledger: Ledger, verifier: TokenVerifier, pseudonym_key: bytes
    ) -> None:
        self._current = current
        self._ledger = ledger
        self._verifier = verifier
        self._pseudonym_key = pseudonym_key
        self._moved = threading.Condition()
        self._refusing = ""
        self._draining = False
        self._unrecorded = 0
        self._fresh_at_s = clock.boot_seconds()

    @property
    def current(self) -> Current:
        """What the node decides on now.

        Raises:
            NotServing: it may not decide at all; says why.
        """
        if why := self._refusing or self._staleness():
            raise NotServing(why)
        return self._current

    def confirm_fresh(self) -> None:
        """Say that the state has just been read to its end, and all of it is applied."""
        self._fresh_at_s = clock.boot_seconds()

    def _staleness(self) -> str:
        # SECURITY: looked at by every question itself. A follower that hangs, or a process that was
        # stopped, cannot report that it is late (test_a_node_that_cannot_follow_stops_by_itself).
        late_s = clock.boot_seconds() - self._fresh_at_s
        return f"the state was last read {late_s:.1f} s ago: ask another" if late_s > STALE_AFTER_S else ""

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
        return self._refusing or self._ledger.refusing or self._staleness()

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
        current = self._at_least(max(check.at_least_epoch for check in checks))
        now = clock.now()
        decided: list[_Decided] = []
        for check, claimed in zip(checks, claims, strict=True):
            verified = self._verify(check.requester_token, call, now)
            request = Request(claimed, verified)
            decision, until = current.decider.decide_until(request, now)
            decided.append(self._decided(current, check, request, decision, until=until, call=call))
        return self._commit(checks, decided, call, timeout_s=timeout_s)

    def explain(
        self, check: pb.CheckRequest, claimed: Claimed, call: Call, *, timeout_s: float
    ) -> pb.ExplainResponse:
        """Decide one question, record that, and return the answer with how it came about.

        Raises:
            NotServing, LedgerBusy, LedgerClosed: as ``answer``.
        """
        current = self._at_least(check.at_least_epoch)
        now = clock.now()
        request = Request(claimed, self._verify(check.requester_token, call, now))
        explanation = explain(current.decider.snapshot, request, now)
        decision, until = explanation.decision, explanation.valid_until
        each = self._decided(current, check, request, decision, until=until, call=call, rpc="Explain")
        return write_explanation(explanation, self._commit([check], [each], call, timeout_s=timeout_s)[0])

    def list_fields(
        self, listing: pb.ListFieldsRequest, claimed: Claimed, call: Call, *, timeout_s: float
    ) -> pb.ListFieldsResponse:
        """List what a requester could have, record that, and return the answer.

        Raises:
            NotServing, LedgerBusy, LedgerClosed: as ``answer``.
        """
        current = self._at_least(listing.at_least_epoch)
        now = clock.now()
        verified = self._verify(listing.requester_token, call, now)
        decision = current.decider.list_fields(Request(claimed, verified), now, table=listing.table)
        digest = canonical.listing_digest(
            claimed,
            _token_digest(verified, listing.requester_token),
            table=listing.table,
            at_least_epoch=listing.at_least_epoch,
        )
        each = self._record(
            decision,
            rpc="ListFields",
            request_id=listing.request_id,
            request_digest=digest,
            valid_for_ms=0,
            call=call,
            unknown=[],
        )
        receipts = self._append([each.entry], timeout_s=timeout_s)
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

    def _decided(
        self,
        current: Current,
        check: pb.CheckRequest,
        request: Request,
        decision: Decision,
        *,
        until: Instant,
        call: Call,
        rpc: str = "Check",
    ) -> _Decided:
        """Return a decision with its ids and its record."""
        claimed, verified = request.claimed, request.verified
        digest = canonical.request_digest(
            claimed,
            _token_digest(verified, check.requester_token),
            record_tokens=check.record_tokens,
            want_receipt=check.want_receipt,
            at_least_epoch=check.at_least_epoch,
        )
        return self._record(
            decision,
            rpc=rpc,
            request_id=check.request_id,
            request_digest=digest,
            valid_for_ms=life_ms(verified, until=until, now=decision.at),
            call=call,
            unknown=_unknown_names(current, claimed),
        )

    def _commit(
        self, checks: Sequence[pb.CheckRequest], decided: Sequence[_Decided], call: Call, *, timeout_s: float
    ) -> list[pb.CheckResponse]:
        """Record decisions in one commit, and return the answers."""
        receipts = self._append([each.entry for each in decided], timeout_s=timeout_s)
        answers = []
        for number, (check, each) in enumerate(zip(checks, decided, strict=True)):
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

    def _append(self, entries: Sequence[Entry], *, timeout_s: float) -> Receipts:
        """Record, and then ask again whether an answer may leave (DESIGN.md section 3.6).

        The process may have been stopped, or told to stop, since the snapshot was taken. The record
        stands all the same.
        """
        try:
            receipts = self._ledger.append(entries, timeout_s=timeout_s)
        except PolicydError:
            with self._moved:
                self._unrecorded += len(entries)
            raise
        _ = self.current
        return receipts

    def _at_least(self, epoch: int) -> Current:
        current = self.current
        if current.epoch < epoch:
            raise NotServing(
                f"this node is at epoch {current.epoch}, the question needs {epoch}: ask another"
            )
        return current

    def _verify(self, token: str, call: Call, now: Instant) -> Verified:
        try:
            verified = self._verifier.verify(
                token, data_service=call.spiffe_id, now=now, certificate_der=call.certificate_der
            )
        except TokenError as error:
            return Verified(call.spiffe_id, None, error.code)
        return Verified(call.spiffe_id, verified)

    def _record(
        self,
        decision: Decision,
        *,
        rpc: str,
        request_id: str,
        request_digest: bytes,
        valid_for_ms: int,
        call: Call,
        unknown: list[str],
    ) -> _Decided:
        decision_id = ids.decision_id()
        entry = decision_record(
            decision,
            decision_id=decision_id,
            trace_id=call.trace_id,
            span_id=ids.span_id(),
            parent_span_id=call.parent_span_id,
            request_digest=request_digest,
            answer_digest=canonical.answer_digest(
                decision, request_id=request_id, decision_id=decision_id, valid_for_ms=valid_for_ms
            ),
            spiffe_id=call.spiffe_id,
            valid_for_ms=valid_for_ms,
            key=self._pseudonym_key,
            unknown_names=unknown,
            rpc=rpc,
        )
        return _Decided(decision, decision_id, valid_for_ms, entry)


def _token_digest(verified: Verified, sent: str) -> bytes:
    return verified.token.digest if verified.token else canonical.token_digest(sent)


def _unknown_names(current: Current, claimed: Claimed) -> list[str]:
    resolve = current.decider.snapshot.policy.index.resolve
    return [name for name in (*claimed.fields, *claimed.used_fields) if resolve(name) is None]


def life_ms(verified: Verified, *, until: Instant, now: Instant) -> int:
    """Return the life of an answer: no longer than anything that it rests on, and never nothing.

    ``until`` is the first instant at which an agreement, an accreditation or a gateway could start or
    end and the decision come out otherwise.
    """
    ends = until if verified.token is None else min(until, verified.token.expires_at)
    return max(1, min(VALID_FOR_MS, ends - now))
