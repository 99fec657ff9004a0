"""What administrators ask for: the content of a change, its form, and the bytes that they sign."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from policyd.canonical import canonical_json
from policyd.model import Instant, Registry
from policyd.policy.reader import CODE
from policyd.registry.entry import SECTIONS, from_dict, is_dated, to_dict
from policyd.registry.history import MAX_NAMES, Name
from policyd.registry.trust import Trust, trust_of

MAX_BODY_BYTES = 16 << 20
MAX_SIGNATURES = 8

_REQUEST = b"policyd change request, format 2\n"
_WHO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_WHY_CHARACTERS = 500


class ChangeKind(StrEnum):
    """What a change changes."""

    REGISTRY = "registry"
    SEAL = "seal"
    LIFT = "lift"
    ACTIVATION = "activation"
    TRUST = "trust"


@dataclass(frozen=True, slots=True)
class Activation:
    """The policy set that is put in force: SHA-256 of its content in lower-case hex, and its number."""

    policy_digest: str
    policy_version: int


@dataclass(frozen=True, slots=True)
class Lift:
    """The seals that are taken away, by id, sorted."""

    seals: tuple[str, ...]


Content = Registry | Lift | Activation | Trust
"""What a change brings: entries, seals to lift, the policy set to put in force, or a trust document."""


class Signer(Protocol):
    """A signing key of a node or an administrator."""

    @property
    def id(self) -> str:
        """Return the id of the key: the first 16 hex digits of the SHA-256 of the public key."""

    @property
    def public(self) -> bytes:
        """Return the raw Ed25519 public key."""

    def sign(self, data: bytes) -> bytes:
        """Return the Ed25519 signature of `data`."""


@dataclass(frozen=True, slots=True)
class AdminSignature:
    """An administrator's Ed25519 signature over a request, and the id of the key that made it."""

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A change as it is asked for. ``body`` is canonical JSON, ``who`` the asking administrator's id.

    ``planned_on`` is the chain hash of the state that the asker and the approver have seen.
    """

    kind: ChangeKind
    body: bytes
    who: str
    why: str
    at: Instant
    change_id: str
    planned_on: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the body, by which ledger records name it."""
        return hashlib.sha256(self.body).digest()

    @property
    def request(self) -> bytes:
        """What administrators sign: all that the change says, its body as a digest."""
        content = {
            "at": self.at,
            "body_sha256": self.digest.hex(),
            "change_id": self.change_id,
            "kind": self.kind.value,
            "planned_on": self.planned_on.hex(),
            "who": self.who,
            "why": self.why,
        }
        return _REQUEST + canonical_json(content)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A draft and the signatures that it bears so far; the first is the asker's."""

    draft: Draft
    signatures: tuple[AdminSignature, ...] = ()

    def signed_by(self, *signers: Signer) -> Proposal:
        """Return the proposal with the signatures of `signers` added."""
        request = self.draft.request
        made = tuple(AdminSignature(signer.id, signer.sign(request)) for signer in signers)
        return replace(self, signatures=self.signatures + made)


def draft_change(
    content: Content, *, who: str, why: str, at: Instant, change_id: str, planned_on: bytes
) -> Draft:
    """Return a change that brings `content`; entries that are seals alone make a change of kind seal.

    Raises:
        ValueError: there is nothing in it, the body is over 16 MiB, or another part is unfit.
    """
    body = canonical_json(_body(content))
    draft = Draft(kind_of(content), body, who=who, why=why, at=at, change_id=change_id, planned_on=planned_on)
    # INVARIANT: what is admitted can be read back; a change that no load accepts would end the store.
    read_body(draft)
    return draft


