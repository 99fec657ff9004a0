"""What one record of the ledger holds: deterministic bytes of a decision or a state change."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from policyd.canonical import canonical_json, encode, encode_mask
from policyd.errors import LedgerCorrupt
from policyd.model import ColumnSet, Decision, Instant, Obligations, VerdictGroup
from policyd.reasons import Reason, for_caller

MAX_LEAF_BYTES = 65_534
"""SPEC: C2SP tlog-tiles frames an entry with a 16-bit length; one byte is left unused."""

_MAX_TEXT = 2_048
_MAX_WHY = 500
_VERSION = 1
_HIDDEN = frozenset({Reason.AGREEMENT_UNKNOWN, Reason.AGREEMENT_NOT_YOURS})
"""SECURITY: callers may not tell these apart (AMENDMENTS item 10), and a receipt shows them the leaf."""


class Stage(StrEnum):
    """How far a state change has come: asked for, accepted by the store, or taken up by this node."""

    INTENDED = "intended"
    IN_FORCE = "in-force"
    APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class IndexColumns:
    """The columns that a record can be found by; all of them follow from its bytes.

    ``requester`` is a pseudonym, ``purposes`` the declared ids joined by spaces. For a state change
    ``requester`` is who made it, ``action`` its kind and ``outcome`` its stage.
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
_COLUMNS = tuple(field.name for field in fields(IndexColumns))


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, ready to append: the leaf, its private part (or empty), and what it is found by.

    The leaf commits to the private part. Receipts carry the leaf alone.
    """

    leaf: bytes
    columns: IndexColumns
    private: bytes = b""


@dataclass(frozen=True, slots=True)
class PrivatePart:
    """What the leaf commits to without showing it; ``verdicts`` is empty unless it did not fit the leaf."""

    agreement: str
    reasons: tuple[Reason, ...]
    verdicts: tuple[dict[str, Any], ...]


def pseudonym(key: bytes, requester: str) -> str:
    """Return the name under which a requester appears in the ledger; empty for an unknown requester."""
    return _keyed(key, "requester", requester.encode("utf-8")) if requester else ""


def decision_record(  # one keyword for each thing that the record binds
    decision: Decision,
    *,
    decision_id: str,
    trace_id: bytes,
    span_id: bytes,
    parent_span_id: bytes = b"",
    request_digest: bytes,
    answer_digest: bytes,
    spiffe_id: str,
    valid_for_ms: int,
    key: bytes,
    unknown_names: Sequence[str],
    rpc: str = "Check",
) -> Entry:
    """Return the record of one decision; the same values always give the same bytes.

    `key` is the node's pseudonym key. `unknown_names` are the names of the question that are no
    field of the catalogue; the record keeps their number and a keyed digest. `rpc` is Check,
    Explain or ListFields; an item of a batch or stream is a Check.

    Raises:
        ValueError: an id, a digest or a text is malformed or too long.
    """
    _check(len(trace_id) == 16, "the trace id has not 16 bytes")
    _check(len(span_id) == 8 and len(parent_span_id) in (0, 8), "a span id has not 8 bytes")
    _check(len(request_digest) == len(answer_digest) == 32, "a digest has not 32 bytes")
    _check(len(key) >= 32, "the pseudonym key has fewer than 32 bytes")
    _check(len(spiffe_id) <= _MAX_TEXT, "the SPIFFE id is too long")
    _check(rpc in ("Check", "Explain", "ListFields"), f"`{rpc}` decides nothing")
    hidden = any(group.reason in _HIDDEN for group in decision.groups)
    document: dict[str, Any] = {
        "v": _VERSION,
        "kind": "decision",
        "rpc": rpc,
        "decision_id": decision_id,
        "at": decision.at,
        "trace_id": trace_id.hex(),
        "span_id": span_id.hex(),
        "parent_span_id": parent_span_id.hex(),
        "request_digest": request_digest.hex(),
        "answer_digest": answer_digest.hex(),
        "spiffe_id": spiffe_id,
        "data_service": decision.data_service,
        "setting": decision.setting,
        "requester": pseudonym(key, decision.requester),
        "organisation": decision.organisation,
        "agreement": "" if hidden else decision.agreement,
        "gateway": "" if hidden else decision.gateway,
        "purposes": list(decision.purposes),
        "action": decision.action.value,
        "outcome": decision.outcome.value,
        "verdicts": [_group(group) for group in decision.groups],
        "obligations": _obligations(decision.obligations),
        "identification_risk": decision.identification_risk,
        "sensitivity": decision.sensitivity,
        "unknown": _unknown(key, unknown_names),
        "policy_digest": decision.policy_digest,
        "policy_version": decision.policy_version,
        "epoch": decision.epoch,
        "valid_for_ms": valid_for_ms,
    }
    withheld: dict[str, Any] = {}
    if hidden:
        withheld["agreement"] = decision.agreement
        withheld["reasons"] = [group.reason.value for group in decision.groups]
    leaf = canonical_json(document)
    if len(leaf) > MAX_LEAF_BYTES - 128:  # leaves room for the commitment
        withheld["verdicts"] = document["verdicts"]
        document["verdicts"] = {
            "groups": len(decision.groups),
            "names": sum(len(group.names) for group in decision.groups),
        }
    if not withheld:
        return Entry(leaf=leaf, columns=_columns(document, withheld))
    # The salt keeps a holder of the leaf from trying out the few values that may stand behind it.
    withheld["salt"] = _keyed(key, "private", decision_id.encode("utf-8"))
    private = canonical_json(withheld)
    document["private"] = hashlib.sha256(private).hexdigest()
    leaf = canonical_json(document)
    _check(len(leaf) <= MAX_LEAF_BYTES, f"the record has {len(leaf)} bytes; at most {MAX_LEAF_BYTES} fit")
    return Entry(leaf=leaf, columns=_columns(document, withheld), private=private)


def state_change_record(
    change: str, *, stage: Stage, epoch: int, body_digest: bytes, who: str, why: str, at: Instant
) -> Entry:
    """Return the record of one state change; `change` is its kind, `who` a pseudonym or a node.

    Raises:
        ValueError: the digest is not 32 bytes, or a text is too long or holds control characters.
    """
    _check(len(body_digest) == 32, "the body's digest has not 32 bytes")
    _check(len(change) <= 64 and len(who) <= 128, "the kind or the author is too long")
    _check(
        len(why) <= _MAX_WHY and why.isprintable(), f"a reason is one line of at most {_MAX_WHY} characters"
    )
    document: dict[str, Any] = {
        "v": _VERSION,
        "kind": "state-change",
        "change": change,
        "stage": stage.value,
        "epoch": epoch,
        "body_digest": body_digest.hex(),
        "who": who,
        "why": why,
        "at": at,
    }
    return Entry(leaf=canonical_json(document), columns=_columns(document, {}))


def columns_of(leaf: bytes, private: bytes = b"") -> IndexColumns:
    """Rebuild the index columns from a record's bytes.

    Raises:
        LedgerCorrupt: the bytes are no record, or the private part is not the one committed to.
    """
    document = parse_leaf(leaf)
    committed = document.get("private", "")
    if committed != (hashlib.sha256(private).hexdigest() if private else ""):
        raise LedgerCorrupt("the private part is not the one that the record commits to")
    try:
        columns = _columns(document, json.loads(private) if private else {})
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise LedgerCorrupt(f"the record lacks a part or holds one of the wrong type: {error}") from None
    for name in _COLUMNS:
        if type(getattr(columns, name)) is not (int if name in INTEGER_COLUMNS else str):
            raise LedgerCorrupt(f"the record's `{name}` is of the wrong type")
    return columns


def parse_leaf(leaf: bytes) -> dict[str, Any]:
    """Return the parts of a record by name.

    Raises:
        LedgerCorrupt: the bytes are no record of a version that is known.
    """
    try:
        document = json.loads(leaf)
    except (ValueError, RecursionError):
        raise LedgerCorrupt("the record is not JSON") from None
    if not isinstance(document, dict) or document.get("v") != _VERSION:
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


def _columns(document: dict[str, Any], private: dict[str, Any]) -> IndexColumns:
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
    if kind != "state-change":
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
        policy_digest="",
        epoch=document["epoch"],
        data_service="",
        trace_id="",
    )


def _group(group: VerdictGroup) -> dict[str, Any]:
    return {
        "effect": group.effect.value,
        "reason": for_caller(group.reason).value,
        "rule": group.rule,
        "transform": [str(step) for step in group.transform],
        "names": len(group.names),
        "released": [_column_set(columns) for columns in group.released],
        "used": [_column_set(columns) for columns in group.used],
    }


def _column_set(columns: ColumnSet) -> list[Any]:
    return [columns.term, columns.year, encode_mask(columns.mask)]


def _obligations(obligations: Obligations) -> dict[str, Any]:
    stated: dict[str, Any] = {}
    for name in ("min_cell_count", "round_to", "retention_days", "exclude_sealed_epoch"):
        amount = getattr(obligations, name)
        if amount is not None:
            stated[name] = amount
    for name in ("row_years", "row_local_authorities", "setting"):
        values = getattr(obligations, name)
        if values is not None:
            stated[name] = sorted(values)
    for name in ("output_check", "publish_in_register"):
        if getattr(obligations, name):
            stated[name] = True
    return stated


def _unknown(key: bytes, names: Sequence[str]) -> dict[str, Any]:
    # Keyed: a name may be anything, a child's too, and short texts can be guessed from a plain hash.
    return {"count": len(names), "digest": _keyed(key, "unknown-names", encode(list(names))) if names else ""}


def _keyed(key: bytes, purpose: str, text: bytes) -> str:
    return hmac.new(key, b"policyd/" + purpose.encode("ascii") + b"\x00" + text, hashlib.sha256).hexdigest()


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
