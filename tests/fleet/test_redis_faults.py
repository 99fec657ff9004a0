"""However a Redis is wrong, the store says what, where and what to do, and gives nothing older."""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.administration import AT, NODE_A, NODE_B, TRUST, Key, make, propose
from support.redis import RedisServer
from support.redis_proxy import Proxy
from support.waiting import wait_until

from policyd import clock
from policyd.errors import ConfigError, NotServing, PolicydError, StateAstray, StateConflict, StateUnfit
from policyd.identity.pki import Authority, create_authority
from policyd.model import Organisation, Registry, Status
from policyd.registry import redis_link, redis_store
from policyd.registry.change import State
from policyd.registry.draft import Proposal
from policyd.registry.lease import Acknowledgement
from policyd.registry.redis_script import Keys
from policyd.registry.redis_store import Fleet, RedisStore
from policyd.registry.redis_url import parse_redis_url
from policyd.registry.republish import republish
from policyd.registry.wire import head_bytes, read_change

DOMAIN = "policyd.test"
KEYS = Keys.of(DOMAIN)
STATE_PAGE = Path(__file__).parents[2] / "docs" / "state.md"
SECRET = "correct-horse-battery-staple"  # noqa: S105  # of this test alone


def change(number: int, state: State) -> Proposal:
    """Return a change that brings one organisation, planned on `state`."""
    entry = Organisation(f"org-{number}", "school", False, Status.ACTIVE, f"School {number}", AT)
    return propose(Registry(organisations={entry.id: entry}), state, why=f"change {number}")


def begin(store: RedisStore, *, changes: int = 1) -> State:
    """Put the trust document in force, bring organisations until there are so many changes, and return it."""
    make(store, TRUST)
    for number in range(1, changes):
        put(store, number)
    return store.load()


def put(store: RedisStore, number: int) -> int:
    """Append a change planned on what the store holds, and return the epoch."""
    state = store.load()
    return store.append(change(number, state), state.epoch)


def fleet(url: str, *, copy: Path | None = None, base: Path | None = None) -> Fleet:
    return Fleet(parse_redis_url(url, base=base or Path("/")), DOMAIN, TRUST, copy)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as started:
        yield started


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as started:
        yield started


def _patience(monkeypatch: pytest.MonkeyPatch, *, answer_s: float = 0.3) -> None:
    """Wait less for what will not come, so that a test of that is short."""
    monkeypatch.setattr(redis_link, "ANSWER_TIMEOUT_S", answer_s + redis_store._WAIT_S)
    monkeypatch.setattr(redis_link, "APPEND_TIMEOUT_S", answer_s)
    monkeypatch.setattr(redis_store, "_SETTLE_S", answer_s)


# What is stored


TAMPERINGS: dict[str, tuple[list[list[Any]], str]] = {
    "emptied": ([["FLUSHALL"]], "is at epoch 0, but this node has applied change 3"),
    "newest deleted": ([["XDEL", KEYS.log, "3-0"]], "is at epoch 2, but this node has applied change 3"),
    "one deleted": ([["XDEL", KEYS.log, "2-0"]], "has lost entries: the newest .* change 3, and there are 2"),
    "trimmed": ([["XTRIM", KEYS.log, "MAXLEN", "1"]], "has lost entries"),
    "log of another type": ([["SET", KEYS.log, "x"]], "holds another type of value"),
    "foreign id": ([["XADD", KEYS.log, "9-1", "change", "x"]], "an entry in .* that policyd did not write"),
    "no chain hash": ([["XADD", KEYS.log, "4-0", "change", "x"]], "change 4 .* has no chain hash"),
    "gap": ([["XADD", KEYS.log, "5-0", "change", "x", "chain", "ab" * 32]], "has lost entries"),
    "garbage": ([["XADD", KEYS.log, "4-0", "change", "x", "chain", "ab" * 32]], "change 4 .* lacks its body"),
    "garbage with a body": (
        [
            ["XADD", KEYS.log, "4-0", "change", "x", "chain", "ab" * 32],
            ["HSET", KEYS.bodies, "4", "{}"],
        ],
        "change 4 .* cannot be read: its head is not JSON",
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_what_was_done_to_the_stream_is_said_and_refused(server: RedisServer, tampering: str) -> None:
    """Deleted, trimmed, replaced or invented: load and follower name it, and both go on once it is mended."""
    commands, message = TAMPERINGS[tampering]
    with ExitStack() as stack:
        store = stack.enter_context(RedisStore(fleet(server.url), signer=NODE_A))
        state = begin(store, changes=3)
        later = change(9, state)
        follower = stack.enter_context(closing(store.follow(state)))
        kept = [(key, server.run("DUMP", key)) for key in (KEYS.log, KEYS.bodies)]
        if tampering == "log of another type":
            server.run("DEL", KEYS.log)
        for command in commands:
            server.run(*command)

        with pytest.raises(StateAstray, match=message):
            follower.poll(0.0)
        with pytest.raises(StateAstray):
            store.load()
        with pytest.raises(StateAstray):
            store.append(later, 3)
        for key, value in kept:
            server.run("DEL", key)
            server.run("RESTORE", key, 0, value)

        assert follower.poll(0.0) is None
        assert store.load() == state
        assert store.append(later, 3) == 4
        update = follower.poll(0.0)
        assert update is not None
        assert update.state.epoch == 4


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("body", b'{"organisations":{}}', "names another body"),
        ("body", None, "change 2 .* lacks its body"),
        ("change", b"{}", "change 2 .* cannot be read"),
        ("change", b'{"a":1}', "change 2 .* cannot be read"),
        ("chain", b"ab" * 32, "change 2 .* is not stored as policyd stores it"),
        ("extra", b"x", "change 2 .* is not stored as policyd stores it"),
        ("signature", b"", "change 2 does not bear the signature"),
        ("signatures", b"", "change 2 is not to be applied: .*organisation `org-1` is new"),
    ],
    ids=["body", "no body", "empty head", "other head", "chain", "extra field", "signature", "approval"],
)
def test_an_altered_change_is_not_taken(
    server: RedisServer, field: str, value: bytes | None, message: str
) -> None:
    """Whatever of a stored change is altered, nobody reads it as a change."""
    with RedisStore(fleet(server.url), signer=NODE_A) as store:
        begin(store, changes=3)
    _alter(server, 2, field, value)

    with RedisStore(fleet(server.url)) as reader, pytest.raises(StateAstray, match=message):
        reader.load()


