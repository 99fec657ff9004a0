"""What the ledger holds of one decision: deterministic bytes, no pupil, no value, no token, no name."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

from policyd.canonical import encode, encode_mask
from policyd.ledger.entry import MAX_LEAF_BYTES, VERSION, Entry, columns_in_document, leaf_bytes, require
from policyd.model import ColumnSet, Decision, Obligations, VerdictGroup
from policyd.reasons import Reason, for_caller

_MAX_TEXT = 2_048
_HIDDEN = frozenset({Reason.AGREEMENT_UNKNOWN, Reason.AGREEMENT_NOT_YOURS})
"""SECURITY: callers may not tell these apart (AMENDMENTS item 10), and a receipt shows them the leaf."""


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
    requester: str,
    detail: bytes,
    rpc: str = "Check",
) -> Entry:
    """Return the record of one decision; the same values always give the same bytes.

    `key` is the key of this one record, and `detail` what is sealed under it; the leaf commits to both,
    and of the names that are no field it keeps the number and a digest under that key. `requester` is
    the pseudonym, empty where nobody is known. `rpc` is Check, Explain or ListFields; an item of a
    batch or stream is a Check.

    Raises:
        ValueError: an id, a digest or a text is malformed or too long.
    """
    require(len(trace_id) == 16, "the trace id has not 16 bytes")
    require(len(span_id) == 8 and len(parent_span_id) in (0, 8), "a span id has not 8 bytes")
    require(len(request_digest) == len(answer_digest) == 32, "a digest has not 32 bytes")
    require(len(key) == 32 and bool(detail), "the record key has not 32 bytes, or nothing is sealed under it")
    require(bool(requester) == bool(decision.requester), "a known requester has a pseudonym, and nobody else")
    require(len(spiffe_id) <= _MAX_TEXT, "the SPIFFE id is too long")
    require(rpc in ("Check", "Explain", "ListFields"), f"`{rpc}` decides nothing")
    hidden = any(group.reason in _HIDDEN for group in decision.groups)
    document: dict[str, Any] = {
        "v": VERSION,
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
        "requester": requester,
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
        "unknown": _unknown(key, decision.unknown),
        "detail": {
            "ciphertext": hashlib.sha256(detail).hexdigest(),
            # AES-GCM does not commit to its key: without this, another could be shown to open it otherwise.
            "key": hashlib.sha256(key).hexdigest(),
        },
        "policy_digest": decision.policy_digest,
        "policy_version": decision.policy_version,
        "epoch": decision.epoch,
        "valid_for_ms": valid_for_ms,
    }
    withheld: dict[str, Any] = {}
    if hidden:
        withheld["agreement"] = decision.agreement
        withheld["reasons"] = [group.reason.value for group in decision.groups]
    leaf = leaf_bytes(document)
    if len(leaf) > MAX_LEAF_BYTES - 128:  # leaves room for the commitment
        withheld["verdicts"] = document["verdicts"]
        document["verdicts"] = {
            "groups": len(decision.groups),
            "names": sum(len(group.names) for group in decision.groups),
        }
    if not withheld:
        return Entry(leaf=leaf, columns=columns_in_document(document, withheld), detail=detail)
    # The salt keeps a holder of the leaf from trying out the few values that may stand behind it.
    withheld["salt"] = _keyed(key, "private", decision_id.encode("utf-8"))
    private = leaf_bytes(withheld)
    document["private"] = hashlib.sha256(private).hexdigest()
    leaf = leaf_bytes(document)
    require(len(leaf) <= MAX_LEAF_BYTES, f"the record has {len(leaf)} bytes; at most {MAX_LEAF_BYTES} fit")
    columns = columns_in_document(document, withheld)
    return Entry(leaf=leaf, columns=columns, private=private, detail=detail)


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
