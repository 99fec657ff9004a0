"""Draw rules with conditions of every kind that the loader takes, and the obligations that they impose."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from policyd.model import Action
from reference.draft import (
    ARTICLE9,
    LETTERS,
    ORGANISATION_KINDS,
    ROLES,
    SCHEMES,
    SECTIONS,
    SETTINGS,
    Draft,
    some,
)
from reference.source import Document


def draw_rules(rng: random.Random, draft: Draft) -> list[Document]:
    """Return rules of distinct uids, in no order."""
    return _Rules(rng, draft).draw()


def draw_duties(rng: random.Random) -> Document:
    """Return one to three obligations as a document states them."""
    drawn = {
        "min_cell_count": rng.choice((3, 10, 20)),
        # Two primes whose product no message can carry stand beside common bases.
        "round_to": rng.choice((5, 10, 3, 65537, 65539)) if rng.random() < 0.1 else 5,
        "retention_days": rng.choice((30, 365)),
        "output_check": True,
        "publish_in_register": True,
        "setting": "secure" if rng.random() < 0.7 else rng.choice(SETTINGS),
        "rows": rng.choice(
            [
                {"local_authority": "own"},
                {"years": [2018, 2019]},
                {"years": [2016, 2017, 2018], "local_authority": "own"},
            ]
        ),
    }
    weights = [4, 2, 4, 3, 3, 1, 1]
    keys = set(rng.choices(list(drawn), weights, k=rng.randint(1, 3)))
    return {key: drawn[key] for key in drawn if key in keys}


GRANTS: dict[str, list[Any]] = {
    "band": [
        {"band": {"width": 4}},
        {"band": {"width": 6}},
        {"top_code": {"at": 60}},
        {"top_code": {"at": 50}},
    ],
    "round": [{"round": {"to": 3}}, {"round": {"to": 5}}, {"round": {"to": 15}}, {"top_code": {"at": 60}}],
    "date": [{"generalise": {"to": unit}} for unit in ("month", "year", "academic-year")],
    "place": [{"generalise": {"to": unit}} for unit in ("outward-postcode", "postcode-area")],
    "pseudonym": ["pseudonymise"],
}


DATES = (
    "2025-01-01",
    "2026-02-09T12:00:00Z",
    "2026-02-28T12:00:00Z",
    "2026-03-01T11:59:59.999Z",
    "2026-03-01T12:00:00Z",
    "2026-03-01T12:00:00.001Z",
    "2026-03-02T12:00:00Z",
    "2026-03-21T12:00:00Z",
)
"""In order, on and beside the instants that are asked about."""
LATE_DATES = ("2026-12-26T12:00:00Z", "2027-01-01")
"""Ends of accreditations, and later."""


def _against(name: str, *others: str) -> list[Document]:
    return [{"condition": name, "attribute": f"$.{other}"} for other in others]


WHERE: dict[str, list[tuple[str, list[Document]]]] = {
    "subject": [
        ("accreditation.until", []),
        ("accreditation.until", []),
        ("accreditation.scheme", _against("SameAs", "agreement.basis", "agreement.article9")),
        ("accreditation.level", _against("SameAs", "agreement.basis")),
        ("roles", [*_against("Overlaps", "purpose_within"), *_against("PartOf", "purpose_within")]),
        ("roles", _against("Includes", "requester.id", "accreditation.level")),
        ("organisation.commercial", _against("SameAs", "purpose_notice")),
    ],
    "resource": [
        ("by_request", _against("SameAs", "organisation.commercial", "purpose_notice")),
        ("table", [*_against("MemberOf", "roles"), *_against("SameAs", "agreement.basis")]),
        ("sections", [*_against("Overlaps", "roles", "purpose_within"), *_against("PartOf", "roles")]),
        ("sections", [*_against("Includes", "accreditation.level"), *_against("SameAs", "roles")]),
    ],
    "context": [
        ("now", []),
        ("now", []),
        ("now", []),
        ("agreement.basis", _against("SameAs", "agreement.compatibility", "agreement.exemption")),
        ("purpose", [*_against("MemberOf", "purpose_within"), *_against("MemberOf", "roles")]),
        ("purpose_within", _against("Includes", "purpose", "agreement.basis")),
    ],
}
"""Conditions of `where:` by part: the attribute, and what it is compared with; nothing is a date."""


class _Rules:
    """Draws rules over what one policy set and the registries drawn for it can hold."""

    def __init__(self, rng: random.Random, draft: Draft) -> None:
        self.rng = rng
        purposes = list(draft.purposes)
        self.grants = GRANTS[rng.choice(list(GRANTS))]
        self.fields = list(draft.columns)
        self.tables = draft.tables
        self.purposes = purposes
        self.values: dict[str, dict[str, Sequence[Any]]] = {
            "subject": {
                "requester.id": ["person-0", "person-1"],
                "organisation.id": ["org-0", "org-1"],
                "organisation.kind": ORGANISATION_KINDS,
                "organisation.commercial": [True, False],
                "accreditation.scheme": SCHEMES,
                "accreditation.level": ["full", "provisional"],
                "accreditation.status": [
                    "none",
                    "valid",
                    "expired",
                    "suspended",
                    "supervisor-lapsed",
                    "organisation-changed",
                ],
                "roles": ROLES,
            },
            "resource": {
                "field": self.fields,
                "table": draft.tables,
                "level": ["pupil", "school"],
                "sections": SECTIONS,
                "identification_risk": [1, 2, 3, 4, 5],
                "sensitivity": list(LETTERS),
                "by_request": [True, False],
            },
            "action": {"action": [action.value for action in Action]},
            "context": {
                "data_service.id": ["service-0", "service-1"],
                "setting": SETTINGS,
                "purpose": purposes,
                "purpose_within": purposes,
                "purpose_notice": [True, False],
                "gateway": draft.gateways,
                "agreement.id": ["AG-0", "AG-1"],
                "agreement.basis": ["none", "art-6-1-e"],
                "agreement.article9": ARTICLE9,
                "agreement.compatibility": ["none", "art-8a"],
                "agreement.exemption": ["none", "research-consent"],
            },
        }

    def draw(self) -> list[Document]:
        """Return rules of distinct uids, in no order."""
        rng = self.rng
        uids = [f"r{number:02}" for number in range(99)]
        rng.shuffle(uids)
        rules = []
        apart = rng.random() < 0.12
        if apart:  # one rule a purpose, of any kind: several declared purposes then meet
            kind = rng.choice(list(GRANTS))
            for purpose in self.purposes:
                only = {"context": {"$.purpose": {"condition": "Equals", "value": purpose}}}
                grant = rng.choice(GRANTS[kind if rng.random() < 0.8 else rng.choice(list(GRANTS))])
                rules.append(self._allow(uids.pop(), grant, only, {}))
        elif rng.random() < 0.94:  # without a wide rule hardly anything would ever leave
            grant = "release" if rng.random() < 0.7 else rng.choice(self.grants)
            rules.append(self._allow(uids.pop(), grant, {}, {}))
        for _ in range(rng.randint(1, 2 if apart else 5)):
            grant = "release" if apart or rng.random() < 0.45 else rng.choice(self.grants)
            if rng.random() < 0.04:
                grant = "suppress"
            parts = self._parts(1, 3)
            if rng.random() < 0.25:  # kept apart by purpose, so that the loader takes transforms that clash
                grant = rng.choice(GRANTS[rng.choice(list(GRANTS))])
                parts["context"] = {"$.purpose": {"condition": "Equals", "value": rng.choice(self.purposes)}}
            rules.append(self._allow(uids.pop(), grant, parts, self._targets()))
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            rule = {"uid": uids.pop(), "why": "Drawn.", "effect": "deny", "rules": self._parts(2, 4)}
            if targets := self._targets():
                rule["targets"] = targets
            rules.append(self._with_where(rule))
        return rules

    def _allow(self, uid: str, grant: Any, parts: Document, targets: Document) -> Document:
        rule: Document = {"uid": uid, "why": "Drawn.", "effect": "allow", "rules": parts, "grant": grant}
        if targets:
            rule["targets"] = targets
        if self.rng.random() < 0.3:
            rule["obligations"] = draw_duties(self.rng)
        return self._with_where(rule)

    def _with_where(self, rule: Document) -> Document:
        """Add conditions that py-abac lacks to some rules, seldom to those that let much go."""
        rng = self.rng
        if rng.random() < (0.22 if rule["rules"] else 0.05):
            where: Document = {}
            for part in some(rng, ["subject", "resource", "context", "context"], 2):
                alternatives = [self._where(part) for _ in range(rng.choice((1, 1, 1, 2)))]
                where[part] = alternatives if len(alternatives) > 1 else alternatives[0]
            rule["where"] = where
        return rule

    def _where(self, part: str) -> Document:
        name, kinds = self.rng.choice(WHERE[part])
        return {f"$.{name}": self._where_condition(name, kinds, depth=0)}

    def _where_condition(self, name: str, kinds: Sequence[Document], *, depth: int) -> Document:
        rng = self.rng
        if depth < 2 and rng.random() < 0.25:
            inner = [self._where_condition(name, kinds, depth=depth + 1) for _ in range(rng.randint(1, 2))]
            kind = rng.choice(("Not", "AllOf", "AnyOf"))
            return {"condition": kind, **({"value": inner[0]} if kind == "Not" else {"values": inner})}
        if kinds:
            return dict(rng.choice(kinds))
        if name != "now" and rng.random() < 0.6:
            days = rng.choice((0, 0, 1, -1, 10, 20, -20, 280, 299, 300, 300, 301, 320))
            return {"condition": rng.choice(("Before", "After")), "days_from_now": days}
        dates = DATES if name == "now" else [*DATES, *LATE_DATES]
        if rng.random() < 0.4:
            first = rng.randrange(len(dates) - 1)
            until = rng.randrange(first + 1, len(dates))
            return {"condition": "Within", "from": dates[first], "until": dates[until]}
        return {"condition": rng.choice(("Before", "After")), "value": rng.choice(dates)}

    def _targets(self) -> Document:
        rng, targets = self.rng, {}
        if rng.random() < 0.3:
            choices = [*self.fields, *(f"{table}.*" for table in self.tables), "*.F1*", "*", "*0"]
            targets["resource_id"] = rng.choice(choices) if rng.random() < 0.5 else some(rng, choices, 3)
        if rng.random() < 0.1:
            targets["action_id"] = some(rng, ["release", "co*", "match", "*i*", "*"], 3)
        if rng.random() < 0.1:
            targets["subject_id"] = rng.choice(["person-0", "person-*", "*1", "nobody"])
        return targets

    def _parts(self, least: int, most: int) -> Document:
        rng = self.rng
        parts: Document = {}
        chosen = rng.choices(
            ["subject", "resource", "action", "context"], (4, 4, 1, 4), k=rng.randint(least, most)
        )
        for part in sorted(set(chosen)):
            alternatives = [self._conditions(part) for _ in range(rng.choice((1, 1, 1, 2)))]
            parts[part] = alternatives if len(alternatives) > 1 or rng.random() < 0.1 else alternatives[0]
        return parts

    def _conditions(self, part: str) -> Document:
        values = self.values[part]
        chosen = some(self.rng, list(values), 2)
        may_be_missing = {"resource": "by_request", "subject": "accreditation.level"}
        if part in may_be_missing and self.rng.random() < 0.15:
            chosen = sorted({*chosen, may_be_missing[part]})
        return {f"$.{name}": self._condition(name, values[name], depth=0) for name in chosen}

    def _condition(self, name: str, values: Sequence[Any], *, depth: int) -> Document:
        rng = self.rng
        if depth < 2 and rng.random() < 0.25:
            kind = rng.choice(("Not", "AllOf", "AnyOf"))
            if kind == "Not":
                return {"condition": kind, "value": self._condition(name, values, depth=depth + 1)}
            inner = [self._condition(name, values, depth=depth + 1) for _ in range(rng.randint(1, 2))]
            return {"condition": kind, "values": inner}
        if name in ("sections", "sensitivity", "roles", "purpose_within"):
            kind = rng.choice(("AnyIn", "AnyIn", "AllIn", "IsEmpty", "IsNotEmpty"))
            return {"condition": kind, **({} if "Is" in kind else {"values": some(rng, values, 3)})}
        if isinstance(values[0], bool) or rng.random() < 0.4:
            return {"condition": "IsIn", "values": some(rng, values, 3)}
        if isinstance(values[0], int):
            kind = rng.choice(("Eq", "Neq", "Gt", "Gte", "Lt", "Lte"))
            return {"condition": kind, "value": rng.choice(values)}
        kind = rng.choice(
            (
                "Equals",
                "Equals",
                "NotEquals",
                "NotEquals",
                "Contains",
                "NotContains",
                "StartsWith",
                "EndsWith",
            )
        )
        text = str(rng.choice(values))
        if kind in ("Contains", "NotContains", "StartsWith", "EndsWith"):
            start = rng.randrange(len(text) - 1)
            text = text[start : start + rng.randint(2, 4)]
        return {"condition": kind, "value": text}
