"""When a change is said to hold: on the word of every node, or on time that no lease outlasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from support.administration import NODE_A, NODE_B, STRANGER, TRUST, Key, propose

from policyd import clock
from policyd.errors import NotServing
from policyd.model import Organisation, Registry
from policyd.registry.change import Change, State, admit
from policyd.registry.lease import Acknowledgement, acknowledge
from policyd.service import in_force
from policyd.service.in_force import ANSWERS_MS, InForce
from policyd.service.lease import OUTLASTED_S, Continuity

STEP_S = 0.25
"""By how much the clock goes on each time the store is looked at."""


@dataclass
class World:
    """A store, the clock, and the node that asks."""

    change: Change
    state: State
    now_s: float = 1000.0
    word: str = "one"
    words: dict[str, Acknowledgement] = field(default_factory=dict)
    later: dict[float, Callable[[], None]] = field(default_factory=dict)
    """What happens at instants to come."""
    confirmed: int = 0
    lost: bool = False
    continuity_seen: Continuity = field(default_factory=Continuity)
    one_store: bool = True

    def acknowledgements(self) -> Mapping[str, Acknowledgement]:
        self.now_s += STEP_S
        for at in sorted(at for at in self.later if at <= self.now_s):
            self.later.pop(at)()
        if self.lost:
            raise NotServing("for the test")
        return dict(self.words)

    def continuity(self) -> str:
        return self.word

    def confirm(self) -> bool:
        self.confirmed += 1
        return not self.lost

    def says(self, node: Key, change: Change, *, name: str = "", signer: Key | None = None) -> None:
        """Have a node acknowledge a change."""
        word = acknowledge(
            name or node.name,
            epoch=change.epoch,
            chain_hash=change.chain_hash,
            at_boot_ms=1,
            signer=signer or node,
        )
        self.words[node.name] = word

    def restart(self, word: str) -> None:
        self.word = word
        self.continuity_seen.saw(word)

    def wait(
        self, *, there_at_s: float | None = 1000.0, timeout_s: float = 30.0
    ) -> tuple[bool, tuple[str, ...]]:
        parts = InForce(
            self,
            TRUST,
            applied=lambda: self.state,
            confirm=self.confirm,
            continuity=self.continuity_seen,
            one_store=self.one_store,
        )
        reach = parts.wait(self.change, there_at_s=there_at_s, timeout_s=timeout_s)
        assert (reach.at is None) == (reach.for_answers_at is None)
        return reach.at is not None, reach.waiting_for


def following(state: State, name: str) -> tuple[Change, State]:
    """Return a change of organisation `name` after `state`, and the state after it."""
    entry = Organisation(name, "school", commercial=False, status="active", legal_name=name, verified_at=0)  # type: ignore[arg-type]
    change = admit(
        propose(Registry(organisations={name: entry}), state, change_id=name),
        state=state,
        node=NODE_A.name,
        signer=NODE_A,
    )
    return change, replace(state, epoch=change.epoch, chain_hash=change.chain_hash)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    change, after = following(State(epoch=6), "org-1")
    made = World(change, after)
    made.continuity_seen = Continuity()
    monkeypatch.setattr(in_force, "_LOOK_S", 0.0)
    monkeypatch.setattr(clock, "boot_seconds", lambda: made.now_s)
    monkeypatch.setattr(clock, "monotonic", lambda: made.now_s)
    made.now_s = 900.0
    made.continuity_seen.saw("one")
    made.now_s = 1000.0
    return made


def test_the_word_of_every_node_is_enough(world: World) -> None:
    """Nobody waits for time to pass when all have said that they have it."""
    world.says(NODE_A, world.change)
    world.says(NODE_B, world.change)
    assert world.wait() == (True, ())
    assert world.now_s == 1000.0 + STEP_S


def test_a_word_about_what_came_after_counts(world: World) -> None:
    """A node that is further than the change has the change."""
    later, world.state = following(world.state, "org-2")
    world.says(NODE_A, later)
    world.says(NODE_B, world.change)
    assert world.wait() == (True, ())
    assert world.now_s == 1000.0 + STEP_S


def test_a_word_once_heard_stays(world: World) -> None:
    """Nodes go on to changes that this one has not taken up; what they said before holds."""
    later, _ = following(world.state, "org-2")
    world.says(NODE_A, world.change)
    world.later[1000.6] = lambda: (world.says(NODE_A, later), world.says(NODE_B, world.change))[0]
    assert world.wait() == (True, ())
    assert world.now_s < 1000.0 + OUTLASTED_S


@pytest.mark.parametrize("node", [NODE_A, NODE_B], ids=str)
def test_time_stands_in_for_a_node_that_is_silent(world: World, node: Key) -> None:
    """Once no lease can run on, nobody decides without the change; and not a moment earlier."""
    world.says(node, world.change)
    assert world.wait() == (True, ())
    assert 1000.0 + OUTLASTED_S <= world.now_s < 1000.0 + OUTLASTED_S + 2 * STEP_S


def test_before_that_it_is_pending_and_names_the_nodes(world: World) -> None:
    """A caller who cannot wait is told for whom."""
    world.says(NODE_B, world.change)
    assert world.wait(timeout_s=OUTLASTED_S - STEP_S) == (False, (NODE_A.name,))


def test_where_there_may_be_two_stores_time_is_no_evidence(world: World) -> None:
    """A deposed primary may go on giving leases, so only words count."""
    world.one_store = False
    world.says(NODE_A, world.change)
    assert world.wait(timeout_s=60.0) == (False, (NODE_B.name,))


def test_a_word_about_another_history_counts_for_nothing(world: World) -> None:
    """A change of the same number that is not this one, or a later one this node does not know."""
    world.one_store = False
    other, after = following(State(epoch=6, chain_hash=bytes(32)), "org-1")
    beyond, _ = following(after, "org-2")
    for change in (other, beyond):
        world.says(NODE_A, change)
        world.says(NODE_B, world.change)
        assert world.wait(timeout_s=3.0) == (False, (NODE_A.name,))


def test_a_word_about_what_was_before_counts_for_nothing(world: World) -> None:
    """The last word of a node that has not moved is about an older change."""
    world.one_store = False
    before, _ = following(State(epoch=5), "org-0")
    world.says(NODE_A, before)
    world.says(NODE_B, world.change)
    assert world.wait(timeout_s=3.0) == (False, (NODE_A.name,))


def test_a_forged_word_counts_for_nothing(world: World) -> None:
    """Who can write to the store cannot speak for a node, nor make one up."""
    world.one_store = False
    world.says(NODE_B, world.change)
    for signer, name in ((STRANGER, NODE_A.name), (NODE_B, NODE_A.name), (STRANGER, STRANGER.name)):
        world.says(NODE_A, world.change, signer=signer, name=name)
        assert world.wait(timeout_s=2.0) == (False, (NODE_A.name,))


def test_a_store_that_was_another_lately_has_to_be_the_same_for_longer(world: World) -> None:
    """The one before may have given leases that run on: they have to be outlasted first."""
    world.now_s = 999.0
    world.restart("two")
    world.now_s = 1000.0
    assert world.wait() == (True, ())
    assert 999.0 + 2 * OUTLASTED_S <= world.now_s < 999.0 + 2 * OUTLASTED_S + 2 * STEP_S


def test_a_store_that_becomes_another_meanwhile_begins_the_wait_anew(world: World) -> None:
    """It may have lost the change: this node has to find it there first, and wait again."""
    world.later[1001.0] = lambda: world.restart("two")
    assert world.wait() == (True, ())
    assert world.confirmed
    assert world.now_s >= 1001.0 + 2 * OUTLASTED_S


def test_a_store_that_is_another_at_the_last_moment_is_noticed(world: World) -> None:
    """It is asked itself before anything is said; the node's own look at it may be a while ago."""
    world.later[1000.5] = lambda: setattr(world, "word", "two")
    assert world.wait(timeout_s=10.0) == (False, (NODE_A.name, NODE_B.name))


