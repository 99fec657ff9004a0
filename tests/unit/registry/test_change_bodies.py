"""The quick reader of bodies takes what the plain one takes, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from policyd.canonical import canonical_json
from policyd.errors import StateCorrupt
from policyd.model import Registry, Seal
from policyd.registry import change
from policyd.registry.change import Change, ChangeKind, Draft, State, admit, extend, read_body
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


def taken(body: bytes) -> object:
    """Return what is read of a body, or that nothing is."""
    try:
        return read_body(Draft(ChangeKind.REGISTRY, body, who="admin-1", why="why", at=0))
    except ValueError:
        return None


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_both_readers_take_the_same_bodies(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other white space, order, escapes, numbers and repeated names: refused by both, or read alike."""
    body = BODIES[number]
    quick = taken(body)

    def unread(_body: bytes) -> Any:
        raise msgspec.DecodeError("not used")

    monkeypatch.setattr(change.msgspec.json, "decode", unread)
    assert taken(body) == quick
    assert (quick is not None) == (number == 0)


def test_both_write_every_character_alike() -> None:
    """All of Unicode: a text that one escapes and the other does not would only be read slowly."""
    for start in range(0, 0x110000, 0x800):
        if start != 0xD800:  # surrogates are no characters
            text = "".join(map(chr, range(start, start + 0x800)))
            assert msgspec.json.encode(text) == json.dumps(text, ensure_ascii=False).encode()


class Key:
    """A node's key that the test can sign with."""

    id = "a"

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self.private = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data)


def test_a_signed_seal_that_does_not_fit_stops_the_chain() -> None:
    """A token of another length can match no record: such a state is not served, whoever signed it."""
    key = Key()
    body = canonical_json({"seals": {"SEAL-1": {"tokens": {"npd-secure": "00" * 31}}}})
    forged: Change = admit(
        Draft(ChangeKind.SEAL, body, who="admin-1", why="why", at=0), state=State(), signer=key
    )

    with pytest.raises(StateCorrupt, match=r"change 1 cannot be kept: .*31 bytes"):
        extend(State(), [forged], trusted={"a": key.private.public_key().public_bytes_raw()})
