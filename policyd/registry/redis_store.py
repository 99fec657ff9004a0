"""Keeps the numbered changes of a fleet in Redis, and a node's own copy of them beside it (docs/state.md)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from policyd import clock
from policyd.errors import ConfigError, NotServing, StateAstray, StateCorrupt
from policyd.policy.progress import Progress, silent
from policyd.registry.change import Change, State, admit_checked, epoch_conflict, extend
from policyd.registry.draft import Proposal, Signer, read_body
from policyd.registry.lease import Acknowledgement, Renewal, acknowledgement_bytes, read_acknowledgement
from policyd.registry.redis_entry import Head
from policyd.registry.redis_link import AnswerLost, Link
from policyd.registry.redis_url import RedisUrl
from policyd.registry.store import EmbeddedStore, Update, check_trust, node_of
from policyd.registry.trust import Trust

_WAIT_S = 0.25
"""How long a follower waits before it looks again whether the store is still the one it knows."""
_SETTLE_S = 3.0
"""How long an append whose answer was lost is looked for."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Where a fleet's state is, this node's trust document, and where it keeps its own copy, if it does."""

    url: RedisUrl
    domain: str
    trust: Trust
    copy: Path | None = None

    def link(self) -> Link:
        """Return a connection of its own.

        Raises:
            ConfigError: a file that the URL names cannot be read.
        """
        return Link(self.url, domain=self.domain)

    def open_copy(self, *, progress: Progress = silent) -> EmbeddedStore | None:
        """Open this node's own copy, making an empty one when there is none.

        Raises:
            ConfigError, NotServing: as `EmbeddedStore`.
        """
        return None if self.copy is None else EmbeddedStore(self.copy, trust=self.trust, progress=progress)


