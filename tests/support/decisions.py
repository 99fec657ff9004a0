"""A decision made up for tests of the ledger's readers, as records of any number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd.ledger.decision_record import decision_record
from policyd.ledger.entry import Entry
from policyd.ledger.writer import Ledger
from policyd.model import Action, ColumnSet, Decision, Effect, Obligations, Outcome, VerdictGroup
from policyd.reasons import Reason
from policyd.telemetry.delivery import Sender, make_senders
from policyd.telemetry.projector import Projector
from policyd.telemetry.settings import make_resource, read_settings

ORIGIN = "policyd.test/node-1"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
AT = 1_770_000_000_000
DECISION = Decision(
    outcome=Outcome.PARTIAL,
    groups=(
        VerdictGroup(
            Effect.RELEASE,
            Reason.NONE,
            "attainment-for-research",
            (),
            ("KS4.KS4_ATT8", "KS4.KS4_EBACC"),
            (ColumnSet("", 0, 0b11),),
        ),
        VerdictGroup(Effect.WITHHOLD, Reason.FIELD_UNKNOWN, "gate:6:field", (), ("A.pupil_17",)),
    ),
    obligations=Obligations(exclude_sealed_epoch=7),
    identification_risk=4,
    sensitivity="E",
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
    at=AT,
    unknown=("A.pupil_17",),
)
PSEUDONYM = "9f" * 32


def make_entry(number: int, **other: Any) -> Entry:
    """Return the record of decision ``number``, whose span id is ``number + 1``."""
    values: dict[str, Any] = {
        "decision_id": f"{number:026d}",
        "trace_id": (number + 1).to_bytes(16, "big"),
        "span_id": (number + 1).to_bytes(8, "big"),
        "request_digest": b"\x0a" * 32,
        "answer_digest": b"\x0b" * 32,
        "spiffe_id": "spiffe://policyd.test/data-service/npd-secure",
        "valid_for_ms": 60_000,
        "key": bytes(32),
        "requester": PSEUDONYM,
        "detail": b"sealed",
    }
    return decision_record(DECISION, **(values | other))


def project(
    ledger: Ledger, environment: Mapping[str, str] | None = None, *, senders: Sequence[Sender] = ()
) -> Projector:
    """Start a projector that sends by OTLP, by other settings, or to ``senders``."""
    settings = read_settings(environment or {"OTEL_TRACES_EXPORTER": "otlp"})
    projector = Projector(
        ledger,
        senders=senders or make_senders(settings)[0],
        resource=make_resource(ledger.origin),
        first_retry_s=0.02,
    )
    projector.start()
    return projector
