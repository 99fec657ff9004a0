"""Hypothesis strategies for the worlds that the seeded runs draw; what fails is made smaller."""

from __future__ import annotations

from hypothesis import strategies as st

from reference.worlds import World, draw_world


def worlds(questions: int) -> st.SearchStrategy[World]:
    """Return a strategy for worlds; every draw is one of Hypothesis's, so that it can shrink."""
    return st.randoms(use_true_random=False).map(lambda rng: draw_world(rng, questions=questions))
