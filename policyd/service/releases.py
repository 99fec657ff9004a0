"""Record what data services did after their decisions: each by the one that asked, once, as they say it."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from google.protobuf.unknown_fields import UnknownFieldSet
from pbac.v1 import decision_pb2 as pb

from policyd import clock
from policyd.errors import AlreadyReported, InvalidRequest, LedgerCorrupt, NotFound, NotPermitted
from policyd.ledger.entry import parse_leaf
from policyd.ledger.note import Verifier, parse_checkpoint, verify_checkpoint
from policyd.ledger.reader import StoredRecord
from policyd.ledger.release_record import read_checkpoint, release_record
from policyd.ledger.writer import Ledger

_LOG = logging.getLogger("policyd")
_DECISION_ID = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}", re.ASCII)
_REPORT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class Releases:
    """The reports about decisions of one log. Safe for many threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._verifier = Verifier.from_vkey(ledger.vkey)
        self._lock = threading.Lock()
        self._in_hand: set[str] = set()

    def report(self, request: pb.ReportReleaseRequest, *, spiffe_id: str, timeout_s: float) -> pb.Receipt:
        """Record a report and return its receipt.

        A suspended data service may still report: what it did is then worth knowing all the more.

        Raises:
            InvalidRequest: the report is malformed, or the decision permits nothing.
            NotFound: the decision is not in this node's log.
            NotPermitted: it was another data service's question.
            AlreadyReported: another report about it is on record, or being recorded.
            LedgerBusy, LedgerClosed, NotServing: nothing was recorded.
        """
        _check_form(request)
        decision = self._ledger.reader.find_decision(request.decision_id)
        if decision is None or decision.index >= self._ledger.size:
            raise NotFound("this node's log has no such decision: ask the node that decided")
        asked = parse_leaf(decision.leaf)
        if asked["spiffe_id"] != spiffe_id:
            _alarm("a report by another data service", request.decision_id, spiffe_id)
            raise NotPermitted("only the data service that asked may report; this is an alarm")
        if asked["outcome"] == "withhold" or asked["valid_for_ms"] == 0:
            _alarm("a release after a decision that permits none", request.decision_id, spiffe_id)
            raise InvalidRequest("this decision permits no release, so there is none to report")
        # INVARIANT: one at a time about one decision. The ledger's own UNIQUE would close it for good.
        with self._alone(request.decision_id):
            known = self._ledger.reader.find_release(request.decision_id)
            if known is not None:
                return self._again(request, known, spiffe_id)
            try:
                entry = release_record(
                    request.decision_id,
                    report_id=request.report_id,
                    at=clock.now(),
                    spiffe_id=spiffe_id,
                    data_service=decision.columns.data_service,
                    rows=request.rows,
                    obligations_met=request.obligations_met,
                    result_digest=request.result_digest,
                    checkpoints=request.checkpoints,
                )
            except (ValueError, LedgerCorrupt) as error:
                raise InvalidRequest(str(error)) from None
            for note in request.checkpoints:
                self._compare(note, spiffe_id)
            receipts = self._ledger.append([entry], timeout_s=timeout_s)
        return pb.Receipt(
            origin=receipts.origin,
            index=receipts.first_index,
            leaf=entry.leaf,
            proof=receipts.proof(0),
            checkpoint=receipts.checkpoint,
        )

    @contextmanager
    def _alone(self, decision_id: str) -> Iterator[None]:
        with self._lock:
            if decision_id in self._in_hand:
                raise AlreadyReported("a report about this decision is being recorded")
            self._in_hand.add(decision_id)
        try:
            yield
        finally:
            with self._lock:
                self._in_hand.remove(decision_id)

    def _again(self, request: pb.ReportReleaseRequest, known: StoredRecord, spiffe_id: str) -> pb.Receipt:
        """Answer a report that was sent again because its answer got lost."""
        if parse_leaf(known.leaf)["report_id"] != request.report_id:
            _alarm("a second report", request.decision_id, spiffe_id)
            raise AlreadyReported("what was released after this decision is on record; this is an alarm")
        note = self._ledger.checkpoint
        size = parse_checkpoint(note.partition("\n\n")[0] + "\n").size
        return pb.Receipt(
            origin=self._ledger.origin,
            index=known.index,
            leaf=known.leaf,
            proof=self._ledger.reader.inclusion_proof(known.index, size),
            checkpoint=note,
        )

    def _compare(self, note: str, spiffe_id: str) -> None:
        """Look whether a checkpoint of this log that a client holds is one of this log's past.

        Raises:
            InvalidRequest: it names this log and is not signed by it.
        """
        checkpoint = read_checkpoint(note)
        if checkpoint.origin != self._ledger.origin:
            return
        try:
            verify_checkpoint(note, origin=self._ledger.origin, verifier=self._verifier)
        except LedgerCorrupt as error:
            raise InvalidRequest(f"a checkpoint does not hold: {error}") from None
        if (
            checkpoint.size > self._ledger.size
            or self._ledger.reader.root(checkpoint.size) != checkpoint.root
        ):
            # It is recorded all the same: `policyd audit verify` then fails, as it has to.
            _LOG.critical(
                "ALARM: %s holds a signed checkpoint of %d records that this log never had: "
                "the log was rewritten, or its key is used elsewhere",
                spiffe_id,
                checkpoint.size,
            )


def _check_form(request: pb.ReportReleaseRequest) -> None:
    unknown = UnknownFieldSet(request)
    if len(unknown):
        raise InvalidRequest(f"part {unknown[0].field_number} of the report is not known here")
    if not _DECISION_ID.fullmatch(request.decision_id):
        raise InvalidRequest("decision_id is not the id of a decision")
    if not _REPORT_ID.fullmatch(request.report_id):
        raise InvalidRequest("report_id must be 1 to 64 of [A-Za-z0-9._-]; use a fresh random one")


def _alarm(what: str, decision_id: str, spiffe_id: str) -> None:
    _LOG.error("ALARM: %s: decision %s, reported by %s", what, decision_id, spiffe_id)
