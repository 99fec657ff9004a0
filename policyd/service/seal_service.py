"""SealService: WatchSeals tells each data service its own tokens; sealing itself is not built yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grpc
from pbac.v1 import seal_pb2 as pb
from pbac.v1 import seal_pb2_grpc

from policyd.errors import NotPermitted, NotServing
from policyd.interceptors.call import call_of
from policyd.model import Status
from policyd.persistent import TokenSet
from policyd.service.node import Current, Node

HEARTBEAT_S = 1.0
PART = 20_000
"""Tokens in one message: 640 KB of a message limit of 1 MiB."""
_NONE = TokenSet()


class SealServicer(seal_pb2_grpc.SealServiceServicer):
    """WatchSeals; the base class answers the rest."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def WatchSeals(  # noqa: N802
        self, request: pb.WatchSealsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchSealsResponse]:
        """Send all tokens of the caller, then each change, and a heartbeat each second."""
        spiffe_id = call_of(context).spiffe_id
        current = self._node.current
        if current.epoch < request.at_least_epoch:
            raise NotServing(f"this node is at epoch {current.epoch}, not yet {request.at_least_epoch}")
        known = _tokens(current, spiffe_id)
        yield from _snapshot(current.epoch, known)
        while context.is_active():
            moved = self._node.wait_beyond(current.epoch, timeout_s=HEARTBEAT_S)
            if moved.epoch > current.epoch:
                tokens = _tokens(moved, spiffe_id)
                added, removed = tokens.since(known)
                if added or removed:
                    yield from _changes(moved.epoch, added, removed)
                current, known = moved, tokens
            yield pb.WatchSealsResponse(heartbeat=pb.SealHeartbeat(epoch=current.epoch))


def _tokens(current: Current, spiffe_id: str) -> TokenSet:
    """Return the tokens of the calling data service.

    Raises:
        NotPermitted: it is not registered, or suspended.
    """
    service = current.decider.snapshot.services.get(spiffe_id)
    if service is None or service.status is not Status.ACTIVE:
        raise NotPermitted("seals are told to registered, active data services only")
    return current.seals.get(service.id, _NONE)


def _snapshot(epoch: int, tokens: TokenSet) -> Iterator[pb.WatchSealsResponse]:
    """Yield all tokens in parts, each made only when the one before it has been sent."""
    part: list[bytes] = []
    for following in tokens.parts(PART):
        if part:
            yield pb.WatchSealsResponse(snapshot=pb.SealSnapshot(epoch=epoch, tokens=part, complete=False))
        part = following
    yield pb.WatchSealsResponse(snapshot=pb.SealSnapshot(epoch=epoch, tokens=part, complete=True))


def _changes(epoch: int, added: Sequence[bytes], removed: Sequence[bytes]) -> Iterator[pb.WatchSealsResponse]:
    """Yield one change: the protocol has one message for each epoch, so a larger one ends the stream.

    The client then reconnects and takes a snapshot, which may come in parts.
    """
    if len(added) > PART or len(removed) > PART:
        raise NotServing("too many seals changed at once for one message: take a snapshot again")
    yield pb.WatchSealsResponse(change=pb.SealChange(epoch=epoch, added=added, removed=removed))
