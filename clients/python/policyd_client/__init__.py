"""The Python client of policyd: ask before every query, release only what it says."""

from policyd_client.client import MAX_BATCH, PolicyClient
from policyd_client.errors import AlreadyUsed, Expired, NoDecision, SealsNotLive, Withheld
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
    Step,
    StepKind,
    Verdict,
)
from policyd_client.seals import SealState, SealWatch

__all__ = [
    "MAX_BATCH",
    "UNEXPECTED_ANSWER",
    "Action",
    "AlreadyUsed",
    "Decision",
    "Effect",
    "Expired",
    "ExplainedCheck",
    "ExplainedCondition",
    "ExplainedGroup",
    "Explanation",
    "Listing",
    "NoDecision",
    "Obligations",
    "Outcome",
    "PolicyClient",
    "Question",
    "SealState",
    "SealWatch",
    "SealsNotLive",
    "Step",
    "StepKind",
    "Verdict",
    "Withheld",
]
