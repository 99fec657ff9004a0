"""Cedar through cedarpy: its batch call, with policies and entities parsed beforehand."""

from __future__ import annotations

import json
from collections.abc import Sequence

import cedarpy

from peers.rules import KINDS, STATUSES, Rule
from peers.workload import NEVER_EXTERNAL, Question, Workload


class Cedar:
    """Every rule is a policy; fields and kinds of requester are entities."""

    name = "cedarpy"

    def __init__(self, workload: Workload) -> None:
        text = ["forbid(principal, action, resource) unless { context.open };"]
        text += map(_translate, (NEVER_EXTERNAL, *workload.rules))
        self._policies = cedarpy.PolicySet.from_str("\n".join(text))
        entities = [
            _entity("User", f"{kind}/{status}", {"kind": kind, "status": status})
            for kind in KINDS
            for status in STATUSES
        ]
        entities += [
            _entity(
                "Field",
                facts.id,
                {"table": facts.table, "risk": facts.risk, "letters": list(facts.letters)},
            )
            for facts in workload.fields.values()
        ]
        self._entities = cedarpy.Entities.from_json_str(json.dumps(entities))
        self._fields = {name: (facts.id, f'Field::"{facts.id}"') for name, facts in workload.fields.items()}

    def answer(self, question: Question) -> list[bool]:
        """Ask for all fields in one batch."""
        about = question.about
        principal = f'User::"{about.kind}/{about.status}"'
        context = {"setting": about.setting, "within": about.within}
        contexts = tuple(json.dumps({**context, "open": is_open}) for is_open in (False, True))
        requests = []
        for name in question.names:
            id_, resource = self._fields[name]
            is_open = id_ in about.agreed and id_ in about.permitted
            requests.append(
                {
                    "principal": principal,
                    "action": 'Action::"release"',
                    "resource": resource,
                    "context": contexts[is_open],
                }
            )
        results = cedarpy.is_authorized_batch(requests, self._policies, self._entities)
        return [result.allowed for result in results]

    def allowed(self, question: Question, answer: list[bool]) -> list[bool]:
        """Return the answer as it is."""
        return answer


def _entity(kind: str, id_: str, attributes: dict[str, object]) -> dict[str, object]:
    return {"uid": {"type": kind, "id": id_}, "attrs": attributes, "parents": []}


def _translate(rule: Rule) -> str:
    tests = [
        _one_of("principal.kind", rule.kinds),
        _one_of("context.setting", rule.settings),
        _one_of("principal.status", rule.statuses),
        _any_of("context.within", rule.within),
        _one_of("resource.table", rule.tables),
        _one_of("resource.risk", rule.risks),
        _any_of("resource.letters", rule.letters),
    ]
    if rule.without:
        tests.append(f"!({_any_of('resource.letters', rule.without)})")
    effect = "permit" if rule.allow else "forbid"
    return f"{effect}(principal, action, resource) when {{ {' && '.join(filter(None, tests))} }};"


def _one_of(attribute: str, values: Sequence[object]) -> str:
    if len(values) == 1:
        return f"{attribute} == {json.dumps(values[0])}"
    return f"{json.dumps(values)}.contains({attribute})" if values else ""


def _any_of(attribute: str, values: Sequence[object]) -> str:
    if len(values) == 1:
        return f"{attribute}.contains({json.dumps(values[0])})"
    return f"{attribute}.containsAny({json.dumps(values)})" if values else ""
