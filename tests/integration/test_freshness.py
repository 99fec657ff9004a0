"""A node answers only while it knows the state as it is: late, set back, or overtaken, it answers nothing."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.server import Process, Site, make_site, registry_text, serving, stub
from support.waiting import wait_until

from policyd import clock
from policyd.errors import StateCorrupt
from policyd.model import Outcome, Request, Token, Verified
from policyd.server import Server
from policyd.service import lease, recording
from policyd.service.question import read_question
from policyd.state import StateFollower


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a data directory with a registry."""
    return make_site(tmp_path / "data")


def _status(site: Site, address: str, number: str) -> grpc.StatusCode:
    with site.channel(address) as channel:
        try:
            stub(channel).Check(site.question(number), timeout=10)
        except grpc.RpcError as error:
            failed: Any = error
            assert isinstance(failed.code(), grpc.StatusCode)
            return failed.code()
    return grpc.StatusCode.OK


def test_a_node_that_cannot_renew_its_lease_stops_by_itself(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that hangs cannot say that it is late; every question looks for itself."""
    with serving(site) as server:
        assert _status(site, server.address, "in-time") is grpc.StatusCode.OK
        real = clock.boot_seconds

        monkeypatch.setattr(lease.Lease, "grant", lambda *_: None)
        monkeypatch.setattr(clock, "boot_seconds", lambda: real() + lease.LEASE_S)

        assert _status(site, server.address, "late") is grpc.StatusCode.UNAVAILABLE
        assert "lease on the state ran out" in server.node.refusing


def test_a_node_that_cannot_follow_loses_its_lease(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease is given for the newest change alone, so a node that is stuck at an older one gets none."""
    monkeypatch.setattr(StateFollower, "start", lambda _self: None)
    monkeypatch.setattr(StateFollower, "stop", lambda self: self._follower.close())
    with serving(site) as server:
        assert _status(site, server.address, "in-time") is grpc.StatusCode.OK
        site.apply(registry_text(status="suspended"))
        wait_until(lambda: "lease on the state ran out" in server.node.refusing, what="the lease to end")
        assert _status(site, server.address, "late") is grpc.StatusCode.UNAVAILABLE


def test_a_stopped_process_answers_nothing_before_it_has_caught_up(site: Site) -> None:
    """Questions that wait meanwhile meet a node that is too late, or one that is up to date."""
    with Process(site) as process, site.channel(process.address) as channel:
        assert stub(channel).Check(site.question("before"), timeout=10).outcome
        os.kill(process.pid, signal.SIGSTOP)
        try:
            waiting = [
                stub(channel).Check.future(site.question(f"waiting-{number}"), timeout=30)
                for number in range(6)
            ]
            epoch = site.apply(registry_text(status="suspended"))
            time.sleep(lease.LEASE_S + 0.5)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        for call in waiting:
            failed: Any = call.exception()
            if failed is None:
                assert call.result().epoch >= epoch
            else:
                assert failed.code() is grpc.StatusCode.UNAVAILABLE


def test_an_older_state_does_not_start(site: Site) -> None:
    """A state store set back would lift seals and suspensions; the node's own ledger knows better."""
    old = site.data / "old.db"
    with serving(site) as server:
        before = server.node.current.epoch
    shutil.copy(site.config.state, old)
    with serving(site) as server:
        site.apply(registry_text(status="suspended"))
        server.node.wait_beyond(before, timeout_s=10)
        while server.node.current.epoch <= before:
            server.node.wait_beyond(before, timeout_s=1)
    for name in ("state.db-wal", "state.db-shm"):
        (site.data / name).unlink(missing_ok=True)
    shutil.copy(old, site.config.state)

    with pytest.raises(StateCorrupt, match="has lost changes"):
        Server(site.config).start()


def test_an_answer_lives_no_longer_than_its_agreement(site: Site) -> None:
    """What would come out otherwise in two seconds is good for two seconds, not for sixty."""
    with serving(site) as server:
        decider = server.node.current.decider
        (compiled,) = decider.snapshot.agreements.values()
        ends = compiled.agreement.until_at
        claimed = read_question(site.question("life"))
        token = Token("policyd-dev", "researcher-1", bytes(32), expires_at=ends + 600_000)
        verified = Verified(site.spiffe_id(), token)
        decision, until = decider.decide_until(Request(claimed, verified), ends - 2_000)

    assert decision.outcome is Outcome.RELEASE
    assert recording.life_ms(verified, until=until, now=ends - 2_000) == 2_000
    assert recording.life_ms(verified, until=until, now=ends - 200_000) == recording.VALID_FOR_MS


def test_a_node_that_must_stop_while_it_records_gives_no_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record stands, but whether its answer may leave is asked again after it."""
    with serving(site) as server:
        before = site.count()
        ledger = server.ledger
        real = ledger.append

        def append(*arguments: Any, **named: Any) -> Any:
            receipts = real(*arguments, **named)
            monkeypatch.setattr(server.node, "_refusing", "told to stop")
            return receipts

        monkeypatch.setattr(ledger, "append", append)
        monkeypatch.setattr(server.node, "refuse", lambda _why: None)

        assert _status(site, server.address, "overtaken") is grpc.StatusCode.UNAVAILABLE
        assert site.count() == before + 1


def test_an_answer_of_an_older_state_does_not_outlive_the_lease_it_was_decided_under(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped meanwhile has a new lease for a new state, and none for that answer."""
    with serving(site) as server:
        real, append = clock.boot_seconds, server.ledger.append
        held = []

        def stopped(*arguments: Any, **named: Any) -> Any:
            receipts = append(*arguments, **named)
            if not held:
                held.append(server.node.current.epoch)
                epoch = site.apply(registry_text(status="suspended"))
                wait_until(lambda: server.node.applied.epoch >= epoch, what="the change to be applied")
                monkeypatch.setattr(clock, "boot_seconds", lambda: real() + lease.LEASE_S)
                wait_until(lambda: not server.node.refusing, what="a new lease")
            return receipts

        monkeypatch.setattr(server.ledger, "append", stopped)

        assert _status(site, server.address, "stopped") is grpc.StatusCode.UNAVAILABLE
        assert held
        assert _status(site, server.address, "after") is grpc.StatusCode.OK
