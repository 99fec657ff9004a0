"""One record ready to append: its bytes, its private part, and the columns that it is found by."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from policyd.canonical import check_json
from policyd.errors import LedgerCorrupt
from policyd.model import Instant
from policyd.reasons import Reason

MAX_LEAF_BYTES = 65_534
"""SPEC: C2SP tlog-tiles frames an entry with a 16-bit length; one byte is left unused."""
VERSION = 1
"""The version of the format, in every record as ``v``."""


@dataclass(frozen=True, slots=True)
class IndexColumns:
    """The columns that a record can be found by; all of them follow from its bytes.

    ``requester`` is a pseudonym, ``purposes`` the declared ids joined by spaces. For a state change or an
    activation ``requester`` is who made it, ``action`` its kind and ``outcome`` its stage. A release has
    the id of its decision and of the data service.
    """

    kind: str
    decision_id: str
    at: Instant
    requester: str
    organisation: str
    agreement: str
    purposes: str
    action: str
    outcome: str
    policy_digest: str
    epoch: int
    data_service: str
    trace_id: str


INTEGER_COLUMNS = frozenset({"at", "epoch"})
_JSON = msgspec.json.Encoder(order="sorted")
_COLUMNS = tuple(field.name for field in fields(IndexColumns))


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, ready to append: the leaf, its private part, its sealed detail, and what it is found by.

    The leaf commits to the private part and to the detail; either may be empty. Receipts carry the leaf
    alone.
    """

    leaf: bytes
    columns: IndexColumns
    private: bytes = b""
    detail: bytes = b""


@dataclass(frozen=True, slots=True)
class PrivatePart:
    """What the leaf commits to without showing it; ``verdicts`` is empty unless it did not fit the leaf."""

    agreement: str
    reasons: tuple[Reason, ...]
    verdicts: tuple[dict[str, Any], ...]


def columns_of(leaf: bytes, private: bytes = b"", *, detail: bytes | None = None) -> IndexColumns:
    """Rebuild the index columns from a record's bytes.

    ``detail`` is the sealed detail as stored, empty where there is none; None leaves it unchecked. That
    its key was erased is nothing to find here: the tree stays valid.

    Raises:
        LedgerCorrupt: the bytes are no record, or the private part or detail is not the one committed to.
    """
    document = parse_leaf(leaf)
    if detail is not None and not _commits_to(document, detail):
        raise LedgerCorrupt("the detail is not the one that the record commits to")
    committed = document.get("private", "")
    if committed != (hashlib.sha256(private).hexdigest() if private else ""):
        raise LedgerCorrupt("the private part is not the one that the record commits to")
    try:
        columns = columns_in_document(document, json.loads(private) if private else {})
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise LedgerCorrupt(f"the record lacks a part or holds one of the wrong type: {error}") from None
    for name in _COLUMNS:
        if type(getattr(columns, name)) is not (int if name in INTEGER_COLUMNS else str):
            raise LedgerCorrupt(f"the record's `{name}` is of the wrong type")
    return columns


def leaf_bytes(document: dict[str, Any]) -> bytes:
    """Return what `canonical.canonical_json` returns, in a quarter of the time: one is made a decision.

    Raises:
        ValueError: as there.
    """
    check_json(document)
    return _JSON.encode(document)


def _commits_to(document: dict[str, Any], detail: bytes) -> bool:
    stated = document.get("detail")
    if not detail:
        return stated is None
    return isinstance(stated, dict) and stated.get("ciphertext") == hashlib.sha256(detail).hexdigest()


def parse_leaf(leaf: bytes) -> dict[str, Any]:
    """Return the parts of a record by name.

    Raises:
        LedgerCorrupt: the bytes are no record of a version that is known.
    """
    try:
        document = json.loads(leaf)
    except (ValueError, RecursionError):
        raise LedgerCorrupt("the record is not JSON") from None
    if not isinstance(document, dict) or document.get("v") != VERSION:
        raise LedgerCorrupt("the record has no version that this program knows")
    return document


def open_private(leaf: bytes, private: bytes) -> PrivatePart:
    """Return what the leaf commits to without showing it.

    Raises:
        LedgerCorrupt: it is not what the leaf commits to.
    """
    columns_of(leaf, private)
    parts = json.loads(private) if private else {}
    return PrivatePart(
        agreement=parts.get("agreement", ""),
        reasons=tuple(Reason(word) for word in parts.get("reasons", ())),
        verdicts=tuple(parts.get("verdicts", ())),
    )


def columns_in_document(document: dict[str, Any], private: dict[str, Any]) -> IndexColumns:
    """Return the index columns of a record's parts, which may be of any type and raise accordingly."""
    kind = document["kind"]
    if kind == "decision":
        return IndexColumns(
            kind=kind,
            decision_id=document["decision_id"],
            at=document["at"],
            requester=document["requester"],
            organisation=document["organisation"],
            agreement=private.get("agreement") or document["agreement"],
            purposes=" ".join(document["purposes"]),
            action=document["action"],
            outcome=document["outcome"],
            policy_digest=document["policy_digest"],
            epoch=document["epoch"],
            data_service=document["data_service"],
            trace_id=document["trace_id"],
        )
    if kind == "release":
        return IndexColumns(
            kind=kind,
            decision_id=document["decision_id"],
            at=document["at"],
            requester="",
            organisation="",
            agreement="",
            purposes="",
            action="",
            outcome="",
            policy_digest="",
            epoch=0,
            data_service=document["data_service"],
            trace_id="",
        )
    if kind not in ("state-change", "activation"):
        raise LedgerCorrupt(f"the record is of the unknown kind `{str(kind)[:40]}`")
    return IndexColumns(
        kind=kind,
        decision_id="",
        at=document["at"],
        requester=document["who"],
        organisation="",
        agreement="",
        purposes="",
        action=document["change"],
        outcome=document["stage"],
        policy_digest=document["policy_digest"] if kind == "activation" else "",
        epoch=document["epoch"],
        data_service="",
        trace_id="",
    )


def require(holds: bool, otherwise: str) -> None:
    """Raise ``ValueError`` unless what a record is made of has the right form."""
    if not holds:
        raise ValueError(otherwise)
