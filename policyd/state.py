"""Keep a node's snapshot up with the state store: load at start, follow, fail closed when it cannot."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from policyd import clock
from policyd.decision.cache import Decider
from policyd.decision.snapshot import CompiledAgreement, advance, build_snapshot
from policyd.errors import LedgerBusy, LedgerClosed, NotServing, SourceError, StateConflict, StateCorrupt
from policyd.ledger.change_record import Stage, activation_record, state_change_record
from policyd.ledger.entry import Entry
from policyd.ledger.writer import Ledger
from policyd.persistent import differences
from policyd.policy.archive import adopt
from policyd.policy.load import collection_off
from policyd.policy.policyset import PolicySet
from policyd.policy.progress import Progress, silent
from policyd.registry.change import Activation, Change, Draft, State, draft_activation, read_body
from policyd.registry.seals import SealMap
from policyd.registry.store import EmbeddedStore, Update
from policyd.service.node import Current, Node

_LOG = logging.getLogger("policyd")

POLL_S = 0.5
_ATTEMPTS = 10


def activate(store: EmbeddedStore, ledger: Ledger, policy: PolicySet, *, node: str, why: str) -> State:
    """Put ``policy`` in force unless it is, recording the intent and the outcome, and return the state.

    Raises:
        StateConflict: others kept changing the state meanwhile.
        StateCorrupt, NotServing: the store cannot be used, or is behind what this node has applied.
        LedgerClosed, LedgerBusy: the change cannot be recorded, so it is not made.
    """
    wanted = Activation(policy_digest=policy.digest, policy_version=policy.version)
    for _ in range(_ATTEMPTS):
        state = store.load()
        _refuse_older(ledger, state)
        if state.activation == wanted:
            return state
        draft = draft_activation(wanted, who=node, why=why, at=clock.now())
        ledger.append([_entry(draft, stage=Stage.INTENDED, epoch=state.epoch + 1)])
        try:
            epoch = store.append(draft, state.epoch)
        except StateConflict:
            continue
        admitted, now = _admitted(store, state)
        ledger.append([_entry(draft, stage=Stage.IN_FORCE, epoch=epoch, chain_hash=admitted.chain_hash)])
        return now
    raise StateConflict("the state keeps changing; try again when it is quiet")


def _admitted(store: EmbeddedStore, before: State) -> tuple[Change, State]:
    """Return the change that was just admitted after `before`, and the state by now."""
    with store.follow(before) as follower:
        update = follower.poll(0.0)
    if update is None:
        raise StateCorrupt(f"change {before.epoch + 1} was admitted and is not there; restore the state")
    return update.changes[0], update.state


def current_of(
    policy: PolicySet, state: State, *, before: Current | None = None, progress: Progress = silent
) -> Current:
    """Build what a node decides on; says in the log what the policy set does not know of the registry.

    With what was current ``before``, under the same policy set, this is linear in what was changed since.
    """
    if before is not None and before.decider.snapshot.policy is policy:
        known = before.decider.snapshot
        decider = before.decider.advanced(advance(known, state.registry, epoch=state.epoch))
        _report_unknown(known.agreements, decider.snapshot.agreements)
    else:
        with collection_off():
            snapshot = build_snapshot(policy, state.registry, epoch=state.epoch, progress=progress)
        decider = Decider(snapshot)
        _report_unknown({}, decider.snapshot.agreements)
    seals = state.registry.seals
    return Current(decider, (seals if isinstance(seals, SealMap) else SealMap(seals)).tokens)


class StateFollower:
    """Applies each change to the node as it comes, on a thread of its own."""

    def __init__(
        self,
        node: Node,
        store: EmbeddedStore,
        *,
        state: State,
        current: Current,
        policy: PolicySet,
        directory: Path,
        archive: Path,
        ledger: Ledger,
    ) -> None:
        self._node = node
        self._current = current
        self._ledger = ledger
        self._policy = policy
        self._directory = directory
        self._archive = archive
        self._follower = store.follow(state)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="state-follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following and wait for the thread."""
        self._stopping.set()
        self._follower.stop()
        self._thread.join()
        self._follower.close()

    def _run(self) -> None:
        known: Update | None = None
        while not self._stopping.is_set():
            try:
                if known is None:
                    known = self._follower.poll(POLL_S)
                if known is not None:
                    self._apply(known.changes, known.state)
                    known = None
                self._node.confirm_fresh()
                self._node.refuse("")
            except (NotServing, LedgerBusy) as error:
                # SECURITY: the follower is past a change that it has given out. Until that is applied the
                # node knows of a seal or a suspension it does not honour, so it stops at once
                # (test_a_change_that_cannot_be_applied_yet_stops_the_node). While the store cannot be read
                # at all, the node stops by itself once what it knows is too old.
                if known is not None:
                    self._node.refuse(f"a change of state cannot be applied yet: {error}")
                self._stopping.wait(POLL_S)
            except (StateCorrupt, LedgerClosed, SourceError) as error:
                self._node.refuse(f"this node stopped following the state: {error}")
                _LOG.error("%s", self._node.refusing)
                return
            except Exception as error:
                # SECURITY: the outer boundary of this thread. A node that no longer follows must not go
                # on deciding, whatever the reason.
                self._node.refuse(f"this node stopped following the state: {type(error).__name__}")
                raise

    def _apply(self, changes: tuple[Change, ...], state: State) -> None:
        activation = state.activation
        if activation is None or activation.policy_digest != self._policy.digest:
            self._policy = self._find(activation)
        current = current_of(self._policy, state, before=self._current)
        self._ledger.append(
            [
                _entry(change.draft, stage=Stage.APPLIED, epoch=change.epoch, chain_hash=change.chain_hash)
                for change in changes
            ]
        )
        self._node.move_to(current)
        self._current = current
        _LOG.info("applied the state up to epoch %d", state.epoch)

    def _find(self, activation: Activation | None) -> PolicySet:
        """Load the policy set that was put in force; only the one in the configured place is known."""
        policy = adopt(self._directory, self._archive)
        wanted = "none" if activation is None else activation.policy_digest
        if policy.digest != wanted:
            raise StateCorrupt(
                f"policy set {wanted[:12]} is in force, but {self._directory} holds {policy.digest[:12]}"
            )
        return policy


