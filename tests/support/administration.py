"""Made keys of nodes and administrators, a trust document of them, and changes that they sign."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd.clock import parse_instant
from policyd.registry.change import State
from policyd.registry.draft import ChangeKind, Content, Proposal, draft_change, kind_of
from policyd.registry.trust import Administrator, Role, Trust, TrustedNode, key_id

AT = parse_instant("2026-03-01T10:00:00Z")
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Key:
    """A signing key that follows from its name."""

    name: str

    @property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(self.name.encode()).digest())

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    @property
    def id(self) -> str:
        return key_id(self.public)

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data)


REGISTRAR, APPROVER, SEALER, AUTHOR, AUDITOR = (
    Key(name) for name in ("registrar-1", "approver-1", "sealing-officer-1", "policy-author-1", "auditor-1")
)
NODE_A, NODE_B, STRANGER = Key("node-a"), Key("node-b"), Key("node-x")
ROLES = {
    REGISTRAR: Role.REGISTRAR,
    APPROVER: Role.APPROVER,
    SEALER: Role.SEALING_OFFICER,
    AUTHOR: Role.POLICY_AUTHOR,
    AUDITOR: Role.AUDITOR,
}
SIGNERS = {
    ChangeKind.REGISTRY: (REGISTRAR, APPROVER),
    ChangeKind.SEAL: (SEALER,),
    ChangeKind.LIFT: (SEALER, APPROVER),
    ChangeKind.ACTIVATION: (AUTHOR, APPROVER),
    ChangeKind.TRUST: (REGISTRAR, APPROVER),
}
"""Whose signatures carry each kind of change."""


def administrator(name: str, *roles: Role, person: str = "", key: Key | None = None) -> Administrator:
    """Return an administrator, by default with a key and a person that follow from the name."""
    return Administrator(
        id=name,
        person=person or f"person-of-{name}",
        spiffe_id=f"spiffe://policyd.test/admin/{name}",
        key=(key or Key(name)).public,
        roles=frozenset(roles),
    )


def trust(*more: Administrator, nodes: tuple[Key, ...] = (NODE_A, NODE_B)) -> Trust:
    """Return a document with one administrator a role, and ``more`` beside or in place of them."""
    admins = [administrator(key.name, role) for key, role in ROLES.items()]
    return Trust(
        nodes={key.name: TrustedNode(key.name, key.public) for key in nodes},
        administrators={each.id: each for each in (*admins, *more)},
    )


TRUST = trust()


def propose(content: Content, state: State, *signers: Key, **changes: Any) -> Proposal:
    """Return a change planned on `state`, signed by those whose signatures carry it, or by ``signers``."""
    signed = signers or SIGNERS[kind_of(content)]
    parts = {
        "who": signed[0].name,
        "why": "for a test",
        "at": AT,
        "change_id": f"change-{next(_NUMBERS)}",
        "planned_on": state.chain_hash,
    }
    return Proposal(draft_change(content, **{**parts, **changes})).signed_by(*signed)


def make(store: Any, content: Content, *signers: Key, **changes: Any) -> int:
    """Append a change to a store, planned on what it holds, and return the epoch."""
    state = store.load()
    epoch: int = store.append(propose(content, state, *signers, **changes), state.epoch)
    return epoch
