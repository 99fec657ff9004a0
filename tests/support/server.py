"""A node of policyd for tests: its data directory, the server in this process or another, and its callers."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from pbac.v1 import decision_pb2 as pb
from pbac.v1 import decision_pb2_grpc

from policyd import clock
from policyd.config import Config
from policyd.devsetup import AUDIENCE, client_credentials, local_issuer, set_up
from policyd.identity.keys import load_signing_key
from policyd.ledger.entry import parse_leaf
from policyd.ledger.reader import LedgerReader
from policyd.registry.change import draft_registry
from policyd.registry.document import read_registry_text
from policyd.server import Server
from policyd.state import open_store

POLICY = Path(__file__).parents[2] / "policies" / "npd"
REGISTRY = Path(__file__).with_name("server_registry.yaml")
POLICYD = (sys.executable, "-c", "from policyd.cli import main; main()")
START_S = 30.0
"""Longer than a start can take on a busy machine; a start that hangs still ends the test."""


def registry_text(*, status: str = "active", more: str = "") -> str:
    """Return the registry of `server_registry.yaml`, dated from today; ``status`` is the agreement's."""
    today = datetime.fromtimestamp(clock.now() / 1000, tz=UTC).date()
    dates = {"ago": today - timedelta(days=365), "ahead": today + timedelta(days=365)}
    return Template(REGISTRY.read_text("utf-8")).substitute(dates, status=status) + more


def seals_text(seals: Mapping[str, Mapping[str, bytes]]) -> str:
    """Return the part of a registry file that seals: for each id, a token for each data service."""
    lines = ["seals:"]
    for name, tokens in seals.items():
        shown = ", ".join(f'{service}: "{token.hex()}"' for service, token in tokens.items())
        lines.append(f"  - {{id: {name}, tokens: {{{shown}}}}}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Site:
    """One data directory and what its neighbours use: certificates, tokens, the registry, the ledger."""

    config: Config

    @property
    def data(self) -> Path:
        return self.config.data

    def spiffe_id(self, service: str = "npd-secure") -> str:
        return f"spiffe://{self.config.trust_domain}/data-service/{service}"

    def token(self, requester: str = "researcher-1", *, service: str = "npd-secure", **changes: Any) -> str:
        arguments = {"data_service": self.spiffe_id(service), "audience": AUDIENCE, "now": clock.now()}
        return local_issuer(self.config).mint(requester, **{**arguments, **changes})

    def question(self, number: object = 1, **changes: Any) -> pb.CheckRequest:
        """Return a good question, changed as asked."""
        parts: dict[str, Any] = {
            "request_id": f"request-{number}",
            "requester_token": "",
            "agreement_id": "DS00101",
            "purposes": ["academic-research"],
            "action": pb.ACTION_RELEASE,
            "fields": ["SC_Pupil.Gender_SPR19", "KS4.KS4_ATT8"],
            "years": [2018],
        }
        parts.update(changes)
        if "requester_token" not in changes:
            parts["requester_token"] = self.token()
        return pb.CheckRequest(**parts)

    def channel(
        self, address: str, *, service: str = "npd-secure", options: Any = (), **pem: bytes
    ) -> grpc.Channel:
        """Open a channel as a data service; ``pem`` may replace `certificate_chain` and the like."""
        own = client_credentials(self.config, self.spiffe_id(service))
        arguments = {
            "root_certificates": self.config.tls.authority.read_bytes(),
            "private_key": own.key_pem,
            "certificate_chain": own.certificate_pem,
        }
        credentials = grpc.ssl_channel_credentials(**{**arguments, **pem})
        return grpc.secure_channel(address, credentials, options=options)

    def apply(self, text: str, *, why: str = "for a test") -> int:
        """Apply a registry file as another process would, and return the epoch."""
        signer = load_signing_key(self.config.keys / "node.key")
        with closing(open_store(self.config, signer=signer)) as store:
            state = store.load()
            entries = read_registry_text(text, "test.yaml", base=state.registry)
            draft = draft_registry(entries, who="registrar-1", why=why, at=clock.now())
            return store.append(draft, state.epoch)

    def leaves(self, start: int = 0) -> list[dict[str, Any]]:
        """Return the records of the ledger as they are stored, from an index on."""
        with LedgerReader(self.config.ledger) as reader:
            return [parse_leaf(record.leaf) for record in reader.records(start)]

    def count(self) -> int:
        with LedgerReader(self.config.ledger) as reader:
            return reader.count()


def make_site(data: Path, *, policy: Path = POLICY, registry: str | None = None) -> Site:
    """Fill a data directory as `policyd dev` does, listening on any free port, and register everybody."""
    site = Site(set_up(data, policy=policy, address="127.0.0.1:0"))
    site.apply(registry_text() if registry is None else registry)
    return site


@contextmanager
def serving(site: Site, **changes: Any) -> Iterator[Server]:
    """Run a node in this process; ``changes`` are of its configuration."""
    server = Server(replace(site.config, **changes))
    server.start()
    try:
        yield server
    finally:
        server.stop(grace_s=5.0)


def stub(channel: grpc.Channel) -> Any:
    """Return the client side of DecisionService; generated code has no types."""
    make: Any = decision_pb2_grpc.DecisionServiceStub
    return make(channel)


def reasons(answer: pb.CheckResponse) -> dict[str, str]:
    """Return what came out for each name: the reason, or the effect where nothing is withheld."""
    words = {pb.EFFECT_RELEASE: "release", pb.EFFECT_TRANSFORM: "transform"}
    return {name: words.get(group.effect, group.reason) for group in answer.verdicts for name in group.fields}


def plain(answer: pb.CheckResponse) -> dict[str, Any]:
    """Return an answer without what is new in each: ids and place in the ledger."""
    document = MessageToDict(answer, preserving_proto_field_name=True)
    for name in ("decision_id", "trace_id", "receipt", "request_id", "valid_for_ms"):
        document.pop(name, None)
    return document


class Process:
    """`policyd serve` in a process of its own; its output is kept, line by line."""

    def __init__(self, site: Site, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        self.lines: list[str] = []
        self._fresh: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [*POLICYD, "serve", "--data", str(site.data), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**clean, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        line = self.line_with("serves on")
        self.address = line.split("serves on ")[1].split()[0]

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def pid(self) -> int:
        return self.process.pid

    def line_with(self, text: str) -> str:
        """Wait for a line of output that holds ``text``, and return it."""
        while True:
            try:
                line = self._fresh.get(timeout=START_S)
            except queue.Empty:
                line = ""
            if text in line:
                return line
            if not line:
                self.kill()
                raise AssertionError(f"no line with `{text}` in:\n{self.output}")

    def kill(self) -> None:
        self.process.kill()
        self._end()

    def terminate(self, *, timeout_s: float = START_S) -> int:
        """Ask it to stop as systemd would, and return its exit code."""
        self.process.terminate()
        self.process.wait(timeout_s)
        self._end()
        return self.process.returncode

    def _end(self) -> None:
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._fresh.put(line)
        self._fresh.put("")

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._end()