class RedisStore:
    """The store of a fleet. Safe to use from several threads, processes and machines."""

    def __init__(self, fleet: Fleet, *, signer: Signer | None = None, progress: Progress = silent) -> None:
        """Open the store; without ``signer`` nothing can be appended.

        ``progress`` is told how far the node's own copy has been read.

        Raises:
            ConfigError: the node's own copy or a file that the URL names cannot be used; or the signer is no
                node of the trust document.
            NotServing: the node's own copy cannot be opened now.
        """
        self._node = node_of(fleet.trust, signer)
        self._fleet = fleet
        self._signer = signer
        self._lock = threading.Lock()
        self._known = State()
        self._link = fleet.link()
        self._copy = fleet.open_copy(progress=progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self) -> State:
        """Verify every change from the first and return the state; linear in all that is stored.

        What the node's own copy holds is read from there; Redis must be at it or beyond, and go on from it.

        Raises:
            StateAstray: Redis has less than this node, another history, or what does not verify.
            StateCorrupt: the node's own copy is damaged.
            StateUnfit: Redis evicts, or its clock is too far from ours.
            NotServing: Redis or the copy cannot be used now.
        """
        with self._lock:
            self._link.check_settings()
            known = State() if self._copy is None else self._copy.load_any()
            state = _catch_up(self._link, known, copy=self._copy)[1]
            if state.epoch < self._known.epoch:
                raise StateAstray(_behind(self._link, state.epoch, self._known.epoch))
            self._known = state
            return check_trust(state, self._fleet.trust)

    def changes(self, after_epoch: int) -> Iterator[Change]:
        """Yield the changes after an epoch, in order; verifying them is for `load`.

        Raises:
            StateAstray, StateCorrupt, NotServing: as `load`.
        """
        if self._copy is not None:
            yield from self._copy.changes(after_epoch)
            return
        while True:
            with self._lock:
                batch = self._link.changes_after(after_epoch)
            if not batch:
                return
            yield from batch
            after_epoch = batch[-1].epoch

    def append(self, proposal: Proposal, expected_epoch: int) -> int:
        """Admit a change if the newest one is `expected_epoch`; Redis has it when this returns its number.

        It is sent once. When the answer is lost, Redis is read again: the change is there under its number,
        or another is, or NotServing says that it may still come.

        Raises:
            StateConflict: the state has another epoch by now, what the change names has changed since it
                was planned, or its id was used; plan again.
            ApprovalMissing, NotAuthorised: its signatures do not carry it.
            RegistryError: its entries contradict each other or those registered.
            ValueError: the draft has a form that could not be read back.
            ConfigError: the store was opened without a node key, or under another trust document.
            StateAstray, StateCorrupt, StateUnfit, NotServing: as `load`.
        """
        if self._signer is None:
            raise ConfigError("this process holds no node key and cannot change the state")
        content = read_body(proposal.draft)
        with self._lock:
            self._known = _catch_up(self._link, self._known, copy=self._copy)[1]
            state = check_trust(self._known, self._fleet.trust)
            change, after = admit_checked(
                proposal,
                content,
                state=state,
                expected_epoch=expected_epoch,
                node=self._node,
                signer=self._signer,
            )
            try:
                moved = self._link.append(change)
            except AnswerLost as error:
                self._settle(change, error)
                moved = None
            if moved is not None:
                raise epoch_conflict(moved.epoch, expected_epoch)
            # It is in force whatever becomes of the copy, which the next catching up would complete.
            with suppress(NotServing):
                if self._copy is not None:
                    self._copy.keep([change])
                self._known = after
            return change.epoch

    def follow(self, state: State) -> RedisFollower:
        """Return a follower of the changes after `state`, with connections of its own.

        Raises:
            ConfigError, NotServing: as the store itself.
        """
        return RedisFollower(self._fleet, state=state)

    def renew(self, acknowledgement: Acknowledgement) -> Renewal:
        """Keep an acknowledgement, in one step with the comparison: only if it names the head.

        Raises:
            ValueError: the acknowledgement has a form that could not be read back.
            StateAstray, NotServing: as `load`.
        """
        words = acknowledgement_bytes(acknowledgement)
        head = Head(acknowledgement.epoch, acknowledgement.chain_hash)
        with self._lock:
            now = self._link.renew(acknowledgement.node, words, head=head)
        known = now or head
        return Renewal(accepted=now is None, epoch=known.epoch, chain_hash=known.chain_hash)

    def acknowledgements(self) -> Mapping[str, Acknowledgement]:
        """Return the last acknowledgement of each node; their signatures are for the caller to check.

        Raises:
            StateAstray: one has another form than policyd writes.
            NotServing: as `load`.
        """
        with self._lock:
            found = self._link.acknowledgements()
        words = {}
        for node, data in found.items():
            try:
                each = read_acknowledgement(data)
                if each.node.encode() != node:
                    raise ValueError("it is kept under another node's id")
            except ValueError as error:
                raise StateAstray(f"an acknowledgement in {self._link} cannot be read: {error}") from None
            words[each.node] = each
        return words

    def continuity(self) -> str:
        """Return what names this run of this primary (its run id and replication id).

        Raises:
            NotServing: as `load`.
        """
        with self._lock:
            return self._link.continuity()

    def close(self) -> None:
        """Close the connections; followers stay usable."""
        with self._lock:
            self._link.close()
            if self._copy is not None:
                self._copy.close()

    def _settle(self, change: Change, lost: NotServing) -> None:
        """Find out whether a change whose answer was lost has its number; return only if it has.

        Raises:
            StateConflict: another change has.
            NotServing: nobody can tell yet.
        """
        until = clock.monotonic() + _SETTLE_S
        pause = threading.Event()
        while True:
            try:
                head = self._link.head()
                if head.epoch >= change.epoch:
                    if self._link.changes_after(change.epoch - 1)[:1] == [change]:
                        return
                    raise epoch_conflict(head.epoch, change.epoch - 1)
            except NotServing as error:
                lost = error
            if clock.monotonic() >= until:
                raise NotServing(
                    f"the answer to change {change.epoch} was lost, and it is not there yet: it may still"
                    f" come, so look before you try again ({lost})"
                ) from lost
            pause.wait(_WAIT_S)


