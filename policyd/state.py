"""Keep a node's snapshot up with the state store: load at start, follow, fail closed when it cannot."""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from pathlib import Path

from policyd import clock
from policyd.config import Config
from policyd.decision.cache import Decider
from policyd.decision.snapshot import Snapshot, build_snapshot
from policyd.errors import (
    LedgerBusy,
    LedgerClosed,
    NotServing,
    SourceError,
    StateAstray,
    StateConflict,
    StateCorrupt,
    StateUnfit,
)
from policyd.ledger.change_record import Stage, activation_record, state_change_record
from policyd.ledger.entry import Entry
from policyd.ledger.writer import Ledger
from policyd.model import Registry
from policyd.policy.archive import adopt
from policyd.policy.policyset import PolicySet
from policyd.registry.change import Activation, Change, Draft, Signer, State, draft_activation, read_body
from policyd.registry.redis_store import Fleet, RedisStore
from policyd.registry.redis_url import RedisUrl
from policyd.registry.store import EmbeddedStore, StateStore, Update
from policyd.service.node import Current, Node

_LOG = logging.getLogger("policyd")

POLL_S = 0.5
_ATTEMPTS = 10


def open_store(config: Config, *, signer: Signer | None = None) -> StateStore:
    """Open the state store that the configuration names; without ``signer`` nothing can be appended.

    Raises:
        ConfigError: the store cannot be used as configured.
        NotServing: it cannot be used now.
    """
    if config.redis is None:
        return EmbeddedStore(config.state, trusted=config.trusted_nodes, signer=signer)
    if not config.redis.tls and not config.redis.local:
        _LOG.warning("%s is reached without TLS: who asks and may ask can be read on the way", config.redis)
    return RedisStore(fleet_of(config, config.redis), signer=signer)


def fleet_of(config: Config, redis: RedisUrl) -> Fleet:
    """Return where the fleet's state is, whom this node trusts with it, and where its own copy is."""
    return Fleet(redis, config.trust_domain, config.trusted_nodes, config.state)


def activate(store: StateStore, ledger: Ledger, policy: PolicySet, *, node: str, why: str) -> State:
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


def _admitted(store: StateStore, before: State) -> tuple[Change, State]:
    """Return the change that was just admitted after `before`, and the state by now."""
    with closing(store.follow(before)) as follower:
        update = follower.poll(0.0)
    if update is None:
        raise StateCorrupt(f"change {before.epoch + 1} was admitted and is not there; restore the state")
    return update.changes[0], update.state


def current_of(policy: PolicySet, state: State) -> Current:
    """Build what a node decides on; says in the log what the policy set does not know of the registry."""
    snapshot = build_snapshot(policy, state.registry, epoch=state.epoch)
    _report_unknown(snapshot)
    return Current(Decider(snapshot), _tokens_by_service(state.registry))


class StateFollower:
    """Applies each change to the node as it comes, on a thread of its own."""

    def __init__(
        self,
        node: Node,
        store: StateStore,
        *,
        state: State,
        policy: PolicySet,
        directory: Path,
        archive: Path,
        ledger: Ledger,
    ) -> None:
        self._node = node
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
                self._node.confirm_fresh()
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
            except (StateCorrupt, LedgerClosed, SourceError) as error:
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
            self._policy = self._find(activation)
        current = current_of(self._policy, state)
        self._ledger.append(
            [
                _entry(change.draft, stage=Stage.APPLIED, epoch=change.epoch, chain_hash=change.chain_hash)
                for change in changes
            ]
        )
        self._node.move_to(current)
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


def _tokens_by_service(registry: Registry) -> dict[str, frozenset[bytes]]:
    found: dict[str, set[bytes]] = {}
    for seal in registry.seals.values():
        for service, token in seal.tokens:
            found.setdefault(service, set()).add(token)
    return {service: frozenset(tokens) for service, tokens in found.items()}


def _report_unknown(snapshot: Snapshot) -> None:
    for compiled in snapshot.agreements.values():
        for kind, names in (("field", compiled.unknown_fields), ("purpose", compiled.unknown_purposes)):
            if names:
                listed = ", ".join(f"`{name}`" for name in names[:5]) + (" ..." if len(names) > 5 else "")
                _LOG.warning(
                    "agreement `%s` names %d unknown %s(s), withheld: %s",
                    compiled.agreement.id,
                    len(names),
                    kind,
                    listed,
                )
