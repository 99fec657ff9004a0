"""What long work says on standard error while it goes on."""

from __future__ import annotations

import io
import sys

import pytest

from policyd import clock
from policyd.cli.progress import progress_on_stderr


class Terminal(io.StringIO):
    """A standard error that says it is a terminal, or not."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def told(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, step_s: float) -> str:
    """Return what is written of six rules, the clock going ``step_s`` further with each look at it."""
    stream = Terminal(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    times = iter(number * step_s for number in range(100))
    monkeypatch.setattr(clock, "monotonic", lambda: next(times))
    tell = progress_on_stderr()
    for done in range(1000, 7000, 1000):
        tell("compiling rules", done, 6000)
    return stream.getvalue()


def test_work_that_is_soon_done_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small policy set loads without a word, on a terminal and elsewhere."""
    assert told(monkeypatch, is_terminal=True, step_s=0.01) == ""
    assert told(monkeypatch, is_terminal=False, step_s=0.15) == ""


def test_a_log_gets_a_line_after_a_second_and_then_each_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole lines, for nothing can be taken back from a file."""
    assert told(monkeypatch, is_terminal=False, step_s=1.0) == (
        "compiling rules: 1,000 of 6,000\ncompiling rules: 3,000 of 6,000\ncompiling rules: 5,000 of 6,000\n"
    )


def test_a_terminal_gets_one_line_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is written over, and cleared when the step is done."""
    text = told(monkeypatch, is_terminal=True, step_s=0.15)

    assert text.split("\r\x1b[K") == [
        "",
        "compiling rules: 2,000 of 6,000",
        "compiling rules: 4,000 of 6,000",
        "",
    ]
