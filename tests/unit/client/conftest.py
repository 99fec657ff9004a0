"""A real gRPC server with mutual TLS on loopback, and clients of it that are closed in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from client_rig import Party, make_party
from pbac.v1 import decision_pb2_grpc, seal_pb2_grpc
from policyd_client import PolicyClient


@pytest.fixture(scope="session")
def party() -> Party:
    """The party that everyone here trusts."""
    return make_party()


@pytest.fixture
def serve(party: Party) -> Iterator[Callable[..., str]]:
    """Start servers on loopback; each call returns a `host:port`. They stop when the test ends."""
    servers = []

    def start(*, decisions: Any = None, seals: Any = None, handlers: Any = None, of: Party = party) -> str:
        server = grpc.server(ThreadPoolExecutor(max_workers=8))
        if decisions is not None:
            decision_pb2_grpc.add_DecisionServiceServicer_to_server(decisions, server)
        if seals is not None:
            seal_pb2_grpc.add_SealServiceServicer_to_server(seals, server)
        if handlers is not None:
            server.add_generic_rpc_handlers(handlers)
        credentials = grpc.ssl_server_credentials(
            [(of.server.key_pem, of.server.certificate_pem)], of.authority.certificate_pem, True
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.fixture
def connect(party: Party) -> Iterator[Callable[..., PolicyClient]]:
    """Make clients that trust `party`; they are closed when the test ends, before the servers stop."""
    clients = []

    def make(targets: Any, **changes: Any) -> PolicyClient:
        arguments = {
            "ca": party.authority.certificate_pem,
            "certificate": party.client.certificate_pem,
            "key": party.client.key_pem,
            "receipts": "off",
            "default_deadline_s": 10.0,
        }
        client = PolicyClient(targets, **{**arguments, **changes})
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
