"""Hold each log to what it has shown before: checkpoints have to be consistent, or the log is not trusted."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Condition, Lock, Thread

from policyd_client._clock import Clock
from policyd_client.errors import NoDecision
from policyd_client.expect import Unexpected
from policyd_client.journal import Journal
from policyd_client.model import Receipt
from policyd_client.note import Checkpoint, Pin
from policyd_client.tree import holds_consistency

PROVE_EVERY_S = 5.0
"""How long after a new checkpoint, at most, its consistency is asked for."""
PROVED_WITHIN_S = 10.0
"""How long, plus one deadline, decisions are used while no proof can be had."""
SAMPLE = 16
"""Checkpoints between the newest and the last proved one that are proved as well, drawn at random."""
_ROOTS = 16_384
_AGAIN_S = 1.0
_LOG = logging.getLogger("policyd_client")

FetchProof = Callable[[str, int, int], Sequence[bytes]]
"""Asks for a consistency proof: origin, smaller size, larger size. Raises NoDecision when none comes."""


@dataclass(slots=True)
class _Log:
    """What is known of one log. ``confirmed``: proved since this client started."""

    proved: Checkpoint | None = None
    confirmed: bool = True
    unproved: dict[int, Checkpoint] = field(default_factory=dict)
    since_s: float = 0.0
    again_at_s: float = 0.0
    problem: str = ""
    fork: str = ""
    roots: dict[int, Checkpoint] = field(default_factory=dict)
    proving: Lock = field(default_factory=Lock)


class Witnessing:
    """The client's memory of logs, and the thread that has them proved. Safe to use from many threads."""

    def __init__(
        self,
        pins: Mapping[str, Pin],
        *,
        journal: Journal,
        fetch: FetchProof,
        deadline_s: float,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._fetch = fetch
        self._allowed_s = PROVED_WITHIN_S + deadline_s
        self._clock = clock
        self._changed = Condition()
        self._closed = False
        self._logs = {origin: self._recall(origin) for origin in pins}
        self._thread = Thread(target=self._run, name="policyd-witness", daemon=True)
        self._thread.start()

    def saw(self, receipt: Receipt, decision_id: str) -> None:
        """Take in a receipt whose proof holds.

        Raises:
            Unexpected: its log is not trusted, because of this checkpoint or since an earlier time; or it
                cannot be written down.
        """
        checkpoint = receipt.checkpoint
        with self._changed:
            log = self._logs[checkpoint.origin]
            if log.fork:
                raise Unexpected(log.fork)
            try:
                self._journal.saw(
                    checkpoint, index=receipt.index, leaf_hash=receipt.leaf_hash, decision_id=decision_id
                )
            except OSError as error:
                raise Unexpected(str(error)) from None
            known = log.roots.setdefault(checkpoint.size, checkpoint)
            if log.proved is not None and log.proved.size == checkpoint.size:
                known = log.proved
            if known.root != checkpoint.root:
                raise Unexpected(self._fork(log, known, checkpoint, "signed two roots of one size"))
            if len(log.roots) > _ROOTS:
                log.roots.pop(next(iter(log.roots)))
            if log.proved is None:
                self._set_proved(log, checkpoint)
            elif checkpoint.size != log.proved.size and checkpoint.size not in log.unproved:
                if not log.unproved:
                    log.since_s = self._clock()
                    log.again_at_s = log.since_s + PROVE_EVERY_S
                    self._changed.notify_all()
                log.unproved[checkpoint.size] = checkpoint
                if len(log.unproved) > _ROOTS:
                    log.unproved.pop(next(iter(log.unproved)))
            elif checkpoint.size == log.proved.size and not log.unproved:
                log.confirmed = True

    def confirm(self, origin: str) -> None:
        """Have the log proved now if it was not since this client started; block for that.

        Raises:
            Unexpected: no proof came, or it does not hold.
        """
        log = self._logs[origin]
        if log.confirmed and not log.fork:
            return
        self._prove(origin, log)
        if not log.confirmed or log.fork:
            why = log.fork or f"log `{origin}` is not yet proved to be the one of before: {log.problem}"
            raise Unexpected(why)

    def trouble(self, origin: str) -> str:
        """Return why nothing may be released on the word of this log; empty while it is trusted."""
        with self._changed:
            log = self._logs[origin]
            if log.fork:
                return log.fork
            late_s = self._clock() - log.since_s
            if log.unproved and late_s > self._allowed_s:
                return (
                    f"log `{origin}` was not proved to have only grown for {late_s:.0f} s: "
                    f"{log.problem or 'no proof has come'}"
                )
            return ""

    def newest(self) -> list[str]:
        """Return the newest checkpoint of every log, for a report to carry."""
        with self._changed:
            found = []
            for log in self._logs.values():
                seen = [*log.unproved.values(), *([] if log.proved is None else [log.proved])]
                if seen:
                    found.append(max(seen, key=lambda each: each.size).note)
            return found

    def prove(self) -> None:
        """Have everything proved that is not yet, now, in this thread."""
        for origin, log in self._logs.items():
            if log.unproved:
                self._prove(origin, log)

    def close(self) -> None:
        """Stop proving, once the connections are closed. Closing twice does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        try:
            self._journal.close()
        except OSError as error:
            _LOG.error("the journal was not closed in order: %s", error)

    def _recall(self, origin: str) -> _Log:
        """Begin where the journal ends; the log then has to show that it still is the one of before."""
        remembered = self._journal.logs.get(origin)
        if remembered is None:
            return _Log()
        log = _Log(proved=remembered.proved, fork=remembered.fork, since_s=self._clock())
        for checkpoint in (remembered.proved, remembered.seen):
            if checkpoint is not None:
                known = log.roots.setdefault(checkpoint.size, checkpoint)
                if known.root != checkpoint.root:
                    self._fork(log, known, checkpoint, "signed two roots of one size")
        if log.proved is not None:
            log.confirmed = False
            if remembered.seen is not None and remembered.seen.size != log.proved.size:
                log.unproved[remembered.seen.size] = remembered.seen
        return log

    def _run(self) -> None:
        """Have logs proved when that is due, and bring the journal to the disk; a thread of its own."""
        while True:
            with self._changed:
                if self._closed:
                    return
                now_s = self._clock()
                due = [(o, log) for o, log in self._logs.items() if log.unproved and now_s >= log.again_at_s]
                if not due:
                    self._changed.wait(_AGAIN_S)
            for origin, log in due:
                self._prove(origin, log)
            try:
                self._journal.sync()
            except OSError as error:  # the next line that has to be written fails, and withholds
                _LOG.error("%s", error)

    def _prove(self, origin: str, log: _Log) -> None:
        """Have the newest checkpoint proved against the last proved one, and some of those between."""
        with log.proving:
            with self._changed:
                if log.fork or log.proved is None or self._closed:
                    return
                began_s = self._clock()
                taken = dict(log.unproved)
                base = log.proved
            sizes = sorted(taken, reverse=True)
            chosen = sizes[:1] + _draw(sizes[1:], SAMPLE)
            try:
                for size in chosen:
                    older, newer = sorted((base, taken[size]), key=lambda each: each.size)
                    proof = self._fetch(origin, older.size, newer.size)
                    if not holds_consistency(
                        older.size, older.root, size=newer.size, root=newer.root, proof=proof
                    ):
                        with self._changed:
                            self._fork(log, older, newer, "could not prove that it only grew")
                        return
                    base = newer
            except NoDecision as error:
                with self._changed:
                    log.problem, log.again_at_s = str(error), self._clock() + _AGAIN_S
                return
            with self._changed:
                for size in taken:
                    log.unproved.pop(size, None)
                log.since_s, log.again_at_s = began_s, began_s + PROVE_EVERY_S
                log.problem = ""
                self._set_proved(log, base)

    def _set_proved(self, log: _Log, checkpoint: Checkpoint) -> None:
        log.confirmed = True
        if log.proved is not checkpoint:
            log.proved = checkpoint
            try:
                self._journal.proved(checkpoint)
            except OSError as error:
                _LOG.error("%s", error)

    def _fork(self, log: _Log, one: Checkpoint, other: Checkpoint, what: str) -> str:
        """Stop trusting a log for good, and keep what shows why."""
        log.fork = (
            f"log `{one.origin}` {what} ({one.size} and {other.size} records): it was rewritten, or shows "
            "others something else; release nothing, and take the journal to an auditor"
        )
        _LOG.critical("ALARM: %s\n%s\n%s", log.fork, one.note, other.note)
        try:
            self._journal.forked(one.origin, log.fork, notes=[one.note, other.note])
        except OSError as error:
            _LOG.critical("and it cannot be written down: %s", error)
        return log.fork


def _draw(sizes: list[int], count: int) -> list[int]:
    """Return `count` of the sizes that nobody can foresee, or all if there are fewer."""
    if len(sizes) <= count:
        return sizes
    return secrets.SystemRandom().sample(sizes, count)
