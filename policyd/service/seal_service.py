"""SealService: sealing officers seal and lift, and each data service watches its own tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grpc
from pbac.v1 import registry_pb2, seal_pb2_grpc
from pbac.v1 import seal_pb2 as pb

from policyd.errors import InvalidRequest, NotPermitted, NotServing
from policyd.interceptors.call import call_of
from policyd.model import Registry, Seal, Status
from policyd.persistent import TOKEN_BYTES, TokenSet
from policyd.policy.reader import CODE, ID
from policyd.registry.check import RegistryError
from policyd.registry.draft import Content
from policyd.registry.draft import Lift as Lifting
from policyd.service.change_wire import read_change
from policyd.service.changing import Changer, Made, Progress
from policyd.service.in_force import Reach
from policyd.service.node import Current, Node
from policyd.service.roles import Roles

HEARTBEAT_S = 1.0
PART = 20_000
"""Tokens in one message: 640 KB of a message limit of 1 MiB."""
_NONE = TokenSet()


_STATE = {
    Progress.AWAITING_APPROVAL: registry_pb2.CHANGE_STATE_AWAITING_APPROVAL,
    Progress.PENDING: registry_pb2.CHANGE_STATE_PENDING,
    Progress.IN_FORCE: registry_pb2.CHANGE_STATE_IN_FORCE,
}


class SealServicer(seal_pb2_grpc.SealServiceServicer):
    """Seal, Lift and WatchSeals; the base class answers the rest."""

    def __init__(self, node: Node, changer: Changer, roles: Roles) -> None:
        self._node = node
        self._changer = changer
        self._roles = roles

    def Seal(self, request: pb.SealRequest, context: grpc.ServicerContext) -> pb.SealResponse:  # noqa: N802
        """Put one record under seal, and say where that holds."""
        seal = _read_seal(request)
        made = self._bring(request.change, Registry(seals={seal.id: seal}), context)
        reach = made.reach or Reach()
        return pb.SealResponse(
            state=_STATE[made.progress],
            epoch=made.epoch,
            in_force_at_ms=reach.at,
            in_force_for_answers_at_ms=reach.for_answers_at,
            waiting_for=made.waiting_for,
            receipt=made.receipt,
        )

    def Lift(self, request: pb.LiftRequest, context: grpc.ServicerContext) -> pb.LiftResponse:  # noqa: N802
        """Take one record out of its seal, once two people have signed that."""
        made = self._bring(request.change, Lifting((request.seal_id,)), context)
        return pb.LiftResponse(state=_STATE[made.progress], epoch=made.epoch, receipt=made.receipt)

    def _bring(
        self,
        change: registry_pb2.Change,
        content: Content,
        context: grpc.ServicerContext,
    ) -> Made:
        """Make the change that a caller brings.

        Raises:
            NotPermitted: the caller did not sign it.
            InvalidRequest: the seals do not fit what is registered, or nobody could have signed this.
            NotAuthorised, StateConflict, NotServing, LedgerBusy, LedgerClosed: as `Changer.make`.
        """
        timeout_s = context.time_remaining()
        spiffe_id = call_of(context).spiffe_id
        proposal = read_change(change, content)
        admin = self._roles.administrator(spiffe_id)
        if admin is None or admin.key_id not in {each.key_id for each in proposal.signatures}:
            # SECURITY: a signature alone is not enough, or whoever sees one on its way could choose when
            # it takes effect (test_a_seal_is_brought_by_one_of_its_signers).
            raise NotPermitted("the caller is none of those who signed: send it with your own certificate")
        state = self._node.current.state
        again = state.history.used(proposal.draft.change_id)
        if isinstance(content, Registry) and not again and content.seals.keys() & state.registry.seals.keys():
            raise InvalidRequest("there is a seal of this id; a new seal takes a new one")
        try:
            return self._changer.make(proposal, content, timeout_s=timeout_s)
        except RegistryError as error:
            raise InvalidRequest(str(error)) from error

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


def _read_seal(request: pb.SealRequest) -> Seal:
    """Return the seal that is asked for.

    Raises:
        InvalidRequest: its id, a data service or a token has another form than a seal's, or one is repeated.
    """
    if CODE.fullmatch(request.seal_id) is None:
        raise InvalidRequest(f"`seal_id` is not an id of the form {CODE.pattern}")
    tokens: dict[str, bytes] = {}
    for each in request.tokens:
        if ID.fullmatch(each.data_service) is None or each.data_service in tokens:
            raise InvalidRequest("`tokens` name a data service twice, or by something that is no id")
        if len(each.token) != TOKEN_BYTES:
            raise InvalidRequest(f"a token has {TOKEN_BYTES} bytes: HMAC-SHA-256 of the pupil reference")
        tokens[each.data_service] = each.token
    return Seal(request.seal_id, tuple(sorted(tokens.items())))


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
