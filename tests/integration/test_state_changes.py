"""Changes of registry and seals reach a running node, and a state that was tampered with stops it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pbac.v1 import seal_pb2, seal_pb2_grpc
from support.server import (
    POLICY,
    POLICYD,
    Site,
    make_site,
    reasons,
    registry_text,
    seals_text,
    serving,
    stub,
)

from policyd.devsetup import administer, put_in_force, set_up
from policyd.errors import ConfigError, SourceError, StateCorrupt
from policyd.registry.draft import Activation
from policyd.registry.trust import Trust
from policyd.server import Server
from policyd.state import open_store

PATIENCE_S = 15.0


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped policy set, which tests may edit."""
    return Path(shutil.copytree(POLICY, tmp_path_factory.mktemp("policy") / "npd"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, policy: Path) -> Site:
    return make_site(tmp_path_factory.mktemp("state") / "data", policy=policy)


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Server]:
    with serving(site) as running:
        yield running


def wait_for(condition: Callable[[], bool], *, what: str) -> float:
    """Wait until a condition of the running node holds, and return the seconds that it took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < PATIENCE_S, f"not in {PATIENCE_S} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - begin


def health_of(site: Site, address: str) -> str:
    with site.channel(address) as channel:
        make: Any = health_pb2_grpc.HealthStub
        reply = make(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def watch(channel: grpc.Channel, **changes: Any) -> Any:
    make: Any = seal_pb2_grpc.SealServiceStub
    return make(channel).WatchSeals(seal_pb2.WatchSealsRequest(**changes), timeout=60)


def test_a_change_by_another_process_is_in_force_within_a_second(
    site: Site, server: Server, tmp_path: Path
) -> None:
    """`policyd registry apply` in a process of its own takes effect, and is recorded as applied."""
    file = tmp_path / "registry.yaml"
    file.write_text(registry_text(status="suspended"), "utf-8")
    before, records = server.node.current.epoch, site.count()
    with site.channel(server.address) as channel:
        good = stub(channel).Check(site.question("before"), timeout=10)

        command = [*POLICYD, "registry", "apply", str(file), "--data", str(site.data)]
        command += ["--as", "registrar-1", "--yes"]  # it only takes away, which is for one person
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took_s = wait_for(lambda: server.node.current.epoch > before, what="the change in force")
        refused = stub(channel).Check(site.question("after"), timeout=10)

    assert done.returncode == 0, done.stderr
    assert set(reasons(good).values()) == {"release"}
    assert set(reasons(refused).values()) == {"AGREEMENT_SUSPENDED"}
    assert refused.epoch == before + 1
    assert took_s < 1.0
    (applied,) = [leaf for leaf in site.leaves(records) if leaf["kind"] == "state-change"]
    assert (applied["stage"], applied["epoch"], applied["who"]) == ("applied", before + 1, "registrar-1")
    print(f"in force {took_s * 1000:.0f} ms after the command ended")


def test_what_was_suspended_can_be_resumed(site: Site, server: Server) -> None:
    """An agreement that is active again is decided on again, at the new epoch."""
    epoch = site.apply(registry_text(status="active"))
    wait_for(lambda: server.node.current.epoch >= epoch, what="the change in force")

    with site.channel(server.address) as channel:
        answer = stub(channel).Check(site.question("resumed", at_least_epoch=epoch), timeout=10)

    assert set(reasons(answer).values()) == {"release"}


def test_seals_reach_each_data_service_as_its_own_tokens(site: Site, server: Server) -> None:
    """Snapshot first, then one change at its epoch, and heartbeats; another's tokens are never sent."""
    mine, others = b"\x01" * 32, b"\x02" * 32
    with site.channel(server.address) as channel, site.channel(server.address, service="npd-second") as other:
        stream, its = watch(channel), watch(other)
        first = next(stream)
        assert first.WhichOneof("event") == "snapshot"
        assert (first.snapshot.complete, list(first.snapshot.tokens)) == (True, [])
        assert next(its).snapshot.complete

        epoch = site.apply(
            seals_text({"SEAL-1": {"npd-secure": mine, "npd-second": others, "npd-closed": b"\x09" * 32}})
        )

        change = _next(stream, "change")
        assert (change.epoch, list(change.added), list(change.removed)) == (epoch, [mine], [])
        assert list(_next(its, "change").added) == [others]
        assert _next(stream, "heartbeat").epoch == epoch
        stream.cancel()
        its.cancel()

    with site.channel(server.address) as channel:
        stream = watch(channel, at_least_epoch=epoch)
        assert list(next(stream).snapshot.tokens) == [mine]
        stream.cancel()


