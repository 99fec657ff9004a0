"""Errors say where they are, sort, and never name a mistake twice."""

from __future__ import annotations

from policyd.errors import Place, PolicydError, Problem, SourceError, TokenError


def test_a_source_error_lists_every_mistake_once_in_order() -> None:
    """By file, line and column; the same mistake found twice is one."""
    second = Problem(Place("b.yaml", 2, 9), "is wrong")
    first = Problem(Place("b.yaml", 2, 1), "is wrong too")
    other = Problem(Place("a.yaml", 30), "lies elsewhere")

    error = SourceError([second, first, other, second])

    assert error.problems == (other, first, second)
    assert str(error).splitlines() == [
        "a.yaml:30:1: lies elsewhere",
        "b.yaml:2:1: is wrong too",
        "b.yaml:2:9: is wrong",
    ]


def test_a_token_error_holds_its_word_and_nothing_else() -> None:
    """The text is fit for a log: the code is one of a closed list."""
    error = TokenError("expired")

    assert (error.code, str(error)) == ("expired", "requester token refused: expired")
    assert isinstance(error, PolicydError)
