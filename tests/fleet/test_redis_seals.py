"""Seals of a fleet whose state is in Redis, while nodes, connections and Redis itself fail."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

from support.redis import RedisServer

from fleet.chaos import Store, campaign
from fleet.harness import Fleet
from fleet.judge import judge
from fleet.sealing import Sealed
from fleet.test_fleet_chaos import RUNS, SECONDS, SEED, assert_not_blind
from policyd.registry.redis_url import parse_redis_url
from policyd.registry.republish import republish
from policyd.state import fleet_of


def test_a_seal_in_force_holds_on_every_node_of_redis(tmp_path: Path) -> None:
    """Restarted, stopped or cut off, Redis makes a seal pending and never one that does not hold."""
    print(f"\nchaos on Redis: seed {SEED}, up to {RUNS} runs in {SECONDS:.0f} s (POLICYD_CHAOS_SEED={SEED})")
    with RedisServer(tmp_path / "redis", "--appendfsync", "always") as server:

        def prepare(fleet: Fleet) -> None:
            config = fleet.site.config
            republish(fleet_of(config, parse_redis_url(server.url, base=config.data)))

        def restarted(_: random.Random) -> Callable[[], None]:
            server.kill()
            return server.start

        def stopped(_: random.Random) -> Callable[[], None]:
            os.kill(server.pid, signal.SIGSTOP)
            return lambda: os.kill(server.pid, signal.SIGCONT)

        store = Store(server.url, prepare, (restarted, stopped))
        outcome = campaign(tmp_path, Sealed(), seed=SEED, runs=RUNS, seconds=SECONDS, store=store)
    events = outcome.history.events
    verdict = judge(events)
    print(f"{outcome.runs} runs, {dict(outcome.faults)}\n  {verdict}")
    kept = tmp_path / f"history-{SEED}.jsonl"
    if verdict.faults:
        outcome.history.save(kept)

    assert not verdict.faults, f"the whole history in {kept}\n" + "\n".join(map(str, verdict.faults[:5]))
    assert verdict.counts["seals in_force"]
    assert_not_blind(events)
