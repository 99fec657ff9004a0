"""py-abac's own decision point, from memory, with requests made as objects (its fastest way)."""

from __future__ import annotations

from py_abac import PDP, AccessRequest, EvaluationAlgorithm, Policy
from py_abac.storage.memory import MemoryStorage

from peers.workload import NEVER_EXTERNAL, Question, Workload, policy_document

CLOSED = {
    "uid": "gate-closed",
    "effect": "deny",
    "targets": {},
    "rules": {"context": {"$.open": {"condition": "IsIn", "values": [False]}}},
}


class PyAbac:
    """Deny overrides; every rule is a policy."""

    name = "py-abac"

    def __init__(self, workload: Workload) -> None:
        storage = MemoryStorage()
        for document in (CLOSED, *map(policy_document, (NEVER_EXTERNAL, *workload.rules))):
            storage.add(Policy.from_json(document))
        self._pdp = PDP(storage, EvaluationAlgorithm.DENY_OVERRIDES)
        self._fields = {
            name: {
                "id": facts.id,
                "attributes": {
                    "table": facts.table,
                    "identification_risk": facts.risk,
                    "sensitivity": list(facts.letters),
                },
            }
            for name, facts in workload.fields.items()
        }

    def answer(self, question: Question) -> list[bool]:
        """Ask once for each field."""
        about = question.about
        subject = {
            "id": "requester",
            "attributes": {
                "organisation": {"kind": about.kind},
                "accreditation": {"status": about.status},
            },
        }
        action = {"id": "release"}
        context = {"setting": about.setting, "purpose_within": list(about.within)}
        contexts = ({**context, "open": False}, {**context, "open": True})
        answers = []
        for name in question.names:
            field = self._fields[name]
            is_open = field["id"] in about.agreed and field["id"] in about.permitted
            request = AccessRequest(subject, field, action, contexts[is_open])
            answers.append(self._pdp.is_allowed(request))
        return answers

    def allowed(self, question: Question, answer: list[bool]) -> list[bool]:
        """Return the answer as it is."""
        return answer
