"""AuditService: checkpoints and proofs for those who hold receipts; the rest is not built yet."""

from __future__ import annotations

import grpc
from pbac.v1 import audit_pb2 as pb
from pbac.v1 import audit_pb2_grpc

from policyd.errors import InvalidRequest, NotFound, NotPermitted
from policyd.interceptors.call import call_of
from policyd.ledger.entry import parse_leaf
from policyd.ledger.note import parse_checkpoint
from policyd.ledger.reader import StoredRecord
from policyd.ledger.writer import Ledger
from policyd.model import Status
from policyd.service.node import Node


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """GetCheckpoint, GetInclusionProof and GetConsistencyProof; the base class answers the rest."""

    def __init__(self, node: Node, ledger: Ledger) -> None:
        self._node = node
        self._ledger = ledger

    def GetCheckpoint(  # noqa: N802
        self, request: pb.GetCheckpointRequest, context: grpc.ServicerContext
    ) -> pb.GetCheckpointResponse:
        """Return the newest checkpoint."""
        self._admit(request.origin, context)
        note, size = self._newest()
        return pb.GetCheckpointResponse(checkpoint=note, size=size)

    def GetInclusionProof(  # noqa: N802
        self, request: pb.GetInclusionProofRequest, context: grpc.ServicerContext
    ) -> pb.GetInclusionProofResponse:
        """Prove that a record of the caller's is in the log."""
        spiffe_id = self._admit(request.origin, context)
        note, newest = self._newest()
        size = self._size(request.size or newest, newest)
        record = self._record(request)
        # SECURITY: somebody else's record is not told from none (test_a_record_of_another_is_not_found).
        if record is None or record.index >= newest or parse_leaf(record.leaf).get("spiffe_id") != spiffe_id:
            raise NotFound("this log has no such record of yours")
        if record.index >= size:
            raise InvalidRequest(
                f"record {record.index} is not among the first {size}: ask for a larger size"
            )
        return pb.GetInclusionProofResponse(
            index=record.index,
            size=size,
            leaf=record.leaf,
            proof=self._ledger.reader.inclusion_proof(record.index, size),
            checkpoint=note if size == newest else "",
        )

    def GetConsistencyProof(  # noqa: N802
        self, request: pb.GetConsistencyProofRequest, context: grpc.ServicerContext
    ) -> pb.GetConsistencyProofResponse:
        """Prove that the log only grew between two sizes."""
        self._admit(request.origin, context)
        note, newest = self._newest()
        size = self._size(request.new_size or newest, newest)
        if not 1 <= request.old_size <= size:
            raise InvalidRequest(f"old_size must be 1 to {size}")
        return pb.GetConsistencyProofResponse(
            new_size=size,
            proof=self._ledger.reader.consistency_proof(request.old_size, size),
            checkpoint=note if size == newest else "",
        )

    def _admit(self, origin: str, context: grpc.ServicerContext) -> str:
        """Return who calls.

        Raises:
            NotPermitted: it is no data service that is registered and active.
            NotFound: the log is another's.
        """
        spiffe_id = call_of(context).spiffe_id
        service = self._node.current.decider.snapshot.services.get(spiffe_id)
        if service is None or service.status is not Status.ACTIVE:
            raise NotPermitted("checkpoints and proofs are told to registered, active data services only")
        if origin not in ("", self._ledger.origin):
            raise NotFound(f"this node keeps the log `{self._ledger.origin}` alone: ask another")
        return spiffe_id

    def _newest(self) -> tuple[str, int]:
        note = self._ledger.checkpoint
        return note, parse_checkpoint(note.partition("\n\n")[0] + "\n").size

    def _size(self, asked: int, newest: int) -> int:
        if asked > newest:
            raise InvalidRequest(f"this log has {newest} records under a checkpoint, not {asked}")
        return asked

    def _record(self, request: pb.GetInclusionProofRequest) -> StoredRecord | None:
        if request.WhichOneof("record") == "decision_id":
            return self._ledger.reader.find_decision(request.decision_id)
        if request.WhichOneof("record") == "index" and request.index < 2**62:
            return self._ledger.reader.record(request.index)
        raise InvalidRequest("name the record: its index below 2^62, or the id of its decision")
