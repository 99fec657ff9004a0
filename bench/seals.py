"""Measures how soon a seal is on every node of a fleet, with its state in a file or in a Redis.

Usage: PYTHONPATH=tests python bench/seals.py [--seals N] [--nodes N] [--directory DIR] [--out PAGE]
"""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
from fleet.harness import SERVICES, Fleet
from fleet.history import History
from pbac.v1 import seal_pb2, seal_pb2_grpc
from pbac.v1.registry_pb2 import CHANGE_STATE_IN_FORCE
from peers.page import put_section
from support.redis import RedisServer
from support.sealing import officer_channel, seal_request, seal_stub

from policyd import clock
from policyd.registry.redis_url import parse_redis_url
from policyd.registry.republish import republish
from policyd.state import fleet_of, open_store

LIMIT_MS = 100.0
"""Asked of a change to be visible on every node, p99 on loopback."""
_CALL_S = 20.0


@dataclass
class Heard:
    """When a data service that watches one node has heard of each epoch."""

    at: dict[int, float] = field(default_factory=dict)
    moved: threading.Condition = field(default_factory=threading.Condition)

    def follow(self, stream: Any) -> None:
        """Take down every epoch that the stream names, until it ends."""
        for message in stream:
            epoch = getattr(message, message.WhichOneof("event")).epoch
            with self.moved:
                self.at.setdefault(epoch, perf_counter())
                self.moved.notify_all()

    def when(self, epoch: int) -> float:
        """Wait for an epoch and return when it was heard of."""
        with self.moved:
            if not self.moved.wait_for(lambda: any(each >= epoch for each in self.at), _CALL_S):
                raise SystemExit(f"epoch {epoch} was not heard of in {_CALL_S:.0f} s")
            return min(at for each, at in self.at.items() if each >= epoch)


@dataclass
class Measured:
    """Milliseconds from before `Seal` was sent: until every watcher had heard, and until it was in force."""

    visible: list[float] = field(default_factory=list)
    in_force: list[float] = field(default_factory=list)


def measure(directory: Path, *, nodes: int, seals: int, redis_url: str | None) -> Measured:
    """Start a fleet, seal records through its nodes in turn, and return how long each took."""
    found = Measured()
    with ExitStack() as stack:
        fleet = stack.enter_context(Fleet(directory, history=History(), nodes=nodes, state_url=redis_url))
        config = fleet.site.config
        if redis_url is not None:
            config = replace(config, redis=parse_redis_url(redis_url, base=config.data))
            assert config.redis is not None
            republish(fleet_of(config, config.redis))
        fleet.start()
        with open_store(config) as store:
            state = store.load()
        head, services = state.chain_hash, sorted(state.registry.data_services)
        watchers = []
        for node in fleet.nodes:
            channel = stack.enter_context(fleet.site.channel(node.proxy.address, service=SERVICES[0]))
            make: Any = seal_pb2_grpc.SealServiceStub
            stream = make(channel).WatchSeals(seal_pb2.WatchSealsRequest(), timeout=600)
            heard = Heard()
            threading.Thread(target=_quietly, args=(heard, stream), daemon=True).start()
            stack.callback(stream.cancel)
            heard.when(1)
            watchers.append(heard)
        officers = [
            seal_stub(stack.enter_context(officer_channel(fleet.site, node.proxy.address)))
            for node in fleet.nodes
        ]
        for number in range(seals):
            tokens = {service: secrets.token_bytes(32) for service in services}
            request = seal_request(fleet.site, f"SEAL-{number}", tokens, head)
            begun_s = perf_counter()
            answer = officers[number % nodes].Seal(request, timeout=_CALL_S)
            told_s = perf_counter()
            if answer.state != CHANGE_STATE_IN_FORCE:
                raise SystemExit(f"seal {number} is not in force after {_CALL_S:.0f} s")
            heard_s = max(each.when(answer.epoch) for each in watchers)
            found.in_force.append((told_s - begun_s) * 1e3)
            found.visible.append((heard_s - begun_s) * 1e3)
    return found


def _quietly(heard: Heard, stream: Any) -> None:
    with suppress(grpc.RpcError):  # cancelled at the end
        heard.follow(stream)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many of a hundred do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def write(results: dict[str, Measured], *, nodes: int, seals: int, load: float, date: str) -> str:
    """Return the section."""
    rows = [
        f"| {name} | {what} | {percentile(each, 50):.0f} ms | {percentile(each, 99):.0f} ms |"
        for name, found in results.items()
        for what, each in (("heard of", found.visible), ("in force", found.in_force))
    ]
    worst = max(percentile(found.visible, 99) for found in results.values())
    met = "met" if worst < LIMIT_MS else "MISSED"
    return "\n".join(
        [
            "## A seal on every node",
            "",
            f"Measured on {date} by `make bench`: {nodes} nodes as processes of one host, "
            f"{seals} seals through them in turn.",
            f"{os.cpu_count()} cores, for which {load:.1f} processes waited at the start.",
            "*Heard of* is when data services that watch have heard of it from every node, *in force* when "
            "`Seal` has said so: every node has acknowledged it.",
            "Both count from before the call.",
            "",
            "| state | seal | p50 | p99 |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Target: heard of on every node in under {LIMIT_MS:.0f} ms, p99: {met}.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seals", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("docs/performance.md"))
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    results = {}
    with tempfile.TemporaryDirectory(dir=options.directory) as name, ExitStack() as stack:
        redis = stack.enter_context(RedisServer(Path(name) / "redis"))
        for what, url in (("a file of one host", None), ("Redis", redis.url)):
            place = Path(name) / ("embedded" if url is None else "fleet")
            place.mkdir()
            results[what] = measure(place, nodes=options.nodes, seals=options.seals, redis_url=url)
    date = clock.format_instant(clock.now())[:10]
    text = write(results, nodes=options.nodes, seals=options.seals, load=load, date=date)
    put_section(options.out, "bench/seals.py", text)
    print(text)


if __name__ == "__main__":
    main()