def _alter(server: RedisServer, epoch: int, field: str, value: bytes | None) -> None:
    """Write the stream again with one field of one entry changed."""
    with server.client() as client:
        entries = client.xrange(KEYS.log)
        client.delete(KEYS.log)
        for entry_id, fields in entries:
            if entry_id == f"{epoch}-0".encode() and field not in ("body", "signature", "signatures"):
                fields[field.encode()] = value
            if entry_id == f"{epoch}-0".encode() and field in ("signature", "signatures"):
                found = read_change(fields[b"change"], client.hget(KEYS.bodies, str(epoch)))
                forged = replace(found, signature=bytes(64))
                if field == "signatures":  # a node that orders what nobody has approved
                    forged = replace(found, signatures=found.signatures[:1])
                    forged = replace(forged, signature=NODE_A.sign(forged.order))
                fields.update({b"change": head_bytes(forged), b"chain": forged.chain_hash.hex().encode()})
            client.xadd(KEYS.log, fields, id=entry_id)
        if field == "body" and value is None:
            client.hdel(KEYS.bodies, str(epoch))
        elif field == "body":
            client.hset(KEYS.bodies, str(epoch), value)
        client.connection_pool.disconnect()


def test_what_is_appended_to_a_stream_with_deleted_entries_is_refused(server: RedisServer) -> None:
    """A deleted number is not given again by Redis; the message says how to mend that."""
    with RedisStore(fleet(server.url), signer=NODE_A) as store:
        begin(store)
        server.run("XDEL", KEYS.log, "1-0")
    with (
        RedisStore(fleet(server.url), signer=NODE_A) as fresh,
        pytest.raises(StateAstray, match=r"entries deleted by hand; delete .* registry republish"),
    ):
        fresh.append(propose(TRUST, State()), 0)


def test_an_acknowledgement_that_policyd_did_not_write_is_refused(server: RedisServer) -> None:
    """Words of nodes are read strictly, too, under the node's own id."""
    with RedisStore(fleet(server.url), signer=NODE_A) as store:
        empty = store.load()
        store.renew(Acknowledgement("node-1", empty.epoch, empty.chain_hash, 5, b"\1" * 64))
        words = server.run("HGET", KEYS.acknowledgements, "node-1")
        for node, value in (("node-2", words), ("node-1", b"{}"), ("node-1", words + b" ")):
            server.run("HSET", KEYS.acknowledgements, node, value)
            with pytest.raises(StateAstray, match=r"acknowledgement in .* cannot be read"):
                store.acknowledgements()
            server.run("DEL", KEYS.acknowledgements)
        server.run("SET", KEYS.acknowledgements, "x")
        with pytest.raises(StateAstray, match="another type"):
            store.acknowledgements()


# The node's own copy


