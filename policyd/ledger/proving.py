"""Finds a stored record's place in its log, the newest checkpoint over it, and the proof between them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from policyd import merkle
from policyd.errors import ConfigError, LedgerCorrupt
from policyd.ledger import note, store
from policyd.ledger.evidence import Evidence
from policyd.ledger.reader import LedgerReader, StoredRecord


class NotCovered(LedgerCorrupt):
    """No stored checkpoint covers the record yet."""


class Standing(StrEnum):
    """Whether a stored record is proved to be in its log."""

    PROVED = "proved"
    PENDING = "pending"
    """No stored checkpoint covers it yet."""
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: under a checkpoint of `size` records, 0 where none holds or covers it."""

    origin: str
    status: Standing
    size: int = 0
    fault: str = ""


def log_verifier(reader: LedgerReader, public_key: str | None) -> note.Verifier:
    """Return the key that the log's checkpoints must carry: `public_key`, or None for the log's own.

    Raises:
        ConfigError: `public_key` is no vkey.
        LedgerCorrupt: the log's own key is malformed, or the log says that it is another.
    """
    try:
        verifier = note.Verifier.from_vkey(reader.vkey if public_key is None else public_key)
    except ValueError as error:
        kind = LedgerCorrupt if public_key is None else ConfigError
        raise kind(f"the key of the log is malformed: {error}") from None
    if (reader.origin, reader.vkey) != (verifier.name, verifier.vkey):
        raise LedgerCorrupt(f"the log says that it is `{reader.vkey}`, not `{verifier.vkey}`")
    return verifier


def newest_checkpoint(
    directory: Path, reader: LedgerReader, *, verifier: note.Verifier
) -> tuple[str, note.Checkpoint]:
    """Return the newest checkpoint stored in a log or beside it: the signed note, and what it says.

    It may trail the newest records, by a second or a commit, while the log is in use.

    Raises:
        LedgerCorrupt: a checkpoint does not hold, is missing, or its root is not that of the stored tree.
    """
    newest: tuple[str, note.Checkpoint] | None = None
    for signed in (_read_anchor(directory), reader.stored_checkpoint()):
        if not signed:
            continue
        checkpoint = note.verify_checkpoint(signed, origin=verifier.name, verifier=verifier)
        if newest is None or checkpoint.size > newest[1].size:
            newest = signed, checkpoint
    if newest is None:
        raise LedgerCorrupt(f"no checkpoint is stored in `{directory}` or its database: restore it")
    size, root = newest[1].size, newest[1].root
    if reader.root(size) != root:
        raise LedgerCorrupt(f"the stored tree of {size} records has not the root that is signed for it")
    return newest


def prove(
    directory: Path, record: StoredRecord, *, reader: LedgerReader, public_key: str | None = None
) -> Evidence:
    """Return the evidence that a stored record is in its log, under its newest stored checkpoint.

    Raises:
        NotCovered: no stored checkpoint covers it yet.
        LedgerCorrupt: record, tree and checkpoint disagree.
        ConfigError: `public_key` is no vkey.
    """
    signed, checkpoint = newest_checkpoint(directory, reader, verifier=log_verifier(reader, public_key))
    if record.index >= checkpoint.size:
        raise NotCovered(
            f"record {record.index} is not under a stored checkpoint yet (the newest covers "
            f"{checkpoint.size}): try again in a second, or after the node has stopped"
        )
    proof = reader.inclusion_proof(record.index, checkpoint.size)
    if not merkle.verify_inclusion(
        record.leaf_hash, record.index, checkpoint.size, proof=proof, root=checkpoint.root
    ):
        raise LedgerCorrupt(
            f"record {record.index} is not under the root that is signed: "
            f"run `policyd audit verify {directory}`"
        )
    return Evidence(leaf=record.leaf, index=record.index, proof=tuple(proof), checkpoint=signed)


def place_of(
    directory: Path, record: StoredRecord, *, reader: LedgerReader, public_key: str | None = None
) -> Place:
    """Return whether a stored record is proved to be in its log; a fault is a result, not an error.

    Raises:
        ConfigError: `public_key` is no vkey.
    """
    origin = reader.origin
    try:
        evidence = prove(directory, record, reader=reader, public_key=public_key)
    except NotCovered:
        return Place(origin, Standing.PENDING)
    except LedgerCorrupt as error:
        return Place(origin, Standing.FAULT, fault=str(error))
    return Place(
        origin, Standing.PROVED, size=note.parse_checkpoint(note.parse(evidence.checkpoint).text).size
    )


def _read_anchor(directory: Path) -> str:
    try:
        return (directory / store.ANCHOR).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