def read_body(draft: Draft) -> Content:
    """Return what the change brings.

    Raises:
        ValueError: the draft is not one that `draft_change` would make.
    """
    if len(draft.body) > MAX_BODY_BYTES:
        raise ValueError(f"it is over {MAX_BODY_BYTES} bytes; apply it in parts")
    if _WHO.fullmatch(draft.who) is None:
        raise ValueError("`who` must be 1 to 128 of [A-Za-z0-9._:@/-]")
    if not 0 < len(draft.why) <= _MAX_WHY_CHARACTERS or not draft.why.isprintable() or draft.why.isspace():
        raise ValueError(f"`why` must be one line of 1 to {_MAX_WHY_CHARACTERS} printable characters")
    if not is_dated(draft.at):
        raise ValueError("`at` is not a date")
    if CODE.fullmatch(draft.change_id) is None:
        raise ValueError("`change_id` must be 1 to 64 of [A-Za-z0-9._-]")
    if len(draft.planned_on) != hashlib.sha256().digest_size:
        raise ValueError("`planned_on` is not a chain hash")
    value: Any = _parsed(draft.body)
    match draft.kind:
        case ChangeKind.ACTIVATION:
            return _activation(value)
        case ChangeKind.LIFT:
            return _lift(value)
        case ChangeKind.TRUST:
            return trust_of(value)
        case ChangeKind.REGISTRY | ChangeKind.SEAL:
            if not value:
                raise ValueError("it holds no entries")
            if draft.kind is ChangeKind.SEAL and value.keys() != {"seals"}:
                raise ValueError("it holds other entries than seals")
            return from_dict(value)


def _parsed(body: bytes) -> object:
    """Read canonical JSON; floats and integers beyond 2**53 may be in it, which no content takes.

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
        again = canonical_json(value)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON that can be signed") from None
    if again != body:
        raise ValueError("it is not canonical JSON")
    return value


def names_in(content: Content) -> frozenset[Name] | None:
    """Return what a change touches; None for everything, or for more than a history remembers."""
    match content:
        case Registry():
            tables = {key: section.of(content) for key, section in SECTIONS.items()}
            if sum(map(len, tables.values())) > MAX_NAMES:
                return None
            return frozenset((key, id_) for key, table in tables.items() for id_ in table)
        case Lift(seals):
            return frozenset(("seals", id_) for id_ in seals)
        case Activation():
            return frozenset({("activation", "")})
        case Trust():
            return None


def kind_of(content: Content) -> ChangeKind:
    """Return the kind of change that brings `content`; entries that are seals alone are of kind seal."""
    match content:
        case Registry():
            sealing = bool(content.seals) and names_in(replace(content, seals={})) == frozenset()
            return ChangeKind.SEAL if sealing else ChangeKind.REGISTRY
        case Lift():
            return ChangeKind.LIFT
        case Activation():
            return ChangeKind.ACTIVATION
        case Trust():
            return ChangeKind.TRUST


def _body(content: Content) -> Mapping[str, object]:
    match content:
        case Registry():
            return to_dict(content)
        case Lift(seals):
            return {"seals": list(seals)}
        case Activation(digest, version):
            return {"policy_digest": digest, "policy_version": version}
        case Trust():
            return content.document


def _activation(value: object) -> Activation:
    if not isinstance(value, dict) or value.keys() != {"policy_digest", "policy_version"}:
        raise ValueError("it is not an activation")
    digest, version = value["policy_digest"], value["policy_version"]
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise ValueError("`policy_digest` must be 64 lower-case hex digits")
    if type(version) is not int or version < 1:
        raise ValueError("`policy_version` must be a positive integer")
    return Activation(policy_digest=digest, policy_version=version)


def _lift(value: object) -> Lift:
    seals = value.get("seals") if isinstance(value, dict) and value.keys() == {"seals"} else None
    if not isinstance(seals, list) or not seals or not all(isinstance(id_, str) for id_ in seals):
        raise ValueError("it names no seals to lift")
    if sorted(set(seals)) != seals:
        raise ValueError("the seals to lift are not sorted, or one is named twice")
    return Lift(tuple(seals))
