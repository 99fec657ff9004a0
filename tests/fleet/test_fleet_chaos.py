"""Nodes and connections fail under load while records are sealed, and the history is judged."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fleet.chaos import campaign
from fleet.history import Asked, Event, Node, Recorded, Released, SealAsked, SealReturned, now
from fleet.judge import Fault, Verdict, judge
from fleet.sealing import Sealed, Sealing, as_if_in_force

RUNS = int(os.environ.get("POLICYD_CHAOS_RUNS", "12"))
SECONDS = float(os.environ.get("POLICYD_CHAOS_SECONDS", "15"))
"""`make chaos` sets both: so many seals, and no more seconds; `make test` takes a few of each."""
SEED = int(os.environ.get("POLICYD_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))

SEALING: Sealing = Sealed()


def test_a_seal_in_force_holds_on_every_node(tmp_path: Path) -> None:
    """No row of a sealed record leaves, and no node decides below the seal, once it is in force."""
    chance = random.Random(SEED)  # noqa: S311  # printed
    print(
        f"\nchaos: seed {SEED}, up to {RUNS} runs in {SECONDS:.0f} s (POLICYD_CHAOS_SEED={SEED} repeats it)"
    )
    until, done, number = now() + SECONDS, 0, 0
    while not number or (done < RUNS and now() < until):
        number += 1
        seed = chance.randrange(1 << 32)
        with tempfile.TemporaryDirectory(dir=tmp_path) as scratch:
            outcome = campaign(
                Path(scratch), SEALING, seed=seed, runs=RUNS - done, seconds=max(1.0, until - now())
            )
        done += outcome.runs
        events = outcome.history.events
        verdict = judge(events)
        print(f"fleet {number}, seed {seed}: {outcome.runs} runs, {dict(outcome.faults)}\n  {verdict}")
        print(f"  {gap(judge(as_if_in_force(events)))}")
        kept = tmp_path / f"history-{seed}.jsonl"
        if verdict.faults:
            outcome.history.save(kept)
        shown = "\n".join(map(str, verdict.faults[:5]))
        assert not verdict.faults, f"{len(verdict.faults)} faults, the whole history in {kept}\n{shown}"
        assert verdict.counts["seals in_force"]
        assert_not_blind(events)
    assert done


def assert_not_blind(events: Sequence[Event]) -> None:
    """Every record that was sealed is one that leaves when it is not, and every node was asked."""
    released = frozenset[str]().union(*{event.records for event in events if isinstance(event, Released)})
    sealed = {event.record for event in events if isinstance(event, SealAsked)}
    assert sealed <= released, "records were sealed that no query would have released"
    nodes = {event.node for event in events if isinstance(event, Recorded)}
    assert nodes == {event.node for event in events if isinstance(event, Node)}


def gap(verdict: Verdict) -> str:
    """Say what would have been wrong had every seal been in force as soon as it was stored."""
    late = [late_s(fault) for fault in verdict.of("decision")]
    rows = len(verdict.of("row"))
    if not late:
        return "had each seal held as soon as it was stored: nothing would have been late"
    return (
        f"had each seal held as soon as it was stored: {len(late)} decisions below it, the last of them "
        f"asked {max(late) * 1000:.0f} ms after, and {rows} sealed records in rows that left"
    )


def late_s(fault: Fault) -> float:
    """Return how long after the seal the question of a fault was asked."""

    def at(kind: type[Event]) -> float:
        return next(event.at for event in fault.events if isinstance(event, kind))

    return at(Asked) - at(SealReturned)
