"""Signed changes, what they change, and what is wrong with them, as protobuf and back."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pbac.v1 import registry_pb2 as pb

from policyd.errors import InvalidRequest
from policyd.registry.check import Fault
from policyd.registry.draft import AdminSignature, Content, Proposal, draft_change
from policyd.registry.state import Difference, Effect
from policyd.service.registry_wire import KIND_OF, Named

_EFFECT = {
    Effect.ADDED: pb.DIFFERENCE_KIND_ADDED,
    Effect.CHANGED: pb.DIFFERENCE_KIND_CHANGED,
    Effect.UNCHANGED: pb.DIFFERENCE_KIND_UNCHANGED,
}
_PART_OF = {"from_at": "from", "until_at": "until", "issuer": "identity", "subject": "identity"}
"""Members whose part has another name in docs/registry.md."""

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


def write_differences(found: Iterable[Difference], order: Iterable[Named]) -> list[pb.Difference]:
    """Return what a change does to each entry, in that order."""
    by_name = {(each.section.key, each.id): each for each in found}
    return [_difference(by_name[name]) for name in order]


def write_faults(faults: Iterable[Fault]) -> list[pb.Problem]:
    """Return contradictions between entries as protobuf."""
    return [
        pb.Problem(
            kind=KIND_OF.get(each.section.key, pb.ENTRY_KIND_UNSPECIFIED),
            id=each.id,
            part=each.member,
            message=each.message,
        )
        for each in faults
    ]


def _difference(found: Difference) -> pb.Difference:
    parts: tuple[pb.PartDifference, ...] = ()
    if found.effect is Effect.CHANGED:
        parts = tuple(
            pb.PartDifference(
                part=_PART_OF.get(each.member, each.member),
                before=each.before,
                after=each.after,
                step=each.step,
            )
            for each in found.members
        )
    return pb.Difference(
        kind=KIND_OF[found.section.key], id=found.id, difference=_EFFECT[found.effect], parts=parts
    )
