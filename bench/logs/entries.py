"""Records to append: made as a node makes them, or copied fast for a long log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd import clock, ids
from policyd.ledger.decision_record import decision_record
from policyd.ledger.detail import seal
from policyd.ledger.entry import Entry
from policyd.ledger.release_record import release_record
from policyd.ledger.vault import Vault
from policyd.model import Action, ColumnSet, Decision, Effect, Obligations, Outcome, VerdictGroup
from policyd.reasons import Reason

ORIGIN = "policyd.test/bench"
SERVICE = "spiffe://policyd.test/data-service/npd-secure"
DETAIL = b"x" * 2_060
"""A usual question with its facts: see test_the_detail_of_a_usual_question_is_small."""
SHORT_DETAIL = b"x" * 200
KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
DECISION = Decision(
    outcome=Outcome.PARTIAL,
    groups=(
        VerdictGroup(
            Effect.RELEASE, Reason.NONE, "attainment", (), ("A.b",) * 20, (ColumnSet("SPR", 2018, 2**20 - 1),)
        ),
        VerdictGroup(Effect.WITHHOLD, Reason.FIELD_NOT_IN_AGREEMENT, "gate:7:agreement", (), ("A.c",) * 5),
    ),
    obligations=Obligations(exclude_sealed_epoch=7, min_cell_count=10),
    identification_risk=2,
    sensitivity="BE",
    requester="researcher-1",
    organisation="org-university-1",
    data_service="npd-secure",
    setting="secure-research",
    agreement="DS00101",
    gateway="DEA2017-64",
    purposes=("academic-research",),
    action=Action.RELEASE,
    policy_digest="ab" * 32,
    policy_version=3,
    epoch=7,
    at=0,
)


def make_entry(vault: Vault, detail: bytes = DETAIL) -> Entry:
    """Make a record as a node does: a pseudonym, a key of its own, and a sealed detail of usual size."""
    decision_id, key = ids.decision_id(), vault.take(timeout_s=60.0)
    return decision_record(
        replace(DECISION, at=clock.now()),
        decision_id=decision_id,
        trace_id=ids.trace_id(),
        span_id=ids.span_id(),
        request_digest=bytes(32),
        answer_digest=bytes(32),
        spiffe_id=SERVICE,
        valid_for_ms=60_000,
        key=key.secret,
        requester=vault.pseudonym(DECISION.requester),
        detail=seal(detail, key, origin=ORIGIN, decision_id=decision_id),
    )


def copies(entry: Entry) -> Iterator[Entry]:
    """Yield the same record under new decision ids and times, without end: what a long log is filled with."""
    old_id, old_at = entry.columns.decision_id.encode("ascii"), b'"at":%d' % entry.columns.at
    while True:
        new_id, at = ids.decision_id(), clock.now()
        leaf = entry.leaf.replace(old_id, new_id.encode("ascii")).replace(old_at, b'"at":%d' % at)
        yield replace(entry, leaf=leaf, columns=replace(entry.columns, decision_id=new_id, at=at))


def make_release(decision_id: str, checkpoint: str) -> Entry:
    """Make the record of a release whose data service holds a checkpoint."""
    return release_record(
        decision_id,
        report_id=ids.decision_id(),
        at=clock.now(),
        spiffe_id=SERVICE,
        data_service=DECISION.data_service,
        rows=1,
        obligations_met=(),
        result_digest=bytes(32),
        checkpoints=[checkpoint],
    )
