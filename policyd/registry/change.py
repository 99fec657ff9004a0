"""Numbered, chained and signed changes, and the state that a chain of them makes (DESIGN.md section 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from policyd.canonical import canonical_json
from policyd.errors import NotAuthorised, StateConflict, StateCorrupt
from policyd.model import Registry
from policyd.registry.authority import authorise
from policyd.registry.check import RegistryError, check, lifted_seals, unknown_seals, unsealed
from policyd.registry.draft import (
    Activation,
    AdminSignature,
    Content,
    Draft,
    Lift,
    Proposal,
    Signer,
    names_in,
    read_body,
)
from policyd.registry.history import History
from policyd.registry.state import RegistryEdit, merge
from policyd.registry.trust import Trust

GENESIS = hashlib.sha256(b"policyd state chain, format 2").digest()
"""What the first change carries as the hash of the one before it."""

_ORDER = b"policyd change order, format 2\n"
_CHAINED = b"policyd state link, format 2\n"


@dataclass(frozen=True, slots=True)
class State:
    """What all changes up to `epoch` add up to; `chain_hash` names that history and no other."""

    epoch: int = 0
    chain_hash: bytes = GENESIS
    registry: Registry = field(default_factory=Registry)
    activation: Activation | None = None
    trust: Trust | None = None
    history: History = field(default=History.of(GENESIS), repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """A change that a node has put in order: signed by administrators, numbered and signed by the node."""

    epoch: int
    previous: bytes
    draft: Draft
    signatures: tuple[AdminSignature, ...]
    node: str
    signature: bytes

    @property
    def proposal(self) -> Proposal:
        """The change as administrators have signed it."""
        return Proposal(self.draft, self.signatures)

    @property
    def order(self) -> bytes:
        """What the node signs."""
        return order_bytes(self.proposal, epoch=self.epoch, previous=self.previous, node=self.node)

    @property
    def chain_hash(self) -> bytes:
        """SHA-256 over everything that is signed and the signature; the next change carries it."""
        return hashlib.sha256(_CHAINED + hashlib.sha256(self.order).digest() + self.signature).digest()


def admit(proposal: Proposal, *, state: State, node: str, signer: Signer) -> Change:
    """Return `proposal` as the change after `state`, signed by `node`, whose key `signer` is."""
    epoch = state.epoch + 1
    order = order_bytes(proposal, epoch=epoch, previous=state.chain_hash, node=node)
    return Change(
        epoch, state.chain_hash, proposal.draft, proposal.signatures, node=node, signature=signer.sign(order)
    )


def admit_checked(
    proposal: Proposal, content: Content, *, state: State, expected_epoch: int, node: str, signer: Signer
) -> tuple[Change, State]:
    """Return a proposal, which brings `content`, as the change after `state`, and the state after that.

    What every store does before it keeps a change; nothing is kept here.

    Raises:
        StateConflict: the state has another epoch than the one expected, or as `judge`.
        ApprovalMissing, NotAuthorised: its signatures do not carry it.
        RegistryError: its entries contradict each other or those registered.
        ValueError: a seal has a token that is not 32 bytes long.
    """
    if state.epoch != expected_epoch:
        raise epoch_conflict(state.epoch, expected_epoch)
    judge(proposal, content=content, state=state)
    if isinstance(content, Registry):
        faults = check(merge(state.registry, content), only=content, before=state.registry)
        if faults:
            raise RegistryError(faults)
    change = admit(proposal, state=state, node=node, signer=signer)
    return change, apply_change(change, content, state=state)


def epoch_conflict(epoch: int, expected: int) -> StateConflict:
    """Return the error that the state is at another epoch than a change was planned on."""
    return StateConflict(
        f"the state is at epoch {epoch}, but the change was planned on {expected}; plan it again"
    )


def order_bytes(proposal: Proposal, *, epoch: int, previous: bytes, node: str) -> bytes:
    """Return what the admitting node signs: the place of a request in the chain, and who signed it."""
    content = {
        "epoch": epoch,
        "node": node,
        "previous": previous.hex(),
        "request_sha256": hashlib.sha256(proposal.draft.request).hexdigest(),
        "signatures": [[each.key_id, each.signature.hex()] for each in proposal.signatures],
    }
    return _ORDER + canonical_json(content)


def extend(state: State, changes: Iterable[Change]) -> State:
    """Verify `changes` one by one as those after `state` and return the state they make.

    Each is judged by the trust document in force before it; a trust document by its own, too. Linear in the
    changes: the registry shares with that of `state` all that they do not name.

    Raises:
        StateCorrupt: a number, link, signature, body or role is not right; the message names the change.
    """
    edit = RegistryEdit(state.registry)
    for change in changes:
        # What is judged is the registry as it is by now, and is not kept.
        content = verify_change(change, state=replace(state, registry=edit.registry))
        try:
            state = _after(change, content, state=state, edit=edit)
        except RegistryError as error:
            raise StateCorrupt(f"change {change.epoch} is not to be applied: {error}") from None
        except ValueError as error:
            raise StateCorrupt(f"change {change.epoch} cannot be kept: {error}") from None
    return replace(state, registry=edit.done())


def verify_change(change: Change, *, state: State) -> Content:
    """Return what `change` brings, if it is the one after `state` and bears every signature it takes.

    Raises:
        StateCorrupt: it is not; the message names the change and says why.
    """
    if change.epoch != state.epoch + 1:
        raise StateCorrupt(f"change {state.epoch + 1} is missing; the next one stored is {change.epoch}")
    if change.previous != state.chain_hash:
        raise StateCorrupt(f"change {change.epoch} does not follow from change {state.epoch}")
    try:
        content = read_body(change.draft)
    except ValueError as error:
        raise StateCorrupt(f"change {change.epoch} cannot be read: {error}") from None
    _verify_order(change, trust=content if state.trust is None else state.trust)
    try:
        judge(change.proposal, content=content, state=state)
    except (NotAuthorised, StateConflict, RegistryError) as error:
        raise StateCorrupt(f"change {change.epoch} is not to be applied: {error}") from None
    return content


def judge(proposal: Proposal, *, content: Content, state: State) -> None:
    """Return if `proposal`, which brings `content`, may change `state`; its signatures are verified.

    Raises:
        StateConflict, ApprovalMissing, NotAuthorised: as `authorise`.
        RegistryError: a seal loses a token without being lifted, or one that is lifted is not there.
    """
    authorise(proposal, content=content, registry=state.registry, trust=state.trust, history=state.history)
    faults = []
    if isinstance(content, Lift):
        faults = unknown_seals(state.registry, content.seals)
    elif isinstance(content, Registry):
        faults = lifted_seals(state.registry, content)
    if faults:
        raise RegistryError(faults)


def apply_change(change: Change, content: Content, *, state: State) -> State:
    """Return `state` with a change applied that `judge` has let pass.

    Raises:
        RegistryError: after it a seal would not hold at some data service.
        ValueError: a seal has a token that is not 32 bytes long.
    """
    edit = RegistryEdit(state.registry)
    after = _after(change, content, state=state, edit=edit)
    return replace(after, registry=edit.done())


def _after(change: Change, content: Content, *, state: State, edit: RegistryEdit) -> State:
    """Return `state` after a verified change, but for the registry, whose part goes into `edit`."""
    chain_hash = change.chain_hash
    history = state.history.after(change.draft.change_id, chain_hash=chain_hash, names=names_in(content))
    state = replace(state, epoch=change.epoch, chain_hash=chain_hash, history=history)
    match content:
        case Registry():
            edit.put(content)
            # SECURITY: a node could put a data service that was signed for before a seal after it
            # (test_no_node_can_order_a_data_service_past_a_seal).
            if faults := unsealed(edit.registry, content):
                raise RegistryError(faults)
        case Lift(seals):
            edit.lift(seals)
        case Activation():
            state = replace(state, activation=content)
        case Trust():
            state = replace(state, trust=content)
    return state


def _verify_order(change: Change, *, trust: Content) -> None:
    """Return if the node that signed the order is one of `trust`; other content than trust names none."""
    node = trust.nodes.get(change.node) if isinstance(trust, Trust) else None
    if node is None:
        raise StateCorrupt(f"change {change.epoch} was ordered by node `{change.node}`, which is not trusted")
    try:
        Ed25519PublicKey.from_public_bytes(node.key).verify(change.signature, change.order)
    except (InvalidSignature, ValueError):
        raise StateCorrupt(f"change {change.epoch} does not bear the signature of its node") from None
