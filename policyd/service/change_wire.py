"""Signed changes as protobuf and back."""

from __future__ import annotations

import re

from pbac.v1 import registry_pb2 as pb

from policyd.errors import InvalidRequest
from policyd.registry.draft import AdminSignature, Content, Proposal, draft_change

_KEY_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_SIGNATURE_BYTES = 64


def read_change(change: pb.Change, content: Content) -> Proposal:
    """Return the signed change that brings `content`; the signatures are still to be verified.

    Raises:
        InvalidRequest: a part of it has a form that no signed change has.
    """
    signatures = []
    for each in change.signatures:
        if _KEY_ID.fullmatch(each.key_id) is None or len(each.signature) != _SIGNATURE_BYTES:
            raise InvalidRequest("a signature is 64 bytes, under a key id of 16 lower-case hex digits")
        signatures.append(AdminSignature(each.key_id, each.signature))
    try:
        draft = draft_change(
            content,
            who=change.who,
            why=change.why,
            at=change.asked_at_ms,
            change_id=change.change_id,
            planned_on=change.previous_hash,
        )
    except ValueError as error:
        raise InvalidRequest(f"the change cannot be recorded: {error}") from None
    return Proposal(draft, tuple(signatures))


def write_change(proposal: Proposal) -> pb.Change:
    """Return a signed change as protobuf, without its body."""
    draft = proposal.draft
    return pb.Change(
        change_id=draft.change_id,
        previous_hash=draft.planned_on,
        why=draft.why,
        signatures=[
            pb.AdminSignature(key_id=each.key_id, signature=each.signature) for each in proposal.signatures
        ],
        asked_at_ms=draft.at,
        who=draft.who,
    )
