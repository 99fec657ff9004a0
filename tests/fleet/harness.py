"""A fleet: several nodes as processes of this host, on one state, each behind a proxy of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import yaml
from policyd_client import PolicyClient
from support.proxy import Proxy
from support.server import POLICY, POLICYD, Process, Site, registry_text

from fleet import planted, skewed
from fleet.history import Event, History, Node, Recorded, now
from policyd import clock
from policyd.config import FILE, read_config
from policyd.devsetup import client_credentials, put_in_force, set_up, trusted_logs
from policyd.identity.keys import load_signing_key
from policyd.ledger.entry import parse_leaf
from policyd.ledger.reader import LedgerReader
from policyd.ledger.verify import verify
from policyd.registry.trust import TrustedNode

SERVICES = ("npd-secure", "npd-second")
"""Data services of the tests' registry that may release."""

_CLOCK_READING_S = 0.003
"""Two clocks read one after the other, one of them in whole milliseconds."""


@dataclass(frozen=True, slots=True)
class Skew:
    """How wrong a node's clocks are. ``pace`` is of the clocks that never step; the wall keeps its pace."""

    wall_ms: int = 0
    boot_s: float = 0.0
    pace: float = 1.0

    @property
    def right(self) -> bool:
        """Whether the clocks are as they should be."""
        return self == Skew()


class FleetNode:
    """One node: its directory, the process that runs there if any, and the proxies around it.

    ``proxy`` is before it, where clients ask; ``state`` is between it and the state, None where that is a
    file.
    """

    def __init__(
        self, name: str, site: Site, *, history: History, skew: Skew, fault: str, state_url: str | None
    ) -> None:
        self._fault = fault
        self.name = name
        self.site = site
        self.skew = skew
        self.proxy = Proxy()
        self.state: Proxy | None = None
        self._history = history
        self._arguments: tuple[str, ...] = ()
        if state_url is not None:
            url = urlsplit(state_url)
            self.state = Proxy(url.netloc)
            self._arguments = ("--state", url._replace(netloc=self.state.address).geturl())
        self._process: Process | None = None
        self._ahead_s = _wall_ahead_s()

    def start(self) -> None:
        """Run `policyd serve` and wait until it listens."""
        command: tuple[str, ...] = POLICYD
        if not self.skew.right:
            wrong = (str(self.skew.wall_ms), str(self.skew.boot_s), str(self.skew.pace))
            # -P: what stands beside the file is not to be found by its bare name
            command = (sys.executable, "-P", skewed.__file__, *wrong)
        if self._fault:
            command = (sys.executable, "-P", planted.__file__, self._fault)
        self._process = Process(self.site, *self._arguments, command=command)
        self.proxy.point_to(self._process.address)
        self.note("started")

    def stop(self) -> None:
        """Ask it to stop as systemd would, and expect that it does."""
        if self._process is not None:
            code = self._process.terminate()
            assert code == 0, f"{self.name} ended with {code}:\n{self._process.output}"
            self._process = None
            self.note("stopped")

    def kill(self) -> None:
        """SIGKILL: nothing of it gets to run any more."""
        if self._process is not None:
            self._process.kill()
            self._process = None
            self.note("killed")

    def pause(self) -> None:
        """SIGSTOP: it does nothing, and does not know."""
        self._signal(signal.SIGSTOP)
        self.note("paused")

    def resume(self) -> None:
        """SIGCONT: it goes on where it was."""
        self.note("resumed")
        self._signal(signal.SIGCONT)

    def heal(self) -> None:
        """Let everything through its proxies again."""
        for proxy in (self.proxy, self.state):
            if proxy is not None:
                proxy.heal()
        self.note("healed")

    def note(self, what: str) -> None:
        """Add to the history what was done to it."""
        self._history.add(Node(now(), self.name, what))

    @property
    def output(self) -> str:
        """What the process that runs has printed so far."""
        return "" if self._process is None else self._process.output

    def recorded(self) -> Iterator[Event]:
        """Verify the ledger and yield every decision in it; the node must not run.

        A record's instant is in milliseconds of the node's wall clock, rounded down; on the clock of the
        history it comes out a few milliseconds too early, never too late.
        """
        report = verify(self.site.config.ledger, public_key=self.vkey)
        assert report.passed, f"{self.name}: {report}"
        # The host's wall clock may be slewed while the fleet runs, so the larger difference counts.
        ahead_s = max(self._ahead_s, _wall_ahead_s()) + self.skew.wall_ms / 1000 + _CLOCK_READING_S
        with LedgerReader(self.site.config.ledger) as reader:
            for record in reader.records():
                if record.columns.kind == "decision":
                    leaf = parse_leaf(record.leaf)
                    yield Recorded(leaf["at"] / 1000 - ahead_s, self.name, leaf["decision_id"], leaf["epoch"])

    @property
    def vkey(self) -> str:
        """The public key of its log, as clients pin it."""
        return trusted_logs(self.site.config).read_text("utf-8").split("\n", 1)[0].removeprefix("log ")

    def close(self) -> None:
        """End the process, paused or not, and the proxy."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        for proxy in (self.proxy, self.state):
            if proxy is not None:
                proxy.close()

    def _signal(self, number: int) -> None:
        assert self._process is not None, f"{self.name} does not run"
        os.kill(self._process.pid, number)


class Fleet:
    """Several nodes that share an authority, an issuer of tokens, and the state. Use it in a `with`.

    Without ``state_url`` all nodes use one `state.db`. With one, such as `redis://127.0.0.1:6379`, each is
    started with `--state` and a proxy of its own to there; whoever gives it puts the registry there, from
    the first node's directory, before `start`. ``planted`` are faults of nodes (`fleet.planted`), or empty.
    """

    def __init__(
        self,
        directory: Path,
        *,
        history: History,
        nodes: int = 3,
        state_url: str | None = None,
        skews: Sequence[Skew] = (),
        planted: Sequence[str] = (),
    ) -> None:
        self.history = history
        self.state_url = state_url
        self._stack = ExitStack()
        alone = Site(set_up(directory / "node-1", policy=POLICY, address="127.0.0.1:0"))
        joining = (join(alone, directory / f"node-{number}") for number in range(2, nodes + 1))
        first, *_ = sites = introduced([alone, *joining])
        put_in_force(first.config)
        first.apply(registry_text())
        if state_url is None:
            for site in sites[1:]:
                site.config.state.symlink_to(first.config.state)
        self.nodes: list[FleetNode] = []
        for number, site in enumerate(sites):
            skew = skews[number] if number < len(skews) else Skew()
            fault = planted[number] if number < len(planted) else ""
            node = FleetNode(
                site.config.node, site, history=history, skew=skew, fault=fault, state_url=state_url
            )
            self.nodes.append(node)
            self._stack.callback(node.close)

    @property
    def site(self) -> Site:
        """The first node's directory, from which an operator works."""
        return self.nodes[0].site

    def start(self) -> None:
        """Start every node."""
        for node in self.nodes:
            node.start()

    def client(self, service: str, *, first: int, kind: type[PolicyClient] = PolicyClient) -> PolicyClient:
        """Connect a data service to all nodes through their proxies, node ``first`` being preferred."""
        config = self.site.config
        own = client_credentials(config, self.site.spiffe_id(service))
        order = [*self.nodes[first:], *self.nodes[:first]]
        return kind(
            [node.proxy.address for node in order],
            ca=config.tls.authority,
            certificate=own.certificate_pem,
            key=own.key_pem,
            logs={node.site.config.origin: node.vkey for node in self.nodes},
        )

    def settle(self) -> None:
        """Stop every node, and add to the history what their ledgers have."""
        for node in self.nodes:
            node.heal()
            node.stop()
        for node in self.nodes:
            for event in node.recorded():
                self.history.add(event)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _wall_ahead_s() -> float:
    """Return by how much the wall clock of the host is ahead of the one that the history is on."""
    return clock.now() / 1000 - now()


