"""Nodes that share a Redis see each other's changes, and decide nothing on what may not be the newest."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from pbac.v1 import registry_pb2 as pb
from support.admin import (
    BOTH,
    TIMEOUT_S,
    admin_channel,
    everything,
    plan_of,
    registry_stub,
    request_of,
    sign,
)
from support.redis import RedisServer
from support.server import POLICY, Process, Site, make_site, registry_text, serving, stub
from support.waiting import wait_until

from fleet.harness import introduced, join
from policyd import clock
from policyd.cli import main
from policyd.config import FILE, read_config
from policyd.devsetup import put_in_force, set_up
from policyd.errors import StateAstray
from policyd.model import Registry
from policyd.registry.draft import ChangeKind
from policyd.registry.redis_script import Keys
from policyd.registry.redis_store import Fleet, RedisStore
from policyd.registry.redis_url import parse_redis_url
from policyd.server import Server
from policyd.state import open_store

KEYS = Keys.of("policyd.test")


@dataclass(frozen=True)
class FleetOfTwo:
    """A Redis, and two nodes with data directories of their own and one trust document."""

    redis: RedisServer
    first: Site
    second: Site


@pytest.fixture
def two(tmp_path: Path) -> Iterator[FleetOfTwo]:
    """Return a fleet whose registry began on one host and was republished to Redis."""
    with RedisServer(tmp_path / "redis") as redis:
        alone = Site(set_up(tmp_path / "node-1", policy=POLICY, address="127.0.0.1:0"))
        first, second = introduced([alone, join(alone, tmp_path / "node-2")])
        put_in_force(first.config)
        first.apply(registry_text())
        for site in (first, second):
            with (site.data / FILE).open("a", encoding="utf-8") as settings:
                settings.write(f'state: "{redis.url}"\n')
        first, second = (Site(read_config(site.data)) for site in (first, second))
        done = CliRunner().invoke(main, ["registry", "republish", "--data", str(first.data)])
        assert done.exit_code == 0, done.output
        assert re.findall(r"^sent change ([0-9]+: \w+)", done.output, re.MULTILINE) == [
            *("1: trust", "2: activation", "3: registry"),
        ]
        yield FleetOfTwo(redis, first, second)


def _status(site: Site, server: Server, number: str) -> tuple[grpc.StatusCode, str]:
    with site.channel(server.address) as channel:
        try:
            answer = stub(channel).Check(site.question(number), timeout=10)
        except grpc.RpcError as error:
            failed: Any = error
            return failed.code(), failed.details()
    return grpc.StatusCode.OK, str(answer.epoch)


def _wait_for_epoch(server: Server, epoch: int) -> None:
    wait_until(lambda: not server.node.refusing and server.node.current.epoch >= epoch, what=f"epoch {epoch}")


def test_a_change_reaches_every_node(two: FleetOfTwo) -> None:
    """Applied at one node's directory, it is in force at both, and in both copies."""
    with serving(two.first) as first, serving(two.second) as second:
        epoch = two.first.apply(registry_text(status="suspended"))
        for server in (first, second):
            _wait_for_epoch(server, epoch)

        assert _status(two.first, first, "after") == (grpc.StatusCode.OK, str(epoch))
    for site in (two.first, two.second):
        kept = [leaf["epoch"] for leaf in site.leaves() if leaf.get("stage") == "applied"]
        assert epoch in kept
        assert (site.data / "state.db").exists()


