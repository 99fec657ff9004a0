"""The quick reader of bodies takes what the plain one takes, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.administration import NODE_A, SEALER, TRUST, propose

from policyd.canonical import canonical_json
from policyd.errors import StateCorrupt
from policyd.model import Registry, Seal
from policyd.registry import draft
from policyd.registry.change import State, admit, extend
from policyd.registry.draft import ChangeKind, Draft, Proposal, read_body
from policyd.registry.entry import to_dict

SEAL = Seal("SEAL-1", (("npd-secure", b"\xa5" * 32),))
BODY = canonical_json(to_dict(Registry(seals={"SEAL-1": SEAL})))
SAFE = 2**53 - 1

BODIES: list[bytes] = [
    BODY,
    BODY + b" ",
    BODY.replace(b":", b": ", 1),
    BODY.replace(b"a5", b"A5", 1),
    BODY.replace(b'"tokens"', b'"\\u0074okens"'),
    b'{"seals":{"SEAL-1":{"tokens":{"s":"00"}},"SEAL-1":{"tokens":{"s":"00"}}}}',
    b'{"organisations":{"o":{"changed_at":1.5}}}',
    b'{"organisations":{"o":{"changed_at":1e3}}}',
    b'{"organisations":{"o":{"changed_at":NaN}}}',
    b'{"organisations":{"o":{"changed_at":-0}}}',
    b'{"organisations":{"o":{"changed_at":%d}}}' % (SAFE + 1),
    b'{"organisations":{"o":{"changed_at":%d}}}' % 10**30,
    b'{"b":{},"a":{}}',
    b'{"seals":{"\\ud800":{"tokens":{}}}}',
    b'{"seals":{"\xff":{"tokens":{}}}}',
    b"\xef\xbb\xbf" + BODY,
    b"[" * 100_000,
    b"",
    b"{}",
    b"null",
]


def draft_of(kind: ChangeKind, body: bytes, state: State) -> Draft:
    """Return a draft with a body that `draft_change` would refuse to make."""
    return Draft(
        kind, body, who=SEALER.name, why="why", at=0, change_id="change-x", planned_on=state.chain_hash
    )


def taken(body: bytes) -> object:
    """Return what is read of a body, or that nothing is."""
    try:
        return read_body(draft_of(ChangeKind.REGISTRY, body, State()))
    except ValueError:
        return None


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_both_readers_take_the_same_bodies(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other white space, order, escapes, numbers and repeated names: refused by both, or read alike."""
    body = BODIES[number]
    quick = taken(body)

    def unread(_body: bytes) -> Any:
        raise msgspec.DecodeError("not used")

    monkeypatch.setattr(draft.msgspec.json, "decode", unread)
    assert taken(body) == quick
    assert (quick is not None) == (number == 0)


def test_both_write_every_character_alike() -> None:
    """All of Unicode: a text that one escapes and the other does not would only be read slowly."""
    for start in range(0, 0x110000, 0x800):
        if start != 0xD800:  # surrogates are no characters
            text = "".join(map(chr, range(start, start + 0x800)))
            assert msgspec.json.encode(text) == json.dumps(text, ensure_ascii=False).encode()


def test_a_signed_seal_that_does_not_fit_stops_the_chain() -> None:
    """A token of another length can match no record: such a state is not served, whoever signed it."""
    state = extend(State(), [admit(propose(TRUST, State()), state=State(), node="node-a", signer=NODE_A)])
    body = canonical_json({"seals": {"SEAL-1": {"tokens": {"npd-secure": "00" * 31}}}})
    signed = Proposal(draft_of(ChangeKind.SEAL, body, state)).signed_by(SEALER)
    forged = admit(signed, state=state, node="node-a", signer=NODE_A)

    with pytest.raises(StateCorrupt, match=r"change 2 cannot be kept: .*31 bytes"):
        extend(state, [forged])