def test_a_seal_is_not_lifted_by_a_change_of_its_token(site: Site, server: Server) -> None:
    """Lifting is a change of its own, so no other may take a token away or put another in its place."""
    other = dict.fromkeys(("npd-secure", "npd-second", "npd-closed"), b"\x03" * 32)
    with site.channel(server.address) as channel:
        stream = watch(channel)
        old = list(next(stream).snapshot.tokens)
        with pytest.raises(SourceError, match="never lift it"):
            site.apply(seals_text({"SEAL-1": other}))
        stream.cancel()
        again = watch(channel)
        assert list(next(again).snapshot.tokens) == old != []
        again.cancel()


def test_a_lifted_seal_is_taken_from_each_data_service(site: Site, server: Server) -> None:
    """Two people lift it, and its token leaves the list of each data service at the next epoch."""
    with site.channel(server.address) as channel:
        stream = watch(channel)
        old = list(next(stream).snapshot.tokens)

        epoch = site.lift("SEAL-1")

        change = _next(stream, "change")
        assert (change.epoch, list(change.added), list(change.removed)) == (epoch, [], old)
        stream.cancel()
    with site.channel(server.address) as channel:
        stream = watch(channel, at_least_epoch=epoch)
        assert list(next(stream).snapshot.tokens) == []
        stream.cancel()


def _next(stream: Any, kind: str) -> Any:
    """Return the next message of a kind; others may stand before it."""
    for message in stream:
        if message.WhichOneof("event") == kind:
            return getattr(message, kind)
    raise AssertionError(f"the stream ended without a {kind}")


@pytest.mark.parametrize("service", ["npd-closed", "npd-unregistered"])
def test_seals_are_told_to_active_data_services_only(site: Site, server: Server, service: str) -> None:
    """A suspended or unregistered data service learns of no seal."""
    with site.channel(server.address, service=service) as channel, pytest.raises(grpc.RpcError) as caught:
        next(watch(channel))

    failed: Any = caught.value
    assert failed.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_node_below_a_wanted_epoch_tells_no_seals(site: Site, server: Server) -> None:
    """A client that has seen a later epoch elsewhere is not given an older list."""
    with site.channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        next(watch(channel, at_least_epoch=server.node.current.epoch + 1))

    failed: Any = caught.value
    assert failed.code() is grpc.StatusCode.UNAVAILABLE


def test_files_edited_while_serving_change_nothing(site: Site, server: Server, policy: Path) -> None:
    """The policy set in force stays, through edits and through the next registry change."""
    rules = policy / "rules" / "research.yaml"
    kept, digest = rules.read_text("utf-8"), server.policy.digest
    try:
        rules.write_text("- this: is no rule\n", "utf-8")
        epoch = site.apply(registry_text(status="active"), why="while the files are broken")
        wait_for(lambda: server.node.current.epoch >= epoch, what="the change in force")
        with site.channel(server.address) as channel:
            answer = stub(channel).Check(site.question("edited"), timeout=10)
    finally:
        rules.write_text(kept, "utf-8")

    assert answer.policy_digest == digest
    assert set(reasons(answer).values()) == {"release"}


