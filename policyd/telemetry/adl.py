"""The Authorization Decision Log form of a decision (Logius ADL): references to the ledger, nothing raw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyd import names
from policyd.ledger.entry import parse_leaf
from policyd.ledger.reader import StoredRecord

_EVENTS = {
    "Check": "adl.access_evaluation",
    "Explain": "adl.access_evaluation",
    "ListFields": "adl.search_resource",
}
"""SPEC: ADL `event_name`. Each item of a batch is a decision with a record of its own."""


def references(leaf: Mapping[str, Any], record: StoredRecord, *, origin: str) -> dict[str, dict[str, Any]]:
    """Return where everything that a decision rests on can be had, as ADL's `adl.core.*` attributes.

    SPEC: ADL wants a source reference, enough to retrieve the data, or the data itself, never both.
    The data stays in the log and in what lies beside it (AMENDMENTS item 14).
    """
    place = {"ledger": origin, "index": record.index}
    return {
        names.ADL_REQUEST: {**place, "sha256": leaf["request_digest"]},
        names.ADL_RESPONSE: {**place, "sha256": leaf["answer_digest"]},
        names.ADL_POLICIES: {"policy-set": leaf["policy_digest"]},
        names.ADL_INFORMATION: {"record": place, "registry": {"epoch": leaf["epoch"]}},
        names.ADL_CONFIGURATION: {"node": origin, "record-format": leaf["v"]},
    }


def log_record(record: StoredRecord, *, origin: str) -> dict[str, Any] | None:
    """Return the ADL log record of a decision's record; None for any other record.

    A denial is a completed evaluation: its status is `Unset`, as ADL demands. The pair of trace and
    span id is the key by which a log takes each record once.
    """
    if record.columns.kind != "decision":
        return None
    leaf = parse_leaf(record.leaf)
    parent = {"parent_span_id": leaf["parent_span_id"]} if leaf["parent_span_id"] else {}
    return {
        "trace_id": leaf["trace_id"],
        "span_id": leaf["span_id"],
        **parent,
        "event_name": _EVENTS[leaf["rpc"]],
        "timestamp": leaf["at"],
        "status": "Unset",
        "attributes": {
            **references(leaf, record, origin=origin),
            names.DECISION_ID: leaf["decision_id"],
            names.DECISION_OUTCOME: leaf["outcome"],
        },
        "resource": {names.SERVICE_NAME: names.SCOPE, names.SERVICE_INSTANCE_ID: origin},
    }
