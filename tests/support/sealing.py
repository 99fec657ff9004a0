"""Sealing officers of a node under test: their channels, and the seals that they sign and bring."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import grpc
from pbac.v1 import seal_pb2 as pb
from pbac.v1 import seal_pb2_grpc
from support.server import Site

from policyd import clock
from policyd.devsetup import key_name
from policyd.identity.keys import load_signing_key
from policyd.model import Registry, Seal
from policyd.registry.draft import Content, Lift, Proposal, draft_change
from policyd.service.change_wire import write_change

OFFICER, APPROVER = "sealing-officer-1", "approver-1"
_NUMBERS = itertools.count(1)


def officer_channel(site: Site, address: str, name: str = OFFICER) -> grpc.Channel:
    """Open a channel with the certificate of an administrator."""
    folder = site.data / "tls" / "admin"
    credentials = grpc.ssl_channel_credentials(
        root_certificates=site.config.tls.authority.read_bytes(),
        private_key=(folder / f"{name}.key").read_bytes(),
        certificate_chain=(folder / f"{name}.pem").read_bytes(),
    )
    return grpc.secure_channel(address, credentials)


def seal_stub(channel: grpc.Channel) -> Any:
    """Return the client side of SealService; generated code has no types."""
    make: Any = seal_pb2_grpc.SealServiceStub
    return make(channel)


def sign(site: Site, content: Content, planned_on: bytes, *names: str, **changes: Any) -> Proposal:
    """Return a change as these administrators sign it; ``changes`` are of its parts."""
    parts: dict[str, Any] = {
        "who": names[0],
        "why": "for a test",
        "at": clock.now(),
        "change_id": f"seal-change-{next(_NUMBERS)}",
        "planned_on": planned_on,
    }
    draft = draft_change(content, **{**parts, **changes})
    keys = [load_signing_key(site.config.keys / f"{key_name(name)}.key") for name in names]
    return Proposal(draft).signed_by(*keys)


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
