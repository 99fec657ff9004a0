"""Why a field is withheld: the closed list of DESIGN.md section 3.2, in the order of its gates."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A reason, spelled as it is on the wire, in the ledger and in policy tests."""

    __hash__ = str.__hash__  # an enumeration's own is written in Python, and every look-up calls it

    NONE = "NONE"
    """Released or transformed: nothing to explain."""

    DATA_SERVICE_UNKNOWN = "DATA_SERVICE_UNKNOWN"
    DATA_SERVICE_SUSPENDED = "DATA_SERVICE_SUSPENDED"
    REQUESTER_UNVERIFIED = "REQUESTER_UNVERIFIED"
    REQUESTER_UNKNOWN = "REQUESTER_UNKNOWN"
    REQUESTER_SUSPENDED = "REQUESTER_SUSPENDED"
    ORGANISATION_SUSPENDED = "ORGANISATION_SUSPENDED"
    AGREEMENT_UNKNOWN = "AGREEMENT_UNKNOWN"
    """Kept for the ledger: callers see AGREEMENT_NOT_YOURS (``for_caller``)."""
    AGREEMENT_NOT_STARTED = "AGREEMENT_NOT_STARTED"
    AGREEMENT_EXPIRED = "AGREEMENT_EXPIRED"
    AGREEMENT_SUSPENDED = "AGREEMENT_SUSPENDED"
    AGREEMENT_NOT_YOURS = "AGREEMENT_NOT_YOURS"
    SETTING_NOT_APPROVED = "SETTING_NOT_APPROVED"
    ACTION_NOT_APPROVED = "ACTION_NOT_APPROVED"
    PURPOSE_MISSING = "PURPOSE_MISSING"
    PURPOSE_UNKNOWN = "PURPOSE_UNKNOWN"
    PURPOSE_NOT_REQUESTABLE = "PURPOSE_NOT_REQUESTABLE"
    PURPOSE_NOT_IN_AGREEMENT = "PURPOSE_NOT_IN_AGREEMENT"
    GATEWAY_NOT_IN_FORCE = "GATEWAY_NOT_IN_FORCE"
    GATEWAY_PRECONDITION = "GATEWAY_PRECONDITION"
    FIELD_WILDCARD = "FIELD_WILDCARD"
    """A `*` was asked for: fields are named one by one (UK GDPR Art 5(1)(c), minimisation)."""
    FIELD_UNKNOWN = "FIELD_UNKNOWN"
    FIELD_WITHDRAWN = "FIELD_WITHDRAWN"
    FIELD_NEVER_EXTERNAL = "FIELD_NEVER_EXTERNAL"
    FIELD_NOT_IN_AGREEMENT = "FIELD_NOT_IN_AGREEMENT"
    YEAR_MISSING = "YEAR_MISSING"
    """The column carries no year and the question states none."""
    YEAR_NOT_IN_AGREEMENT = "YEAR_NOT_IN_AGREEMENT"
    PURPOSE_PROHIBITED = "PURPOSE_PROHIBITED"
    PURPOSE_NOT_ALLOWED = "PURPOSE_NOT_ALLOWED"
    DENIED_BY_RULE = "DENIED_BY_RULE"
    RULE_ERROR = "RULE_ERROR"
    NO_RULE_ALLOWS = "NO_RULE_ALLOWS"
    SUPPRESSED = "SUPPRESSED"
    """Rules allow it only in forms that cannot be combined, so nothing of it leaves."""
    USED_FIELD_WITHHELD = "USED_FIELD_WITHHELD"
    """This field would do, but the query filters, joins or groups on one that is withheld."""
    OBLIGATION_CONFLICT = "OBLIGATION_CONFLICT"
    """Obligations that no data service could meet together."""


GATE_OF: dict[Reason, int] = {
    Reason.DATA_SERVICE_UNKNOWN: 1,
    Reason.DATA_SERVICE_SUSPENDED: 1,
    Reason.REQUESTER_UNVERIFIED: 2,
    Reason.REQUESTER_UNKNOWN: 2,
    Reason.REQUESTER_SUSPENDED: 2,
    Reason.ORGANISATION_SUSPENDED: 2,
    Reason.AGREEMENT_UNKNOWN: 3,
    Reason.AGREEMENT_NOT_STARTED: 3,
    Reason.AGREEMENT_EXPIRED: 3,
    Reason.AGREEMENT_SUSPENDED: 3,
    Reason.AGREEMENT_NOT_YOURS: 3,
    Reason.SETTING_NOT_APPROVED: 3,
    Reason.ACTION_NOT_APPROVED: 3,
    Reason.PURPOSE_MISSING: 4,
    Reason.PURPOSE_UNKNOWN: 4,
    Reason.PURPOSE_NOT_REQUESTABLE: 4,
    Reason.PURPOSE_NOT_IN_AGREEMENT: 4,
    Reason.GATEWAY_NOT_IN_FORCE: 5,
    Reason.GATEWAY_PRECONDITION: 5,
    Reason.FIELD_WILDCARD: 6,
    Reason.FIELD_UNKNOWN: 6,
    Reason.FIELD_WITHDRAWN: 6,
    Reason.FIELD_NEVER_EXTERNAL: 6,
    Reason.FIELD_NOT_IN_AGREEMENT: 7,
    Reason.YEAR_MISSING: 7,
    Reason.YEAR_NOT_IN_AGREEMENT: 7,
    Reason.PURPOSE_PROHIBITED: 8,
    Reason.PURPOSE_NOT_ALLOWED: 8,
    Reason.DENIED_BY_RULE: 9,
    Reason.RULE_ERROR: 9,
    Reason.NO_RULE_ALLOWS: 9,
    Reason.SUPPRESSED: 9,
    Reason.OBLIGATION_CONFLICT: 9,
    Reason.USED_FIELD_WITHHELD: 9,
    Reason.NONE: 10,
}
"""The gate that gives each reason; lower numbers are checked first and name the reason."""


def for_caller(reason: Reason) -> Reason:
    """Return what the caller is told: whether an agreement of someone else exists is not its business."""
    return Reason.AGREEMENT_NOT_YOURS if reason is Reason.AGREEMENT_UNKNOWN else reason