def _refuse_older(ledger: Ledger, state: State) -> None:
    """Refuse a state that is behind what this node has applied, as its own ledger has it.

    Raises:
        StateCorrupt: the store has lost changes; a seal or a suspension may be among them.
    """
    applied = ledger.reader.highest_epoch()
    if state.epoch < applied:
        raise StateCorrupt(
            f"the state is at epoch {state.epoch}, but this node has applied epoch {applied}: the store has "
            "lost changes; restore it from a newer copy"
        )


def _entry(draft: Draft, *, stage: Stage, epoch: int, chain_hash: bytes = b"") -> Entry:
    content = read_body(draft)
    if isinstance(content, Activation):
        return activation_record(
            policy_digest=content.policy_digest,
            policy_version=content.policy_version,
            stage=stage,
            epoch=epoch,
            body_digest=draft.digest,
            who=draft.who,
            why=draft.why,
            at=clock.now(),
            chain_hash=chain_hash,
        )
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


def _report_unknown(before: Mapping[str, CompiledAgreement], after: Mapping[str, CompiledAgreement]) -> None:
    changed = sorted((id_, new) for id_, _, new in differences(before, after) if new is not None)
    for id_, compiled in changed:
        for kind, names in (("field", compiled.unknown_fields), ("purpose", compiled.unknown_purposes)):
            if names:
                listed = ", ".join(f"`{name}`" for name in names[:5]) + (" ..." if len(names) > 5 else "")
                _LOG.warning(
                    "agreement `%s` names %d unknown %s(s), withheld: %s", id_, len(names), kind, listed
                )
