"""What every state store promises, whatever is behind it; a second backend is one more entry in BACKENDS."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.redis import RedisServer, domain_of

from policyd.clock import parse_instant
from policyd.errors import ConfigError, StateConflict, StateCorrupt
from policyd.model import DataService, Organisation, Registry, Seal, Status
from policyd.registry.change import (
    GENESIS,
    Activation,
    Draft,
    State,
    draft_activation,
    draft_registry,
    draft_seals,
)
from policyd.registry.check import RegistryError
from policyd.registry.lease import Acknowledgement
from policyd.registry.redis_store import Fleet, RedisStore
from policyd.registry.redis_url import parse_redis_url
from policyd.registry.store import EmbeddedStore, StateStore

AT = parse_instant("2026-03-01T10:00:00Z")
PATIENCE_S = 20.0
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Node:
    """A node's key as the stores want it."""

    id: str
    seed: bytes

    @property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data)


NODE_A, NODE_B, STRANGER = (Node(name, bytes([number]) * 32) for number, name in enumerate("abx", start=1))
TRUSTED = {node.id: node.public for node in (NODE_A, NODE_B)}


@dataclass(frozen=True)
class Place:
    """Where one test keeps its state; `open` may be called from several processes."""

    backend: str
    directory: Path

    def open(self, node: Node | None = NODE_A, *, trusted: dict[str, bytes] | None = None) -> StateStore:
        return BACKENDS[self.backend](self.directory, node, TRUSTED if trusted is None else trusted)


def _embedded(directory: Path, node: Node | None, trusted: dict[str, bytes]) -> StateStore:
    return EmbeddedStore(directory / "state.db", trusted=trusted, signer=node)


def _redis(directory: Path, node: Node | None, trusted: dict[str, bytes]) -> StateStore:
    url = parse_redis_url(os.environ[REDIS], base=directory)
    return RedisStore(Fleet(url, domain_of(directory), trusted), signer=node)


def _redis_with_copy(directory: Path, node: Node | None, trusted: dict[str, bytes]) -> StateStore:
    url = parse_redis_url(os.environ[REDIS], base=directory)
    copy = directory / f"copy-{node.id if node else 'reader'}.db"
    return RedisStore(Fleet(url, domain_of(directory), trusted, copy), signer=node)


REDIS = "POLICYD_TEST_REDIS"
"""The variable that tells the processes of one test where its Redis is."""
BACKENDS: dict[str, Callable[[Path, Node | None, dict[str, bytes]], StateStore]] = {
    "embedded": _embedded,
    "redis": _redis,
    "redis-with-copy": _redis_with_copy,
}


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return one Redis for all tests; each has keys of its own."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=sorted(BACKENDS))
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param != "embedded":
        monkeypatch.setenv(REDIS, request.getfixturevalue("redis_server").url)
    return Place(request.param, tmp_path)


@pytest.fixture
def store(place: Place) -> Iterator[StateStore]:
    with closing(place.open()) as opened:
        yield opened


def organisation(number: int, *, status: Status = Status.ACTIVE) -> Registry:
    entry = Organisation(
        id=f"org-{number}",
        kind="school",
        commercial=False,
        status=status,
        legal_name=f"School {number}",
        verified_at=AT,
    )
    return Registry(organisations={entry.id: entry})


def draft(number: int, *, status: Status = Status.ACTIVE) -> Draft:
    return draft_registry(organisation(number, status=status), who="admin-1", why=f"change {number}", at=AT)


# One process


def test_a_new_store_is_empty_at_epoch_0(store: StateStore) -> None:
    """Before any change the state has nothing in it."""
    assert store.load() == State(epoch=0, chain_hash=GENESIS, registry=Registry(), activation=None)


def test_changes_are_numbered_from_1_and_add_up(store: StateStore) -> None:
    """Each change gets the next number, and the state holds what all of them said."""
    have = [store.append(draft(number), number - 1) for number in (1, 2, 3)]

    state = store.load()
    assert have == [1, 2, 3]
    assert state.epoch == 3
    assert set(state.registry.organisations) == {"org-1", "org-2", "org-3"}


def test_a_later_entry_replaces_the_one_with_its_id(store: StateStore) -> None:
    """Of two entries with one id the later counts, whole."""
    store.append(draft(1), 0)
    store.append(draft(1, status=Status.SUSPENDED), 1)

    assert store.load().registry == organisation(1, status=Status.SUSPENDED)


