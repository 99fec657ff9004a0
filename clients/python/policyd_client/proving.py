"""What stands between an answer and its use: proof that it is recorded, in a log that is still trusted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
from pbac.v1 import audit_pb2
from pbac.v1 import decision_pb2 as pb

from policyd_client._clock import Clock
from policyd_client.calls import Calls
from policyd_client.digest import listing_digest, request_digest
from policyd_client.expect import Unexpected
from policyd_client.journal import Journal
from policyd_client.listing import Listing
from policyd_client.model import Action, Decision, Question, Receipt
from policyd_client.note import Pin
from policyd_client.receipt import Asked, check_decision, check_receipt, check_release
from policyd_client.witnessing import Witnessing

_LOG = logging.getLogger("policyd_client")
_ANOTHER = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED})


class Proving:
    """Checks every receipt, and keeps the checkpoints that they lead to. Safe to use from many threads."""

    def __init__(
        self, pins: Mapping[str, Pin], *, spiffe_id: str, journal: Path | None, calls: Calls, clock: Clock
    ) -> None:
        """Open the journal and begin to have checkpoints proved.

        Raises:
            ValueError: the journal is in use or damaged.
            OSError: it cannot be read or written.
        """
        if journal is None:
            _LOG.warning(
                "no `journal` is named: what the logs have shown is kept in memory alone, so a log that is "
                "rewritten while this client is not running goes unnoticed"
            )
        self._pins = pins
        self._spiffe_id = spiffe_id
        self._calls = calls
        self._homes: dict[str, int] = {}
        self._get_proof = calls.method(
            "/pbac.v1.AuditService/GetConsistencyProof",
            audit_pb2.GetConsistencyProofRequest,
            audit_pb2.GetConsistencyProofResponse.FromString,
        )
        self._witnessing = Witnessing(
            pins,
            journal=Journal(journal, pins),
            fetch=self._fetch,
            deadline_s=calls.default_deadline_s,
            clock=clock,
        )

    def decision(
        self,
        question: Question,
        request: pb.CheckRequest,
        answer: pb.CheckResponse,
        *,
        target: int,
        rpc: str,
        shared: Sequence[str] = (),
    ) -> Callable[[Decision], Decision]:
        """Return what gives a decision its receipt, or raises ``Unexpected``."""
        asked = Asked(
            rpc=rpc,
            request_digest=request_digest(request),
            spiffe_id=self._spiffe_id,
            agreement=question.agreement,
            purposes=tuple(question.purposes),
            action=Action(question.action),
        )
        return lambda decision: replace(
            decision, receipt=self._prove(decision, answer, asked, target=target, shared=tuple(shared))
        )

    def listing(
        self, request: pb.ListFieldsRequest, answer: pb.ListFieldsResponse, *, action: Action, target: int
    ) -> Callable[[Listing], Listing]:
        """Return what gives a listing its receipt, or raises ``Unexpected``."""
        asked = Asked(
            rpc="ListFields",
            request_digest=listing_digest(request),
            spiffe_id=self._spiffe_id,
            agreement=request.agreement_id,
            purposes=tuple(request.purposes),
            action=action,
        )
        return lambda listing: replace(listing, receipt=self._prove(listing, answer, asked, target=target))

    def release(
        self, report: pb.ReportReleaseRequest, answer: pb.ReportReleaseResponse, *, target: int
    ) -> Receipt:
        """Return the receipt of a report.

        Raises:
            Unexpected: it is not proved to be recorded as it was sent.
        """
        receipt, leaf = check_receipt(answer.receipt, self._pins)
        check_release(leaf, report, spiffe_id=self._spiffe_id)
        self._keep(receipt, report.decision_id, target)
        return receipt

    def trouble(self, origin: str) -> str:
        """Return why a log is not trusted; empty while it is."""
        return self._witnessing.trouble(origin)

    def newest(self) -> list[str]:
        """Return the newest checkpoint of every log."""
        return self._witnessing.newest()

    def prove(self) -> None:
        """Have what is not yet proved to be consistent proved now."""
        self._witnessing.prove()

    def home(self, origin: str) -> int | None:
        """Return the number of the node that keeps a log, if it has answered."""
        return self._homes.get(origin)

    def close(self) -> None:
        """Stop, once the connections are closed."""
        self._witnessing.close()

    def _prove(
        self,
        found: Decision | Listing,
        answer: pb.CheckResponse | pb.ListFieldsResponse,
        asked: Asked,
        *,
        target: int,
        shared: tuple[str, ...] = (),
    ) -> Receipt:
        receipt, leaf = check_receipt(answer.receipt, self._pins, shared=shared)
        check_decision(
            leaf,
            asked,
            answer,
            outcome=found.outcome,
            obligations=found.obligations,
        )
        self._keep(receipt, answer.decision_id, target)
        return receipt

    def _keep(self, receipt: Receipt, decision_id: str, target: int) -> None:
        self._homes[receipt.origin] = target
        self._witnessing.saw(receipt, decision_id)
        self._witnessing.confirm(receipt.origin)
        if why := self._witnessing.trouble(receipt.origin):
            raise Unexpected(why)

    def _fetch(self, origin: str, old_size: int, new_size: int) -> Sequence[bytes]:
        request = audit_pb2.GetConsistencyProofRequest(origin=origin, old_size=old_size, new_size=new_size)
        answered = self._calls.ask(
            self._get_proof, request, first=self._homes.get(origin), elsewhere=_ANOTHER
        )
        return answered.message.proof
