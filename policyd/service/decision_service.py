"""DecisionService: questions in, answers out; what is not built yet answers UNIMPLEMENTED."""

from __future__ import annotations

import grpc
from pbac.v1 import decision_pb2 as pb
from pbac.v1 import decision_pb2_grpc

from policyd.interceptors.call import call_of
from policyd.service.answer import share_checkpoints
from policyd.service.node import Node
from policyd.service.question import read_batch, read_explain, read_listing, read_question
from policyd.service.releases import Releases

MAX_BATCH = 100


class DecisionServicer(decision_pb2_grpc.DecisionServiceServicer):
    """Check, BatchCheck, Explain, ListFields and ReportRelease; the base class answers the rest."""

    def __init__(self, node: Node, releases: Releases) -> None:
        self._node = node
        self._releases = releases

    def Check(self, request: pb.CheckRequest, context: grpc.ServicerContext) -> pb.CheckResponse:  # noqa: N802
        """Decide one question."""
        claimed = read_question(request)
        timeout_s = context.time_remaining()
        return self._node.answer([request], [claimed], call_of(context), timeout_s=timeout_s)[0]

    def BatchCheck(  # noqa: N802
        self, request: pb.BatchCheckRequest, context: grpc.ServicerContext
    ) -> pb.BatchCheckResponse:
        """Decide up to 100 questions on one snapshot, in one commit."""
        claims = read_batch(request, limit=MAX_BATCH)
        timeout_s = context.time_remaining()
        answers = self._node.answer(request.checks, claims, call_of(context), timeout_s=timeout_s)
        return pb.BatchCheckResponse(answers=answers, checkpoints=share_checkpoints(answers))

    def Explain(self, request: pb.ExplainRequest, context: grpc.ServicerContext) -> pb.ExplainResponse:  # noqa: N802
        """Decide one question, and say how the decision came about."""
        claimed = read_explain(request)
        timeout_s = context.time_remaining()
        return self._node.explain(request.check, claimed, call_of(context), timeout_s=timeout_s)

    def ListFields(  # noqa: N802
        self, request: pb.ListFieldsRequest, context: grpc.ServicerContext
    ) -> pb.ListFieldsResponse:
        """List what the requester could have."""
        claimed = read_listing(request)
        timeout_s = context.time_remaining()
        return self._node.list_fields(request, claimed, call_of(context), timeout_s=timeout_s)

    def ReportRelease(  # noqa: N802
        self, request: pb.ReportReleaseRequest, context: grpc.ServicerContext
    ) -> pb.ReportReleaseResponse:
        """Record what the caller did after a decision."""
        timeout_s = context.time_remaining()
        receipt = self._releases.report(request, spiffe_id=call_of(context).spiffe_id, timeout_s=timeout_s)
        return pb.ReportReleaseResponse(receipt=receipt)