def test_a_change_through_one_node_is_in_force_and_one_everywhere(two: FleetOfTwo) -> None:
    """It is in force once the other node has it, too; sent again at that node it is the same change."""
    with (
        serving(two.first) as first,
        serving(two.second) as second,
        admin_channel(two.first, first.address) as here,
        admin_channel(two.first, second.address) as there,
    ):
        one, other = registry_stub(here), registry_stub(there)
        organisation = everything(one).organisations["org-university-2"]
        change = Registry(organisations={"org-added": replace(organisation, id="org-added")})
        request = request_of(sign(two.first, change, plan_of(other, change).chain_hash, *BOTH), change)
        made = one.Apply(request, timeout=TIMEOUT_S)
        _wait_for_epoch(second, made.epoch)
        again = other.Apply(request, timeout=TIMEOUT_S)
        named = pb.GetRequest(kind=pb.ENTRY_KIND_ORGANISATION, id="org-added")
        read = other.Get(named, timeout=TIMEOUT_S)

    assert (made.state, list(made.waiting_for)) == (pb.CHANGE_STATE_IN_FORCE, [])
    assert (again.state, list(again.waiting_for)) == (pb.CHANGE_STATE_IN_FORCE, [])
    assert (again.epoch, again.chain_hash) == (made.epoch, made.chain_hash)
    assert (read.entry.organisation.id, read.changed_at_epoch) == ("org-added", made.epoch)


def test_a_short_absence_of_redis_is_not_noticed(two: FleetOfTwo) -> None:
    """A restart within the time that a node may go without looking: it answers meanwhile and after."""
    with serving(two.first) as first:
        two.redis.kill()
        assert _status(two.first, first, "meanwhile")[0] is grpc.StatusCode.OK
        two.redis.start()
        epoch = two.first.apply(registry_text(status="suspended"))
        _wait_for_epoch(first, epoch)

        assert _status(two.first, first, "after") == (grpc.StatusCode.OK, str(epoch))


def test_a_redis_that_hangs_stops_the_nodes_until_it_goes_on(two: FleetOfTwo) -> None:
    """A node's lease runs out; it says so, and goes on by itself when Redis does."""
    with serving(two.first) as first:
        os.kill(two.redis.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: bool(first.node.refusing), what="the node to stop")
            code, said = _status(two.first, first, "meanwhile")
        finally:
            os.kill(two.redis.pid, signal.SIGCONT)
        wait_until(lambda: not first.node.refusing, what="the node to go on")

        assert code is grpc.StatusCode.UNAVAILABLE
        assert "lease on the state ran out" in said
        assert _status(two.first, first, "after")[0] is grpc.StatusCode.OK


def test_a_redis_that_was_emptied_stops_the_node_until_it_is_repaired(two: FleetOfTwo) -> None:
    """Every node stops at once; the changes are sent again from one copy, and all go on, none restarted."""
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(site)) for site in (two.first, two.second)]
        epoch = two.first.apply(registry_text(status="suspended"))
        for server in servers:
            _wait_for_epoch(server, epoch)
        started_s = clock.monotonic()
        two.redis.run("FLUSHALL")
        for server in servers:
            wait_until(lambda server=server: bool(server.node.refusing), what="the node to stop")  # type: ignore[misc]
        took_s = clock.monotonic() - started_s
        codes = [
            _status(site, server, "emptied")
            for site, server in zip((two.first, two.second), servers, strict=True)
        ]
        refused = CliRunner().invoke(main, ["registry", "list", "--data", str(two.first.data)])
        done = CliRunner().invoke(main, ["registry", "republish", "--data", str(two.second.data)])
        for server in servers:
            _wait_for_epoch(server, epoch)

        assert took_s < 3.0
        for code, said in codes:
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "at epoch 0, but this node has applied change" in said
        assert refused.exit_code == 1
        assert "`policyd registry republish`" in refused.output
        assert done.exit_code == 0
        assert f"was at epoch 0; this node's own copy is at epoch {epoch}" in done.output
        assert done.output.endswith(f"now at epoch {epoch}\n")
        assert _status(two.first, servers[0], "mended")[0] is grpc.StatusCode.OK


