"""Seals records under load while nodes and connections fail, by a schedule that comes of one seed."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fleet.harness import Fleet, FleetNode, Skew
from fleet.history import History, now
from fleet.load import Load
from fleet.sealing import Sealing

MOST_RUNS = 250
"""Runs of one fleet; more are made on a new one, with other clocks."""

_LONGEST_HOLD_S = 8.0
_SEAL_S = 60.0
_SPARE_PUPILS = 50
_STORE_FAULT = 0.15
"""In how many of the runs the store breaks, where it can."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one fleet went through, and the history that it left."""

    history: History
    runs: int
    faults: Counter[str]


@dataclass(frozen=True, slots=True)
class Store:
    """A state that is not a file: where it is, how the registry gets there, and what can be done to it.

    ``prepare`` is called before the nodes start. Each of ``faults`` breaks the store and returns what makes
    it whole; nodes are expected to go on by themselves after it.
    """

    url: str
    prepare: Callable[[Fleet], None]
    faults: tuple[Callable[[random.Random], Callable[[], None]], ...] = ()


def campaign(
    directory: Path,
    sealing: Sealing,
    *,
    seed: int,
    runs: int,
    seconds: float,
    nodes: int = 3,
    store: Store | None = None,
) -> Outcome:
    """Run one fleet for up to ``runs`` seals or ``seconds``, whichever ends first, and return its history.

    Without ``store`` the nodes share a `state.db`. The last seals are given time to come into force under
    load, beyond ``seconds``.

    Raises:
        AssertionError: a data service failed, a client got no rows once all was healed, or a ledger does
            not verify.
    """
    chance = random.Random(seed)  # noqa: S311  # the seed is printed by whoever calls
    history = History()
    runs = min(runs, MOST_RUNS)
    skews = [_skew(chance) for _ in range(nodes)]
    faults: Counter[str] = Counter()
    done = 0
    url = None if store is None else store.url
    with Fleet(directory, history=history, nodes=nodes, skews=skews, state_url=url) as fleet:
        if store is not None:
            store.prepare(fleet)
        fleet.start()
        load = Load(fleet, directory, pupils=runs + _SPARE_PUPILS, seed=seed)
        with load, ThreadPoolExecutor(1) as sealer:
            until = now() + seconds
            while done < runs and now() < until and not load.problems:
                record = load.records[done]
                parts: dict[str, Any] = {
                    "name": f"SEAL-{done}",
                    "record": record,
                    "tokens": load.tokens(record),
                }
                faults += _run(chance, fleet, store, partial(sealer.submit, sealing.seal, fleet, **parts))
                done += 1
            load.expect_releases()
            _pause(sealing.tail_s)
            load.expect_releases()
        fleet.settle()
    return Outcome(history, done, faults)


def _run(
    chance: random.Random, fleet: Fleet, store: Store | None, seal: Callable[[], Future[None]]
) -> Counter[str]:
    """Break something, seal one record, and make whole what was broken, in an order left to chance."""
    broken: list[tuple[str, Callable[[], Callable[[], None]]]] = []
    for node in chance.sample(fleet.nodes, chance.choices((0, 1, 2), (15, 60, 25))[0]):
        fault = chance.choices(*(_FAULTS_WITH_STORE if node.state is not None else _FAULTS))[0]
        broken.append((fault.__name__.strip("_"), partial(fault, chance, node)))
    if store is not None and store.faults and chance.random() < _STORE_FAULT:
        shared = chance.choice(store.faults)
        broken.append((f"store {shared.__name__.strip('_')}", partial(shared, chance)))
    undo = []
    for _, start in broken:
        undo.append(start())
        _pause(chance.uniform(0.0, 0.1))
    sealing = seal()
    # Half the time whatever is broken stays so until the seal has returned, and heals at that very moment.
    hold_s = _LONGEST_HOLD_S if chance.random() < 0.5 else chance.uniform(0.0, 1.5)
    wait([sealing], timeout=hold_s)
    if chance.random() < 0.05:
        _pause(chance.uniform(5.0, 7.0))  # longer than any node may go on without the state
    # The store first: a node that was killed cannot be started without it.
    first = [undo.pop()] if any(name.startswith("store ") for name, _ in broken) else []
    chance.shuffle(undo)
    for each in [*first, *undo]:
        each()
    sealing.result(timeout=_SEAL_S)
    _pause(chance.uniform(0.0, 0.3))
    return Counter(name for name, _ in broken) or Counter(["none"])


def _skew(chance: random.Random) -> Skew:
    """Return clocks as they may be in a fleet: within what the nodes are to bear."""
    if chance.random() < 0.25:
        return Skew()
    return Skew(
        wall_ms=chance.randint(-900, 900),
        boot_s=chance.uniform(-5000.0, 5000.0),
        pace=chance.uniform(0.9995, 1.0005),
    )


def _paused(_: random.Random, node: FleetNode) -> Callable[[], None]:
    node.pause()
    return node.resume


def _killed(_: random.Random, node: FleetNode) -> Callable[[], None]:
    node.kill()
    return node.start


def _delayed(chance: random.Random, node: FleetNode) -> Callable[[], None]:
    node.proxy.delay(chance.uniform(0.005, 0.3))
    node.note("delayed")
    return node.heal


def _frozen(_: random.Random, node: FleetNode) -> Callable[[], None]:
    node.proxy.freeze()
    node.note("frozen")
    return node.heal


def _reset(_: random.Random, node: FleetNode) -> Callable[[], None]:
    node.proxy.reset()
    node.note("reset")
    return node.heal


def _refusing(_: random.Random, node: FleetNode) -> Callable[[], None]:
    node.proxy.refuse()
    node.note("refusing")
    return node.heal


def _cut_from_state(chance: random.Random, node: FleetNode) -> Callable[[], None]:
    """Half-open, refused or slow, as chance has it."""
    assert node.state is not None
    match chance.randrange(3):
        case 0:
            node.state.freeze()
        case 1:
            node.state.refuse()
        case _:
            node.state.delay(chance.uniform(0.01, 2.0))
    node.note("cut from the state")
    return node.heal


_Fault = Callable[[random.Random, FleetNode], Callable[[], None]]
_FAULTS: tuple[tuple[_Fault, ...], tuple[int, ...]] = (
    (_paused, _killed, _delayed, _frozen, _reset, _refusing),
    (40, 5, 20, 12, 12, 11),
)
"""What can be done to any node, and how often."""
_FAULTS_WITH_STORE = ((*_FAULTS[0], _cut_from_state), (*_FAULTS[1], 25))


def _pause(seconds: float) -> None:
    """Let the load run; nothing in particular is waited for."""
    threading.Event().wait(seconds)
