"""Reads the index columns of well-formed records fast; anything else is left to `entry.columns_of`."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

Values = tuple[object, ...]
"""The index columns of a record, in the order of `store.COLUMNS`."""


class _Detail(msgspec.Struct, gc=False):
    """What the leaf commits to of the sealed detail beside it."""

    ciphertext: str


class _Decision(msgspec.Struct, tag_field="kind", tag="decision", gc=False):
    """The parts of a decision's record that it is found by; what else it holds is skipped."""

    v: Literal[1]
    decision_id: str
    at: int
    requester: str
    organisation: str
    agreement: str
    purposes: list[str]
    action: str
    outcome: str
    policy_digest: str
    epoch: int
    data_service: str
    trace_id: str
    private: str = ""
    detail: _Detail | None = None


class _StateChange(msgspec.Struct, tag_field="kind", tag="state-change", gc=False):
    v: Literal[1]
    at: int
    who: str
    change: str
    stage: str
    epoch: int
    private: str = ""
    detail: _Detail | None = None


class _Activation(_StateChange, tag_field="kind", tag="activation", gc=False, kw_only=True):
    policy_digest: str


class _Release(msgspec.Struct, tag_field="kind", tag="release", gc=False):
    v: Literal[1]
    decision_id: str
    at: int
    data_service: str
    private: str = ""
    detail: _Detail | None = None


class _Private(msgspec.Struct, gc=False):
    agreement: str = ""


_record = msgspec.json.Decoder(_Decision | _StateChange | _Activation | _Release)
_private = msgspec.json.Decoder(_Private)


def index_values(leaf: bytes, private: bytes = b"", *, detail: bytes = b"") -> Values | None:
    """Return what `entry.columns_of` returns, as a tuple; None where only that can tell.

    `private` and `detail` are what is stored beside the leaf, empty where nothing is; None, too, where
    the leaf does not commit to just them.

    INVARIANT: it answers for no record that `entry.columns_of` refuses, so that who compares the
    answer with what is stored may skip the slow reading where they agree, and only there.
    """
    try:
        # As text: a decoder of bytes does not look into the strings that it skips.
        record = _record.decode(leaf.decode("utf-8"))
        agreement = _private.decode(private.decode("utf-8")).agreement if private else ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if record.private != (hashlib.sha256(private).hexdigest() if private else ""):
        return None
    if record.detail is None:
        if detail:
            return None
    elif not detail or record.detail.ciphertext != hashlib.sha256(detail).hexdigest():
        return None
    if type(record) is _Decision:
        return (
            "decision",
            record.decision_id,
            record.at,
            record.requester,
            record.organisation,
            agreement or record.agreement,
            " ".join(record.purposes),
            record.action,
            record.outcome,
            record.policy_digest,
            record.epoch,
            record.data_service,
            record.trace_id,
        )
    if type(record) is _Release:
        named = record.data_service
        return ("release", record.decision_id, record.at, *("",) * 7, 0, named, "")
    kind, digest = "state-change", ""
    if type(record) is _Activation:
        kind, digest = "activation", record.policy_digest
    made = (record.change, record.stage, digest, record.epoch)
    return (kind, "", record.at, record.who, "", "", "", *made, "", "")


def instant_of(leaf: bytes) -> int | None:
    """Return when a record was made; None where only `entry.parse_leaf` can tell."""
    try:
        made_at: int = _record.decode(leaf.decode("utf-8")).at
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return made_at
