"""What the ledger holds of one release: what a data service says it did after a decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policyd.canonical import canonical_json
from policyd.errors import LedgerCorrupt
from policyd.ledger.entry import MAX_LEAF_BYTES, VERSION, Entry, columns_in_document, parse_leaf, require
from policyd.ledger.note import Checkpoint, parse, parse_checkpoint
from policyd.model import Instant

MAX_CHECKPOINTS = 16
MAX_CHECKPOINT_BYTES = 4_096
MAX_CHECKPOINTS_BYTES = 48 * 1024
"""All checkpoints of a report together, so that the record fits."""
OBLIGATIONS = frozenset(
    {
        "exclude_sealed",
        "rows",
        "min_cell_count",
        "round_to",
        "retention_days",
        "output_check",
        "publish_in_register",
        "setting",
    }
)
"""The names that an obligation can have: the oneof fields of `Obligation` in decision.proto."""
_MAX_ROWS = 2**53 - 1


def release_record(
    decision_id: str,
    *,
    report_id: str,
    at: Instant,
    spiffe_id: str,
    data_service: str,
    rows: int,
    obligations_met: Sequence[str],
    result_digest: bytes,
    checkpoints: Sequence[str],
) -> Entry:
    """Return the record of one release; `checkpoints` are signed notes that the data service holds.

    Raises:
        ValueError: a part is malformed or too long; the message is fit for the data service.
        LedgerCorrupt: a checkpoint is not of the form that C2SP gives.
    """
    require(0 <= rows <= _MAX_ROWS, f"rows must be at most {_MAX_ROWS}")
    require(
        len(set(obligations_met)) == len(obligations_met) and OBLIGATIONS.issuperset(obligations_met),
        f"obligations_met holds each at most once of {', '.join(sorted(OBLIGATIONS))}",
    )
    require(len(result_digest) in (0, 32), "result_digest must be 32 bytes, or absent")
    require(bool(result_digest) or not rows, "result_digest is absent, but rows were released")
    require(
        len(checkpoints) <= MAX_CHECKPOINTS
        and all(len(note.encode("utf-8", "replace")) <= MAX_CHECKPOINT_BYTES for note in checkpoints)
        and sum(len(note.encode("utf-8", "replace")) for note in checkpoints) <= MAX_CHECKPOINTS_BYTES,
        f"checkpoints are at most {MAX_CHECKPOINTS}, of {MAX_CHECKPOINT_BYTES} bytes each and "
        f"{MAX_CHECKPOINTS_BYTES} together",
    )
    origins = [read_checkpoint(note).origin for note in checkpoints]
    require(len(set(origins)) == len(origins), "checkpoints has two of one log")
    document: dict[str, Any] = {
        "v": VERSION,
        "kind": "release",
        "decision_id": decision_id,
        "report_id": report_id,
        "at": at,
        "spiffe_id": spiffe_id,
        "data_service": data_service,
        "rows": rows,
        "obligations_met": sorted(obligations_met),
        "result_digest": result_digest.hex(),
        "checkpoints": [note for _, note in sorted(zip(origins, checkpoints, strict=True))],
    }
    leaf = canonical_json(document)
    require(len(leaf) <= MAX_LEAF_BYTES, "the report is too long for a record; send fewer checkpoints")
    return Entry(leaf=leaf, columns=columns_in_document(document, {}))


def read_checkpoint(note: str) -> Checkpoint:
    """Read a checkpoint that somebody holds; its signatures are not checked here.

    Raises:
        LedgerCorrupt: the note is malformed, or has extension lines: a record holds no free text.
    """
    text = parse(note).text
    checkpoint = parse_checkpoint(text)
    if text.count("\n") != 3:
        raise LedgerCorrupt("the checkpoint has extension lines, which are not recorded")
    return checkpoint


def checkpoints_in(leaf: bytes) -> tuple[str, ...]:
    """Return the signed checkpoints that a record of a release holds; none for any other record.

    Raises:
        LedgerCorrupt: the bytes are no record.
    """
    document = parse_leaf(leaf)
    if document.get("kind") != "release":
        return ()
    return tuple(str(note) for note in document.get("checkpoints", ()))
