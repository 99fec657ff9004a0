"""Makes a signed change of state: its intent on record, then the change, then its outcome on record."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from pbac.v1 import decision_pb2

from policyd import clock
from policyd.errors import ApprovalMissing, ConfigError, NotServing, StateConflict, StateCorrupt
from policyd.ledger.change_record import Stage, state_change_record
from policyd.ledger.entry import Entry
from policyd.ledger.writer import Ledger
from policyd.registry.change import Change, State, judge
from policyd.registry.draft import Content, Proposal
from policyd.service.in_force import InForce, Reach
from policyd.service.node import Node

_PATIENCE_S = 1.0
"""How long to wait for this node to take up what another has changed."""
_ANSWER_S = 0.25
"""What is left of the caller's deadline for the answer to get back."""


class Progress(Enum):
    """How far a change has come."""

    AWAITING_APPROVAL = "awaiting-approval"
    PENDING = "pending"
    IN_FORCE = "in-force"


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a change; ``waiting_for`` are the nodes not known to have applied it.

    ``receipt`` says where the outcome is on record; a repeat of what was made before has none. ``reach`` is
    None while it awaits approval.
    """

    progress: Progress
    epoch: int = 0
    chain_hash: bytes = b""
    receipt: decision_pb2.Receipt | None = None
    waiting_for: tuple[str, ...] = ()
    reach: Reach | None = None


class ChangeStore(Protocol):
    """What this takes of a state store."""

    def append(self, proposal: Proposal, expected_epoch: int) -> int:
        """Admit a change if the newest one is `expected_epoch`, and return its number."""

    def changes(self, after_epoch: int) -> Iterator[Change]:
        """Yield the stored changes after an epoch."""


class Changer:
    """Makes changes through one node, and finds out when they hold. Safe for many threads."""

    def __init__(self, node: Node, store: ChangeStore, ledger: Ledger, in_force: InForce) -> None:
        self._node = node
        self._store = store
        self._ledger = ledger
        self._in_force = in_force

    def make(self, proposal: Proposal, content: Content, *, timeout_s: float) -> Made:
        """Make a change that brings `content`, unless it was made before, and wait until it holds.

        Blocks for ``timeout_s`` at most: what does not hold everywhere by then is pending. A change that
        lacks only the signature of a second person is recorded as intended and not made.

        Raises:
            NotAuthorised: its signatures do not hold, or those who signed may not do this.
            StateConflict: what it names has changed since it was planned, or its id was used for another.
            RegistryError: its entries contradict each other or those registered.
            NotServing: this node may not change state now.
            LedgerBusy, LedgerClosed: the change cannot be recorded. When only its outcome cannot, it was
                made all the same; to send it again says so.
        """
        ends_s = clock.monotonic() + max(0.0, timeout_s - _ANSWER_S)
        intended = False
        while True:
            state = self._node.current.state
            if state.history.used(proposal.draft.change_id):
                return self._made_before(proposal, timeout_s=ends_s - clock.monotonic())
            try:
                judge(proposal, content=content, state=state)
            except ApprovalMissing:
                self._append(proposal, stage=Stage.INTENDED, epoch=state.epoch + 1, ends_s=ends_s)
                return Made(Progress.AWAITING_APPROVAL)
            except StateConflict:
                # It may have been planned on a change that this node has not taken up.
                unknown = state.history.since(proposal.draft.planned_on) is None
                if not unknown or not self._wait_beyond(state, ends_s=ends_s):
                    raise
                continue
            if not intended:
                self._append(proposal, stage=Stage.INTENDED, epoch=state.epoch + 1, ends_s=ends_s)
                intended = True
            try:
                epoch = self._store.append(proposal, state.epoch)
            except StateConflict:
                # The newest change is one that this node has not taken up; on that it may look different.
                if not self._wait_beyond(state, ends_s=ends_s):
                    raise
                continue
            except (ConfigError, StateCorrupt) as error:
                raise NotServing(f"this node cannot change the state: {error}") from error
            there_at_s = clock.boot_seconds()
            change = self._stored(epoch)
            receipt = self._append(
                proposal, stage=Stage.IN_FORCE, epoch=epoch, ends_s=ends_s, chain_hash=change.chain_hash
            )
            return self._reached(change, there_at_s=there_at_s, ends_s=ends_s, receipt=receipt)

    def reached(self, epoch: int) -> Made:
        """Return how far the change with this number has come; this node has applied it.

        Raises:
            NotServing: the store cannot be read now.
        """
        ends_s = clock.monotonic()
        return self._reached(self._stored(epoch), there_at_s=None, ends_s=ends_s, receipt=None)

    def find(self, change_id: str) -> Change | None:
        """Return the change with this id; linear in all changes.

        Raises:
            NotServing: the store cannot be read now.
        """
        with reading(self._store) as changes:
            return next((each for each in changes if each.draft.change_id == change_id), None)

    def _made_before(self, proposal: Proposal, *, timeout_s: float) -> Made:
        change = self.find(proposal.draft.change_id)
        if change is None or change.draft != proposal.draft:
            raise StateConflict(
                f"change id `{proposal.draft.change_id}` was used for another change; plan it again"
            )
        ends_s = clock.monotonic() + timeout_s
        return self._reached(change, there_at_s=None, ends_s=ends_s, receipt=None)

    def _stored(self, epoch: int) -> Change:
        with reading(self._store, epoch - 1) as changes:
            return next(changes)

    def _reached(
        self,
        change: Change,
        *,
        there_at_s: float | None,
        ends_s: float,
        receipt: decision_pb2.Receipt | None,
    ) -> Made:
        """Return how far a change that was made has come."""
        wait_s = max(0.0, ends_s - clock.monotonic())
        reach = self._in_force.wait(change, there_at_s=there_at_s, timeout_s=wait_s)
        return Made(
            Progress.PENDING if reach.at is None else Progress.IN_FORCE,
            epoch=change.epoch,
            chain_hash=change.chain_hash,
            receipt=receipt,
            waiting_for=reach.waiting_for,
            reach=reach,
        )

    def _wait_beyond(self, state: State, *, ends_s: float) -> bool:
        wait_s = min(_PATIENCE_S, ends_s - clock.monotonic())
        return wait_s > 0 and self._node.wait_beyond(state.epoch, timeout_s=wait_s).epoch > state.epoch

    def _append(
        self, proposal: Proposal, *, stage: Stage, epoch: int, ends_s: float, chain_hash: bytes = b""
    ) -> decision_pb2.Receipt:
        entry = _entry(proposal, stage=stage, epoch=epoch, chain_hash=chain_hash)
        receipts = self._ledger.append([entry], timeout_s=max(0.0, ends_s - clock.monotonic()))
        return decision_pb2.Receipt(
            origin=receipts.origin,
            index=receipts.first_index,
            leaf=entry.leaf,
            proof=receipts.proof(0),
            checkpoint=receipts.checkpoint,
        )


@contextmanager
def reading(store: ChangeStore, after_epoch: int = 0) -> Iterator[Iterator[Change]]:
    """Give the stored changes after an epoch, and let go of the store, however far they were read.

    Raises:
        NotServing: they cannot be read now, or are damaged.
    """
    changes = store.changes(after_epoch)
    try:
        yield changes
    except (ConfigError, StateCorrupt) as error:
        raise NotServing(f"the stored changes cannot be read: {error}") from error
    finally:
        if isinstance(changes, Generator):
            changes.close()


def _entry(proposal: Proposal, *, stage: Stage, epoch: int, chain_hash: bytes) -> Entry:
    draft = proposal.draft
    return state_change_record(
        draft.kind.value,
        stage=stage,
        epoch=epoch,
        body_digest=draft.digest,
        who=draft.who,
        why=draft.why,
        at=clock.now(),
        chain_hash=chain_hash,
    )
