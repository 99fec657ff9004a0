"""Report what was released after a decision, so that the ledger has the outcome beside the decision."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import grpc
from pbac.v1 import decision_pb2 as pb

from policyd_client.calls import Calls
from policyd_client.errors import AlreadyReported, NoDecision, NotReported
from policyd_client.expect import Unexpected
from policyd_client.model import Decision, Outcome, Receipt
from policyd_client.proving import Proving

OBLIGATIONS = frozenset(field.name for field in pb.Obligation.DESCRIPTOR.fields)
"""The names that an obligation can have in a report."""
_MAX_ROWS = 2**53 - 1
_MAX_NOTES, _MAX_NOTE_BYTES, _MAX_NOTES_BYTES = 16, 4_096, 48 * 1024


class Reporter:
    """Sends reports to the node that decided."""

    def __init__(self, calls: Calls, proving: Proving | None) -> None:
        self._calls = calls
        self._proving = proving
        self._report = calls.method(
            "/pbac.v1.DecisionService/ReportRelease",
            pb.ReportReleaseRequest,
            pb.ReportReleaseResponse.FromString,
        )

    def report(
        self,
        decision: Decision,
        *,
        rows: int,
        obligations_met: Collection[str],
        result_digest: bytes,
        deadline_s: float | None,
    ) -> Receipt | None:
        """Report once, and return the proof that it is recorded; None without receipts.

        Raises:
            NotReported: no node recorded it, or it is not known; the same report may be sent again.
            AlreadyReported: it was reported before.
            ValueError: a part is malformed, or rows came of a decision that was not used.
        """
        met = _check_form(decision, rows, obligations_met, result_digest)
        request = pb.ReportReleaseRequest(
            decision_id=decision.decision_id,
            rows=rows,
            obligations_met=met,
            result_digest=result_digest,
            checkpoints=[] if self._proving is None else _fitting(self._proving.newest()),
            report_id=decision.life.begin_report(decision.decision_id, rows=rows),
        )
        try:
            return self._send(request, decision, deadline_s)
        except AlreadyReported:
            raise
        except BaseException:  # interrupted or not: whether it arrived is not known, so it may be sent again
            decision.life.report_failed()
            raise

    def _send(
        self, request: pb.ReportReleaseRequest, decision: Decision, deadline_s: float | None
    ) -> Receipt | None:
        origin, decision_id = decision.ledger_origin, decision.decision_id
        try:
            answered = self._calls.ask(
                self._report,
                request,
                deadline_s=deadline_s,
                first=None if self._proving is None else self._proving.home(origin),
                elsewhere=frozenset({grpc.StatusCode.NOT_FOUND}),
            )
        except NoDecision as error:
            if error.code == "ALREADY_EXISTS":
                raise AlreadyReported(
                    f"another release after decision `{decision_id}` is on record", decision_id=decision_id
                ) from error
            why = str(error).removeprefix("no decision: ")
            raise NotReported(
                f"the release is not recorded: {why}", code=error.code, decision_id=decision_id
            ) from error
        if self._proving is None:
            return None
        try:
            return self._proving.release(request, answered.message, target=answered.target)
        except Unexpected as unexpected:
            raise NotReported(
                f"the release is not proved to be recorded: {unexpected}",
                code="UNEXPECTED",
                decision_id=decision_id,
            ) from unexpected


def _check_form(
    decision: Decision, rows: int, obligations_met: Collection[str], result_digest: bytes
) -> list[str]:
    if decision.outcome is Outcome.WITHHOLD:
        raise ValueError("a decision that withholds everything has no release to report")
    if isinstance(obligations_met, str) or not OBLIGATIONS.issuperset(obligations_met):
        raise ValueError(f"`obligations_met` is a list of some of {', '.join(sorted(OBLIGATIONS))}")
    if not 0 <= rows <= _MAX_ROWS:
        raise ValueError(f"`rows` is a number from 0 to {_MAX_ROWS}, not `{rows}`")
    if len(result_digest) not in (0, 32):
        raise ValueError("`result_digest` is an HMAC-SHA-256 of 32 bytes")
    if rows and not result_digest:
        raise ValueError("rows were released: give `result_digest`, an HMAC of them under a key of your own")
    return sorted(set(obligations_met))


def _fitting(notes: Sequence[str]) -> list[str]:
    """Return the notes that a report has room for."""
    room = _MAX_NOTES_BYTES
    fitting: list[str] = []
    for note in notes:
        size = len(note.encode())
        if size <= min(_MAX_NOTE_BYTES, room) and len(fitting) < _MAX_NOTES:
            fitting.append(note)
            room -= size
    return fitting
