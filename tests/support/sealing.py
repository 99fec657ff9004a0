"""Sealing officers of a node under test: their channels, and the seals that they sign and bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from pbac.v1 import seal_pb2 as pb
from pbac.v1 import seal_pb2_grpc
from support.admin import admin_channel, sign
from support.server import Site

from policyd.model import Registry, Seal
from policyd.registry.draft import Lift
from policyd.service.change_wire import write_change

OFFICER, APPROVER = "sealing-officer-1", "approver-1"


def officer_channel(site: Site, address: str, name: str = OFFICER) -> grpc.Channel:
    """Open a channel as an administrator, by default one who seals."""
    return admin_channel(site, address, name)


def seal_stub(channel: grpc.Channel) -> Any:
    """Return the client side of SealService; generated code has no types."""
    make: Any = seal_pb2_grpc.SealServiceStub
    return make(channel)


def seal_request(
    site: Site, name: str, tokens: Mapping[str, bytes], planned_on: bytes, *signers: str, **changes: Any
) -> pb.SealRequest:
    """Return the call that puts one record under seal, signed by the officer unless told otherwise."""
    seal = Seal(name, tuple(sorted(tokens.items())))
    proposal = sign(site, Registry(seals={name: seal}), planned_on, *(signers or (OFFICER,)), **changes)
    return pb.SealRequest(
        change=write_change(proposal),
        seal_id=name,
        tokens=[pb.SealToken(data_service=service, token=token) for service, token in tokens.items()],
    )


def lift_request(site: Site, name: str, planned_on: bytes, *signers: str, **changes: Any) -> pb.LiftRequest:
    """Return the call that lifts a seal."""
    proposal = sign(site, Lift((name,)), planned_on, *signers, **changes)
    return pb.LiftRequest(change=write_change(proposal), seal_id=name)