class RedisFollower:
    """Waits at the stream, verifies what comes, keeps it in the node's copy, and only then gives it out."""

    def __init__(self, fleet: Fleet, *, state: State) -> None:
        self._state = state
        self._trust = fleet.trust
        self._stopped = threading.Event()
        self._link = fleet.link()
        self._copy = fleet.open_copy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def poll(self, timeout_s: float) -> Update | None:
        """Return the next changes, or None when none came in `timeout_s` or `stop` was called.

        After any error it may be asked again: it goes on from what it gave out last.

        Raises:
            StateAstray: Redis has less than was given out, another history, or what does not verify.
            StateCorrupt: the node's own copy is damaged.
            StateUnfit: Redis evicts, or its clock is too far from ours.
            ConfigError: another trust document than this process's own is in force.
            NotServing: Redis or the copy cannot be used now.
        """
        until = clock.monotonic() + timeout_s
        while not self._stopped.is_set():
            changes, state = _catch_up(self._link, self._state, copy=self._copy)
            if changes:
                self._state = check_trust(state, self._trust)
                return Update(changes=changes, state=state)
            left_s = until - clock.monotonic()
            if left_s <= 0:
                return None
            # Short, because Redis tells nobody who waits that a stream was deleted or set back.
            self._link.wait(self._state.epoch, timeout_s=min(_WAIT_S, left_s))
        return None

    def stop(self) -> None:
        """Let a waiting `poll` return within a quarter of a second, and every later one at once."""
        self._stopped.set()

    def close(self) -> None:
        """Stop, and close the connections; not while another thread is inside `poll`."""
        self.stop()
        self._link.close()
        if self._copy is not None:
            self._copy.close()


def _catch_up(link: Link, state: State, *, copy: EmbeddedStore | None) -> tuple[tuple[Change, ...], State]:
    """Read, verify and keep what Redis has after `state`, and return it with the state after."""
    # SECURITY: another process of this node may have kept a change that this one has not seen yet, and that
    # Redis has lost since. Asked before Redis, whose head can then only be at it or beyond
    # (test_what_another_process_of_the_node_kept_counts).
    known = state.epoch if copy is None else max(state.epoch, copy.highest())
    head = link.head()
    if head.epoch < known:
        raise StateAstray(_behind(link, head.epoch, known))
    if head == Head(state.epoch, state.chain_hash):
        return (), state
    if head.epoch == state.epoch:
        raise StateAstray(_forked(link, state))
    changes: list[Change] = []
    with _astray(link):
        while state.epoch < head.epoch:
            batch = link.changes_after(state.epoch)
            if not batch:
                raise StateCorrupt(f"change {state.epoch + 1} is missing; it was there a moment ago")
            if batch[0].epoch == state.epoch + 1 != 1 and batch[0].previous != state.chain_hash:
                raise StateAstray(_forked(link, state))
            state = extend(state, batch)
            changes += batch
    if copy is not None:
        copy.keep(changes)
    return tuple(changes), state


@contextmanager
def _astray(link: Link) -> Iterator[None]:
    """Say where it is that changes do not verify; what this node knows is not touched by that."""
    try:
        yield
    except StateAstray:
        raise
    except StateCorrupt as error:
        raise StateAstray(f"{link}: {error}") from error


def _behind(link: Link, epoch: int, known: int) -> str:
    return (
        f"{link} is at epoch {epoch}, but this node has applied change {known}: it lacks changes; run"
        " `policyd registry republish` on the node with the highest epoch"
    )


def _forked(link: Link, state: State) -> str:
    return (
        f"{link} has another change {state.epoch} than this node has applied"
        f" ({state.chain_hash.hex()[:16]}): two histories; `policyd registry republish` shows both"
    )