def test_a_node_whose_clock_is_wrong_stops_at_once(two: FleetOfTwo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds off Redis, and it answers nothing; set right, it goes on."""
    real = clock.now
    with serving(two.first) as first:
        monkeypatch.setattr(clock, "now", lambda: real() + 3_000)
        wait_until(lambda: bool(first.node.refusing), what="the node to stop")
        said = first.node.refusing
        monkeypatch.setattr(clock, "now", real)
        wait_until(lambda: not first.node.refusing, what="the node to go on")

        assert "the clocks of this node and of" in said


def test_a_node_does_not_start_on_a_redis_that_has_less(two: FleetOfTwo) -> None:
    """What it applied before it was stopped is in its copy, and holds for the next start."""
    with serving(two.first):
        pass
    two.redis.run("FLUSHALL")

    server = Server(two.first.config)
    with pytest.raises(StateAstray, match="policyd registry republish"):
        server.start()


def test_serve_takes_the_place_of_the_state_from_its_command_line(tmp_path: Path) -> None:
    """`--state` wins over policyd.yaml, and the node says where its state is."""
    with RedisServer(tmp_path / "redis") as redis:
        site = make_site(tmp_path / "data")
        arguments = ["registry", "republish", "--data", str(site.data), "--state", redis.url]
        sent = CliRunner().invoke(main, arguments)
        with Process(site, "--state", redis.url) as process:
            line = process.line_with("state at epoch")
            assert process.terminate() == 0

    assert sent.exit_code == 0
    assert f"in {redis.url};" in line


def test_a_whole_state_begins_where_the_command_line_says(tmp_path: Path) -> None:
    """Trust document, policy set and registry each go to the Redis of `--state`, not beside it."""
    config = set_up(tmp_path / "data", policy=POLICY, address="127.0.0.1:0")
    text = tmp_path / "registry.yaml"
    text.write_text(registry_text(), "utf-8")
    asked: dict[ChangeKind, tuple[list[str], str]] = {
        ChangeKind.TRUST: (["registry", "trust"], "registrar-1"),
        ChangeKind.ACTIVATION: (["policy", "activate"], "policy-author-1"),
        ChangeKind.REGISTRY: (["registry", "apply", str(text)], "registrar-1"),
    }
    with RedisServer(tmp_path / "redis") as redis:
        shared = ["--data", str(config.data), "--state", redis.url, "--approve", "approver-1", "--yes"]
        for command, asker in asked.values():
            done = CliRunner().invoke(main, [*command, *shared, "--as", asker, "--why", "a test"])
            assert done.exit_code == 0, done.output
        fleet = Fleet(parse_redis_url(redis.url, base=tmp_path), config.trust_domain, config.trust)
        with RedisStore(fleet) as store:
            kinds = [change.draft.kind for change in store.changes(0)]

    assert kinds == list(asked)


def test_a_redis_that_may_not_be_used_ends_a_command_with_no_decision(two: FleetOfTwo) -> None:
    """Exit code 4, as for a node that cannot be reached, and what to set."""
    two.redis.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    done = CliRunner().invoke(main, ["registry", "list", "--data", str(two.first.data)])

    assert done.exit_code == 4
    assert "set it to noeviction" in done.output


def test_a_redis_elsewhere_without_tls_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The registry would cross the network in the clear; on this host, or with TLS, nothing is said."""
    config = set_up(tmp_path / "data", policy=POLICY, address="127.0.0.1:0")
    for text in ("redis://redis.test", "redis://127.0.0.1:1", "rediss://redis.test"):
        open_store(replace(config, redis=parse_redis_url(text, base=tmp_path))).close()

    assert [record.getMessage() for record in caplog.records] == [
        "redis://redis.test:6379 is reached without TLS: who asks and may ask can be read on the way"
    ]


def test_an_embedded_state_has_nothing_to_republish(tmp_path: Path) -> None:
    """Without a Redis the command says that there is none."""
    site = make_site(tmp_path / "data")
    done = CliRunner().invoke(main, ["registry", "republish", "--data", str(site.data)])

    assert done.exit_code == 2
    assert "the state of this node is embedded" in done.output


def test_the_configuration_names_the_redis(two: FleetOfTwo) -> None:
    """`state:` in policyd.yaml is read as a URL; the copy stays where the embedded state is."""
    config = read_config(two.first.data)

    assert str(config.redis) == two.redis.url
    assert config.state == two.first.data / "state.db"
