"""What the ledger holds of one state change: who asked for it, why, and how far it has come."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from policyd.canonical import canonical_json
from policyd.ledger.entry import VERSION, Entry, columns_in_document, require
from policyd.model import Instant

_MAX_WHY = 500


class Stage(StrEnum):
    """How far a state change has come: asked for, accepted by the store, or taken up by this node."""

    INTENDED = "intended"
    IN_FORCE = "in-force"
    APPLIED = "applied"


def state_change_record(
    change: str, *, stage: Stage, epoch: int, body_digest: bytes, who: str, why: str, at: Instant
) -> Entry:
    """Return the record of one state change; `change` is its kind, `who` a pseudonym or a node.

    Raises:
        ValueError: the digest is not 32 bytes, or a text is too long or holds control characters.
    """
    require(len(body_digest) == 32, "the body's digest has not 32 bytes")
    require(len(change) <= 64 and len(who) <= 128, "the kind or the author is too long")
    require(
        len(why) <= _MAX_WHY and why.isprintable(), f"a reason is one line of at most {_MAX_WHY} characters"
    )
    document: dict[str, Any] = {
        "v": VERSION,
        "kind": "state-change",
        "change": change,
        "stage": stage.value,
        "epoch": epoch,
        "body_digest": body_digest.hex(),
        "who": who,
        "why": why,
        "at": at,
    }
    return Entry(leaf=canonical_json(document), columns=columns_in_document(document, {}))
