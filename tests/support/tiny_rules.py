"""Random rules over the tiny policy set, and policy sets made of them without touching the disk."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from policyd.policy.attributes import DERIVED
from policyd.policy.compile import compile_rules
from policyd.policy.policyset import PolicySet
from policyd.policy.reader import Reader
from policyd.policy.rules import read_rule
from policyd.policy.source import read_text

Document = dict[str, Any]

_WORDS: dict[str, dict[str, list[str]]] = {
    "subject": {
        "organisation.kind": ["university", "local-authority", "press"],
        "accreditation.status": ["valid", "none", "expired", "suspended", "supervisor-lapsed"],
        "accreditation.level": ["full", "provisional"],
        "requester.id": ["researcher-1", "researcher-2"],
    },
    "resource": {
        "field": ["Pupil.Fsm", "Pupil.Score", "School.Size", "Pupil.Dob"],
        "table": ["Pupil", "School"],
        "level": ["pupil", "school"],
    },
    "action": {"action": ["release", "match", "count"]},
    "context": {
        "setting": ["secure", "open", "vault"],
        "purpose": ["academic", "statistics", "industry", "research"],
        "gateway": ["OPEN-1", "STRICT-1"],
        "agreement.article9": ["none", "art-9-2-j"],
    },
}
_SETS: dict[str, dict[str, list[str]]] = {
    "subject": {"roles": ["researcher", "administrator"]},
    "resource": {"sensitivity": ["B", "C", "D", "E"], "sections": ["Care", "Other"]},
    "action": {},
    "context": {"purpose_within": ["research", "commercial", "statistics", "any"]},
}
_BOOLS = {
    "subject": ["organisation.commercial"],
    "resource": ["by_request"],
    "action": [],
    "context": ["purpose_notice"],
}


_TEXT = ("Equals", "NotEquals", "Contains", "NotContains", "StartsWith", "EndsWith")
_NUMBER = ("Eq", "Neq", "Gt", "Gte", "Lt", "Lte")
# All of these have a join, so that few sets are refused for rules that cannot be combined.
_GRANTS: list[Any] = ["release"] * 4 + [
    {"band": {"width": 4}},
    {"band": {"width": 6}},
    {"top_code": {"at": 60}},
    "suppress",
]
_TARGETS: dict[str, list[Any]] = {
    "resource_id": ["*", "Pupil.*", "School.*", "*S*", ["Pupil.Fsm", "Pupil.Dob"]],
    "action_id": ["*", "release", ["m*", "count"]],
    "subject_id": ["*", "researcher-1", "*-2"],
}
_OBLIGATIONS: dict[str, list[Any]] = {
    "min_cell_count": [1, 12, 40],
    "round_to": [2, 3, 5, 10],
    "retention_days": [1, 30, 999],
    "output_check": [True],
    "setting": ["secure", "open"],
    "rows": [{"local_authority": "own"}, {"years": [2018, 2019]}],
}
_BROAD: Document = {"effect": "allow", "grant": "release", "rules": {}}


def _pair(name: str, other: str) -> Document:
    return {"condition": name, "attribute": f"$.{other}"}


_DAYS: list[Document] = [
    {"condition": name, "days_from_now": days} for name in ("Before", "After") for days in (-30, 0, 400)
]
_WHERE: dict[str, list[tuple[str, list[Document]]]] = {
    "subject": [
        ("accreditation.until", [*_DAYS, {"condition": "After", "value": "2026-06-01"}]),
        ("roles", [_pair("PartOf", "purpose_within"), _pair("Overlaps", "purpose_within")]),
        ("accreditation.level", [_pair("SameAs", "agreement.basis")]),
    ],
    "resource": [
        ("by_request", [_pair("SameAs", "organisation.commercial")]),
        ("sections", [_pair("Overlaps", "roles"), _pair("PartOf", "roles"), _pair("Includes", "setting")]),
        ("table", [_pair("MemberOf", "roles")]),
    ],
    "context": [
        ("now", [{"condition": name, "value": "2026-03-01T12:00:00Z"} for name in ("Before", "After")]),
        ("now", [{"condition": "Within", "from": "2026-03-01", "until": "2027-03-01"}]),
        ("purpose_within", [_pair("Includes", "purpose")]),
    ],
}


class Author:
    """Writes rules at random, every condition of docs/policy-set.md among them."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311  (cases, not secrets)

    def some(self, values: list[Any]) -> list[Any]:
        return self._rng.sample(values, self._rng.randint(1, min(3, len(values))))

    def leaf(self, part: str, name: str) -> Document:
        rng = self._rng
        if name in _WORDS[part]:
            if rng.random() < 0.3:
                return {"condition": "IsIn", "values": self.some(_WORDS[part][name])}
            return {"condition": rng.choice(_TEXT), "value": rng.choice(_WORDS[part][name])}
        if name in _SETS[part]:
            if rng.random() < 0.2:
                return {"condition": rng.choice(["IsEmpty", "IsNotEmpty"])}
            return {"condition": rng.choice(["AnyIn", "AllIn"]), "values": self.some(_SETS[part][name])}
        if name in _BOOLS[part]:
            return {"condition": "IsIn", "values": [rng.random() < 0.5]}
        return {"condition": rng.choice(_NUMBER), "value": rng.randint(1, 5)}

    def condition(self, part: str, name: str, *, depth: int = 2) -> Document:
        rng = self._rng
        if depth == 0 or rng.random() < 0.6:
            return self.leaf(part, name)
        if rng.random() < 0.5:
            return {"condition": "Not", "value": self.condition(part, name, depth=depth - 1)}
        parts = [self.condition(part, name, depth=depth - 1) for _ in range(rng.randint(1, 2))]
        return {"condition": rng.choice(["AllOf", "AnyOf"]), "values": parts}

    def alternative(self, part: str) -> Document:
        names = [*_WORDS[part], *_SETS[part], *_BOOLS[part]]
        if part == "resource":
            names.append("identification_risk")
        chosen = self._rng.sample(names, min(len(names), self._rng.randint(1, 2)))
        return {f"$.{name}": self.condition(part, name) for name in chosen}

    def rule(self, uid: str, effect: str) -> Document:
        rng = self._rng
        parts: Document = {}
        for part in _WORDS:
            if rng.random() < 0.35:
                alternatives = [self.alternative(part) for _ in range(rng.randint(1, 2))]
                parts[part] = alternatives if rng.random() < 0.5 else alternatives[0]
        rule: Document = {"uid": uid, "why": f"rule {uid}", "effect": effect, "rules": parts}
        targets = {key: rng.choice(values) for key, values in _TARGETS.items() if rng.random() < 0.4}
        if targets:
            rule["targets"] = targets
        if rng.random() < 0.35:
            rule["where"] = {part: self.where(part) for part in self.some(list(_WHERE))}
        if effect == "allow":
            rule["grant"] = rng.choice(_GRANTS)
            owed = {key: rng.choice(values) for key, values in _OBLIGATIONS.items() if rng.random() < 0.15}
            if owed:
                rule["obligations"] = owed
        return rule

    def where(self, part: str) -> Document:
        rng = self._rng
        name, conditions = rng.choice(_WHERE[part])
        condition: Document = rng.choice(conditions)
        if rng.random() < 0.3:
            condition = {"condition": "Not", "value": condition}
        return {f"$.{name}": condition}

    def rules(self) -> list[Document]:
        rng = self._rng
        broad = [{"uid": "r0", "why": "broad", **_BROAD}] if rng.random() < 0.6 else []
        effects = [rng.choice(["allow", "allow", "deny"]) for _ in range(rng.randint(1, 5))]
        return broad + [self.rule(f"r{number}", effect) for number, effect in enumerate(effects, start=1)]


_SEEDS = st.integers(0, 2**32)
rule_sets = _SEEDS.map(lambda seed: Author(seed).rules())
"""Sets of one to six rules; most have one rule that allows everything, so that others show.

They are drawn by seed: strategies that build strategies cost a hundred times as much here.
"""
deny_rules = _SEEDS.map(lambda seed: Author(seed).rule("m-added", "deny"))


def with_rules(policy: PolicySet, documents: Sequence[Document]) -> PolicySet | None:
    """Return the policy set with these rules; None when two of them cannot be combined."""
    reader = Reader()
    text = json.dumps(list(documents))  # a flow mapping of YAML too, and without its anchors
    sources = [read_rule(reader, entry, DERIVED) for entry in reader.entries(read_text(text, "rules.yaml"))]
    reader.finish()
    compiled = compile_rules(reader, [each for each in sources if each], policy.index, policy.fields)
    if reader.problems:
        assert all("nothing protects as much" in str(each) for each in reader.problems), reader.problems
        return None
    return replace(policy, rules=compiled.rules, atoms=compiled.atoms, times=compiled.times)