def test_a_node_keeps_what_it_gives_out(server: RedisServer, tmp_path: Path) -> None:
    """Changes are in the copy, signed as they were, before a follower gives them out."""
    ours = fleet(server.url, copy=tmp_path / "copy.db")
    with RedisStore(fleet(server.url), signer=NODE_B) as other, RedisStore(ours) as store:
        with closing(store.follow(store.load())) as follower:
            begin(other, changes=2)
            update = follower.poll(5.0)
        assert update is not None
    copy = ours.open_copy()
    assert copy is not None
    with copy, closing(copy.follow(State())) as kept:
        have = kept.poll(0.0)

    assert have is not None
    assert have.changes == update.changes
    assert have.state == update.state


def test_a_start_with_a_redis_that_is_behind_is_refused_until_it_is_given_the_changes(
    server: RedisServer, tmp_path: Path
) -> None:
    """A node that remembers more than Redis does not start; its copy mends Redis, for others too."""
    ours = fleet(server.url, copy=tmp_path / "copy.db")
    with RedisStore(ours, signer=NODE_A) as store:
        before = begin(store, changes=4)
    server.run("FLUSHALL")

    with (
        RedisStore(ours) as store,
        pytest.raises(StateAstray, match=r"at epoch 0, .* change 4: .* `policyd registry republish`"),
    ):
        store.load()
    done = republish(ours)

    assert (done.before, [change.epoch for change in done.sent], done.own) == (0, [1, 2, 3, 4], 4)
    with RedisStore(ours) as store, RedisStore(fleet(server.url)) as fresh:
        assert store.load() == before == fresh.load()
    assert republish(ours).sent == ()


def test_what_another_process_of_the_node_kept_counts(server: RedisServer, tmp_path: Path) -> None:
    """A change that a command of this node made, and Redis lost before the follower saw it, is missed."""
    ours = fleet(server.url, copy=tmp_path / "copy.db")
    with RedisStore(ours, signer=NODE_A) as command, RedisStore(ours) as store:
        begin(command)
        kept = [(key, server.run("DUMP", key)) for key in (KEYS.log, KEYS.bodies)]
        with closing(store.follow(store.load())) as follower:
            assert follower.poll(0.0) is None
            put(command, 1)
            for key, value in kept:
                server.run("RESTORE", key, 0, value, "REPLACE")

            with pytest.raises(StateAstray, match="at epoch 1, but this node has applied change 2"):
                follower.poll(0.0)
            republish(ours)
            assert follower.poll(0.0) is not None


def test_republish_with_an_older_copy_changes_nothing(server: RedisServer, tmp_path: Path) -> None:
    """A node that knows less than Redis has nothing to send."""
    ours = fleet(server.url, copy=tmp_path / "copy.db")
    with RedisStore(ours, signer=NODE_A) as store:
        begin(store)
    with RedisStore(fleet(server.url), signer=NODE_B) as other:
        put(other, 1)
    done = republish(ours)

    assert (done.before, done.sent, done.own) == (2, (), 1)


def test_two_histories_are_shown_and_nothing_is_sent(server: RedisServer, tmp_path: Path) -> None:
    """Two different changes with one number: the message has both, and Redis stays as it is."""
    ours = fleet(server.url, copy=tmp_path / "copy.db")
    with (
        RedisStore(ours, signer=NODE_A) as store,
        closing(store.follow(begin(store, changes=3))) as follower,
    ):
        server.run("DEL", KEYS.log, KEYS.bodies)
        with RedisStore(fleet(server.url), signer=NODE_B) as other:
            begin(other)
        with pytest.raises(StateAstray, match="at epoch 1, but this node has applied change 3"):
            follower.poll(0.0)
        with RedisStore(fleet(server.url), signer=NODE_B) as other:
            for number in (1, 2):
                put(other, number)
        with pytest.raises(StateAstray, match=r"another change 3 .* two histories"):
            follower.poll(0.0)
        with RedisStore(fleet(server.url), signer=NODE_B) as other:
            put(other, 3)
        with pytest.raises(StateAstray, match=r"another change 3 .* two histories"):
            follower.poll(0.0)
    kept = server.run("DUMP", KEYS.log)
    with pytest.raises(StateAstray, match="different changes 1, and nothing was sent") as caught:
        republish(ours)

    assert server.run("DUMP", KEYS.log) == kept
    said = str(caught.value)
    assert re.search(r"in Redis: change 1, trust, asked by registrar-1 .* admitted by node-b", said)
    assert re.search(r"here: +change 1, trust, asked by registrar-1 .* admitted by node-a", said)


def test_a_copy_with_another_history_stops_the_start(server: RedisServer, tmp_path: Path) -> None:
    """The copy of another fleet, or of a lost branch, does not start on this Redis."""
    with (
        RedisServer(tmp_path / "elsewhere") as elsewhere,
        RedisStore(fleet(elsewhere.url, copy=tmp_path / "copy.db"), signer=NODE_A) as store,
    ):
        begin(store)
    with RedisStore(fleet(server.url), signer=NODE_B) as other:
        begin(other, changes=2)

    with (
        RedisStore(fleet(server.url, copy=tmp_path / "copy.db")) as store,
        pytest.raises(StateAstray, match=r"another change 1 .* two histories"),
    ):
        store.load()