def join(first: Site, data: Path) -> Site:
    """Set up one more node of the first one's trust domain: own keys, the same authority and issuer."""
    data.mkdir(mode=0o700)
    for shared in ("tls", "issuer"):
        shutil.copytree(first.data / shared, data / shared)
    set_up(data, policy=POLICY, address="127.0.0.1:0")
    settings = yaml.safe_load((data / FILE).read_text("utf-8"))
    _write_settings(data, {**settings, "node": data.name})
    (data / trusted_logs(first.config).name).unlink()  # it names the log of a node-1
    return Site(set_up(data, policy=POLICY, address="127.0.0.1:0"))


def two_sites(directory: Path) -> tuple[Site, Site]:
    """Set up two nodes on one embedded state, each with a log of its own, and register everybody."""
    alone = Site(set_up(directory / "node-1", policy=POLICY, address="127.0.0.1:0"))
    first, second = introduced([alone, join(alone, directory / "node-2")])
    put_in_force(first.config)
    first.apply(registry_text())
    second.config.state.symlink_to(first.config.state)
    return first, second


def introduced(sites: Sequence[Site]) -> list[Site]:
    """Have every node trust the keys of all, and the administrators of the first."""
    trust = sites[0].config.trust
    nodes = {}
    for site in sites:
        key = load_signing_key(site.config.keys / "node.key")
        nodes[site.config.node] = TrustedNode(site.config.node, key.public)
    text = json.dumps(replace(trust, nodes=nodes).document)  # which is YAML, too, with every text quoted
    for site in sites:
        site.config.trust_file.write_text(text, "utf-8")
    return [Site(read_config(site.data)) for site in sites]


def _write_settings(data: Path, settings: dict[str, object]) -> None:
    # Quoted throughout: policyd reads YAML strictly, and a key id may look like a number.
    (data / FILE).write_text(yaml.safe_dump(settings, default_style='"'), "utf-8")
