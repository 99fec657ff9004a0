"""A change as bytes and back: the head says everything but the body, which lies beside it as it is."""

from __future__ import annotations

import json
import re

from policyd.canonical import canonical_json
from policyd.registry.change import Change
from policyd.registry.draft import MAX_BODY_BYTES, MAX_SIGNATURES, AdminSignature, ChangeKind, Draft

MAX_HEAD_BYTES = 64 << 10

_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)


def head_bytes(change: Change) -> bytes:
    """Return what a store keeps of a change beside its body; it names the body by its digest."""
    draft = change.draft
    # INVARIANT: `read_change` takes every member back and writes it again, so a member that is written
    # here and not read there makes every change unreadable, which the round trip in the tests shows.
    return canonical_json(
        {
            "at": draft.at,
            "body_sha256": draft.digest.hex(),
            "change_id": draft.change_id,
            "epoch": change.epoch,
            "kind": draft.kind.value,
            "node": change.node,
            "planned_on": draft.planned_on.hex(),
            "previous": change.previous.hex(),
            "signature": change.signature.hex(),
            "signatures": [[each.key_id, each.signature.hex()] for each in change.signatures],
            "who": draft.who,
            "why": draft.why,
        }
    )


def read_change(head: bytes, body: bytes) -> Change:
    """Read what `head_bytes` wrote; signatures and content are for `change.extend` to check.

    Raises:
        ValueError: the bytes have any other form, or the body is another one than the head names.
    """
    if len(head) > MAX_HEAD_BYTES or len(body) > MAX_BODY_BYTES:
        raise ValueError("it is larger than any change that policyd writes")
    try:
        value = json.loads(head)
    except (ValueError, RecursionError):
        raise ValueError("its head is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("its head is not a JSON object")
    kind = _text(value, "kind")
    if kind not in set(ChangeKind):
        raise ValueError("its kind is none that this policyd knows")
    draft = Draft(
        ChangeKind(kind),
        body,
        who=_text(value, "who"),
        why=_text(value, "why"),
        at=_number(value, "at"),
        change_id=_text(value, "change_id"),
        planned_on=_bytes(value, "planned_on"),
    )
    change = Change(
        _number(value, "epoch"),
        _bytes(value, "previous"),
        draft,
        _signatures(value),
        node=_text(value, "node"),
        signature=_bytes(value, "signature"),
    )
    # Written again it must be the same: one comparison finds members too many, another order, other
    # spellings of one value, and a body that was exchanged.
    try:
        same = head_bytes(change) == head
    except ValueError:
        same = False
    if not same:
        raise ValueError("its head is not as policyd writes it, or names another body")
    return change


def _signatures(value: dict[str, object]) -> tuple[AdminSignature, ...]:
    found = value.get("signatures")
    if not isinstance(found, list) or len(found) > MAX_SIGNATURES:
        raise ValueError("`signatures` of its head is no list of signatures")
    made = []
    for each in found:
        if not isinstance(each, list) or len(each) != 2:
            raise ValueError("a signature of its head is no pair")
        key, signature = ({"part": part} for part in each)
        made.append(AdminSignature(_text(key, "part"), _bytes(signature, "part")))
    return tuple(made)


def _text(value: dict[str, object], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise ValueError(f"`{name}` of its head is no text")
    return text


def _number(value: dict[str, object], name: str) -> int:
    number = value.get(name)
    if type(number) is not int or number < 0:
        raise ValueError(f"`{name}` of its head is no whole number")
    return number


def _bytes(value: dict[str, object], name: str) -> bytes:
    text = _text(value, name)
    if _HEX.fullmatch(text) is None:
        raise ValueError(f"`{name}` of its head is not in lower-case hex digits")
    return bytes.fromhex(text)
