"""Decisions and records that the tests of the ledger share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from policyd.ledger.change_record import Stage, state_change_record
from policyd.ledger.decision_record import decision_record
from policyd.ledger.entry import Entry
from policyd.ledger.writer import Ledger
from policyd.model import (
    Action,
    ColumnSet,
    Decision,
    Effect,
    Obligations,
    Outcome,
    Step,
    TransformKind,
    VerdictGroup,
)
from policyd.reasons import Reason

ORIGIN = "policyd.test/node-1"
AT = 1_770_000_000_000
RECORD_KEY = bytes(range(32))
PSEUDONYM = "9f" * 32
DETAIL = bytes(8) + b"sealed"

OpenLedger = Callable[..., Ledger]
"""Opens the log of a test; keyword arguments replace origin, key and queue limit."""

DECISION = Decision(
    outcome=Outcome.PARTIAL,
    groups=(
        VerdictGroup(
            effect=Effect.RELEASE,
            reason=Reason.NONE,
            rule="attainment-for-research",
            transform=(),
            names=("KS4.KS4_ATT8", "SC_Pupil.Ethnicity_SPR19"),
            released=(ColumnSet("", 0, 0b100), ColumnSet("SPR", 2018, 0b1)),
        ),
        VerdictGroup(
            effect=Effect.TRANSFORM,
            reason=Reason.NONE,
            rule="birth-year-only",
            transform=(Step(TransformKind.GENERALISE, "year"),),
            names=("SC_Pupil.DOB_SPR19",),
            used=(ColumnSet("SPR", 2018, 0b10),),
        ),
        VerdictGroup(
            effect=Effect.WITHHOLD,
            reason=Reason.FIELD_UNKNOWN,
            rule="gate:6:field",
            transform=(),
            names=("SC_Pupil.NoSuchField",),
        ),
    ),
    obligations=Obligations(min_cell_count=10, row_years=frozenset({2019, 2018}), exclude_sealed_epoch=7),
    identification_risk=2,
    sensitivity="BE",
    requester="researcher-1",
    organisation="org-university-1",
    data_service="npd-secure",
    setting="secure-research",
    agreement="DS00101",
    gateway="DEA2017-64",
    purposes=("academic-research", "population-statistics"),
    action=Action.RELEASE,
    policy_digest="ab" * 32,
    policy_version=3,
    epoch=7,
    at=AT,
    unknown=("SC_Pupil.NoSuchField",),
)


def make_entry(number: int, decision: Decision = DECISION, **other: Any) -> Entry:
    """One decision's record; the number makes its ids and its instant."""
    values: dict[str, Any] = {
        "decision_id": f"{number:026d}",
        "trace_id": (number + 1).to_bytes(16, "big"),
        "span_id": (number + 1).to_bytes(8, "big"),
        "request_digest": bytes([number % 256]) * 32,
        "answer_digest": bytes([255 - number % 256]) * 32,
        "spiffe_id": "spiffe://policyd.test/data-service/npd-secure",
        "valid_for_ms": 60_000,
        "key": RECORD_KEY,
        "requester": PSEUDONYM if decision.requester else "",
        "detail": DETAIL,
    }
    return decision_record(replace(decision, at=decision.at + number), **(values | other))


def make_change(number: int = 0, **other: Any) -> Entry:
    values: dict[str, Any] = {
        "stage": Stage.APPLIED,
        "epoch": number,
        "body_digest": bytes(32),
        "who": "node-1",
        "why": "first load",
        "at": AT,
    }
    return state_change_record("registry", **(values | other))
