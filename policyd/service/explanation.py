"""Write an explanation as protobuf; reasons appear as callers may know them."""

from __future__ import annotations

from pbac.v1 import decision_pb2 as pb

from policyd.decision.explain import Checked, Explanation
from policyd.reasons import for_caller


def write_explanation(explanation: Explanation, answer: pb.CheckResponse) -> pb.ExplainResponse:
    """Return the explanation of a decision that was answered with ``answer``."""
    return pb.ExplainResponse(
        answer=answer,
        steps=[_step(check) for check in explanation.question],
        groups=[
            pb.ExplainGroup(steps=[_step(check) for check in group.checks]) for group in explanation.groups
        ],
        not_shown=explanation.not_shown,
    )


def _step(check: Checked) -> pb.ExplainStep:
    return pb.ExplainStep(
        check=check.check,
        result=check.result,
        why=check.why,
        place="" if check.place is None else f"{check.place.file}:{check.place.line}",
        reason=for_caller(check.reason).value,
        purpose=check.purpose,
        fields=check.fields,
        conditions=[
            pb.ExplainCondition(
                attribute=each.attribute,
                condition=each.text,
                value=each.value,
                source=each.source,
                result=each.result,
                clause=each.clause,
                alternative=each.alternative,
            )
            for each in check.conditions
        ],
    )
