"""Administrators of a node under test: their channels, and the changes that they sign and bring."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import grpc
from pbac.v1 import registry_pb2 as pb
from pbac.v1 import registry_pb2_grpc
from support.server import Site

from policyd import clock
from policyd.devsetup import key_name
from policyd.identity.keys import SigningKey, load_signing_key
from policyd.model import Registry
from policyd.registry.document import read_registry_text
from policyd.registry.draft import Content, Proposal, draft_change
from policyd.registry.entry import entries
from policyd.registry.state import merge
from policyd.service.change_wire import write_change
from policyd.service.registry_wire import read_entries, write_entry

TIMEOUT_S = 30.0
BOTH = ("registrar-1", "approver-1")
_NUMBERS = itertools.count(1)


def admin_channel(site: Site, address: str, name: str = "registrar-1", *, options: Any = ()) -> grpc.Channel:
    """Open a channel with the certificate of an administrator."""
    folder = site.data / "tls" / "admin"
    credentials = grpc.ssl_channel_credentials(
        root_certificates=site.config.tls.authority.read_bytes(),
        private_key=(folder / f"{name}.key").read_bytes(),
        certificate_chain=(folder / f"{name}.pem").read_bytes(),
    )
    return grpc.secure_channel(address, credentials, options=options)


def registry_stub(channel: grpc.Channel) -> Any:
    """Return the client side of RegistryService; generated code has no types."""
    make: Any = registry_pb2_grpc.RegistryServiceStub
    return make(channel)


def key_of(site: Site, name: str) -> SigningKey:
    return load_signing_key(site.config.keys / f"{key_name(name)}.key")


def sent(content: Registry) -> list[pb.Entry]:
    """Return entries as they are sent."""
    return [write_entry(entry) for _, entry in entries(content)]


def registry_of(site: Site, text: str, *, base: Registry | None = None) -> Registry:
    """Read entries as a registry file states them."""
    return read_registry_text(text, "test.yaml", base=base)


def everything(stub: Any) -> Registry:
    """Return all entries that a node lists."""
    found = Registry()
    for kind in range(1, 6):
        page = stub.List(pb.ListRequest(kind=kind, page_size=1000), timeout=TIMEOUT_S)
        some, problems = read_entries(page.entries, base=None)
        assert not problems
        found = merge(found, some)
    return found


def sign(site: Site, content: Content, planned_on: bytes, *names: str, **changes: Any) -> Proposal:
    """Return a change as these administrators sign it; ``changes`` are of its parts."""
    parts: dict[str, Any] = {
        "who": names[0],
        "why": "for a test",
        "at": clock.now(),
        "change_id": f"wire-{next(_NUMBERS)}",
        "planned_on": planned_on,
    }
    return Proposal(draft_change(content, **{**parts, **changes})).signed_by(
        *(key_of(site, name) for name in names)
    )


def plan_of(stub: Any, content: Registry) -> Any:
    """Return what a node says a change would do."""
    return stub.Apply(pb.ApplyRequest(entries=sent(content), dry_run=True), timeout=TIMEOUT_S)


def request_of(proposal: Proposal, content: Registry) -> pb.ApplyRequest:
    """Return the call that brings a signed change."""
    return pb.ApplyRequest(change=write_change(proposal), entries=sent(content))


def bring(site: Site, stub: Any, content: Registry, names: Iterable[str] = BOTH, **changes: Any) -> Any:
    """Plan a change, have it signed and brought, and return the answer."""
    planned = plan_of(stub, content)
    assert planned.state == pb.CHANGE_STATE_PLANNED, list(planned.problems)
    proposal = sign(site, content, planned.chain_hash, *names, **changes)
    return stub.Apply(request_of(proposal, content), timeout=TIMEOUT_S)
