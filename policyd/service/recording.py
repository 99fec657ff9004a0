"""Turn a decision into its record: digests, pseudonym, and the sealed detail that it is replayed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from policyd import canonical
from policyd.decision.snapshot import Snapshot
from policyd.ledger.decision_record import decision_record
from policyd.ledger.detail import seal
from policyd.ledger.entry import Entry
from policyd.ledger.group import Receipts
from policyd.ledger.vault import Vault
from policyd.ledger.writer import Ledger
from policyd.model import Decision, Instant, Request, Verified
from policyd.service.facts import LISTING, Question, facts_of, write_detail

VALID_FOR_MS = 60_000
"""How long an answer may be used: the bound of DESIGN.md section 3.6."""

_FACTS_KEPT = 4_096


@dataclass(frozen=True, slots=True)
class Marks:
    """What is drawn afresh for each decision, or comes with the call; nothing of it decides anything."""

    decision_id: str
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision and its record, ready to append. No answer may leave before that is done."""

    decision: Decision
    decision_id: str
    valid_for_ms: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class _Book:
    """The facts of one snapshot that were asked for, as bytes."""

    snapshot: Snapshot
    kept: dict[tuple[object, ...], bytes] = field(default_factory=dict)


class Recorder:
    """Records decisions with their details. Safe for many threads."""

    def __init__(self, ledger: Ledger, vault: Vault) -> None:
        self._ledger = ledger
        self._vault = vault
        self._book: _Book | None = None

    @property
    def failure(self) -> str:
        """Why nothing can be recorded, so that nothing may be answered; empty while it can."""
        return self._ledger.refusing or self._vault.failure

    def record(
        self,
        snapshot: Snapshot,
        question: Question,
        decision: Decision,
        *,
        until: Instant,
        marks: Marks,
        wait_s: float,
    ) -> Recorded:
        """Return a decision with its record; ``until`` is when time alone could change it.

        Raises:
            LedgerBusy, LedgerClosed: there is no key to seal its detail with, or no room on the disk, so it
                may not be answered.
        """
        # First, because a key that is taken in vain is made again, and that fills the disk, too.
        self._ledger.room.demand()
        requester = self._vault.pseudonym(decision.requester)
        key = self._vault.take(timeout_s=wait_s)
        plain = write_detail(self._facts(snapshot, question.request), question, decision.at)
        detail = seal(plain, key, origin=self._ledger.origin, decision_id=marks.decision_id)
        life = valid_for_ms(question, until=until, now=decision.at)
        entry = write_record(
            question,
            decision,
            marks=marks,
            valid_for_ms=life,
            requester=requester,
            key=key.secret,
            detail=detail,
        )
        return Recorded(decision, marks.decision_id, life, entry)

    def append(self, entries: Sequence[Entry], *, timeout_s: float) -> Receipts:
        """Put records on stable storage (`Ledger.append`)."""
        return self._ledger.append(entries, timeout_s=timeout_s)

    def _facts(self, snapshot: Snapshot, request: Request) -> bytes:
        book = self._book
        if book is None or book.snapshot is not snapshot:
            self._book = book = _Book(snapshot)
        token = request.verified.token
        issuer, subject = (token.issuer, token.subject) if token else ("", "")
        # Only who and what is registered makes an entry, so that nobody can fill this by asking nonsense.
        known = request.verified.spiffe_id in snapshot.services and (issuer, subject) in snapshot.requesters
        if not known or request.claimed.agreement not in snapshot.agreements:
            return facts_of(snapshot, request)
        # Of the visas only who supervises is looked up in the registry.
        named = {each.supervisor for each in token.visas.accreditations} if token else set()
        key = (request.verified.spiffe_id, issuer, subject, request.claimed.agreement, frozenset(named))
        facts = book.kept.get(key)
        if facts is None:
            facts = facts_of(snapshot, request)
            if len(book.kept) >= _FACTS_KEPT:
                book.kept.clear()
            book.kept[key] = facts
        return facts


def write_record(
    question: Question,
    decision: Decision,
    *,
    marks: Marks,
    valid_for_ms: int,
    requester: str,
    key: bytes,
    detail: bytes,
) -> Entry:
    """Return the record of a decision: the same values always give the same bytes.

    ``requester`` is the pseudonym, ``key`` that of the record, ``detail`` what is sealed under it.
    """
    answer = canonical.answer_digest(
        decision,
        request_id=question.request.claimed.request_id,
        decision_id=marks.decision_id,
        valid_for_ms=valid_for_ms,
    )
    return decision_record(
        decision,
        decision_id=marks.decision_id,
        trace_id=marks.trace_id,
        span_id=marks.span_id,
        parent_span_id=marks.parent_span_id,
        request_digest=question.digest,
        answer_digest=answer,
        spiffe_id=question.request.verified.spiffe_id,
        valid_for_ms=valid_for_ms,
        key=key,
        requester=requester,
        detail=detail,
        rpc=question.rpc,
    )


def valid_for_ms(question: Question, *, until: Instant, now: Instant) -> int:
    """Return the life of the answer to a question; a listing permits nothing and has none."""
    return 0 if question.rpc == LISTING else life_ms(question.request.verified, until=until, now=now)


def life_ms(verified: Verified, *, until: Instant, now: Instant) -> int:
    """Return the life of an answer: no longer than anything that it rests on, and never nothing.

    ``until`` is the first instant at which an agreement, an accreditation or a gateway could start or
    end and the decision come out otherwise.
    """
    ends = until if verified.token is None else min(until, verified.token.expires_at)
    return max(1, min(VALID_FOR_MS, ends - now))
