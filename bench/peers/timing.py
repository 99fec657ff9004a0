"""Time systems side by side: interleaved runs, warm-up, no garbage collection while the clock runs.

Clocks count the processor time of this thread: other programs of the machine then cost no run its sense.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from time import thread_time

from peers.workload import Question, System

SAMPLE_S = 0.02
"""A run repeats its questions until it has taken at least this long."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Microseconds a question over all runs."""

    median_us: float
    min_us: float
    max_us: float

    @property
    def around(self) -> str:
        """How far runs lay from the median, as a part of it."""
        return f"{self.min_us / self.median_us:.2f}..{self.max_us / self.median_us:.2f}"


def once_us(system: System, questions: Sequence[Question]) -> float:
    """Return the microseconds a question of one pass over fresh ``questions``.

    A system that has a method ``renew`` says itself what fresh is.
    """
    renew = getattr(system, "renew", Question.fresh)
    fresh = [renew(question) for question in questions]
    gc.collect()
    gc.disable()
    try:
        begun_s = thread_time()
        for question in fresh:
            system.answer(question)
        return (thread_time() - begun_s) / len(fresh) * 1e6
    finally:
        gc.enable()


def measure(systems: Sequence[System], questions: Sequence[Question], *, runs: int) -> dict[str, Spread]:
    """Time every system on the same questions; each run visits all, starting with another one."""
    passes = {}
    for system in systems:
        once_us(system, questions)
        one_s = once_us(system, questions) * len(questions) / 1e6
        passes[system.name] = max(1, min(200, round(SAMPLE_S / one_s)))
    found: dict[str, list[float]] = {system.name: [] for system in systems}
    for run in range(runs):
        turn = run % len(systems)
        for system in (*systems[turn:], *systems[:turn]):
            found[system.name].append(once_us(system, list(questions) * passes[system.name]))
    return {
        name: Spread(statistics.median(several), min(several), max(several))
        for name, several in found.items()
    }
