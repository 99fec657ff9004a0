"""What every state store promises, whatever is behind it; a second backend is one more entry in BACKENDS."""

from __future__ import annotations

import json
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
from support.administration import (
    AT,
    NODE_A,
    NODE_B,
    REGISTRAR,
    STRANGER,
    TRUST,
    Key,
    make,
    propose,
    trust,
)
from support.redis import RedisServer, domain_of

from policyd.errors import ApprovalMissing, ConfigError, NotAuthorised, StateConflict, StateCorrupt
from policyd.model import DataService, Organisation, Registry, Seal, Status
from policyd.registry.change import GENESIS, State
from policyd.registry.check import RegistryError
from policyd.registry.draft import Activation, Lift, Proposal
from policyd.registry.lease import Acknowledgement
from policyd.registry.redis_store import Fleet, RedisStore
from policyd.registry.redis_url import parse_redis_url
from policyd.registry.store import EmbeddedStore, StateStore
from policyd.registry.trust import Trust

FIRST = 1
"""The epoch of a new state: its trust document is in force, and nothing else."""
PATIENCE_S = 20.0
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Place:
    """Where one test keeps its state; `open` may be called from several processes."""

    backend: str
    directory: Path

    def open(self, node: Key | None = NODE_A, *, trust: Trust = TRUST) -> StateStore:
        return BACKENDS[self.backend](self.directory, node, trust)


def _embedded(directory: Path, node: Key | None, trust: Trust) -> StateStore:
    return EmbeddedStore(directory / "state.db", trust=trust, signer=node)


def _redis(directory: Path, node: Key | None, trust: Trust) -> StateStore:
    url = parse_redis_url(os.environ[REDIS], base=directory)
    return RedisStore(Fleet(url, domain_of(directory), trust), signer=node)


def _redis_with_copy(directory: Path, node: Key | None, trust: Trust) -> StateStore:
    url = parse_redis_url(os.environ[REDIS], base=directory)
    copy = directory / f"copy-{node.name if node else 'reader'}.db"
    return RedisStore(Fleet(url, domain_of(directory), trust, copy), signer=node)


