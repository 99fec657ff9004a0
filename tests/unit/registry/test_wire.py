"""A change goes to bytes and back in exactly one form."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.administration import AT, NODE_A, TRUST, propose

from policyd.model import Organisation, Registry, Status
from policyd.registry.change import Change, State, admit, extend
from policyd.registry.draft import MAX_SIGNATURES, Activation, Content
from policyd.registry.wire import MAX_HEAD_BYTES, head_bytes, read_change


def _changes() -> list[Change]:
    entry = Organisation("org-1", "school", False, Status.ACTIVE, "École “1”", AT)
    contents: list[tuple[Content, str]] = [
        (TRUST, "begin"),
        (Registry(organisations={"org-1": entry}), "première fois"),
        (Activation(policy_digest="ab" * 32, policy_version=4), "term"),
    ]
    state, changes = State(), []
    for content, why in contents:
        proposal = propose(content, state, why=why)
        changes.append(admit(proposal, state=state, node=NODE_A.name, signer=NODE_A))
        state = extend(state, changes[-1:])
    return changes


CHANGES = _changes()
CHANGE = CHANGES[1]
"""One that brings an entry."""


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.draft.kind.value)
def test_a_change_comes_back_as_it_was(change: Change) -> None:
    """Head and body together are the change, with its signature and its place in the chain."""
    have = read_change(head_bytes(change), change.draft.body)

    assert have == change
    assert have.chain_hash == change.chain_hash


def test_the_head_is_the_documented_one() -> None:
    """The members that docs/state.md lists, no more and no fewer; a new one must be added there."""
    assert sorted(json.loads(head_bytes(CHANGE))) == [
        *("at", "body_sha256", "change_id", "epoch", "kind", "node", "planned_on", "previous"),
        *("signature", "signatures", "who", "why"),
    ]


def _other(**members: object) -> bytes:
    value = {**json.loads(head_bytes(CHANGE)), **members}
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _without(name: str) -> bytes:
    value = json.loads(head_bytes(CHANGE))
    del value[name]
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


MALFORMED = {
    "empty": b"",
    "no JSON": b"{",
    "not UTF-8": b"\xff",
    "a list": b"[]",
    "a number": b"7",
    "deep": b"[" * 60_000,
    "white space": head_bytes(CHANGE) + b"\n",
    "escapes": head_bytes(CHANGE).replace("première".encode(), b"premi\\u00e8re"),
    "a name twice": b'{"at":1,' + head_bytes(CHANGE)[1:],
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
    "no list of signatures": _other(signatures={}),
    "signatures as text": _other(signatures=""),
    "a signature that is no pair": _other(signatures=[["ab", "ab", "ab"]]),
    "a signature that is no list": _other(signatures=["ab"]),
    "a signature of another type": _other(signatures=[["ab", 7]]),
    "a key id of another type": _other(signatures=[[7, "ab"]]),
    "half a byte of a signature": _other(signatures=[["ab", "abc"]]),
    "too many signatures": _other(signatures=[["ab", "ab"]] * (MAX_SIGNATURES + 1)),
    "a change id of another type": _other(change_id=7),
    "upper-case hex of a plan": _other(planned_on="AB" * 32),
    "another body": _other(body_sha256="00" * 32),
    "no body named": _other(body_sha256=None),
    "too long": _other(why="x" * MAX_HEAD_BYTES),
    **{f"without {name}": _without(name) for name in json.loads(head_bytes(CHANGE))},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_anything_else_is_refused(case: str) -> None:
    """Whatever policyd would not have written is no change, and the refusal is a ValueError."""
    with pytest.raises(ValueError):
        read_change(MALFORMED[case], CHANGE.draft.body)


def test_another_body_is_refused() -> None:
    """The head names its body by digest."""
    with pytest.raises(ValueError, match="names another body"):
        read_change(head_bytes(CHANGE), CHANGE.draft.body + b" ")


def test_every_part_of_a_change_is_in_its_bytes() -> None:
    """No two different changes have the same head."""
    change = CHANGE
    first, second = change.signatures
    others = [
        replace(change, epoch=3),
        replace(change, previous=b"\0" * 32),
        replace(change, node="node-2"),
        replace(change, signature=b"\0" * 64),
        replace(change, signatures=(first,)),
        replace(change, signatures=(second, first)),
        replace(change, signatures=(first, replace(second, key_id="0" * 16))),
        replace(change, signatures=(first, replace(second, signature=b"\0" * 64))),
        replace(change, draft=replace(change.draft, change_id="another")),
        replace(change, draft=replace(change.draft, planned_on=b"\0" * 32)),
        replace(change, draft=replace(change.draft, who="c")),
        replace(change, draft=replace(change.draft, why="d")),
        replace(change, draft=replace(change.draft, at=AT + 1)),
        replace(change, draft=replace(change.draft, body=b"{}")),
    ]

    assert len({head_bytes(each) for each in [change, *others]}) == 1 + len(others)