def test_seals_and_activations_are_changes_too(store: StateStore) -> None:
    """A seal and an activation each take a number and come back as they were."""
    service = DataService("npd", "spiffe://policyd.test/npd", "org-1", "secure", Status.ACTIVE)
    seal = Seal("SEAL-1", tokens=(("npd", b"\x07" * 32),))
    activation = Activation(policy_digest="ab" * 32, policy_version=4)
    store.append(draft(1), 0)
    services = Registry(data_services={"npd": service})
    store.append(draft_registry(services, who="admin-1", why="a service", at=AT), 1)

    seals = Registry(seals={"SEAL-1": seal})
    assert store.append(draft_seals(seals, who="admin-1", why="at risk", at=AT), 2) == 3
    assert store.append(draft_activation(activation, who="admin-1", why="term starts", at=AT), 3) == 4

    state = store.load()
    assert state.registry.seals == {"SEAL-1": seal}
    assert state.activation == activation


def test_what_was_appended_outlives_the_store(place: Place) -> None:
    """A store opened again has the same state and history."""
    with closing(place.open()) as store:
        store.append(draft(1), 0)
        before = store.load()

    with closing(place.open()) as store:
        assert store.load() == before


@pytest.mark.parametrize("expected", [-1, 0, 2, 99])
def test_a_change_planned_on_another_epoch_changes_nothing(store: StateStore, expected: int) -> None:
    """Planned on an older or a future state, a change is refused with StateConflict."""
    store.append(draft(1), 0)
    before = store.load()

    with pytest.raises(StateConflict, match="plan it again"):
        store.append(draft(2), expected)

    assert store.load() == before


def test_the_store_refuses_what_contradicts_the_registry(store: StateStore) -> None:
    """References are checked against the state of that very moment, and nothing is stored."""
    lost = DataService("npd", "spiffe://policyd.test/npd", "org-2", "secure", Status.ACTIVE)
    store.append(draft(1), 0)

    with pytest.raises(RegistryError, match="data service `npd`: organisation: unknown organisation `org-2`"):
        store.append(draft_registry(Registry(data_services={"npd": lost}), who="a", why="b", at=AT), 1)

    assert store.load().epoch == 1


def test_a_draft_that_could_not_be_read_back_is_refused(store: StateStore) -> None:
    """A hand-made body in another form never gets a number."""
    good = draft(1)
    for body in (b"", b"{}", b"[]", good.body + b" ", b'{"organisations":{"org-1":{}}}', b'{"x":{}}'):
        with pytest.raises(ValueError):
            store.append(Draft(good.kind, body, who="admin-1", why="why", at=AT), 0)

    assert store.load().epoch == 0


def test_without_a_node_key_nothing_is_appended(place: Place) -> None:
    """A process that only reads cannot change the state."""
    with closing(place.open(None)) as store, pytest.raises(ConfigError, match="no node key"):
        store.append(draft(1), 0)


def test_a_node_that_nobody_trusts_is_told_at_once(place: Place) -> None:
    """A store is not opened for a signer whose changes every load would refuse."""
    with pytest.raises(ConfigError, match="not among the trusted"):
        place.open(STRANGER)


def test_changes_of_every_trusted_node_are_accepted(place: Place) -> None:
    """Two nodes append in turn, and each verifies what the other signed."""
    with closing(place.open(NODE_A)) as first, closing(place.open(NODE_B)) as second:
        first.append(draft(1), 0)
        second.append(draft(2), 1)
        first.append(draft(3), 2)

        assert first.load() == second.load()
        assert first.load().epoch == 3


def test_a_change_of_a_node_that_is_not_trusted_stops_the_load(place: Place) -> None:
    """When a node is no longer trusted, the state that rests on it is refused, naming the change."""
    with closing(place.open(NODE_A)) as first, closing(place.open(NODE_B)) as second:
        first.append(draft(1), 0)
        second.append(draft(2), 1)

    only_a = {NODE_A.id: NODE_A.public}
    with (
        closing(place.open(trusted=only_a)) as store,
        pytest.raises(StateCorrupt, match=r"change 2 .*not trusted"),
    ):
        store.load()


def test_a_node_id_with_another_key_stops_the_load(place: Place) -> None:
    """The id alone is worth nothing: the signature is checked under the key that is trusted."""
    with closing(place.open()) as store:
        store.append(draft(1), 0)

    with (
        closing(place.open(None, trusted={NODE_A.id: STRANGER.public})) as store,
        pytest.raises(StateCorrupt, match="change 1 does not bear the signature"),
    ):
        store.load()


def test_the_same_changes_give_the_same_history_anywhere(tmp_path: Path, place: Place) -> None:
    """Chain hashes depend on what was said, by whom and in which order, and on nothing else."""
    hashes = []
    for number, order in enumerate([(1, 2), (1, 2), (2, 1)]):
        (tmp_path / str(number)).mkdir()
        with closing(Place(place.backend, tmp_path / str(number)).open()) as store:
            for epoch, name in enumerate(order):
                store.append(draft(name), epoch)
            hashes.append(store.load().chain_hash)

    assert hashes[0] == hashes[1] != hashes[2]


# Followers


