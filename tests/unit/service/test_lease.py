"""Leases: from when they run, what renews them, and whose word they rest on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.administration import NODE_A, NODE_B, STRANGER, TRUST

from policyd import clock
from policyd.errors import NotServing
from policyd.registry.lease import Acknowledgement, Renewal, acknowledge, is_genuine
from policyd.service.lease import LEASE_S, OUTLASTED_S, Continuity, Lease, LeaseKeeper

HEAD = (7, bytes(range(32)))


class Time:
    """A clock that stands until it is moved on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Store:
    """A store at ``head``, which takes as long as it takes to answer."""

    def __init__(self, head: tuple[int, bytes] = HEAD) -> None:
        self.head = head
        self.kept: list[Acknowledgement] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.word = "one"

    def renew(self, acknowledgement: Acknowledgement) -> Renewal:
        self.before()
        accepted = (acknowledgement.epoch, acknowledgement.chain_hash) == self.head
        if accepted:
            self.kept.append(acknowledgement)
        self.after()
        return Renewal(accepted=accepted, epoch=self.head[0], chain_hash=self.head[1])

    def continuity(self) -> str:
        return self.word


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Return the clock that leases are counted on."""
    made = Time()
    monkeypatch.setattr(clock, "boot_seconds", made)
    return made


def keeper_of(
    lease: Lease, store: Store, head: Callable[[], tuple[int, bytes]] = lambda: HEAD
) -> LeaseKeeper:
    return LeaseKeeper(lease, store, name=NODE_A.name, signer=NODE_A, head=head)


def test_without_a_renewal_there_is_no_lease(time: Time) -> None:
    """A node that has just started knows of no lease, however early it is asked."""
    assert "no lease" in Lease().missing
    time.now_s = -5000.0
    assert "no lease" in Lease().missing


def test_a_lease_runs_from_before_the_question(time: Time) -> None:
    """An answer that takes long leaves that much less of the lease, and perhaps nothing."""
    lease, store = Lease(), Store()
    store.before = lambda: setattr(time, "now_s", time.now_s + 0.5)
    store.after = lambda: setattr(time, "now_s", time.now_s + 0.75)
    asked_at_s = time.now_s

    assert keeper_of(lease, store).renew()
    assert lease.until_s == asked_at_s + LEASE_S
    time.now_s = asked_at_s + LEASE_S - 0.001
    assert not lease.missing
    time.now_s = asked_at_s + LEASE_S
    assert "ran out" in lease.missing


def test_an_answer_after_the_end_gives_no_lease(time: Time) -> None:
    """A process that was stopped between question and answer has none when it goes on."""
    lease, store = Lease(), Store()
    store.after = lambda: setattr(time, "now_s", time.now_s + LEASE_S)

    assert keeper_of(lease, store).renew()
    assert "ran out" in lease.missing


def test_only_the_newest_change_gives_a_lease(time: Time) -> None:
    """A node that is behind, or on another history, is given none, and its old one runs out."""
    lease, store = Lease(), Store()
    assert keeper_of(lease, store).renew()
    ends_s = lease.until_s
    for head in ((8, bytes(32)), (7, bytes(32))):
        store.head = head
        time.now_s += 1.0
        assert not keeper_of(lease, store).renew()
    assert lease.until_s == ends_s


def test_a_store_that_cannot_be_asked_gives_no_lease(time: Time) -> None:
    """The lease that runs is not cut short by that, and not made longer."""
    lease, store = Lease(), Store()
    keeper = keeper_of(lease, store)
    keeper.renew()
    ends_s = lease.until_s

    def fail() -> None:
        raise NotServing("for the test")

    store.before = fail
    time.now_s += 1.0
    with pytest.raises(NotServing):
        keeper.renew()
    assert lease.until_s == ends_s


def test_the_head_is_read_after_the_clock(time: Time) -> None:
    """What is acknowledged is what the node decides on from then on, or older: never what it has left."""
    lease, store = Lease(), Store()
    read_at_s = []

    def head() -> tuple[int, bytes]:
        read_at_s.append(time.now_s)
        time.now_s += 0.25
        return HEAD

    keeper_of(lease, store, head).renew()
    assert lease.until_s == read_at_s[0] + LEASE_S


def test_a_lease_is_outlasted_on_every_clock() -> None:
    """On a clock that is as slow as may be beside one that is as fast, no lease runs that long."""
    for pace in (0.9995, 1.0, 1.0005):
        true_s = LEASE_S / pace
        for other in (0.9995, 1.0, 1.0005):
            assert true_s * other < OUTLASTED_S


def test_a_change_is_acknowledged_at_once() -> None:
    """The thread does not wait for the next turn when the node has moved on."""
    lease, store = Lease(lease_s=60.0), Store()
    head = [HEAD]
    taken: dict[int, threading.Event] = {7: threading.Event(), 8: threading.Event()}

    def note() -> None:
        taken[store.kept[-1].epoch].set()

    store.after = note
    keeper = keeper_of(lease, store, lambda: head[0])
    keeper.start()
    try:
        assert taken[7].wait(10)
        head[0] = store.head = (8, bytes(32))
        keeper.wake()
        assert taken[8].wait(10)
    finally:
        keeper.stop()


def test_a_fault_of_the_thread_ends_the_lease(caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong there, nothing is renewed after it, and the log says so."""
    lease, store = Lease(), Store()
    died = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: died.set())

    def fail() -> None:
        raise RuntimeError("for the test")

    store.before = fail
    keeper = keeper_of(lease, store)
    keeper.start()
    assert died.wait(10)
    keeper.stop()
    assert "no lease" in lease.missing
    assert "leases are renewed no more: RuntimeError" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 8},
        {"chain_hash": bytes(32)},
        {"at_boot_ms": 6},
        {"node": NODE_B.name},
        {"node": STRANGER.name},
        {"signature": bytes(64)},
    ],
    ids=str,
)
def test_a_word_counts_from_its_own_node_alone(changes: dict[str, Any]) -> None:
    """A word altered in any part, or of a node that is not trusted, counts for nothing."""
    word = acknowledge(NODE_A.name, epoch=7, chain_hash=HEAD[1], at_boot_ms=5, signer=NODE_A)
    assert is_genuine(word, TRUST)
    assert not is_genuine(replace(word, **changes), TRUST)


def test_a_word_of_a_key_that_is_not_the_nodes_counts_for_nothing() -> None:
    """Neither a stranger's nor another node's key speaks for a node."""
    for signer in (NODE_B, STRANGER):
        word = acknowledge(NODE_A.name, epoch=7, chain_hash=HEAD[1], at_boot_ms=5, signer=signer)
        assert not is_genuine(word, TRUST)


def test_continuity_counts_from_when_it_was_seen(time: Time) -> None:
    """A store that is another one now has been that one since it was first seen, and not before."""
    continuity = Continuity()
    assert continuity.since == ("", float("inf"))
    continuity.saw("one")
    time.now_s += 5
    continuity.saw("one")
    assert continuity.since == ("one", 1000.0)
    continuity.saw("two")
    assert continuity.since == ("two", 1005.0)
