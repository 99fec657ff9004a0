"""Write explanations and counterfactuals as protobuf; reasons appear as callers may know them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pbac.v1 import decision_pb2 as pb

from policyd.decision.change import ChangeSet
from policyd.decision.counterfactual import Counterfactual, Search
from policyd.decision.explain import Checked, Explanation
from policyd.reasons import for_caller

_SEARCH: Mapping[Search, pb.CounterfactualSearch] = {
    Search.ALL: pb.COUNTERFACTUAL_SEARCH_ALL,
    Search.SOME: pb.COUNTERFACTUAL_SEARCH_SOME,
    Search.NOTHING: pb.COUNTERFACTUAL_SEARCH_NOTHING,
    Search.LARGER: pb.COUNTERFACTUAL_SEARCH_LARGER,
    Search.STOPPED: pb.COUNTERFACTUAL_SEARCH_STOPPED,
}


def write_explanation(explanation: Explanation, answer: pb.CheckResponse) -> pb.ExplainResponse:
    """Return the explanation of a decision that was answered with ``answer``.

    SECURITY: it holds no counterfactuals, so that no data service gets any
    (tests/integration/test_explain_rpc.py).
    """
    return pb.ExplainResponse(
        answer=answer,
        steps=[_step(check) for check in explanation.question],
        groups=[
            pb.ExplainGroup(steps=[_step(check) for check in group.checks]) for group in explanation.groups
        ],
        not_shown=explanation.not_shown,
    )


def write_counterfactuals(found: Iterable[Counterfactual]) -> list[pb.Counterfactual]:
    """Return what would have to change, for policy authors and auditors alone."""
    return [
        pb.Counterfactual(
            verdict=each.group,
            fields=each.names,
            search=_SEARCH[each.search],
            sets=[_set(changes) for changes in each.sets],
        )
        for each in found
    ]


def _set(changes: ChangeSet) -> pb.FactChangeSet:
    terms = [change.terms for change in changes]
    return pb.FactChangeSet(
        changes=[
            pb.FactChange(
                entry=each.entry, id=each.id, member=each.member, values=each.values, text=each.text
            )
            for each in terms
        ]
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
