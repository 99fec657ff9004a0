"""How a seal is asked for, and what its return promises: the one place that changes with it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import grpc
from pbac.v1.registry_pb2 import CHANGE_STATE_IN_FORCE, CHANGE_STATE_PENDING
from pbac.v1.seal_pb2 import SealRequest
from support.sealing import officer_channel, seal_request, seal_stub

from fleet.harness import Fleet, FleetNode
from fleet.history import Event, SealAsked, SealReturned, now
from policyd.errors import NotServing
from policyd.registry.redis_url import parse_redis_url
from policyd.state import open_store

_CALL_S = 6.0
"""Long enough for every lease to be outlasted, should a node be stopped."""
_PATIENCE_S = 40.0
_LOOKS = 120
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED)
"""What a node says that is stopped, dead or behind: another is asked."""
_PAUSE = threading.Event()


class Sealing(Protocol):
    """A way to put records under seal.

    Before it asks it adds a `SealAsked` to the history, and a `SealReturned` after it was told something:
    `in_force` only for what somebody was promised.
    """

    @property
    def tail_s(self) -> float:
        """How long the load goes on after the last seal, so that there are questions to judge it by."""

    def seal(self, fleet: Fleet, *, name: str, record: str, tokens: Mapping[str, bytes]) -> None:
        """Seal one record, and return when nothing more will be said about it.

        ``tokens`` name the record to each data service. May be called while nodes are paused or dead.
        """


class Sealed:
    """`SealService.Seal`, of whichever node answers; what is pending is asked about again until it holds."""

    tail_s = 1.0

    def seal(self, fleet: Fleet, *, name: str, record: str, tokens: Mapping[str, bytes]) -> None:
        """Ask the nodes in turn, always for the same change, beginning with another one each time."""
        fleet.history.add(SealAsked(now(), name, record))
        request = seal_request(fleet.site, name, tokens, _head(fleet), change_id=f"change-of-{name}")
        begin = int(name.rsplit("-", 1)[1])
        ends_at = now() + _PATIENCE_S
        for turn in itertools.count(begin):
            node = fleet.nodes[turn % len(fleet.nodes)]
            try:
                answer = _ask(fleet, node, request)
            except grpc.RpcError as error:
                failed: Any = error
                if failed.code() not in _PASSING:
                    raise
            else:
                told = now()
                if answer.state == CHANGE_STATE_IN_FORCE:
                    out_s = (answer.in_force_for_answers_at_ms - answer.in_force_at_ms) / 1000
                    fleet.history.add(
                        SealReturned(told, name, "in_force", answer.epoch, answers_at=told + out_s)
                    )
                    return
                assert answer.state == CHANGE_STATE_PENDING
                assert answer.waiting_for
                waiting = tuple(answer.waiting_for)
                fleet.history.add(SealReturned(told, name, "pending", answer.epoch, waiting_for=waiting))
            if now() > ends_at:
                fleet.history.add(SealReturned(now(), name, "failed"))
                return
            _PAUSE.wait(0.05)


def _ask(fleet: Fleet, node: FleetNode, request: SealRequest) -> Any:
    with officer_channel(fleet.site, node.proxy.address) as channel:
        return seal_stub(channel).Seal(request, timeout=_CALL_S)


def _head(fleet: Fleet) -> bytes:
    """Return what an officer plans on: the newest change."""
    config = fleet.site.config
    if fleet.state_url is not None:
        config = replace(config, redis=parse_redis_url(fleet.state_url, base=config.data))
    for _ in range(_LOOKS):
        try:
            with open_store(config) as store:
                return store.load().chain_hash
        except NotServing:
            _PAUSE.wait(0.25)
    raise AssertionError("the state could not be read to plan on")


def as_if_in_force(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the history in which every pending seal had been said to be in force at once."""
    for event in events:
        if isinstance(event, SealReturned):
            if event.state == "pending":
                yield replace(event, state="in_force")
        else:
            yield event
