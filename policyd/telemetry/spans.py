"""Makes the finished `pbac.decision` span of a committed record: the same record, the same span."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from policyd import names
from policyd.ledger.entry import parse_leaf
from policyd.ledger.reader import StoredRecord
from policyd.telemetry import adl

_METHOD = "pbac.v1.DecisionService/"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope(names.SCOPE)


def make_span(record: StoredRecord, *, origin: str, resource: Resource) -> ReadableSpan | None:
    """Return the finished span of a decision's record; None for any other record.

    All of it is in the record, so the same record always gives the same span, ids included. A refusal
    is an answer, not an error. Start and end are the instant of the decision.
    """
    if record.columns.kind != "decision":
        return None
    leaf = parse_leaf(record.leaf)
    trace_id = int(leaf["trace_id"], 16)
    parent = None
    if leaf["parent_span_id"]:
        parent = SpanContext(trace_id, int(leaf["parent_span_id"], 16), is_remote=True, trace_flags=_SAMPLED)
    at_ns = leaf["at"] * 1_000_000
    return ReadableSpan(
        name=names.SPAN_DECISION,
        context=SpanContext(trace_id, int(leaf["span_id"], 16), is_remote=False, trace_flags=_SAMPLED),
        parent=parent,
        resource=resource,
        # A plain dictionary: the SDK's own would apply OTEL_*_LIMIT and drop or cut what it holds.
        attributes=_attributes(leaf, record, origin),
        kind=SpanKind.SERVER,
        start_time=at_ns,
        end_time=at_ns,
        instrumentation_scope=_SCOPE,
    )


def _attributes(leaf: dict[str, Any], record: StoredRecord, origin: str) -> dict[str, Any]:
    counts = {"release": 0, "transform": 0, "withhold": 0}
    verdicts = leaf["verdicts"] if isinstance(leaf["verdicts"], list) else []
    for group in verdicts:
        counts[group["effect"]] += group["names"]
    attributes: dict[str, Any] = {
        names.DECISION_ID: leaf["decision_id"],
        names.DECISION_OUTCOME: leaf["outcome"],
        names.DECISION_ACTION: leaf["action"],
        names.DECISION_REASONS: tuple(dict.fromkeys(group["reason"] for group in verdicts)),
        names.DECISION_RULES: tuple(dict.fromkeys(group["rule"] for group in verdicts)),
        names.DECISION_REQUEST_DIGEST: leaf["request_digest"],
        names.DECISION_ANSWER_DIGEST: leaf["answer_digest"],
        names.DECISION_EPOCH: leaf["epoch"],
        names.DECISION_VALID_FOR_MS: leaf["valid_for_ms"],
        names.DECISION_DATA_SERVICE: leaf["data_service"],
        names.DECISION_SETTING: leaf["setting"],
        names.DECISION_ORGANISATION: leaf["organisation"],
        names.DECISION_AGREEMENT: leaf["agreement"],
        names.DECISION_GATEWAY: leaf["gateway"],
        names.DECISION_IDENTIFICATION_RISK: leaf["identification_risk"],
        names.DECISION_SENSITIVITY: leaf["sensitivity"],
        names.DECISION_POLICY_DIGEST: leaf["policy_digest"],
        names.DECISION_POLICY_VERSION: leaf["policy_version"],
        names.DECISION_FIELDS_UNKNOWN: leaf["unknown"]["count"],
        names.DECISION_LEDGER_ORIGIN: origin,
        names.DECISION_LEDGER_INDEX: record.index,
        names.DECISION_LEDGER_LEAF_HASH: record.leaf_hash.hex(),
        names.RPC_SYSTEM_NAME: "grpc",
        names.RPC_METHOD: _METHOD + leaf["rpc"],
        names.ENDUSER_PSEUDO_ID: leaf["requester"],
        **adl.references(leaf, record, origin=origin),
    }
    if isinstance(leaf["verdicts"], list):  # a very large record keeps its verdicts beside the leaf
        attributes[names.DECISION_FIELDS_RELEASED] = counts["release"]
        attributes[names.DECISION_FIELDS_TRANSFORMED] = counts["transform"]
        attributes[names.DECISION_FIELDS_WITHHELD] = counts["withhold"]
    return attributes
