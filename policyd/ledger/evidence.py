"""Evidence files: one record, its inclusion proof and a signed checkpoint, as C2SP tlog-proof."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any

from policyd import merkle
from policyd.errors import LedgerCorrupt
from policyd.ledger import note
from policyd.ledger.entry import MAX_LEAF_BYTES, parse_leaf

SUFFIX = ".tlog-proof"
MAX_BYTES = 262_144
"""More than the largest record, proof and note together."""
_HEADER = "c2sp.org/tlog-proof@v1"
_MAX_PROOF = 63
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an evidence file says, which nobody has checked yet; `checkpoint` is the signed note."""

    leaf: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Proved:
    """What an evidence file proves: the log that `checkpoint` speaks of has this record at this index."""

    leaf: bytes
    index: int
    checkpoint: note.Checkpoint
    document: dict[str, Any] = field(repr=False)


def write_evidence(evidence: Evidence) -> str:
    """Return the text of an evidence file.

    SPEC: C2SP tlog-proof. `extra` holds the record's bytes; the proof is what vouches for them.
    """
    lines = [
        _HEADER,
        f"extra {base64.b64encode(evidence.leaf).decode('ascii')}",
        f"index {evidence.index}",
        *(base64.b64encode(hashed).decode("ascii") for hashed in evidence.proof),
    ]
    return "\n".join(lines) + "\n\n" + evidence.checkpoint


def read_evidence(data: bytes) -> Evidence:
    """Read an evidence file without checking what it says.

    Raises:
        LedgerCorrupt: it is not exactly of the form that C2SP tlog-proof gives, or holds no record.
    """
    if len(data) > MAX_BYTES:
        raise LedgerCorrupt(f"the file has more than {MAX_BYTES} bytes: it is no evidence file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise LedgerCorrupt("the file is not UTF-8: it is no evidence file") from None
    head, blank, signed = text.partition("\n\n")
    header, *lines = head.split("\n")
    if header != _HEADER or not blank:
        raise LedgerCorrupt(f"the file does not begin with `{_HEADER}`, or has no checkpoint")
    if len(lines) < 2 or not lines[0].startswith("extra "):
        raise LedgerCorrupt("the file holds no record: its second line is not `extra`")
    leaf = _unbase64(lines[0].removeprefix("extra "))
    index = _INDEX.fullmatch(lines[1])
    proof = [_unbase64(line) for line in lines[2:]]
    if not leaf or len(leaf) > MAX_LEAF_BYTES:
        raise LedgerCorrupt("the record in line 2 is not base64, empty or too long")
    if index is None:
        raise LedgerCorrupt("line 3 is not `index` and a number")
    hashes = [each for each in proof if each is not None and len(each) == merkle.HASH_BYTES]
    if len(hashes) != len(proof) or len(proof) > _MAX_PROOF:
        raise LedgerCorrupt("a line of the proof is not the base64 of 32 bytes, or there are too many")
    return Evidence(leaf=leaf, index=int(index[1]), proof=tuple(hashes), checkpoint=signed)


def verify_evidence(data: bytes, *, verifier: note.Verifier) -> Proved:
    """Check an evidence file against the key of the log that it must be of; needs nothing else.

    Raises:
        LedgerCorrupt: it is malformed, the signature or the proof does not hold, or the record is of no
            known version.
    """
    evidence = read_evidence(data)
    checkpoint = note.verify_checkpoint(evidence.checkpoint, origin=verifier.name, verifier=verifier)
    if not merkle.verify_inclusion(
        merkle.leaf_hash(evidence.leaf),
        evidence.index,
        checkpoint.size,
        proof=evidence.proof,
        root=checkpoint.root,
    ):
        raise LedgerCorrupt(
            f"the proof does not lead from the record at {evidence.index} to the root of {checkpoint.size}"
        )
    return Proved(
        leaf=evidence.leaf, index=evidence.index, checkpoint=checkpoint, document=parse_leaf(evidence.leaf)
    )


def _unbase64(text: str) -> bytes | None:
    """Return the bytes of standard, padded, canonical base64; None for anything else."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw if base64.b64encode(raw).decode("ascii") == text else None
