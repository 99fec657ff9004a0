"""pycasbin with a matcher over columns; its `eval()` of a text in each rule takes longer still."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import casbin

from peers.rules import Rule
from peers.workload import NEVER_EXTERNAL, Question, Workload

MODEL = """
[request_definition]
r = sub, obj, ctx
[policy_definition]
p = kinds, statuses, settings, within, tables, risks, letters, without, open, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = (p.kinds == '' || r.sub.kind in p.kinds) && (p.within == '' || any_of(r.ctx.within, p.within)) \
 && (p.open == '' || r.ctx.open == p.open) && (p.statuses == '' || r.sub.status in p.statuses) \
 && (p.settings == '' || r.ctx.setting in p.settings) && (p.tables == '' || r.obj.table in p.tables) \
 && (p.risks == '' || r.obj.risk in p.risks) && (p.letters == '' || any_of(r.obj.letters, p.letters)) \
 && (p.without == '' || !any_of(r.obj.letters, p.without))
"""


@dataclass(frozen=True, slots=True)
class _Subject:
    kind: str
    status: str


@dataclass(frozen=True, slots=True)
class _Object:
    id: str
    table: str
    risk: str
    letters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Context:
    setting: str
    within: tuple[str, ...]
    open: str


class Casbin:
    """Every rule is a row; values in a column stand between bars."""

    name = "pycasbin"

    def __init__(self, workload: Workload) -> None:
        model = casbin.Enforcer.new_model(text=MODEL.replace(" \\\n", ""))
        self._enforcer = casbin.Enforcer(model)
        self._enforcer.add_function("any_of", _any_of)
        self._enforcer.add_policies(
            [["", "", "", "", "", "", "", "", "no", "deny"], *map(_row, (NEVER_EXTERNAL, *workload.rules))]
        )
        self._fields = {
            name: _Object(facts.id, f"|{facts.table}|", f"|{facts.risk}|", _barred(facts.letters))
            for name, facts in workload.fields.items()
        }

    def answer(self, question: Question) -> list[bool]:
        """Ask once for each field; its batch call is this loop."""
        about = question.about
        subject = _Subject(f"|{about.kind}|", f"|{about.status}|")
        within = _barred(about.within)
        contexts = tuple(_Context(f"|{about.setting}|", within, is_open) for is_open in ("no", "yes"))
        answers = []
        for name in question.names:
            field = self._fields[name]
            is_open = field.id in about.agreed and field.id in about.permitted
            answers.append(self._enforcer.enforce(subject, field, contexts[is_open]))
        return answers

    def allowed(self, question: Question, answer: list[bool]) -> list[bool]:
        """Return the answer as it is."""
        return answer


def _barred(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(f"|{value}|" for value in values)


def _any_of(values: tuple[str, ...], column: str) -> bool:
    return any(value in column for value in values)


def _row(rule: Rule) -> list[str]:
    columns = (
        rule.kinds,
        rule.statuses,
        rule.settings,
        rule.within,
        rule.tables,
        rule.risks,
        rule.letters,
        rule.without,
    )
    return [*("".join(_barred(column)) for column in columns), "", "allow" if rule.allow else "deny"]
