"""Cosignatures are those of C2SP tlog-cosignature: made one way, and refused for any difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd.errors import LedgerCorrupt
from policyd.ledger import note

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "merkle" / "cosignatures.json").read_text("utf-8")
)
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["witness_private_key"]))
LOG = note.Verifier.from_vkey(VECTORS["log_vkey"])
WITNESS = note.WitnessVerifier.from_vkey(VECTORS["witness_vkey"])


@pytest.mark.parametrize("case", VECTORS["good"], ids=lambda case: case["name"])
def test_a_good_note_holds_for_log_and_witness(case: dict[str, Any]) -> None:
    """Both have signed it, whoever else has; making the signature again gives the same bytes."""
    have = note.verify_checkpoint(case["note"], origin=LOG.name, verifier=LOG, witness=WITNESS)
    text = note.parse(case["note"]).text

    assert have.size == 25448
    assert note.cosign(text, WITNESS.name, key=KEY, at_s=case["time_s"]) in case["note"]


@pytest.mark.parametrize("case", VECTORS["bad"], ids=lambda case: case["name"])
def test_a_bad_note_is_refused(case: dict[str, Any]) -> None:
    """Whoever demands the signatures of both gets nothing from it."""
    with pytest.raises(LedgerCorrupt):
        note.verify_checkpoint(case["note"], origin=LOG.name, verifier=LOG, witness=WITNESS)


def test_the_vkey_has_the_type_of_its_use() -> None:
    """One key has another id as a log and as a witness, and neither vkey is taken for the other."""
    public = KEY.public_key()
    as_log, as_witness = note.Verifier(WITNESS.name, public), note.WitnessVerifier(WITNESS.name, public)

    assert as_witness.vkey == VECTORS["witness_vkey"]
    assert as_log.key_id != as_witness.key_id
    with pytest.raises(ValueError, match="no vkey of a witness"):
        note.WitnessVerifier.from_vkey(as_log.vkey)
    with pytest.raises(ValueError, match="no vkey of an Ed25519 key"):
        note.Verifier.from_vkey(as_witness.vkey)


def test_no_flipped_bit_of_a_cosignature_holds() -> None:
    """Every bit of name, id, time and signature matters."""
    whole = VECTORS["good"][0]["note"]
    line = whole.split("\n")[-2].encode("utf-8")
    for position in range(len(line)):
        for bit in range(8):
            changed = bytearray(line)
            changed[position] ^= 1 << bit
            text = (
                whole.encode("utf-8").replace(line, bytes(changed)).decode("utf-8", errors="surrogateescape")
            )
            with pytest.raises(LedgerCorrupt):
                note.verify_checkpoint(text, origin=LOG.name, verifier=LOG, witness=WITNESS)


@pytest.mark.parametrize(
    ("text", "name", "at_s"),
    [("x", "w", 1), ("x\t\n", "w", 1), ("x\n", "a b", 1), ("x\n", "w", -1), ("x\n", "w", 2**63)],
)
def test_what_no_note_can_hold_is_not_cosigned(text: str, name: str, at_s: int) -> None:
    """A text without its newline, a bad name, a time that does not fit."""
    with pytest.raises(ValueError, match=r"note|time"):
        note.cosign(text, name, key=KEY, at_s=at_s)
