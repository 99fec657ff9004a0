"""vakt's guard with its rules checker, from memory."""

from __future__ import annotations

from typing import Any

from vakt import ALLOW_ACCESS, DENY_ACCESS, Guard, Inquiry, MemoryStorage, Policy, RulesChecker
from vakt.rules.list import AnyIn, In
from vakt.rules.logic import Any as Anything
from vakt.rules.logic import Not
from vakt.rules.operator import Eq

from peers.rules import Rule
from peers.workload import NEVER_EXTERNAL, Question, Workload


class Vakt:
    """Any deny that fits denies; every rule is a policy."""

    name = "vakt"

    def __init__(self, workload: Workload) -> None:
        storage = MemoryStorage()
        storage.add(_policy("gate-closed", allow=False, context={"open": Eq(False)}))
        for rule in (NEVER_EXTERNAL, *workload.rules):
            storage.add(_translate(rule))
        self._guard = Guard(storage, RulesChecker())
        self._fields = {
            name: (facts.id, {"table": facts.table, "risk": facts.risk, "letters": list(facts.letters)})
            for name, facts in workload.fields.items()
        }

    def answer(self, question: Question) -> list[bool]:
        """Ask once for each field, by the call that logs nothing."""
        about = question.about
        subject = {"kind": about.kind, "status": about.status}
        context = {"setting": about.setting, "within": list(about.within)}
        contexts = ({**context, "open": False}, {**context, "open": True})
        answers = []
        for name in question.names:
            id_, field = self._fields[name]
            is_open = id_ in about.agreed and id_ in about.permitted
            inquiry = Inquiry(resource=field, action="release", subject=subject, context=contexts[is_open])
            answers.append(self._guard.is_allowed_check(inquiry))
        return answers

    def allowed(self, question: Question, answer: list[bool]) -> list[bool]:
        """Return the answer as it is."""
        return answer


def _translate(rule: Rule) -> Policy:
    subject: dict[str, Any] = {}
    resource: dict[str, Any] = {}
    context: dict[str, Any] = {}
    for part, key, values in (
        (subject, "kind", rule.kinds),
        (subject, "status", rule.statuses),
        (resource, "table", rule.tables),
        (resource, "risk", rule.risks),
        (context, "setting", rule.settings),
    ):
        if values:
            part[key] = In(*values)
    if rule.letters or rule.without:
        resource["letters"] = AnyIn(*rule.letters) if rule.letters else Not(AnyIn(*rule.without))
    if rule.within:
        context["within"] = AnyIn(*rule.within)
    return _policy(rule.uid, allow=rule.allow, subject=subject, resource=resource, context=context)


def _policy(
    uid: str,
    *,
    allow: bool,
    subject: dict[str, Any] | None = None,
    resource: dict[str, Any] | None = None,
    context: dict[str, Any],
) -> Policy:
    return Policy(
        uid,
        effect=ALLOW_ACCESS if allow else DENY_ACCESS,
        subjects=[subject or Anything()],
        resources=[resource or Anything()],
        actions=[Anything()],
        context=context,
    )
