"""The span of a decision says what its record says, and nothing of a person."""

from __future__ import annotations

from opentelemetry.proto.trace.v1 import trace_pb2
from support.collector import Collector, value_of
from support.decisions import AT, ORIGIN, PSEUDONYM, make_entry, project

from policyd.ledger.change_record import Stage, state_change_record
from policyd.ledger.writer import Ledger
from policyd.telemetry.adl import log_record


def test_span_says_what_the_record_says(ledger: Ledger, collector: Collector) -> None:
    """Ids, digests, counts, outcome, reasons, rules and policy come from the record."""
    entry = make_entry(4, parent_span_id=b"\x0c" * 8)
    receipts = ledger.append([entry])
    projector = project(ledger)
    collector.wait_for(1)
    projector.close()

    span = collector.spans[0]
    assert (span.name, span.trace_id, span.parent_span_id) == (
        "pbac.decision",
        (5).to_bytes(16, "big"),
        b"\x0c" * 8,
    )
    assert span.start_time_unix_nano == span.end_time_unix_nano == AT * 1_000_000
    assert span.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    have = {each.key: value_of(span, each.key) for each in span.attributes}
    assert have["pbac.decision.id"] == f"{4:026d}"
    assert have["pbac.decision.outcome"] == "partial"
    assert have["pbac.decision.reasons"] == ["NONE", "FIELD_UNKNOWN"]
    assert have["pbac.decision.rules"] == ["attainment-for-research", "gate:6:field"]
    assert have["pbac.decision.fields.released"] == 2
    assert have["pbac.decision.fields.withheld"] == have["pbac.decision.fields.unknown"] == 1
    assert have["pbac.decision.policy.version"] == 3
    assert have["pbac.decision.ledger.leaf_hash"] == receipts.leaf_hashes[0].hex()
    assert have["rpc.method"] == "pbac.v1.DecisionService/Check"
    assert have["enduser.pseudo.id"] == PSEUDONYM


def test_no_person_and_no_name_asked_for_is_exported(ledger: Ledger, collector: Collector) -> None:
    """A collector never sees the requester's id, an unknown name or the names of fields."""
    ledger.append([make_entry(0)])
    projector = project(ledger)
    collector.wait_for(1)
    projector.close()

    sent = collector.spans[0].SerializeToString()
    for secret in (b"researcher-1", b"pupil_17", b"KS4_ATT8", b"academic-research"):
        assert secret not in sent


def test_span_has_no_events_links_or_status_text(ledger: Ledger, collector: Collector) -> None:
    """A refusal is an answer: nothing marks the span as an error, and nothing hangs on it."""
    ledger.append([make_entry(0)])
    project(ledger).close(flush_s=20)

    (span,) = collector.spans
    assert (len(span.events), len(span.links), span.trace_state) == (0, 0, "")
    assert span.status == trace_pb2.Status()


def test_span_refers_to_all_that_the_decision_rests_on(ledger: Ledger, collector: Collector) -> None:
    """The `adl.core` attributes are references into the log and the policy set, as objects."""
    ledger.append([make_entry(0), make_entry(1)])
    project(ledger).close(flush_s=20)

    span = collector.spans[1]
    place = {"ledger": ORIGIN, "index": 1}
    assert value_of(span, "adl.core.request") == {**place, "sha256": "0a" * 32}
    assert value_of(span, "adl.core.response") == {**place, "sha256": "0b" * 32}
    assert value_of(span, "adl.core.policies") == {"policy-set": "ab" * 32}
    assert value_of(span, "adl.core.information") == {"record": place, "registry": {"epoch": 7}}
    assert value_of(span, "adl.core.configuration") == {"node": ORIGIN, "record-format": 1}


def test_adl_record_has_the_mandatory_fields(ledger: Ledger) -> None:
    """Ids, event, milliseconds and status as the standard spells them; a denial is no error."""
    parent = b"\x0c" * 8
    ledger.append([make_entry(0, parent_span_id=parent), make_entry(1, rpc="ListFields")])
    first, second = (log_record(record, origin=ORIGIN) for record in ledger.reader.records())

    assert first is not None
    assert second is not None
    assert (first["trace_id"], first["span_id"]) == (f"{1:032x}", f"{1:016x}")
    assert (first["parent_span_id"], "parent_span_id" in second) == (parent.hex(), False)
    assert (first["event_name"], second["event_name"]) == ("adl.access_evaluation", "adl.search_resource")
    assert (first["timestamp"], first["status"]) == (AT, "Unset")
    assert "body" not in first


def test_only_decisions_have_an_adl_record(ledger: Ledger) -> None:
    """A state change is no evaluation."""
    change = state_change_record(
        "registry", stage=Stage.APPLIED, epoch=8, body_digest=bytes(32), who="node-1", why="", at=AT
    )
    ledger.append([change])

    assert [log_record(record, origin=ORIGIN) for record in ledger.reader.records()] == [None]
