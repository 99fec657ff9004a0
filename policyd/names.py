"""Names of spans and their attributes: one place, current semantic conventions, no values of persons."""

from __future__ import annotations

SCOPE = "policyd"
"""The instrumentation scope of every span."""

SPAN_DECISION = "pbac.decision"
"""One finished span for each decision, projected from its record."""

# Ours: no convention covers authorization decisions.
DECISION_ID = "pbac.decision.id"
DECISION_OUTCOME = "pbac.decision.outcome"
DECISION_ACTION = "pbac.decision.action"
DECISION_REASONS = "pbac.decision.reasons"
DECISION_RULES = "pbac.decision.rules"
DECISION_REQUEST_DIGEST = "pbac.decision.request_digest"
DECISION_ANSWER_DIGEST = "pbac.decision.answer_digest"
DECISION_EPOCH = "pbac.decision.epoch"
DECISION_VALID_FOR_MS = "pbac.decision.valid_for_ms"
DECISION_DATA_SERVICE = "pbac.decision.data_service"
DECISION_SETTING = "pbac.decision.setting"
DECISION_ORGANISATION = "pbac.decision.organisation"
DECISION_AGREEMENT = "pbac.decision.agreement"
DECISION_GATEWAY = "pbac.decision.gateway"
DECISION_IDENTIFICATION_RISK = "pbac.decision.identification_risk"
DECISION_SENSITIVITY = "pbac.decision.sensitivity"
DECISION_POLICY_DIGEST = "pbac.decision.policy.digest"
DECISION_POLICY_VERSION = "pbac.decision.policy.version"
DECISION_FIELDS_RELEASED = "pbac.decision.fields.released"
DECISION_FIELDS_TRANSFORMED = "pbac.decision.fields.transformed"
DECISION_FIELDS_WITHHELD = "pbac.decision.fields.withheld"
DECISION_FIELDS_UNKNOWN = "pbac.decision.fields.unknown"
DECISION_LEDGER_ORIGIN = "pbac.decision.ledger.origin"
DECISION_LEDGER_INDEX = "pbac.decision.ledger.index"
DECISION_LEDGER_LEAF_HASH = "pbac.decision.ledger.leaf_hash"

# OpenTelemetry's. `rpc.system`, `rpc.service` and `enduser.id` are left behind: deprecated or a person.
RPC_SYSTEM_NAME = "rpc.system.name"
RPC_METHOD = "rpc.method"
ENDUSER_PSEUDO_ID = "enduser.pseudo.id"
SERVICE_NAME = "service.name"
SERVICE_INSTANCE_ID = "service.instance.id"

# The Authorization Decision Log's (Logius): references to where the data can be had.
ADL_REQUEST = "adl.core.request"
ADL_RESPONSE = "adl.core.response"
ADL_POLICIES = "adl.core.policies"
ADL_INFORMATION = "adl.core.information"
ADL_CONFIGURATION = "adl.core.configuration"