def test_a_follower_gets_each_change_once_in_order(store: StateStore) -> None:
    """Changes come verified, with the state after them."""
    with closing(store.follow(store.load())) as follower:
        store.append(draft(1), 0)
        first = follower.poll(PATIENCE_S)
        store.append(draft(2), 1)
        store.append(draft(3), 2)
        second = follower.poll(PATIENCE_S)

        assert first is not None
        assert second is not None
        assert [change.epoch for change in first.changes] == [1]
        assert [change.epoch for change in second.changes] == [2, 3]
        assert second.state == store.load()
        assert second.changes[0].draft == draft(2)
        assert follower.poll(0) is None


def test_a_follower_catches_up_from_where_its_state_is(store: StateStore) -> None:
    """What was appended before the follower was made is not lost."""
    state = store.load()
    store.append(draft(1), 0)

    with closing(store.follow(state)) as follower:
        update = follower.poll(0)

    assert update is not None
    assert update.state == store.load()


def test_a_follower_without_changes_returns_when_its_time_is_over(store: StateStore) -> None:
    """With nothing to tell, `poll` gives None."""
    with closing(store.follow(store.load())) as follower:
        assert follower.poll(0.05) is None


def test_a_stopped_follower_returns_at_once(store: StateStore) -> None:
    """`stop` from another thread ends a waiting `poll`, so that a server can close."""
    with closing(store.follow(store.load())) as follower:
        have: list[object] = ["nothing yet"]
        thread = threading.Thread(target=lambda: have.append(follower.poll(600.0)))
        thread.start()
        follower.stop()
        thread.join(PATIENCE_S)

        assert not thread.is_alive()
        assert have == ["nothing yet", None]


def test_a_follower_that_was_told_another_history_refuses(store: StateStore) -> None:
    """A store whose change at the follower's epoch is another one has forked or gone back."""
    store.append(draft(1), 0)
    state = store.load()
    other = State(state.epoch, b"\0" * 32, state.registry, state.activation)
    ahead = State(7, state.chain_hash, state.registry, state.activation)

    for known in (other, ahead):
        with (
            closing(store.follow(known)) as follower,
            pytest.raises(StateCorrupt, match=f"change {known.epoch}"),
        ):
            follower.poll(0)


def test_a_follower_outlives_the_store_that_made_it(place: Place) -> None:
    """Closing a store leaves its followers usable."""
    with closing(place.open()) as writer, ExitStack() as stack:
        reader = place.open(None)
        follower = stack.enter_context(closing(reader.follow(reader.load())))
        reader.close()
        writer.append(draft(1), 0)

        assert follower.poll(PATIENCE_S) is not None


# Several threads and processes


def test_of_many_threads_with_one_plan_one_wins(store: StateStore) -> None:
    """Eight threads append on one epoch: one change is stored, seven are told to plan again."""
    start = threading.Barrier(8)
    won: list[int] = []
    lost: list[int] = []

    def race(number: int) -> None:
        start.wait()
        try:
            store.append(draft(number), 0)
            won.append(number)
        except StateConflict:
            lost.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert (len(won), len(lost)) == (1, 7)
    assert store.load().registry == organisation(won[0])


def _append_until_told(place: Place, node: Node, count: int, pipe: Connection) -> None:
    """In another process: append `count` changes, each on the newest epoch, telling each outcome."""
    with closing(place.open(node)) as store:
        epoch = store.load().epoch
        pipe.send("ready")
        pipe.recv()
        for number in range(count):
            while True:
                try:
                    epoch = store.append(draft(number), epoch)
                except StateConflict:
                    pipe.send("lost")
                    epoch = store.load().epoch
                else:
                    pipe.send(epoch)
                    break
    pipe.close()


def _spawn(place: Place, node: Node, count: int) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_append_until_told, args=(place, node, count, theirs))
    process.start()
    theirs.close()
    assert ours.poll(PATIENCE_S)
    assert ours.recv() == "ready"
    return process, ours


def test_a_follower_sees_the_changes_of_another_process(place: Place) -> None:
    """One process appends while another follows: every change arrives, in order, exactly once."""
    with closing(place.open()) as store, closing(store.follow(store.load())) as follower:
        process, pipe = _spawn(place, NODE_B, 20)
        pipe.send("go")
        seen: list[int] = []
        while len(seen) < 20:
            update = follower.poll(PATIENCE_S)
            assert update is not None
            seen += [change.epoch for change in update.changes]
        process.join(PATIENCE_S)
        pipe.close()

        assert seen == list(range(1, 21))
        assert process.exitcode == 0
        process.close()


