"""A change of state costs what it changes, however large the registry is: counted, not timed."""

from __future__ import annotations

import importlib
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest
from support.administration import NODE_A, TRUST, make, propose

from policyd.model import Registry, Seal, Status
from policyd.persistent import PersistentMap, TokenSet
from policyd.policy.load import load_policy_set
from policyd.policy.policyset import PolicySet
from policyd.registry.change import State
from policyd.registry.document import read_registry
from policyd.registry.seals import SealMap
from policyd.registry.store import EmbeddedFollower, EmbeddedStore
from policyd.service.node import Current
from policyd.service.seal_service import _changes
from policyd.state import current_of

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "policies" / "npd"
LARGE = {"requesters": 5_000, "agreements": 500, "seals": 50_000, "organisations": 100}
SMALLER_BY = 10
FEW = 20
"""Data services are programs, not people: their number does not grow with the country."""
SEED = 20261124


@pytest.fixture(scope="module")
def made() -> Iterator[ModuleType]:
    """The maker of registries, which belongs to the bench."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "bench"))
        yield importlib.import_module("national.made")


@pytest.fixture(scope="module")
def policy() -> PolicySet:
    return load_policy_set(POLICY)


@dataclass
class Place:
    """A store with a registry in it, and what a node has of it: a follower and a snapshot."""

    store: EmbeddedStore
    follower: EmbeddedFollower
    policy: PolicySet
    state: State
    current: Current

    def change(self, changes: Registry) -> Current:
        """Make one change, and take it up as a node does."""
        self.store.append(propose(changes, self.state), self.state.epoch)
        update = self.follower.poll(20.0)
        assert update is not None
        self.state = update.state
        before, self.current = self.current, current_of(self.policy, self.state, before=self.current)
        for service, tokens in self.current.seals.items():
            list(_changes(self.state.epoch, *tokens.since(before.seals.get(service, TokenSet()))))
        return self.current


@contextmanager
def place_of(directory: Path, size: Any, made: ModuleType, policy: PolicySet) -> Iterator[Place]:
    directory.mkdir()
    models = made.models_of(
        read_registry(POLICY / "tests" / "registry.yaml"), agreement="DS00101", fields=policy.index.ids
    )
    with EmbeddedStore(directory / "state.db", trust=TRUST, signer=NODE_A) as store:
        for content in (TRUST, *(part for _, part in made.parts(size, models, seed=SEED))):
            make(store, content)
        # Anew, as a start would, for the chain to be verified whole.
        state = store.load()
        with store.follow(state) as follower:
            follower.poll(0.0)
            yield Place(store, follower, policy, state, current_of(policy, state))


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, made: ModuleType, policy: PolicySet
) -> Iterator[tuple[Place, Place]]:
    """One place with a registry, and one with a tenth of it."""
    print(f"seed {SEED}")
    directory, large = tmp_path_factory.mktemp("scale"), made.Size(**LARGE)
    with (
        place_of(directory / "large", large, made, policy) as first,
        place_of(directory / "small", large.divided(SMALLER_BY), made, policy) as second,
    ):
        yield first, second


def work_of(job: Callable[[], object]) -> tuple[int, int]:
    """Return how many Python functions were called, and how many bytes were held at the most at once."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    tracemalloc.start()
    tracemalloc.reset_peak()
    begun = tracemalloc.get_traced_memory()[0]
    sys.setprofile(count)
    try:
        job()
    finally:
        sys.setprofile(None)
        peak = tracemalloc.get_traced_memory()[1] - begun
        tracemalloc.stop()
    return calls, peak


def only_if_small(kind: type[Any]) -> Callable[[Any], Iterator[Any]]:
    """Return the iteration of ``kind``, refused for what grows with the registry."""
    iterate = kind.__iter__

    def guarded(self: Any) -> Iterator[Any]:
        assert len(self) <= FEW, "all of a section was gone through for one change"
        return iterate(self)

    return guarded


def changes_of(place: Place, made: ModuleType) -> dict[str, Registry]:
    """Return one small change of each kind, of entries that both places have."""
    registry = place.state.registry
    new: Seal = made.seal(10_000_000, 2)
    agreement, requester = registry.agreements["DS000001"], registry.requesters["researcher-1"]
    service, record = registry.data_services["npd-1"], registry.accreditations["ACC-1"]
    return {
        "a seal": Registry(seals={new.id: new}),
        "an agreement": Registry(agreements={agreement.id: replace(agreement, status=Status.SUSPENDED)}),
        "a requester": Registry(requesters={requester.id: replace(requester, status=Status.SUSPENDED)}),
        "an accreditation": Registry(accreditations={record.id: replace(record, status=Status.SUSPENDED)}),
        "a data service": Registry(data_services={service.id: replace(service, status=Status.SUSPENDED)}),
    }


def test_a_change_costs_the_same_in_a_registry_ten_times_as_large(
    places: tuple[Place, Place], made: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admitted, followed, verified, compiled and told: the calls and the bytes do not grow with the rest."""
    large, small = places
    for place in places:
        # Who follows looks again at the last change it has, and that is still one of thousands of seals.
        place.change(Registry(seals={each.id: each for each in [made.seal(20_000_000, 2)]}))
    for kind in (PersistentMap, SealMap, TokenSet):
        monkeypatch.setattr(kind, "__iter__", only_if_small(kind))
    for what, in_small in changes_of(small, made).items():
        in_large = changes_of(large, made)[what]
        few, little = work_of(lambda change=in_small: small.change(change))  # type: ignore[misc]
        many, much = work_of(lambda change=in_large: large.change(change))  # type: ignore[misc]

        assert many < few * 1.2 + 50, f"{what}: {many} calls, {few} in the small registry"
        assert much < little * 1.2 + 100_000, f"{what}: {much} bytes, {little} in the small registry"


def test_what_is_followed_is_what_a_fresh_start_reads(places: tuple[Place, Place], policy: PolicySet) -> None:
    """After those changes the node's own state equals that of a node which begins now, in every part."""
    for place in places:
        state = place.store.load()
        fresh = current_of(policy, state)
        assert place.state == state
        assert place.current.decider.snapshot == fresh.decider.snapshot
        assert place.current.seals == fresh.seals


def test_seals_take_less_than_a_hundred_bytes_a_token(made: ModuleType) -> None:
    """A million seals of two tokens fit beside everything else a node holds."""
    seals = {f"SEAL-{number:07d}": made.seal(number, 2) for number in range(LARGE["seals"])}
    tracemalloc.start()
    try:
        kept = SealMap(seals)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert len(kept) == LARGE["seals"]
    assert held / (2 * LARGE["seals"]) < 100
