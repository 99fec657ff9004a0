"""Numbered, chained and signed changes, and the state that a chain of them makes (DESIGN.md section 8)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from policyd.canonical import canonical_json
from policyd.errors import StateCorrupt
from policyd.model import Instant, Registry
from policyd.registry.check import lifted_seals
from policyd.registry.entry import from_dict, is_dated, to_dict
from policyd.registry.state import RegistryEdit

MAX_BODY_BYTES = 16 << 20
GENESIS = hashlib.sha256(b"policyd state chain, format 1").digest()
"""What the first change carries as the hash of the one before it."""

_SIGNED = b"policyd state change, format 1\n"
_CHAINED = b"policyd state link, format 1\n"
_WHO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_WHY_CHARACTERS = 500


class ChangeKind(StrEnum):
    """What a change changes."""

    REGISTRY = "registry"
    SEAL = "seal"
    ACTIVATION = "activation"


class Signer(Protocol):
    """A node's signing key."""

    @property
    def id(self) -> str:
        """Return the id under which others know the public key."""

    def sign(self, data: bytes) -> bytes:
        """Return the Ed25519 signature of `data`."""


@dataclass(frozen=True, slots=True)
class Activation:
    """The policy set that was put in force: SHA-256 of its content in lower-case hex, and its number."""

    policy_digest: str
    policy_version: int


@dataclass(frozen=True, slots=True)
class State:
    """What all changes up to `epoch` add up to; `chain_hash` names that history and no other."""

    epoch: int = 0
    chain_hash: bytes = GENESIS
    registry: Registry = field(default_factory=Registry)
    activation: Activation | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A change that is not admitted yet. ``body`` is canonical JSON; ``who`` an id, ``why`` one line."""

    kind: ChangeKind
    body: bytes
    who: str
    why: str
    at: Instant

    @property
    def digest(self) -> bytes:
        """SHA-256 of the body, by which ledger records name it."""
        return hashlib.sha256(self.body).digest()


@dataclass(frozen=True, slots=True)
class Change:
    """An admitted change: its number, the hash of the one before it, and the admitting node's signature."""

    epoch: int
    previous: bytes
    draft: Draft
    node: str
    signature: bytes

    @property
    def chain_hash(self) -> bytes:
        """SHA-256 over everything that is signed and the signature; the next change carries it."""
        signed = signed_bytes(self.draft, epoch=self.epoch, previous=self.previous, node=self.node)
        return hashlib.sha256(_CHAINED + hashlib.sha256(signed).digest() + self.signature).digest()


def draft_registry(changes: Registry, *, who: str, why: str, at: Instant) -> Draft:
    """Return a change that adds or replaces these entries.

    Raises:
        ValueError: there are no entries, the body is over 16 MiB, or ``who`` or ``why`` is unfit.
    """
    return _draft(ChangeKind.REGISTRY, to_dict(changes), who=who, why=why, at=at)


def draft_seals(changes: Registry, *, who: str, why: str, at: Instant) -> Draft:
    """Return a change that adds seals and nothing else.

    Raises:
        ValueError: as `draft_registry`, or there are other entries than seals.
    """
    return _draft(ChangeKind.SEAL, to_dict(changes), who=who, why=why, at=at)


def draft_activation(activation: Activation, *, who: str, why: str, at: Instant) -> Draft:
    """Return a change that puts a policy set in force.

    Raises:
        ValueError: the digest or number has another form, or ``who`` or ``why`` is unfit.
    """
    body = {"policy_digest": activation.policy_digest, "policy_version": activation.policy_version}
    return _draft(ChangeKind.ACTIVATION, body, who=who, why=why, at=at)


def admit(draft: Draft, *, state: State, signer: Signer) -> Change:
    """Return `draft` as the change after `state`, signed."""
    epoch = state.epoch + 1
    signed = signed_bytes(draft, epoch=epoch, previous=state.chain_hash, node=signer.id)
    return Change(epoch, state.chain_hash, draft, node=signer.id, signature=signer.sign(signed))


def signed_bytes(draft: Draft, *, epoch: int, previous: bytes, node: str) -> bytes:
    """Return what the admitting node signs: all that the change says, its body as a digest."""
    content = {
        "at": draft.at,
        "body_sha256": draft.digest.hex(),
        "epoch": epoch,
        "kind": draft.kind.value,
        "node": node,
        "previous": previous.hex(),
        "who": draft.who,
        "why": draft.why,
    }
    return _SIGNED + canonical_json(content)