def test_a_store_that_has_lost_the_change_is_never_enough(world: World) -> None:
    """Without the change in the store, any node may be given a lease on what was before it."""

    def lose() -> None:
        world.restart("two")
        world.state = State(epoch=6)

    world.later[1001.0] = lose
    assert world.wait(timeout_s=60.0) == (False, (NODE_A.name, NODE_B.name))
    assert not world.confirmed


def test_a_change_of_unknown_age_is_first_found_in_the_store(world: World) -> None:
    """When somebody asks again, the wait begins where the store is known to have it."""
    assert world.wait(there_at_s=None) == (True, ())
    assert world.confirmed == 1
    assert world.now_s >= 1000.0 + OUTLASTED_S


def test_a_store_that_cannot_be_asked_tells_nothing(world: World) -> None:
    """Neither words nor time count then; afterwards it goes on."""
    world.lost = True
    assert world.wait(timeout_s=60.0) == (False, (NODE_A.name, NODE_B.name))


def test_answers_outlive_the_decision_by_their_life_and_a_statement(world: World) -> None:
    """An answer from before is good for a minute, and its statement may take another."""
    assert ANSWERS_MS >= 60_000 + 60_000
    world.says(NODE_A, world.change)
    world.says(NODE_B, world.change)
    reach = InForce(
        world,
        TRUST,
        applied=lambda: world.state,
        confirm=world.confirm,
        continuity=world.continuity_seen,
        one_store=True,
    ).wait(world.change, there_at_s=None, timeout_s=1.0)
    assert reach.at is not None
    assert reach.for_answers_at == reach.at + ANSWERS_MS