# Servers that come and go


def test_a_restarted_redis_is_used_again_without_a_restart_here(server: RedisServer) -> None:
    """The store and its follower find the new process, and what it kept, by themselves."""
    with RedisStore(fleet(server.url), signer=NODE_A) as store, closing(store.follow(State())) as follower:
        later = change(1, begin(store))
        assert follower.poll(5.0) is not None
        before = store.continuity()
        server.kill()
        for ask in (store.load, lambda: follower.poll(0.0), lambda: store.append(later, 1)):
            with pytest.raises(NotServing, match=rf"{server.url} cannot be reached"):
                ask()
        server.start()

        assert store.append(later, 1) == 2
        update = follower.poll(5.0)
        assert update is not None
        assert update.state.epoch == 2
        assert store.continuity() != before


def test_an_append_right_after_a_restart_needs_no_second_attempt(server: RedisServer) -> None:
    """Connections that died unseen are replaced before anything is sent on them."""
    with RedisStore(fleet(server.url), signer=NODE_A) as store:
        later = change(1, begin(store))
        server.kill()
        server.start()

        assert store.append(later, 1) == 2


def test_changes_that_were_acknowledged_outlive_kills_of_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes append while Redis is killed again and again: what they were told is there, once."""
    seed = 20261124
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311  # seeded test data
    _patience(monkeypatch, answer_s=1.0)
    done = threading.Event()
    told: dict[int, str] = {}
    wrong: list[BaseException] = []

    def write(place: Fleet, node: Key, first: int) -> None:
        number = first
        try:
            with RedisStore(place, signer=node) as store:
                while not done.is_set():
                    try:
                        state = store.load()
                        proposal = change(number, state)
                        told[store.append(proposal, state.epoch)] = proposal.draft.why
                        number += 2
                    except (NotServing, StateConflict):
                        number += 2
        except BaseException as error:
            wrong.append(error)
            raise

    with RedisServer(tmp_path / "redis", "--appendfsync", "always") as server:
        with RedisStore(fleet(server.url), signer=NODE_A) as store:
            begin(store)
        threads = [
            threading.Thread(
                target=write, args=(fleet(server.url, copy=tmp_path / f"copy-{number}.db"), node, number)
            )
            for number, node in enumerate((NODE_A, NODE_B))
        ]
        for thread in threads:
            thread.start()
        for _ in range(5):
            reached = len(told) + chance.randrange(5, 30)
            wait_until(lambda reached=reached: wrong or len(told) >= reached, what="changes")  # type: ignore[misc]
            server.kill()
            server.start()
        done.set()
        for thread in threads:
            thread.join(30.0)
        with RedisStore(fleet(server.url)) as reader, closing(reader.follow(State())) as follower:
            update = follower.poll(0.0)

    assert wrong == []
    assert update is not None
    have = {each.epoch: each.draft.why for each in update.changes}
    assert list(have) == list(range(1, len(have) + 1))
    assert {epoch: have.get(epoch) for epoch in told} == told
    assert len(set(have.values())) == len(have)


def test_a_stopped_redis_is_not_waited_for(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs is left after the timeout, and works again when it goes on."""
    _patience(monkeypatch)
    with RedisStore(fleet(server.url), signer=NODE_A) as store, closing(store.follow(State())) as follower:
        later = change(1, begin(store))
        follower.poll(5.0)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            started_s = clock.monotonic()
            for ask in (store.load, lambda: follower.poll(1.0)):
                with pytest.raises(NotServing, match="does not answer in time"):
                    ask()
            took_s = clock.monotonic() - started_s
        finally:
            os.kill(server.pid, signal.SIGCONT)

        assert took_s < 3.0
        assert store.append(later, 1) == 2
        assert follower.poll(5.0) is not None


def test_a_redis_that_is_loading_is_waited_for(tmp_path: Path) -> None:
    """While it reads its file it says so, and the node says that."""
    with RedisServer(tmp_path / "redis") as server, RedisStore(fleet(server.url), signer=NODE_A) as store:
        begin(store)
        with server.client() as client, client.pipeline(transaction=False) as together:
            for number in range(10_000):
                together.set(f"other-{number}", "x")
            together.execute()
            client.connection_pool.disconnect()
        server.kill()
        server.start("--key-load-delay", "300", wait=False)
        said: set[str] = set()

        def loaded() -> bool:
            try:
                return store.load().epoch == 1
            except NotServing as error:
                said.add(str(error))
                return False

        wait_until(loaded, what="the end of the loading")

    assert any("is still loading" in text for text in said), said


