"""Checkpoints are C2SP signed notes, written one way and read strictly."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from policyd.errors import LedgerCorrupt
from policyd.ledger import note

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "merkle" / "notes.json").read_text("utf-8")
)
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["private_key"]))
VERIFIER = note.Verifier(VECTORS["name"], KEY.public_key())


def test_key_has_the_published_form() -> None:
    """The private key is that of RFC 8032 section 7.1, test 1; name and key give the vector's vkey."""
    assert KEY.public_key().public_bytes_raw().hex() == VECTORS["public_key"]
    assert VERIFIER.vkey == VECTORS["vkey"]
    assert note.Verifier.from_vkey(VECTORS["vkey"]).key_id == VERIFIER.key_id


@pytest.mark.parametrize("case", VECTORS["good"], ids=lambda c: c["name"])
def test_good_note_is_read(case: dict[str, str]) -> None:
    """A note with the key's signature gives its text, whoever else has signed it."""
    assert note.verify(case["note"], [VERIFIER]) == case["text"]


@pytest.mark.parametrize("case", VECTORS["bad"], ids=lambda c: c["name"])
def test_bad_note_is_refused(case: dict[str, str]) -> None:
    """A note that is malformed, changed or not signed by the key gives nothing."""
    with pytest.raises(LedgerCorrupt):
        note.verify(case["note"], [VERIFIER])


@pytest.mark.parametrize("case", VECTORS["checkpoints"], ids=lambda c: c["name"])
def test_checkpoint_vector(case: dict[str, Any]) -> None:
    """A checkpoint is read if and only if the vector says so."""
    if case["valid"]:
        have = note.parse_checkpoint(case["text"])
        assert (have.origin, have.size, have.root.hex()) == (case["origin"], case["size"], case["root"])
    else:
        with pytest.raises(LedgerCorrupt):
            note.parse_checkpoint(case["text"])


def test_signing_gives_the_vectors_bytes() -> None:
    """Ed25519 is deterministic, so writing a note twice gives the same bytes."""
    case = VECTORS["good"][0]

    assert note.sign(case["text"], VECTORS["name"], key=KEY) == case["note"]


def test_no_flipped_bit_in_a_note_is_accepted() -> None:
    """Every bit of text, name and signature matters."""
    whole = VECTORS["good"][0]["note"].encode("utf-8")
    for position in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[position] ^= 1 << bit
            with pytest.raises(LedgerCorrupt):
                note.verify(changed.decode("utf-8", errors="surrogateescape"), [VERIFIER])


def test_note_over_64_kib_is_refused() -> None:
    """A reader of notes is not made to read for ever."""
    with pytest.raises(LedgerCorrupt, match="over 64 KiB"):
        note.verify(note.sign("a\n" * 40_000, VECTORS["name"], key=KEY), [VERIFIER])


def test_checkpoint_of_another_log_is_refused() -> None:
    """A checkpoint counts only for the origin it is asked for."""
    signed = note.sign_checkpoint(note.Checkpoint(VECTORS["name"], 3, bytes(32)), KEY)

    assert note.verify_checkpoint(signed, origin=VECTORS["name"], verifier=VERIFIER).size == 3
    with pytest.raises(LedgerCorrupt, match="is of log"):
        note.verify_checkpoint(signed, origin="policyd.test/other", verifier=VERIFIER)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb"])
def test_bad_names_are_refused(name: str) -> None:
    """A key name is not empty and holds no space, plus or control character."""
    with pytest.raises(ValueError, match="key name"):
        note.Verifier(name, KEY.public_key())


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "x",
        VECTORS["vkey"].replace("+", "-", 1),
        VECTORS["vkey"][:-4],
        VECTORS["vkey"].replace(VECTORS["vkey"].split("+")[1], "00000000"),
        VECTORS["vkey"].replace(VECTORS["vkey"].split("+")[1], VECTORS["vkey"].split("+")[1].upper()),
        VECTORS["vkey"].split("+")[0] + "+00000000+" + base64.b64encode(b"\x02" + bytes(32)).decode(),
        "other" + VECTORS["vkey"],
    ],
)
def test_bad_vkeys_are_refused(vkey: str) -> None:
    """A vkey whose id does not follow from name and key is not used."""
    with pytest.raises(ValueError, match="vkey"):
        note.Verifier.from_vkey(vkey)


def test_text_that_cannot_be_a_note_is_not_signed() -> None:
    """A text ends in a newline and holds no control character."""
    for text in ("no newline", "tab\t\n", "\x00\n"):
        with pytest.raises(ValueError, match="newline"):
            note.sign(text, VECTORS["name"], key=KEY)


def test_any_public_key_of_32_bytes_can_be_named() -> None:
    """The id of a key is four bytes of a hash over name, type and key."""
    other = Ed25519PublicKey.from_public_bytes(KEY.public_key().public_bytes_raw())

    assert note.Verifier("policyd.test/a", other).key_id != note.Verifier("policyd.test/b", other).key_id
