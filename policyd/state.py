"""Keep a node's snapshot up with the state store: load at start, follow, fail closed when it cannot."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from itertools import islice, takewhile
from pathlib import Path

from policyd import clock
from policyd.config import Config
from policyd.decision.cache import Decider
from policyd.decision.snapshot import CompiledAgreement, advance, build_snapshot
from policyd.errors import (
    ConfigError,
    LedgerBusy,
    LedgerClosed,
    LedgerCorrupt,
    NotServing,
    SourceError,
    StateAstray,
    StateCorrupt,
    StateUnfit,
)
from policyd.identity.keys import SigningKey, load_signing_key
from policyd.ledger.change_record import Stage, activation_record, state_change_record
from policyd.ledger.entry import Entry
from policyd.ledger.writer import Ledger
from policyd.persistent import differences
from policyd.policy.archive import adopt, find
from policyd.policy.load import collection_off
from policyd.policy.policyset import PolicySet
from policyd.policy.progress import Progress, silent
from policyd.registry.change import Change, State
from policyd.registry.draft import Activation, ChangeKind, read_body
from policyd.registry.redis_store import Fleet, RedisStore
from policyd.registry.redis_url import RedisUrl
from policyd.registry.seals import SealMap
from policyd.registry.store import EmbeddedStore, StateStore, Update
from policyd.service.node import Current, Node

_LOG = logging.getLogger("policyd")

POLL_S = 0.5
_RECORDS_AT_ONCE = 500


def open_store(config: Config, *, progress: Progress = silent) -> StateStore:
    """Open the state store that the configuration names, with the signing key of its data directory.

    ``progress`` is told how far it has been read.

    Raises:
        ConfigError: the store or the key cannot be used, or the key is no node's of the trust document.
        NotServing: the store cannot be opened now.
    """
    signer = load_signing_key(config.keys / "node.key")
    if config.redis is None:
        return EmbeddedStore(config.state, trust=config.trust, signer=signer, progress=progress)
    if not config.redis.tls and not config.redis.local:
        _LOG.warning("%s is reached without TLS: who asks and may ask can be read on the way", config.redis)
    return RedisStore(fleet_of(config, config.redis), signer=signer, progress=progress)


def own_key(config: Config) -> SigningKey:
    """Return the signing key of this node, which the trust document has under the node's own name.

    Raises:
        ConfigError: it cannot be used, or is another node's: then a word of one would stand for both.
    """
    signer = load_signing_key(config.keys / "node.key")
    listed = config.trust.node(signer.public)
    if listed is None or listed.id != config.node:
        # SECURITY: the lock on its ledger makes a node of one name one process, and the trust document makes
        # that the one holder of this key. Two processes behind one acknowledgement could be at two epochs
        # (test_a_node_serves_under_the_name_of_its_key_alone).
        named = f"that of node `{listed.id}`" if listed else "not in the trust document"
        raise ConfigError(
            f"the key of node `{config.node}` is {named}; a node serves under its own key alone"
        )
    return signer


def fleet_of(config: Config, redis: RedisUrl) -> Fleet:
    """Return where the fleet's state is, whom this node trusts with it, and where its own copy is."""
    return Fleet(redis, config.trust_domain, config.trust, config.state)


def load_state(store: StateStore, ledger: Ledger) -> State:
    """Return the state to start from.

    Raises:
        StateCorrupt, NotServing: the store cannot be used, or is behind what this node has applied.
        ConfigError: no trust document is in force, or another than this node's.
    """
    state = store.load()
    applied = ledger.reader.highest_epoch()
    if state.epoch < applied:
        raise StateCorrupt(
            f"the state is at epoch {state.epoch}, but this node has applied epoch {applied}: the store has "
            "lost changes; restore it from a newer copy"
        )
    if state.trust is None:
        raise ConfigError("no trust document is in force; put one in force with: policyd registry trust")
    return state


def record_state(store: StateStore, ledger: Ledger, state: State) -> None:
    """Record each change up to `state` that this node has not recorded as applied.

    Raises:
        StateCorrupt, NotServing: the store cannot be read.
        LedgerClosed, LedgerBusy: the changes cannot be recorded.
    """
    missing = store.changes(ledger.reader.highest_epoch())
    changes = takewhile(lambda change: change.epoch <= state.epoch, missing)
    while some := [_applied(change) for change in islice(changes, _RECORDS_AT_ONCE)]:
        ledger.append(some)