def test_an_append_whose_answer_is_lost_is_made_once(
    server: RedisServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is found under its number, and is the only one."""
    _patience(monkeypatch)
    with RedisStore(fleet(proxy.url), signer=NODE_A) as store:
        state = begin(store)
        proxy.lose(b"XADD")

        assert store.append(change(1, state), 1) == 2
        proxy.mend()
        assert put(store, 2) == 3
    assert server.run("XLEN", KEYS.log) == 3


def test_an_append_that_arrives_late_is_made_once(
    server: RedisServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not there yet may still come, so the caller is told that; who tries again finds it there."""
    _patience(monkeypatch)
    with RedisStore(fleet(proxy.url), signer=NODE_A) as store, RedisStore(fleet(server.url)) as witness:
        held = change(1, begin(store))
        proxy.hold(b"XADD")
        with pytest.raises(NotServing, match=r"answer to change 2 was lost, .* may still come"):
            store.append(held, 1)
        assert witness.load().epoch == 1
        proxy.mend()
        wait_until(lambda: witness.load().epoch == 2, what="the change that was held back")

        with pytest.raises(StateConflict, match="plan it again"):
            store.append(held, 1)
        assert store.load().epoch == 2


def test_an_append_that_was_overtaken_while_its_answer_was_lost_says_so(
    server: RedisServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another change took the number meanwhile, this one was not made and never will be."""
    _patience(monkeypatch, answer_s=1.0)
    ours, theirs = fleet(proxy.url), fleet(server.url)
    with RedisStore(ours, signer=NODE_A) as store, RedisStore(theirs, signer=NODE_B) as other:
        state = begin(store)
        proxy.hold(b"XADD")
        outcome: list[Exception] = []

        def append() -> None:
            try:
                store.append(change(1, state), 1)
            except PolicydError as error:
                outcome.append(error)

        thread = threading.Thread(target=append)
        thread.start()
        other.append(change(2, state), 1)
        thread.join(20.0)
        proxy.mend()

        assert [type(error) for error in outcome] == [StateConflict]
        assert other.load().epoch == 2
        assert "org-1" not in other.load().registry.organisations


def test_a_cut_connection_is_made_again(server: RedisServer, proxy: Proxy) -> None:
    """Cut in the middle of waiting: the follower says so, and goes on when the way is free."""
    with RedisStore(fleet(proxy.url), signer=NODE_A) as store, closing(store.follow(State())) as follower:
        begin(store)
        assert follower.poll(5.0) is not None
        cutter = threading.Timer(0.3, proxy.cut)
        cutter.start()
        with pytest.raises(NotServing, match="cannot be reached"):
            follower.poll(20.0)
        cutter.join()
        with RedisStore(fleet(server.url), signer=NODE_B) as other:
            put(other, 1)
        with pytest.raises(NotServing):
            follower.poll(0.0)
        proxy.mend()
        update = follower.poll(5.0)

        assert update is not None
        assert update.state.epoch == 2


def test_a_failover_that_lost_a_change_is_refused_until_it_is_sent_again(tmp_path: Path) -> None:
    """The replica that took over lacks a change: every node stops, and one with a copy mends it."""
    with ExitStack() as stack:
        primary = stack.enter_context(RedisServer(tmp_path / "primary"))
        between = stack.enter_context(Proxy(primary.port))
        replica = stack.enter_context(
            RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(between.port))
        )
        proxy = stack.enter_context(Proxy(primary.port))
        ours = fleet(proxy.url, copy=tmp_path / "copy.db")
        store = stack.enter_context(RedisStore(ours, signer=NODE_A))
        begin(store)
        wait_until(lambda: replica.run("XLEN", KEYS.log) == 1, what="the replica")
        follower = stack.enter_context(closing(store.follow(store.load())))
        continuity = store.continuity()
        between.cut()
        put(store, 1)
        later = change(2, store.load())
        assert follower.poll(5.0) is not None
        primary.kill()

        proxy.turn_to(replica.port)
        with pytest.raises(NotServing, match="is a replica"):
            store.load()
        replica.run("REPLICAOF", "NO", "ONE")
        for ask in (store.load, lambda: follower.poll(0.0), lambda: store.append(later, 2)):
            with pytest.raises(StateAstray, match="at epoch 1, but this node has applied change 2"):
                ask()
        assert store.continuity() != continuity
        assert [change.epoch for change in republish(ours).sent] == [2]

        assert follower.poll(0.0) is None
        assert store.append(later, 2) == 3


def test_a_failover_that_went_on_without_a_change_stops_every_node_that_has_it(tmp_path: Path) -> None:
    """Another change got the number of the lost one: two histories, which nobody merges by himself."""
    with ExitStack() as stack:
        primary = stack.enter_context(RedisServer(tmp_path / "primary"))
        replica = stack.enter_context(RedisServer(tmp_path / "replica"))
        proxy = stack.enter_context(Proxy(primary.port))
        store = stack.enter_context(RedisStore(fleet(proxy.url, copy=tmp_path / "copy.db"), signer=NODE_A))
        replica.run("REPLICAOF", "127.0.0.1", primary.port)
        begin(store)
        wait_until(lambda: replica.run("XLEN", KEYS.log) == 1, what="the replica")
        replica.run("REPLICAOF", "NO", "ONE")
        put(store, 1)
        with RedisStore(fleet(replica.url), signer=NODE_B) as other:
            put(other, 2)
        proxy.turn_to(replica.port)

        with pytest.raises(StateAstray, match=r"another change 2 .* two histories"):
            store.load()
        with pytest.raises(StateAstray, match="different changes 2, and nothing was sent"):
            republish(fleet(proxy.url, copy=tmp_path / "copy.db"))


# Sentinels


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """Return a primary, its replica, and a sentinel that watches them."""
    with ExitStack() as stack:
        primary = stack.enter_context(RedisServer(tmp_path / "primary"))
        replica = stack.enter_context(
            RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(primary.port))
        )
        lines = [f"sentinel monitor npd 127.0.0.1 {primary.port} 1"]
        lines += [f"sentinel {name} npd 500" for name in ("down-after-milliseconds",)]
        lines += ["sentinel failover-timeout npd 2000"]
        sentinel = stack.enter_context(RedisServer(tmp_path / "sentinel", *lines, sentinel=True))
        wait_until(lambda: len(sentinel.run("SENTINEL", "REPLICAS", "npd")) == 1, what="the sentinel to know")
        yield primary, replica, sentinel


def test_sentinels_lead_to_the_primary_and_to_the_next_one(
    sentinels: tuple[RedisServer, RedisServer, RedisServer],
) -> None:
    """When the primary dies, store and follower find whoever took over; nobody is restarted."""
    primary, replica, sentinel = sentinels
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/npd"
    with RedisStore(fleet(url), signer=NODE_A) as store, closing(store.follow(State())) as follower:
        later = change(1, begin(store))
        assert follower.poll(5.0) is not None
        wait_until(lambda: replica.run("XLEN", KEYS.log) == 1, what="the replica")
        primary.kill()
        refused: set[type[Exception]] = set()

        def recovered() -> bool:
            try:
                follower.poll(0.0)
                return store.append(later, 1) == 2
            except NotServing as error:
                refused.add(type(error))
                return False

        wait_until(recovered, what="the failover", timeout_s=30.0)

        assert refused
        assert replica.run("XLEN", KEYS.log) == 2
        assert follower.poll(5.0) is not None


def test_a_deposed_primary_is_left_even_if_it_still_answers(
    sentinels: tuple[RedisServer, RedisServer, RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A primary that was cut off from its sentinels believes in itself; they say who it is now."""
    _, replica, sentinel = sentinels
    monkeypatch.setattr(redis_link, "_SENTINELS_EVERY_S", 0.0)
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/npd"
    with RedisStore(fleet(url), signer=NODE_A) as store:
        begin(store)
        wait_until(lambda: replica.run("XLEN", KEYS.log) == 1, what="the replica")
        # The sentinel now hears of another primary, while the old one goes on as before.
        sentinel.run("SENTINEL", "REMOVE", "npd")
        replica.run("REPLICAOF", "NO", "ONE")
        with RedisStore(fleet(replica.url), signer=NODE_B) as other:
            put(other, 1)
        sentinel.run("SENTINEL", "MONITOR", "npd", "127.0.0.1", replica.port, 1)

        assert store.load().epoch == 2


def test_no_sentinel_in_reach_is_said(tmp_path: Path) -> None:
    """Without anybody who knows the primary there is no state."""
    with (
        RedisStore(fleet("redis+sentinel://127.0.0.1:1,127.0.0.1:2/npd")) as store,
        pytest.raises(NotServing, match=r"redis\+sentinel://127.0.0.1:1,127.0.0.1:2/npd cannot be reached"),
    ):
        store.load()


# Settings


def test_a_redis_that_evicts_is_refused_at_start_and_later(server: RedisServer) -> None:
    """Eviction takes seals away; it is looked for each time, and its end is seen, too."""
    with RedisStore(fleet(server.url), signer=NODE_A) as store, closing(store.follow(State())) as follower:
        later = change(1, begin(store))
        server.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        for ask in (
            store.load,
            lambda: follower.poll(0.0),
            lambda: store.append(later, 1),
            store.continuity,
        ):
            with pytest.raises(StateUnfit, match=r"may evict .* allkeys-lru.* noeviction"):
                ask()
        server.run("CONFIG", "SET", "maxmemory-policy", "noeviction")

        assert follower.poll(0.0) is not None
        assert store.append(later, 1) == 2


def test_a_redis_too_small_for_the_largest_change_is_refused(server: RedisServer) -> None:
    """`proto-max-bulk-len` must leave room for 16 MiB."""
    server.run("CONFIG", "SET", "proto-max-bulk-len", 1 << 20)
    with RedisStore(fleet(server.url)) as store, pytest.raises(StateUnfit, match="set proto-max-bulk-len to"):
        store.load()


def test_a_redis_without_memory_takes_nothing_in_part(server: RedisServer) -> None:
    """Out of memory: no body without its entry and no entry without its body."""
    with RedisStore(fleet(server.url), signer=NODE_A) as store:
        later = change(1, begin(store))
        server.run("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(NotServing, match=r"out of memory .* raise maxmemory"):
            store.append(later, 1)
        server.run("CONFIG", "SET", "maxmemory", 0)

        assert (server.run("XLEN", KEYS.log), server.run("HLEN", KEYS.bodies)) == (1, 1)
        assert store.append(later, 1) == 2


def test_a_redis_without_its_replicas_says_so(server: RedisServer) -> None:
    """`min-replicas-to-write` refuses a change at once, and it was not made."""
    with RedisStore(fleet(server.url), signer=NODE_A) as store:
        first = propose(TRUST, State())
        server.run("CONFIG", "SET", "min-replicas-to-write", 1)
        with pytest.raises(NotServing, match="too few replicas"):
            store.append(first, 0)
        server.run("CONFIG", "SET", "min-replicas-to-write", 0)

        assert store.append(first, 0) == 1


@pytest.mark.parametrize("ahead_ms", [2_500, -2_500])
def test_a_node_whose_clock_is_far_from_redis_does_not_go_on(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, ahead_ms: int
) -> None:
    """More than 2 s apart in either direction, and no answer; less is no matter."""
    real = clock.now
    first = propose(TRUST, State())
    with RedisStore(fleet(server.url), signer=NODE_A) as store, closing(store.follow(State())) as follower:
        monkeypatch.setattr(clock, "now", lambda: real() + ahead_ms)
        for ask in (store.load, lambda: follower.poll(0.0), lambda: store.append(first, 0)):
            with pytest.raises(StateUnfit, match=r"clocks of this node and of .* 2\.[45] s apart"):
                ask()
        monkeypatch.setattr(clock, "now", lambda: real() + ahead_ms * 3 // 5)

        assert store.append(first, 0) == 1


def test_the_largest_change_goes_through(server: RedisServer, tmp_path: Path) -> None:
    """A body of nearly 16 MiB is stored, followed and kept."""
    organisations = {
        f"org-{number}": Organisation(
            f"org-{number}", "school", False, Status.ACTIVE, f"{number} " + "s" * 400, AT
        )
        for number in range(32_000)
    }
    ours = fleet(server.url, copy=tmp_path / "copy.db")
    with RedisStore(ours, signer=NODE_A) as store:
        state = begin(store)
        large = propose(Registry(organisations=organisations), state, why="all at once")
        assert 15 << 20 < len(large.draft.body) < 16 << 20
        with closing(store.follow(state)) as follower:
            assert store.append(large, 1) == 2
            update = follower.poll(20.0)

        assert update is not None
        assert update.changes[0].proposal == large
        assert store.load() == update.state


# Who may


def _write_secret(path: Path, text: str) -> Path:
    path.write_text(text + "\n", "utf-8")
    path.chmod(0o600)
    return path


def test_a_password_is_read_from_its_file_at_each_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Wrong, it is refused with what to do; put right, the same store works; it is told nowhere."""
    caplog.set_level(logging.DEBUG)
    secret = _write_secret(tmp_path / "secret", "wrong-" + SECRET)
    with RedisServer(tmp_path / "redis", "--requirepass", SECRET, password=SECRET) as server:
        place = fleet(f"{server.url}?password_file=secret", base=tmp_path)
        with RedisStore(place, signer=NODE_A) as store:
            with pytest.raises(NotServing, match="refuses user `default` or its password") as caught:
                store.load()
            _write_secret(secret, SECRET)
            state = begin(store)
            assert state.epoch == 1
            secret.unlink()
            assert store.append(change(1, state), 1) == 2
            server.kill()
            server.start()
            with pytest.raises(NotServing, match="cannot be asked now: cannot read the password"):
                store.load()
            _write_secret(secret, SECRET)
            assert put(store, 2) == 3
            secret.unlink()
            said = [str(caught.value), repr(caught.value), repr(place), str(place.url), caplog.text]
        with pytest.raises(ConfigError, match="cannot read the password"):
            RedisStore(place)
        with RedisStore(fleet(server.url)) as without, pytest.raises(NotServing, match="password"):
            without.load()

    assert not any(SECRET in text for text in said)


def test_a_password_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For where secrets are given to processes that way."""
    monkeypatch.setenv("POLICYD_TEST_SECRET", SECRET)
    with (
        RedisServer(tmp_path / "redis", "--requirepass", SECRET, password=SECRET) as server,
        RedisStore(fleet(f"{server.url}?password_env=POLICYD_TEST_SECRET"), signer=NODE_A) as store,
    ):
        assert begin(store).epoch == 1


def _documented_rules() -> list[str]:
    """Return the rules of the ACL user as docs/state.md gives them."""
    match = re.search(r"^ACL SETUSER policyd on (.+)$", STATE_PAGE.read_text("utf-8"), re.MULTILINE)
    assert match is not None
    return [SECRET.join(word.split("PASSWORD")) for word in match[1].split()]


def test_the_documented_rules_of_the_user_are_enough_and_no_more(server: RedisServer, tmp_path: Path) -> None:
    """Everything a node does works under them; without one of them the node says what to look at."""
    _write_secret(tmp_path / "secret", SECRET)
    rules = [rule.replace("DOMAIN", DOMAIN) for rule in _documented_rules()]
    server.run("ACL", "SETUSER", "policyd", "on", *rules)
    url = f"redis://policyd@127.0.0.1:{server.port}?password_file=secret"
    with ExitStack() as stack:
        place = fleet(url, base=tmp_path, copy=tmp_path / "copy.db")
        store = stack.enter_context(RedisStore(place, signer=NODE_A))
        follower = stack.enter_context(closing(store.follow(store.load())))
        begin(store)
        update = follower.poll(5.0)
        assert update is not None
        state = update.state
        assert store.renew(Acknowledgement("node-1", 1, state.chain_hash, 5, b"\1" * 64)).accepted
        assert store.acknowledgements()
        assert store.continuity()
        assert republish(place).own == 1
        client = stack.enter_context(server.client(username="policyd", password=SECRET))
        for command in (["GET", "x"], ["SET", "x", "1"], ["FLUSHALL"], ["DEL", KEYS.log], ["KEYS", "*"]):
            with pytest.raises(Exception, match=r"(?i)no permissions|NOPERM"):
                client.execute_command(*command)
        client.connection_pool.disconnect()

        for rule in rules:
            if rule.startswith("+") and rule not in ("+client", "+config|get", "+ping"):
                server.run("ACL", "SETUSER", "policyd", rule.replace("+", "-"))
                with pytest.raises(NotServing, match=r"docs/state\.md"):
                    _do_everything(fleet(url, base=tmp_path))
                server.run("ACL", "SETUSER", "policyd", rule)
        _do_everything(fleet(url, base=tmp_path))


def _do_everything(place: Fleet) -> None:
    with RedisStore(place, signer=NODE_A) as store:
        state = store.load()
        with closing(store.follow(state)) as follower:
            follower.poll(0.5)
        store.append(change(state.epoch, state), state.epoch)
        store.acknowledgements()


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return create_authority(DOMAIN, now=clock.now())


def _tls_front(authority: Authority, directory: Path) -> ssl.SSLContext:
    leaf = authority.server(f"spiffe://{DOMAIN}/redis", dns_names=["redis.test"], now=clock.now())
    certificate, key = leaf.write(directory, name="redis")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_tls_is_verified_against_the_authority_that_is_named(
    server: RedisServer, tmp_path: Path, authority: Authority
) -> None:
    """The right authority lets through; another one, or no TLS at all, does not."""
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "other.pem").write_bytes(create_authority(DOMAIN, now=clock.now()).certificate_pem)
    with Proxy(server.port, tls=_tls_front(authority, tmp_path)) as front:
        with RedisStore(fleet(f"{front.url}?ca=ca.pem", base=tmp_path), signer=NODE_A) as store:
            assert begin(store).epoch == 1
        refused = {
            f"{front.url}?ca=other.pem": "cannot be reached: .*certificate",
            front.url: "cannot be reached: .*certificate",
            f"redis://127.0.0.1:{front.port}": "cannot be reached|does not answer",
            f"rediss://127.0.0.1:{server.port}?ca=ca.pem": "cannot be reached|does not answer",
        }
        for url, message in refused.items():
            with (
                RedisStore(fleet(url, base=tmp_path)) as store,
                pytest.raises(NotServing, match=f"(?i){message}"),
            ):
                store.load()


def test_a_certificate_of_another_host_is_refused(
    server: RedisServer, tmp_path: Path, authority: Authority
) -> None:
    """The name is checked, not the signature alone."""
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    with Proxy(server.port, tls=_tls_front(authority, tmp_path)) as front:
        url = f"rediss://localhost:{front.port}?ca=ca.pem"
        with (
            RedisStore(fleet(url, base=tmp_path)) as store,
            pytest.raises(NotServing, match="cannot be reached"),
        ):
            store.load()
