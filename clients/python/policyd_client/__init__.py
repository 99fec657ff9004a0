"""The Python client of policyd: ask before every query, release only what it says."""

from policyd_client.admin import AdminClient, NotDone
from policyd_client.client import MAX_BATCH, PolicyClient
from policyd_client.errors import (
    AlreadyReported,
    AlreadyUsed,
    Expired,
    NoDecision,
    NotReported,
    SealsNotLive,
    Withheld,
)
from policyd_client.explaining import ExplainedCheck, ExplainedCondition, ExplainedGroup, Explanation
from policyd_client.listing import Listing
from policyd_client.model import (
    UNEXPECTED_ANSWER,
    Action,
    Decision,
    Effect,
    Obligations,
    Outcome,
    Question,
    Receipt,
    Step,
    StepKind,
    Verdict,
)
from policyd_client.note import Checkpoint
from policyd_client.seals import SealState, SealWatch

__all__ = [
    "MAX_BATCH",
    "UNEXPECTED_ANSWER",
    "Action",
    "AdminClient",
    "AlreadyReported",
    "AlreadyUsed",
    "Checkpoint",
    "Decision",
    "Effect",
    "Expired",
    "ExplainedCheck",
    "ExplainedCondition",
    "ExplainedGroup",
    "Explanation",
    "Listing",
    "NoDecision",
    "NotDone",
    "NotReported",
    "Obligations",
    "Outcome",
    "PolicyClient",
    "Question",
    "Receipt",
    "SealState",
    "SealWatch",
    "SealsNotLive",
    "Step",
    "StepKind",
    "Verdict",
    "Withheld",
]