def test_an_activation_that_the_files_do_not_hold_stops_the_node(tmp_path: Path) -> None:
    """Another process puts a policy set in force that is not here: this node says so and answers nothing."""
    site = make_site(tmp_path / "data")
    with serving(site) as running:
        with open_store(site.config) as store:
            administer(site.config, store, Activation("ab" * 32, policy_version=2), why="newer files")
        wait_for(lambda: bool(running.node.refusing), what="the node refusing")
        status, text = _refused(site, running.address)

    assert status is grpc.StatusCode.UNAVAILABLE
    assert "policy set abababababab is in force, but" in text


def test_another_trust_document_stops_a_node_that_does_not_have_it(tmp_path: Path) -> None:
    """Once other people count, a node answers again only when it was started with their document."""
    site = make_site(tmp_path / "data")
    config = site.config
    newer = Trust(
        nodes={each.id: replace(each, address="127.0.0.1:50151") for each in config.trust.nodes.values()},
        administrators=config.trust.administrators,
    )
    with serving(site) as running:
        with open_store(config) as store:
            administer(config, store, newer, why="where the node is")
        wait_for(lambda: bool(running.node.refusing), what="the node refusing")
        status, text = _refused(site, running.address)

    assert status is grpc.StatusCode.UNAVAILABLE
    assert f"trust document {newer.digest[:12]} is in force" in text
    with pytest.raises(ConfigError, match="put the one in force in its place"), serving(site):
        pass
    with serving(site, trust=newer) as running:
        assert running.node.refusing == ""


def test_a_node_without_its_state_or_its_place_in_it_does_not_start(tmp_path: Path) -> None:
    """No trust document in force, no policy set in force, or another key: the message says what to run."""
    config = set_up(tmp_path / "data", policy=POLICY, address="127.0.0.1:0")
    site = Site(config)
    with pytest.raises(ConfigError, match="policyd registry trust"), serving(site):
        pass
    with open_store(config) as store:
        administer(config, store, config.trust, why="the first")
    with (
        pytest.raises(StateCorrupt, match=r"no policy set is in force; .* policyd policy activate"),
        serving(site),
    ):
        pass
    put_in_force(config)
    others = {each.id: replace(each, key=bytes(32)) for each in config.trust.nodes.values()}
    without = Trust(others, config.trust.administrators)
    with pytest.raises(ConfigError, match="is not among the nodes of the"), serving(site, trust=without):
        pass
    with serving(site) as running:
        assert running.node.current.epoch == 2


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE change SET why = 'another reason' WHERE epoch = (SELECT max(epoch) FROM change)",
        "UPDATE change SET body = x'7b7d' WHERE epoch = (SELECT max(epoch) FROM change)",
        "DELETE FROM change WHERE epoch = (SELECT max(epoch) FROM change)",
        "INSERT INTO change SELECT epoch + 1, previous, kind, body, who, why, at, 'x', planned_on,"
        " signatures, node, signature FROM change WHERE epoch = (SELECT max(epoch) FROM change)",
    ],
    ids=["reason", "body", "deleted", "forged"],
)
def test_a_state_that_was_tampered_with_stops_the_node(tmp_path: Path, tamper: str) -> None:
    """A change altered, deleted or forged behind the store's back: no answer, and not serving."""
    site = make_site(tmp_path / "data")
    with serving(site) as running:
        records = site.count()
        with closing(sqlite3.connect(site.config.state)) as connection:
            triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for (name,) in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute(tamper)
            connection.commit()

        wait_for(lambda: bool(running.node.refusing), what="the node refusing")
        status, text = _refused(site, running.address)
        wait_for(lambda: health_of(site, running.address) == "NOT_SERVING", what="health NOT_SERVING")

    assert status is grpc.StatusCode.UNAVAILABLE
    assert "stopped following the state" in text
    assert [leaf for leaf in site.leaves(records) if leaf["kind"] == "decision"] == []


def _refused(site: Site, address: str) -> tuple[grpc.StatusCode, str]:
    with site.channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        stub(channel).Check(site.question("refused"), timeout=10)
    failed: Any = caught.value
    return failed.code(), failed.details()
