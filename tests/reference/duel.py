"""Hold the compiled evaluator and the reference against each other on drawn worlds, question by question."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from policyd.decision.cache import Decider
from policyd.decision.decide import decide
from policyd.decision.snapshot import build_snapshot
from policyd.errors import SourceError
from policyd.model import NO_VISAS, Decision, Registry, Request
from policyd.policy.load import load_policy_set
from policyd.policy.policyset import PolicySet
from reference.evaluator import Answer, evaluate
from reference.source import Source, read_texts
from reference.worlds import DAY, EPOCH, World, draw_world


@dataclass(frozen=True)
class Mismatch:
    """One question on which the two differ, with the world it was asked in."""

    world: World
    request: Request
    now: int
    differences: tuple[str, ...]


@dataclass
class Tally:
    """What was decided: names by verdict and reason, and policy sets by whether the loader took them."""

    verdicts: Counter[str] = field(default_factory=Counter)
    worlds: Counter[str] = field(default_factory=Counter)
    owed: Counter[str] = field(default_factory=Counter)
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def decisions(self) -> int:
        """The number of names decided by both."""
        return sum(self.verdicts.values())

    @property
    def let_go_share(self) -> float:
        """The share of names that were released or transformed."""
        let_go = self.verdicts["release NONE"] + self.verdicts["transform NONE"]
        return let_go / max(1, self.decisions)

    def add(self, other: Tally) -> None:
        """Take over what another counted."""
        self.verdicts += other.verdicts
        self.worlds += other.worlds
        self.owed += other.owed
        self.mismatches += other.mismatches

    def lines(self) -> Iterator[str]:
        """Write the histogram."""
        for name, count in sorted(self.verdicts.items(), key=lambda each: -each[1]):
            yield f"{count:9,}  {100 * count / self.decisions:5.1f} %  {name}"
        share = 100 * self.let_go_share
        yield f"{self.decisions:9,}  names, {share:.1f} % let go; policy sets {dict(self.worlds)}"
        yield f"obligations of answers: {dict(self.owed)}"


def load(files: dict[str, str]) -> PolicySet:
    """Load a policy set from texts.

    Raises:
        SourceError: the loader refuses it.
    """
    with tempfile.TemporaryDirectory(prefix="policyd-reference-") as scratch:
        directory = Path(scratch)
        write_files(directory, files)
        return load_policy_set(directory)


def write_files(directory: Path, files: dict[str, str]) -> None:
    """Write texts below a directory."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def draw_loadable(rng: random.Random, tally: Tally, *, questions: int) -> tuple[World, PolicySet]:
    """Draw worlds until the loader takes one; it refuses transforms that can meet and cannot be combined."""
    while True:
        world = draw_world(rng, questions=questions)
        try:
            policy = load(world.files)
        except SourceError as error:
            if not all("nothing protects as much as both" in each.message for each in error.problems):
                raise
            tally.worlds["refused"] += 1
        else:
            tally.worlds["loaded"] += 1
            return world, policy


def run(seed: int, *, worlds: int, questions: int, tally: Tally) -> None:
    """Ask ``questions`` in each of ``worlds`` drawn from ``seed``, and count what both say."""
    for number in range(worlds):
        rng = random.Random(f"{seed}:{number}")  # noqa: S311  (cases, not secrets)
        world, policy = draw_loadable(rng, tally, questions=questions)
        compare_world(world, policy, tally)


LATER = (-20 * DAY, -DAY, -1, 1, DAY, 20 * DAY)
"""Milliseconds to another instant, at which what is cached may no longer hold."""


def compare_world(world: World, policy: PolicySet, tally: Tally) -> None:
    """Ask both every question of a world; the engine with a cache and without, and at two instants."""
    snapshot = build_snapshot(policy, world.registry, epoch=EPOCH)
    decider = Decider(snapshot)
    source = read_texts(world.files)
    for request, now in world.questions:
        want = evaluate(source, world.registry, request, now, epoch=EPOCH)
        found = _ask_engine(decider, request, now, want)
        if found:
            tally.mismatches.append(Mismatch(replace(world, questions=()), request, now, tuple(found)))
        tally.verdicts.update(f"{each.effect} {each.reason}" for each in want.verdicts.values())
        owed = want.obligations
        tally.owed.update(
            name for name in owed.__dataclass_fields__ if getattr(owed, name) not in (None, False)
        )


def _ask_engine(decider: Decider, request: Request, now: int, want: Answer) -> list[str]:
    other = now + LATER[len(request.claimed.fields) % len(LATER)]
    try:
        have = decider.decide(request, now)
        found = [*differences(have, want)]
        cached: tuple[Decision, ...] = (have, decider.decide(request, other))
        uncached: tuple[Decision, ...] = (
            decide(decider.snapshot, request, now),
            decide(decider.snapshot, request, other),
        )
        token = request.verified.token
        if token is not None and token.visas != NO_VISAS:
            bare = replace(request, verified=replace(request.verified, token=replace(token, visas=NO_VISAS)))
            cached = (*cached, decider.decide(bare, now))
            uncached = (*uncached, decide(decider.snapshot, bare, now))
    except Exception as error:  # noqa: BLE001  (whatever the engine raises is a finding; the search goes on)
        return [f"the engine raised {type(error).__name__}: {error}"]
    if cached != uncached:
        found.append("a cached answer differs from an uncached one")
    return found


def differences(have: Decision, want: Answer) -> Iterator[str]:
    """Yield where the engine differs: verdicts, deciding rules, outcome, obligations."""
    if have.outcome.value != want.outcome:
        yield f"outcome: engine {have.outcome.value}, reference {want.outcome}"
    if have.obligations != want.obligations:
        yield f"obligations: engine {have.obligations}, reference {want.obligations}"
    seen: Counter[str] = Counter()
    for group in have.groups:
        seen.update(group.names)
        engine = (group.effect.value, group.reason, group.transform, group.rule)
        for name in group.names:
            if name not in want.verdicts:
                yield f"{name}: nobody asked for it"
                continue
            verdict = want.verdicts[name]
            reference = (verdict.effect, verdict.reason, verdict.transform, verdict.rule)
            if engine != reference:
                yield f"{name}: engine {_spell(*engine)}, reference {_spell(*reference)}"
    for name in want.verdicts:
        if seen[name] != 1:
            yield f"{name}: stands in {seen[name]} groups"


def _spell(effect: str, reason: str, transform: tuple[object, ...], rule: str) -> str:
    steps = " then ".join(map(str, transform))
    return f"`{effect} {reason} {steps}` by {rule}"


def ask_both(policy: PolicySet, source: Source, registry: Registry, request: Request, now: int) -> list[str]:
    """Return the differences on one question."""
    decider = Decider(build_snapshot(policy, registry, epoch=EPOCH))
    return _ask_engine(decider, request, now, evaluate(source, registry, request, now, epoch=EPOCH))
