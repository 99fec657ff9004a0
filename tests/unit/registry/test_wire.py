"""A change goes to bytes and back in exactly one form."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd.clock import parse_instant
from policyd.identity.keys import SigningKey
from policyd.model import Organisation, Registry, Status
from policyd.registry.change import (
    Activation,
    Change,
    State,
    admit,
    draft_activation,
    draft_registry,
    extend,
)
from policyd.registry.wire import MAX_HEAD_BYTES, head_bytes, read_change

AT = parse_instant("2026-03-01T10:00:00Z")
_PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
KEY = SigningKey(id="node-1", public=_PRIVATE.public_key().public_bytes_raw(), private=_PRIVATE)


def _changes() -> list[Change]:
    entry = Organisation("org-1", "school", False, Status.ACTIVE, "École “1”", AT)
    drafts = [
        draft_registry(Registry(organisations={"org-1": entry}), who="a@b", why="première fois", at=AT),
        draft_activation(
            Activation(policy_digest="ab" * 32, policy_version=4), who="admin-1", why="term", at=AT
        ),
    ]
    state, changes = State(), []
    for draft in drafts:
        changes.append(admit(draft, state=state, signer=KEY))
        state = extend(state, changes[-1:], trusted={KEY.id: KEY.public})
    return changes


CHANGES = _changes()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.draft.kind.value)
def test_a_change_comes_back_as_it_was(change: Change) -> None:
    """Head and body together are the change, with its signature and its place in the chain."""
    have = read_change(head_bytes(change), change.draft.body)

    assert have == change
    assert have.chain_hash == change.chain_hash


def test_the_head_is_the_documented_one() -> None:
    """The members that docs/state.md lists, no more and no fewer; a new one must be added there."""
    assert sorted(json.loads(head_bytes(CHANGES[0]))) == [
        *("at", "body_sha256", "epoch", "kind", "node", "previous", "signature", "who", "why"),
    ]


def _other(**members: object) -> bytes:
    value = {**json.loads(head_bytes(CHANGES[0])), **members}
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _without(name: str) -> bytes:
    value = json.loads(head_bytes(CHANGES[0]))
    del value[name]
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


MALFORMED = {
    "empty": b"",
    "no JSON": b"{",
    "not UTF-8": b"\xff",
    "a list": b"[]",
    "a number": b"7",
    "deep": b"[" * 60_000,
    "white space": head_bytes(CHANGES[0]) + b"\n",
    "escapes": head_bytes(CHANGES[0]).replace("première".encode(), b"premi\\u00e8re"),
    "a name twice": b'{"at":1,' + head_bytes(CHANGES[0])[1:],
    "a member more": _other(zeal=1),
    "another kind": _other(kind="wish"),
    "a kind of another type": _other(kind=["registry"]),
    "an epoch as text": _other(epoch="1"),
    "an epoch as a truth": _other(epoch=True),
    "an epoch below zero": _other(epoch=-1),
    "an epoch as a fraction": _other(epoch=1.0),
    "a date beyond": _other(at=2**60),
    "upper-case hex": _other(previous="AB" * 32),
    "half a byte": _other(signature="abc"),
    "another body": _other(body_sha256="00" * 32),
    "no body named": _other(body_sha256=None),
    "too long": _other(why="x" * MAX_HEAD_BYTES),
    **{f"without {name}": _without(name) for name in json.loads(head_bytes(CHANGES[0]))},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_anything_else_is_refused(case: str) -> None:
    """Whatever policyd would not have written is no change, and the refusal is a ValueError."""
    with pytest.raises(ValueError):
        read_change(MALFORMED[case], CHANGES[0].draft.body)


def test_another_body_is_refused() -> None:
    """The head names its body by digest."""
    with pytest.raises(ValueError, match="names another body"):
        read_change(head_bytes(CHANGES[0]), CHANGES[0].draft.body + b" ")


def test_every_part_of_a_change_is_in_its_bytes() -> None:
    """No two different changes have the same head."""
    change = CHANGES[0]
    others = [
        replace(change, epoch=2),
        replace(change, previous=b"\0" * 32),
        replace(change, node="node-2"),
        replace(change, signature=b"\0" * 64),
        replace(change, draft=replace(change.draft, who="c")),
        replace(change, draft=replace(change.draft, why="d")),
        replace(change, draft=replace(change.draft, at=AT + 1)),
        replace(change, draft=replace(change.draft, body=b"{}")),
    ]

    assert len({head_bytes(each) for each in [change, *others]}) == 9
