"""Progress on standard error: one line that changes on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys

import click

from policyd import clock
from policyd.policy.progress import Progress

_TERMINAL_S = 0.2
_ELSEWHERE_S = 2.0
_ELSEWHERE_FIRST_S = 1.0
_CLEAR = "\r\x1b[K"


def progress_on_stderr() -> Progress:
    """Return a function that tells, such as `compiling rules: 4,000 of 10,000`, at most each 0.2 s or 2 s.

    Work that takes less than 0.2 s says nothing on a terminal, and elsewhere none that takes less than 1 s.
    On a terminal nothing is left of it at the end.
    """
    terminal = sys.stderr.isatty()
    every_s = _TERMINAL_S if terminal else _ELSEWHERE_FIRST_S
    told_s = clock.monotonic()
    shown = False

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told_s, shown, every_s
        now_s = clock.monotonic()
        if now_s - told_s >= every_s and done < total:
            told_s, shown = now_s, True
            every_s = _TERMINAL_S if terminal else _ELSEWHERE_S
            text = f"{what}: {done:,} of {total:,}"
            click.echo(f"{_CLEAR}{text}" if terminal else text, err=True, nl=not terminal)
        elif terminal and shown and done == total:
            shown = False
            click.echo(_CLEAR, err=True, nl=False)

    return tell
