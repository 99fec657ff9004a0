"""What the ledger holds of a state change, an activation or an erasure: who, why, how far it has come."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any

from policyd.canonical import canonical_json
from policyd.ledger.entry import VERSION, Entry, columns_in_document, require
from policyd.model import Instant

ERASURE = "erasure"
"""The kind of change by which keys are deleted."""

_MAX_WHY = 500


class Stage(StrEnum):
    """How far a state change has come: asked for, accepted by the store, or taken up by this node."""

    INTENDED = "intended"
    IN_FORCE = "in-force"
    APPLIED = "applied"


def state_change_record(
    change: str,
    *,
    stage: Stage,
    epoch: int,
    body_digest: bytes,
    who: str,
    why: str,
    at: Instant,
    chain_hash: bytes = b"",
) -> Entry:
    """Return the record of one state change; `change` is its kind, `who` a pseudonym or a node.

    `chain_hash` is that of the change, by which two nodes compare their histories; an intent has none yet.

    Raises:
        ValueError: a digest is not 32 bytes, or a text is too long or holds control characters.
    """
    return _entry(
        {"kind": "state-change", "change": change},
        stage=stage,
        epoch=epoch,
        body_digest=body_digest,
        who=who,
        why=why,
        at=at,
        chain_hash=chain_hash,
    )


def activation_record(
    *,
    policy_digest: str,
    policy_version: int,
    stage: Stage,
    epoch: int,
    body_digest: bytes,
    who: str,
    why: str,
    at: Instant,
    chain_hash: bytes = b"",
) -> Entry:
    """Return the record of a state change that puts a policy set in force.

    Raises:
        ValueError: as `state_change_record`.
    """
    named = {"policy_digest": policy_digest, "policy_version": policy_version}
    return _entry(
        {"kind": "activation", "change": "activation", **named},
        stage=stage,
        epoch=epoch,
        body_digest=body_digest,
        who=who,
        why=why,
        at=at,
        chain_hash=chain_hash,
    )


def erasure_record(
    *,
    stage: Stage,
    epoch: int,
    records: int,
    persons: int,
    lost: bool,
    backups_until: str,
    who: str,
    why: str,
    at: Instant,
) -> Entry:
    """Return the record that keys were deleted: of so many records and persons, and of nobody by name.

    ``lost`` says that the keys were lost and not erased; ``backups_until`` is the date on which the last
    copy of them dies, as the operator gave it, or empty.

    Raises:
        ValueError: a text is too long or holds control characters.
    """
    body = {"records": records, "persons": persons, "lost": lost, "backups_until": backups_until}
    digest = hashlib.sha256(canonical_json(body)).digest()
    return _entry(
        {"kind": "state-change", "change": ERASURE, **body},
        stage=stage,
        epoch=epoch,
        body_digest=digest,
        who=who,
        why=why,
        at=at,
        chain_hash=b"",
    )


def _entry(
    document: dict[str, Any],
    *,
    stage: Stage,
    epoch: int,
    body_digest: bytes,
    who: str,
    why: str,
    at: Instant,
    chain_hash: bytes,
) -> Entry:
    require(len(body_digest) == 32, "the body's digest has not 32 bytes")
    require(len(chain_hash) in (0, 32), "the chain hash has not 32 bytes")
    require(len(document["change"]) <= 64 and len(who) <= 128, "the kind or the author is too long")
    require(
        len(why) <= _MAX_WHY and why.isprintable(), f"a reason is one line of at most {_MAX_WHY} characters"
    )
    document |= {
        "v": VERSION,
        "stage": stage.value,
        "epoch": epoch,
        "body_digest": body_digest.hex(),
        "chain_hash": chain_hash.hex(),
        "who": who,
        "why": why,
        "at": at,
    }
    return Entry(leaf=canonical_json(document), columns=columns_in_document(document, {}))