def extend(state: State, changes: Iterable[Change], *, trusted: Mapping[str, bytes]) -> State:
    """Verify `changes` one by one as those after `state` and return the state they make.

    ``trusted`` holds the raw Ed25519 public keys of nodes by id. Linear in the changes: the registry
    shares with that of `state` all that they do not name.

    Raises:
        StateCorrupt: a number, link, signature or body is not right; the message names the change.
    """
    epoch, chain_hash, activation = state.epoch, state.chain_hash, state.activation
    edit = RegistryEdit(state.registry)
    for change in changes:
        if change.epoch != epoch + 1:
            raise StateCorrupt(f"change {epoch + 1} is missing; the next one stored is {change.epoch}")
        if change.previous != chain_hash:
            raise StateCorrupt(f"change {change.epoch} does not follow from change {epoch}")
        _verify_signature(change, trusted=trusted)
        try:
            content = read_body(change.draft)
        except ValueError as error:
            raise StateCorrupt(f"change {change.epoch} cannot be read: {error}") from None
        if isinstance(content, Activation):
            activation = content
        else:
            if faults := lifted_seals(edit.registry, content):
                raise StateCorrupt(f"change {change.epoch} lifts a seal, which takes two people: {faults[0]}")
            try:
                edit.put(content)
            except ValueError as error:
                raise StateCorrupt(f"change {change.epoch} cannot be kept: {error}") from None
        epoch, chain_hash = change.epoch, change.chain_hash
    return State(epoch, chain_hash, edit.done(), activation)


def _verify_signature(change: Change, *, trusted: Mapping[str, bytes]) -> None:
    public_key = trusted.get(change.node)
    if public_key is None:
        raise StateCorrupt(
            f"change {change.epoch} was admitted by node key `{change.node}`, which is not trusted"
        )
    try:
        signed = signed_bytes(change.draft, epoch=change.epoch, previous=change.previous, node=change.node)
        Ed25519PublicKey.from_public_bytes(public_key).verify(change.signature, signed)
    except (InvalidSignature, ValueError):
        raise StateCorrupt(f"change {change.epoch} does not bear the signature of its node") from None


def read_body(draft: Draft) -> Registry | Activation:
    """Return what the change brings: entries, or the policy set to put in force.

    Raises:
        ValueError: the draft is not one that `draft_registry` and its like would make.
    """
    if len(draft.body) > MAX_BODY_BYTES:
        raise ValueError(f"it is over {MAX_BODY_BYTES} bytes; apply it in parts")
    if _WHO.fullmatch(draft.who) is None:
        raise ValueError("`who` must be 1 to 128 of [A-Za-z0-9._:@/-]")
    if not 0 < len(draft.why) <= _MAX_WHY_CHARACTERS or not draft.why.isprintable() or draft.why.isspace():
        raise ValueError(f"`why` must be one line of 1 to {_MAX_WHY_CHARACTERS} printable characters")
    if not is_dated(draft.at):
        raise ValueError("`at` is not a date")
    value: Any = _parsed(draft.body)
    if draft.kind is ChangeKind.ACTIVATION:
        return _activation(value)
    if not value:
        raise ValueError("it holds no entries")
    if draft.kind is ChangeKind.SEAL and value.keys() != {"seals"}:
        raise ValueError("it holds other entries than seals")
    return from_dict(value)


def _parsed(body: bytes) -> object:
    """Read canonical JSON; floats and integers beyond 2**53 may be in it, which no entry takes.

    Raises:
        ValueError: it is not JSON, or not in its canonical form.
    """
    try:
        value = msgspec.json.decode(body)
        # Equal bytes also rule out names given twice. Where msgspec writes otherwise than `canonical_json`,
        # or reads less, that decides; it is four times as quick (test_both_readers_take_the_same_bodies).
        if msgspec.json.encode(value, order="sorted") == body:
            return value
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if canonical_json(value) != body:
        raise ValueError("it is not canonical JSON")
    return value


def _draft(kind: ChangeKind, body: Mapping[str, object], *, who: str, why: str, at: Instant) -> Draft:
    draft = Draft(kind, canonical_json(body), who=who, why=why, at=at)
    # INVARIANT: what is admitted can be read back; a change that no load accepts would end the store.
    read_body(draft)
    return draft


def _activation(value: object) -> Activation:
    if not isinstance(value, dict) or value.keys() != {"policy_digest", "policy_version"}:
        raise ValueError("it is not an activation")
    digest, version = value["policy_digest"], value["policy_version"]
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise ValueError("`policy_digest` must be 64 lower-case hex digits")
    if type(version) is not int or version < 1:
        raise ValueError("`policy_version` must be a positive integer")
    return Activation(policy_digest=digest, policy_version=version)