REDIS = "POLICYD_TEST_REDIS"
"""The variable that tells the processes of one test where its Redis is."""
BACKENDS: dict[str, Callable[[Path, Key | None, Trust], StateStore]] = {
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
def empty(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param != "embedded":
        monkeypatch.setenv(REDIS, request.getfixturevalue("redis_server").url)
    return Place(request.param, tmp_path)


@pytest.fixture
def place(empty: Place) -> Place:
    """A place whose trust document is in force."""
    with closing(empty.open()) as store:
        assert make(store, TRUST, change_id="the-first") == FIRST
    return empty


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


def put(store: StateStore, number: int, *, status: Status = Status.ACTIVE) -> int:
    return make(store, organisation(number, status=status))


# One process


def test_a_new_store_is_empty_at_epoch_0(empty: Place) -> None:
    """Before any change the state has nothing in it."""
    with closing(empty.open()) as store:
        assert store.load() == State(epoch=0, chain_hash=GENESIS, registry=Registry(), activation=None)


def test_changes_are_numbered_and_add_up(store: StateStore) -> None:
    """Each change gets the next number, and the state holds what all of them said."""
    have = [put(store, number) for number in (1, 2, 3)]

    state = store.load()
    assert have == [FIRST + 1, FIRST + 2, FIRST + 3]
    assert state.epoch == FIRST + 3
    assert set(state.registry.organisations) == {"org-1", "org-2", "org-3"}


def test_a_later_entry_replaces_the_one_with_its_id(store: StateStore) -> None:
    """Of two entries with one id the later counts, whole."""
    put(store, 1)
    put(store, 1, status=Status.SUSPENDED)

    assert store.load().registry == organisation(1, status=Status.SUSPENDED)


def test_seals_and_activations_are_changes_too(store: StateStore) -> None:
    """A seal and an activation each take a number and come back as they were."""
    service = DataService("npd", "spiffe://policyd.test/npd", "org-1", "secure", Status.ACTIVE)
    seal = Seal("SEAL-1", tokens=(("npd", b"\x07" * 32),))
    activation = Activation(policy_digest="ab" * 32, policy_version=4)
    put(store, 1)
    make(store, Registry(data_services={"npd": service}))

    assert make(store, Registry(seals={"SEAL-1": seal})) == FIRST + 3
    assert make(store, activation) == FIRST + 4

    state = store.load()
    assert state.registry.seals == {"SEAL-1": seal}
    assert state.activation == activation


def test_a_lifted_seal_is_gone(store: StateStore) -> None:
    """Lifting takes the seal out of the registry, and can be done once."""
    put(store, 1)
    service = DataService("npd", "spiffe://policyd.test/npd", "org-1", "secure", Status.ACTIVE)
    make(store, Registry(data_services={"npd": service}))
    seals = {name: Seal(name, tokens=(("npd", name.encode() * 4),)) for name in ("SEAL-1AA", "SEAL-2AA")}
    make(store, Registry(seals=seals))

    make(store, Lift(("SEAL-1AA",)))

    assert set(store.load().registry.seals) == {"SEAL-2AA"}
    with pytest.raises(RegistryError, match="seal `SEAL-1AA`: id: is not there"):
        make(store, Lift(("SEAL-1AA",)))


def test_nothing_comes_before_the_trust_document(empty: Place) -> None:
    """An empty state takes a trust document and nothing else: nobody's signature counts yet."""
    with closing(empty.open()) as store:
        with pytest.raises(NotAuthorised, match="first change"):
            put(store, 1)

        assert store.load().epoch == 0


def test_a_change_with_too_few_signatures_is_not_stored(store: StateStore) -> None:
    """Who can give more alone is told what is missing, and nothing is stored."""
    with pytest.raises(ApprovalMissing, match="organisation `org-1` is new"):
        make(store, organisation(1), REGISTRAR)

    assert store.load().epoch == FIRST


def test_a_change_sent_twice_is_stored_once(store: StateStore) -> None:
    """The id of a change is used once, whatever the second one brings."""
    state = store.load()
    proposal = propose(organisation(1), state, change_id="case-7")
    store.append(proposal, state.epoch)

    for again in (proposal, propose(organisation(2), store.load(), change_id="case-7")):
        with pytest.raises(StateConflict, match="`case-7` was used before"):
            store.append(again, FIRST + 1)

    assert store.load().epoch == FIRST + 1


def test_what_was_planned_and_not_touched_since_still_holds(store: StateStore) -> None:
    """Other entries may change between asking and approving; those that are named may not."""
    state = store.load()
    first, second = propose(organisation(1), state), propose(organisation(1, status=Status.SUSPENDED), state)
    put(store, 2)

    assert store.append(first, FIRST + 1) == FIRST + 2
    with pytest.raises(StateConflict, match="`org-1` in organisations changed since"):
        store.append(second, FIRST + 2)


def test_a_trust_document_is_followed_by_who_has_it(place: Place) -> None:
    """Once another document is in force, a process with the old one is told, and one with the new goes on."""
    newer = trust(nodes=(NODE_B,))
    with closing(place.open()) as store, closing(store.follow(store.load())) as follower:
        make(store, newer)

        for use in (store.load, lambda: follower.poll(PATIENCE_S)):
            with pytest.raises(ConfigError, match=f"trust document {newer.digest[:12]} is in force"):
                use()

    with closing(place.open(NODE_B, trust=newer)) as store:
        assert store.load().trust == newer
        assert put(store, 1) == FIRST + 2


def test_what_was_appended_outlives_the_store(place: Place) -> None:
    """A store opened again has the same state and history."""
    with closing(place.open()) as store:
        put(store, 1)
        before = store.load()

    with closing(place.open()) as store:
        assert store.load() == before


@pytest.mark.parametrize("expected", [-1, 0, 1, 3, 99])
def test_a_change_for_another_epoch_changes_nothing(store: StateStore, expected: int) -> None:
    """Meant for an older or a future state, a change is refused with StateConflict."""
    put(store, 1)
    before = store.load()

    with pytest.raises(StateConflict, match="plan it again"):
        store.append(propose(organisation(2), before), expected)

    assert store.load() == before


def test_the_store_refuses_what_contradicts_the_registry(store: StateStore) -> None:
    """References are checked against the state of that very moment, and nothing is stored."""
    lost = DataService("npd", "spiffe://policyd.test/npd", "org-2", "secure", Status.ACTIVE)
    put(store, 1)

    with pytest.raises(RegistryError, match="data service `npd`: organisation: unknown organisation `org-2`"):
        make(store, Registry(data_services={"npd": lost}))

    assert store.load().epoch == FIRST + 1


def test_a_draft_that_could_not_be_read_back_is_refused(store: StateStore) -> None:
    """A hand-made body in another form never gets a number."""
    good = propose(organisation(1), store.load()).draft
    for body in (b"", b"{}", b"[]", good.body + b" ", b'{"organisations":{"org-1":{}}}', b'{"x":{}}'):
        with pytest.raises(ValueError):
            store.append(Proposal(replace(good, body=body)), FIRST)

    assert store.load().epoch == FIRST


def test_without_a_node_key_nothing_is_appended(place: Place) -> None:
    """A process that only reads cannot change the state."""
    with closing(place.open(None)) as store, pytest.raises(ConfigError, match="no node key"):
        put(store, 1)


def test_a_node_that_nobody_trusts_is_told_at_once(place: Place) -> None:
    """A store is not opened for a signer whose changes every load would refuse."""
    with pytest.raises(ConfigError, match="not among the nodes"):
        place.open(STRANGER)


def test_changes_of_every_trusted_node_are_accepted(place: Place) -> None:
    """Two nodes append in turn, and each verifies what the other signed."""
    with closing(place.open(NODE_A)) as first, closing(place.open(NODE_B)) as second:
        put(first, 1)
        put(second, 2)
        put(first, 3)

        assert first.load() == second.load()
        assert first.load().epoch == FIRST + 3


def test_the_same_changes_give_the_same_history_anywhere(tmp_path: Path, empty: Place) -> None:
    """Chain hashes depend on what was said, by whom and in which order, and on nothing else."""
    hashes = []
    for number, order in enumerate([(1, 2), (1, 2), (2, 1)]):
        (tmp_path / str(number)).mkdir()
        with closing(Place(empty.backend, tmp_path / str(number)).open()) as store:
            make(store, TRUST, change_id="the-first")
            for name in order:
                make(store, organisation(name), change_id=f"of-{name}")
            hashes.append(store.load().chain_hash)

    assert hashes[0] == hashes[1] != hashes[2]


# Followers


def test_a_follower_gets_each_change_once_in_order(store: StateStore) -> None:
    """Changes come verified, with the state after them."""
    with closing(store.follow(store.load())) as follower:
        put(store, 1)
        first = follower.poll(PATIENCE_S)
        put(store, 2)
        put(store, 3)
        second = follower.poll(PATIENCE_S)

        assert first is not None
        assert second is not None
        assert [change.epoch for change in first.changes] == [FIRST + 1]
        assert [change.epoch for change in second.changes] == [FIRST + 2, FIRST + 3]
        assert second.state == store.load()
        assert json.loads(second.changes[0].draft.body)["organisations"].keys() == {"org-2"}
        assert follower.poll(0) is None


def test_a_follower_catches_up_from_where_its_state_is(store: StateStore) -> None:
    """What was appended before the follower was made is not lost."""
    state = store.load()
    put(store, 1)

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
    put(store, 1)
    state = store.load()
    other = replace(state, chain_hash=b"\0" * 32)
    ahead = replace(state, epoch=7)

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
        put(writer, 1)

        assert follower.poll(PATIENCE_S) is not None


# Several threads and processes


def test_of_many_threads_with_one_plan_one_wins(store: StateStore) -> None:
    """Eight threads append on one epoch: one change is stored, seven are told to plan again."""
    start = threading.Barrier(8)
    won: list[int] = []
    lost: list[int] = []

    state = store.load()

    def race(number: int) -> None:
        proposal = propose(organisation(number), state)
        start.wait()
        try:
            store.append(proposal, FIRST)
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


def _append_until_told(place: Place, node: Key, count: int, pipe: Connection) -> None:
    """In another process: append `count` changes, each on the newest epoch, telling each outcome."""
    with closing(place.open(node)) as store:
        state = store.load()
        pipe.send("ready")
        pipe.recv()
        for number in range(count):
            while True:
                name = f"{node.name}-{state.epoch}-{number}"
                proposal = propose(organisation(number), state, change_id=name)
                try:
                    epoch = store.append(proposal, state.epoch)
                    state = store.load()
                except StateConflict:
                    pipe.send("lost")
                    state = store.load()
                else:
                    pipe.send(epoch)
                    break
    pipe.close()


def _spawn(place: Place, node: Key, count: int) -> tuple[multiprocessing.process.BaseProcess, Connection]:
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

        assert seen == list(range(FIRST + 1, FIRST + 21))
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
    assert sorted(word for word in said if isinstance(word, int)) == list(range(FIRST + 1, FIRST + 51))
    assert state.epoch == FIRST + 50


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
            put(store, 0)


# Leases


def acknowledgement(node: str, state: State, *, at_boot_ms: int = 1_000) -> Acknowledgement:
    return Acknowledgement(node, state.epoch, state.chain_hash, at_boot_ms, signature=b"\x05" * 64)


def test_an_acknowledgement_of_the_head_is_kept(store: StateStore) -> None:
    """Each node has one, the last, and it comes back as it was given."""
    assert store.renew(acknowledgement("node-a", store.load())).accepted
    put(store, 1)
    state = store.load()

    first = store.renew(acknowledgement("node-a", state, at_boot_ms=2_000))
    second = store.renew(acknowledgement("node-b", state))

    assert (first.accepted, first.epoch, first.chain_hash) == (True, FIRST + 1, state.chain_hash)
    assert second.accepted
    assert store.acknowledgements() == {
        "node-a": acknowledgement("node-a", state, at_boot_ms=2_000),
        "node-b": acknowledgement("node-b", state),
    }


def test_an_acknowledgement_of_anything_but_the_head_is_not_kept(store: StateStore) -> None:
    """Older, newer or of another history: it is refused with the head as it is, and the last one stays."""
    before = store.load()
    store.renew(acknowledgement("node-a", before))
    put(store, 1)
    state = store.load()
    wrong = (
        before,
        State(FIRST + 2, state.chain_hash),
        State(FIRST + 1, b"\0" * 32),
        State(FIRST, state.chain_hash),
    )

    for known in wrong:
        have = store.renew(acknowledgement("node-a", known, at_boot_ms=9_000))

        assert (have.accepted, have.epoch, have.chain_hash) == (False, FIRST + 1, state.chain_hash)
    assert store.acknowledgements() == {"node-a": acknowledgement("node-a", before)}


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
                put(store, number)

    thread = threading.Thread(target=change)
    with closing(place.open(NODE_B)) as store:
        thread.start()
        start.wait()
        while not accepted or accepted[-1] < FIRST + 20:
            state = store.load()
            if store.renew(acknowledgement("node-b", state)).accepted:
                accepted.append(state.epoch)
            assert (
                store.acknowledgements().get("node-b", acknowledgement("node-b", state)).epoch <= FIRST + 20
            )
        thread.join(PATIENCE_S)

        assert accepted == sorted(accepted)
        assert store.acknowledgements()["node-b"] == acknowledgement("node-b", store.load())


def test_a_store_that_stays_what_it_is_says_the_same(place: Place) -> None:
    """Its continuity does not change with changes, nor between two who look."""
    with closing(place.open(NODE_A)) as store, closing(place.open(NODE_B)) as other:
        before = store.continuity()
        put(store, 1)

        assert store.continuity() == before == other.continuity()
        assert before