def find_policy(
    activation: Activation | None, *, directory: Path, archive: Path, progress: Progress = silent
) -> PolicySet:
    """Load the policy set in force: that in `directory`, or the copy kept of one that was there before.

    Raises:
        SourceError: the files in `directory` have mistakes.
        StateCorrupt: none is in force, or it is in neither place.
    """
    policy = adopt(directory, archive, progress=progress)
    hint = f"put {directory} in force with: policyd policy activate"
    if activation is None:
        raise StateCorrupt(f"no policy set is in force; {hint}")
    wanted = activation.policy_digest
    if policy.digest == wanted:
        return policy
    try:
        kept = find(archive, wanted)
    except LedgerCorrupt:
        raise StateCorrupt(
            f"policy set {wanted[:12]} is in force, but {directory} holds {policy.digest[:12]}; bring back"
            f" the files of the one in force, or {hint}"
        ) from None
    _LOG.warning("%s holds policy set %s, which is not in force; %s", directory, policy.digest[:12], hint)
    return kept


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
    return Current(decider, (seals if isinstance(seals, SealMap) else SealMap(seals)).tokens, state)


class StateFollower:
    """Applies each change to the node as it comes, on a thread of its own."""

    def __init__(
        self,
        node: Node,
        store: StateStore,
        *,
        state: State,
        current: Current,
        policy: PolicySet,
        directory: Path,
        archive: Path,
        ledger: Ledger,
        applied: Callable[[], None],
    ) -> None:
        """``applied`` is called after the node has begun to decide on something newer."""
        self._node = node
        self._applied = applied
        self._current = current
        self._ledger = ledger
        self._policy = policy
        self._directory = directory
        self._archive = archive
        self._said = ""
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
                self._go_on()
            except (StateAstray, StateUnfit) as error:
                # SECURITY: what the store says now is not the state, and what this node knows may lack a
                # seal that the store has lost; so it stops at once and not when it is too late. The store
                # can be repaired under running nodes, which then go on by themselves
                # (test_a_redis_that_was_emptied_stops_the_node_until_it_is_repaired).
                self._refuse(f"the state store cannot be relied on: {error}")
                self._stopping.wait(POLL_S)
            except (NotServing, LedgerBusy) as error:
                # SECURITY: the follower is past a change that it has given out. Until that is applied the
                # node knows of a seal or a suspension it does not honour, so it stops at once
                # (test_a_change_that_cannot_be_applied_yet_stops_the_node). While the store cannot be read
                # at all, the node stops by itself once what it knows is too old.
                if known is not None:
                    self._refuse(f"a change of state cannot be applied yet: {error}")
                elif str(error) != self._said:
                    self._said = str(error)
                    _LOG.warning("cannot read the state, and go on asking: %s", error)
                self._stopping.wait(POLL_S)
            except (StateCorrupt, ConfigError, LedgerClosed, SourceError) as error:
                self._node.refuse(f"this node stopped following the state: {error}")
                _LOG.error("%s", self._node.refusing)
                return
            except Exception as error:
                # SECURITY: the outer boundary of this thread. A node that no longer follows must not go
                # on deciding, whatever the reason.
                self._node.refuse(f"this node stopped following the state: {type(error).__name__}")
                raise

    def _refuse(self, why: str) -> None:
        self._node.refuse(why)
        if why != self._said:
            self._said = why
            _LOG.error("%s", why)

    def _go_on(self) -> None:
        self._node.refuse("")
        if self._said:
            self._said = ""
            _LOG.info("the state can be read again")

    def _apply(self, changes: tuple[Change, ...], state: State) -> None:
        activation = state.activation
        if activation is None or activation.policy_digest != self._policy.digest:
            self._policy = find_policy(activation, directory=self._directory, archive=self._archive)
        current = current_of(self._policy, state, before=self._current)
        self._ledger.append([_applied(change) for change in changes])
        self._node.move_to(current)
        self._current = current
        self._applied()
        _LOG.info("applied the state up to epoch %d", state.epoch)


def _applied(change: Change) -> Entry:
    """Return the record that this node has taken up a verified change."""
    draft = change.draft
    content = read_body(draft) if draft.kind is ChangeKind.ACTIVATION else None
    if isinstance(content, Activation):
        return activation_record(
            policy_digest=content.policy_digest,
            policy_version=content.policy_version,
            stage=Stage.APPLIED,
            epoch=change.epoch,
            body_digest=draft.digest,
            who=draft.who,
            why=draft.why,
            at=clock.now(),
            chain_hash=change.chain_hash,
        )
    return state_change_record(
        draft.kind.value,
        stage=Stage.APPLIED,
        epoch=change.epoch,
        body_digest=draft.digest,
        who=draft.who,
        why=draft.why,
        at=clock.now(),
        chain_hash=change.chain_hash,
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