def test_two_processes_that_race_lose_nothing(place: Place) -> None:
    """Both append as fast as they can: every number is given once, and a lost race stores nothing."""
    spawned = [_spawn(place, node, 25) for node in (NODE_A, NODE_B)]
    for _, pipe in spawned:
        pipe.send("go")
    said: list[object] = []
    for process, pipe in spawned:
        while True:
            try:
                said.append(pipe.recv())
            except EOFError:
                break
        process.join(PATIENCE_S)
        pipe.close()
        assert process.exitcode == 0
        process.close()

    with closing(place.open()) as store:
        state = store.load()
    assert sorted(word for word in said if isinstance(word, int)) == list(range(1, 51))
    assert state.epoch == 50


def test_a_killed_writer_leaves_the_old_state_or_the_new(place: Place) -> None:
    """After SIGKILL while appending, what was acknowledged is there, and at most one change more."""
    seed = 20260224
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311  # seeded test data
    for _ in range(5):
        process, pipe = _spawn(place, NODE_B, 100_000)
        pipe.send("go")
        acknowledged = 0
        for _ in range(chance.randrange(1, 40)):
            acknowledged = pipe.recv()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(PATIENCE_S)
        while True:
            try:
                acknowledged = pipe.recv()
            except EOFError:
                break
        pipe.close()
        process.close()

        with closing(place.open()) as store:
            state = store.load()
            assert state.epoch in (acknowledged, acknowledged + 1)
            store.append(draft(0), state.epoch)


# Leases


def acknowledgement(node: str, state: State, *, at_boot_ms: int = 1_000) -> Acknowledgement:
    return Acknowledgement(node, state.epoch, state.chain_hash, at_boot_ms, signature=b"\x05" * 64)


def test_an_acknowledgement_of_the_head_is_kept(store: StateStore) -> None:
    """Each node has one, the last, and it comes back as it was given."""
    empty = store.load()
    assert store.renew(acknowledgement("node-a", empty)).accepted
    store.append(draft(1), 0)
    state = store.load()

    first = store.renew(acknowledgement("node-a", state, at_boot_ms=2_000))
    second = store.renew(acknowledgement("node-b", state))

    assert (first.accepted, first.epoch, first.chain_hash) == (True, 1, state.chain_hash)
    assert second.accepted
    assert store.acknowledgements() == {
        "node-a": acknowledgement("node-a", state, at_boot_ms=2_000),
        "node-b": acknowledgement("node-b", state),
    }


def test_an_acknowledgement_of_anything_but_the_head_is_not_kept(store: StateStore) -> None:
    """Older, newer or of another history: it is refused with the head as it is, and the last one stays."""
    empty = store.load()
    store.renew(acknowledgement("node-a", empty))
    store.append(draft(1), 0)
    state = store.load()
    wrong = (empty, State(2, state.chain_hash), State(1, b"\0" * 32), State(0, state.chain_hash))

    for known in wrong:
        have = store.renew(acknowledgement("node-a", known, at_boot_ms=9_000))

        assert (have.accepted, have.epoch, have.chain_hash) == (False, 1, state.chain_hash)
    assert store.acknowledgements() == {"node-a": acknowledgement("node-a", empty)}


@pytest.mark.parametrize(
    "changes",
    [
        {"node": ""},
        {"node": "a b"},
        {"signature": b""},
        {"chain_hash": b"1"},
        {"epoch": -1},
        {"at_boot_ms": -1},
    ],
    ids=str,
)
def test_an_acknowledgement_that_could_not_be_read_back_is_refused(
    store: StateStore, changes: dict[str, object]
) -> None:
    """One that has another form than a node's is not kept."""
    with pytest.raises(ValueError):
        store.renew(replace(acknowledgement("node-a", store.load()), **changes))  # type: ignore[arg-type]

    assert store.acknowledgements() == {}


def test_of_a_renewal_and_a_change_at_once_one_comes_first(place: Place) -> None:
    """A renewal that is accepted was made on the head: every acknowledgement kept names what was the head."""
    start = threading.Barrier(2)
    accepted: list[int] = []

    def change() -> None:
        with closing(place.open(NODE_A)) as store:
            start.wait()
            for number in range(20):
                store.append(draft(number), number)

    thread = threading.Thread(target=change)
    with closing(place.open(NODE_B)) as store:
        thread.start()
        start.wait()
        while not accepted or accepted[-1] < 20:
            state = store.load()
            if store.renew(acknowledgement("node-b", state)).accepted:
                accepted.append(state.epoch)
            assert store.acknowledgements().get("node-b", acknowledgement("node-b", state)).epoch <= 20
        thread.join(PATIENCE_S)

        assert accepted == sorted(accepted)
        assert store.acknowledgements()["node-b"] == acknowledgement("node-b", store.load())


def test_a_store_that_stays_what_it_is_says_the_same(place: Place) -> None:
    """Its continuity does not change with changes, nor between two who look."""
    with closing(place.open(NODE_A)) as store, closing(place.open(NODE_B)) as other:
        before = store.continuity()
        store.append(draft(1), 0)

        assert store.continuity() == before == other.continuity()
        assert before
