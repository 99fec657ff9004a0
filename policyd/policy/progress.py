"""Progress of long work: told to a function that the caller gives, never printed from here."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Takes what is being done, how many are done, and of how many; the last call of a step has all done."""


def silent(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""
