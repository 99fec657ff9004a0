"""Finds out when a change holds on every node, and never says so before (docs/seals.md)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from policyd import clock
from policyd.errors import NotServing, StateCorrupt
from policyd.model import Instant
from policyd.registry.change import Change, State
from policyd.registry.lease import Acknowledgement, is_genuine
from policyd.registry.trust import Trust
from policyd.service.lease import DRIFT, OUTLASTED_S, Continuity
from policyd.service.recording import VALID_FOR_MS

STATEMENT_MS = 60_000
"""The longest that a data service may take over one statement (docs/seals.md)."""

ANSWERS_MS = int(VALID_FOR_MS * (1 + DRIFT)) + STATEMENT_MS
"""How long after a change holds for decisions an answer from before it may still be at work."""

_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a change holds: everywhere ``at`` an instant, or not known so of the nodes waited for."""

    at: Instant | None = None
    waiting_for: tuple[str, ...] = ()

    @property
    def for_answers_at(self) -> Instant | None:
        """When no answer from before the change can be used any more."""
        return None if self.at is None else self.at + ANSWERS_MS


class Words(Protocol):
    """What this takes of a state store."""

    def acknowledgements(self) -> Mapping[str, Acknowledgement]:
        """Return the last acknowledgement of each node, by its id."""

    def continuity(self) -> str:
        """Return what stays the same for as long as the store cannot have lost what it accepted."""


class InForce:
    """Waits until a change holds. Safe for many threads.

    ``applied`` gives the state that this node has taken up. ``confirm`` says whether the store has it at this
    moment, by renewing this node's lease. ``one_store`` says that there is only ever one store that could
    give a node its lease: then time is evidence, too.
    """

    def __init__(
        self,
        store: Words,
        trust: Trust,
        *,
        applied: Callable[[], State],
        confirm: Callable[[], bool],
        continuity: Continuity,
        one_store: bool,
    ) -> None:
        self._store = store
        self._trust = trust
        self._applied = applied
        self._confirm = confirm
        self._continuity = continuity
        self._one_store = one_store
        self._pause = threading.Event()

    def wait(self, change: Change, *, there_at_s: float | None, timeout_s: float) -> Reach:
        """Return where a change holds once it holds everywhere, or what is known after ``timeout_s``.

        ``there_at_s`` is an instant of CLOCK_BOOTTIME at which the store had the change, None when none is
        known.
        """
        ends_s = clock.monotonic() + timeout_s
        waiting = frozenset(self._trust.nodes)
        outlasted = _Outlasted(self, there_at_s)
        heads = {(change.epoch, change.chain_hash)}
        while True:
            try:
                waiting -= self._acknowledged(change, heads)
                if not waiting or (self._one_store and outlasted.look(change.epoch)):
                    return Reach(at=clock.now())
            except (NotServing, StateCorrupt):
                pass  # it cannot be asked now, so nothing more is known than before
            left_s = ends_s - clock.monotonic()
            if left_s <= 0:
                return Reach(waiting_for=tuple(sorted(waiting)))
            self._pause.wait(min(_LOOK_S, left_s))

    def _acknowledged(self, change: Change, heads: set[tuple[int, bytes]]) -> frozenset[str]:
        """Return the nodes whose word it is that they decide on the change, or on what came after it."""
        state = self._applied()
        if state.epoch > change.epoch:
            heads.add((state.epoch, state.chain_hash))
        # SECURITY: number and chain hash must be those of this node's own history, or the word of a node on
        # another one would count (test_a_word_about_another_history_counts_for_nothing).
        return frozenset(
            word.node
            for word in self._store.acknowledgements().values()
            if (word.epoch, word.chain_hash) in heads and is_genuine(word, self._trust)
        )


class _Outlasted:
    """Whether every lease on an older state has run out: the store took no renewal of one for that long."""

    def __init__(self, parts: InForce, there_at_s: float | None) -> None:
        self._parts = parts
        self._there_at_s = there_at_s
        self._word, _ = parts._continuity.since  # noqa: SLF001  # the two classes are one

    def look(self, epoch: int) -> bool:
        parts = self._parts
        word, since_s = parts._continuity.since  # noqa: SLF001
        if word != self._word:
            # Another run of the store may have lost the change, and given leases on what was before it.
            self._word, self._there_at_s = word, None
        if self._there_at_s is None:
            if parts._applied().epoch >= epoch and parts._confirm():  # noqa: SLF001
                self._there_at_s = clock.boot_seconds()
            return False
        # INVARIANT: from `since_s` to now it was one run of one store, which has had the change from
        # `there_at_s` on. What it gave leases on before the later of the two is over by the end.
        begin_s = max(self._there_at_s, since_s + OUTLASTED_S)
        return (
            clock.boot_seconds() >= begin_s + OUTLASTED_S and parts._store.continuity() == word  # noqa: SLF001
        )
