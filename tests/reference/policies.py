"""Draw small policy sets, as the texts of their files, with all that docs/policy-set.md describes."""

from __future__ import annotations

import random
from typing import Any

import yaml

from policyd.policy.attributes import DERIVED
from reference.draft import LETTERS, ORGANISATION_KINDS, SECTIONS, Draft, some
from reference.rules import draw_duties, draw_rules
from reference.source import Document


def draw_policy(rng: random.Random) -> tuple[dict[str, str], Draft]:
    """Return the files of a policy set and what is in it; the loader may still refuse it."""
    draft = Draft()
    head = {
        "name": "drawn",
        "version": 1,
        "description": "Drawn.",
        "effective_from": "2025-01-01",
        "combining": "deny-overrides",
    }
    documents: dict[str, Any] = {
        "policyset.yaml": head,
        "purposes.yaml": _purposes(rng, draft),
        "attributes.yaml": _attributes(),
        "gateways.yaml": _gateways(rng, draft),
    }
    documents["catalogue/defaults.yaml"] = _defaults(rng, draft)
    tables = [_table(rng, draft, name) for name in ("Pupil", "School", "Exam")[: rng.randint(1, 3)]]
    if rng.random() < 0.4:
        entry = {"table": rng.choice(tables)["table"], "purposes": _intended(rng, draft)}
        documents["catalogue/defaults.yaml"]["tables"] = [entry]
    documents.update({f"catalogue/{table['table']}.yaml": table for table in tables})
    rules = draw_rules(rng, draft)
    middle = rng.randint(1, len(rules))  # rules may stand in several files, in any order
    rng.shuffle(rules)
    documents["rules/a.yaml"] = rules[:middle]
    if rules[middle:]:
        documents["rules/b.yaml"] = rules[middle:]
    return {name: write(document) for name, document in documents.items()}, draft


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # chosen at run time
    """Writes every value out: the loader takes no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def write(document: object) -> str:
    """Write a document as the text of a file."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False))


def _purposes(rng: random.Random, draft: Draft) -> Document:
    draft.purposes["any"] = {"label": "Any", "requestable": rng.random() < 0.3}
    names = ["research", "academic", "trade", "industry", "statistics", "review"][: rng.randint(3, 6)]
    if rng.random() < 0.7:
        names.insert(rng.randint(0, len(names)), "individual-decision")
    for name in names:
        purpose: Document = {"label": name, "parents": some(rng, list(draft.purposes), 2)}
        if rng.random() < 0.1:
            purpose["requestable"] = False
        if rng.random() < 0.7:
            purpose["notice"] = f"notice/{name}"
        draft.purposes[name] = purpose
    listed = list(draft.purposes.items())
    rng.shuffle(listed)
    return {"root": "any", "purposes": dict(listed)}


def _attributes() -> list[Document]:
    return [
        {
            "name": each.name,
            "part": each.part.value,
            "type": each.type.value,
            "source": "registry",
            "always": each.always,
            "about": "Drawn.",
        }
        for each in DERIVED.values()
    ]


def _gateways(rng: random.Random, draft: Draft) -> Document:
    checks: list[Document] = [
        {"check": "organisation_kind", "kinds": list(ORGANISATION_KINDS[:3])},
        {"check": "accredited_person"},
        {"check": "accredited_project"},
        {"check": "accredited_setting", "settings": ["secure", "vault"]},
        {"check": "deidentified"},
        {"check": "article9"},
    ]
    if "individual-decision" in draft.purposes:
        checks.append({"check": "not_individual_decision"})
    gateways: list[Document] = []
    # The first two are in force around the instants that are asked about; the third may begin or end there.
    dates = [("2020-01-01", "open"), ("2020-01-01", "2027-01-01")]
    dates.append(
        rng.choice(
            [
                ("2026-03-01T12:00:00Z", "open"),
                ("2020-01-01", "2026-03-01T12:00:00Z"),
                ("unknown", "open"),
                ("2020-01-01", "unknown"),
            ]
        )
    )
    for number, (start, end) in enumerate(dates):
        gateway: Document = {
            "id": f"G-{number}",
            "label": "Drawn",
            "valid_from": start,
            "valid_until": end,
            "source": "drawn",
        }
        if number == 1 or rng.random() < 0.05:
            gateway["preconditions"] = some(rng, checks, 4)
        gateways.append(gateway)
    draft.gateways = [gateway["id"] for gateway in gateways]
    return {"min_cell_count_floor": rng.choice((5, 10)), "gateways": gateways}


def _intended(rng: random.Random, draft: Draft, *, wide: float = 0.7) -> Document:
    names = list(draft.purposes)
    level: Document = {}
    if rng.random() < 0.6:
        level["allowed"] = ["any"] if rng.random() < wide else some(rng, names, 3)
        if rng.random() < 0.02:
            level["allowed"] = []
    if "allowed" not in level or rng.random() < 0.3:
        level["conditional"] = [
            {
                "purpose": "any" if rng.random() < wide / 2 else rng.choice(names),
                "obligations": draw_duties(rng),
            }
            for _ in range(rng.randint(1, 2))
        ]
    if rng.random() < 0.06:
        level["prohibited"] = [rng.choice(names[1:])]
    if rng.random() < 0.05:
        level.pop(rng.choice(list(level)))
    return level


def _defaults(rng: random.Random, draft: Draft) -> Document:
    document: Document = {"catalogue": _intended(rng, draft, wide=0.9)}
    if rng.random() < 0.5:
        matches: list[Document] = [
            {"identification_risk": [1, 2]},
            {"sensitivity": ["B"]},
            {"identification_risk": [4, 5], "sensitivity": ["D", "E"]},
        ]
        document["classes"] = [
            {"match": match, "purposes": _intended(rng, draft, wide=0.9)} for match in some(rng, matches, 2)
        ]
    return document


def _table(rng: random.Random, draft: Draft, name: str) -> Document:
    draft.tables.append(name)
    table: Document = {"table": name, "label": name, "level": rng.choice(("pupil", "school")), "fields": []}
    if rng.random() < 0.3:
        table["purposes"] = _intended(rng, draft, wide=0.9)
    for number in range(rng.randint(2, 6)):
        own = f"F{number}"
        item: Document = {
            "name": own,
            "label": own,
            "identification_risk": rng.choices((1, 2, 3, 4, 5), (1, 1, 2, 2, 4))[0],
            "sensitivity": sorted(set(rng.choices(LETTERS, (0.5, 3, 3, 5, 8), k=rng.randint(1, 2)))),
        }
        patterns = rng.choice(
            [None, [own], [f"{own}_[term][yy]"], [f"{own}_SPR[yy]", f"Old{number}"], [f"{own}_[n]_ex[yy]"]]
        )
        if patterns is not None:
            item["columns"] = patterns
        if rng.random() < 0.6:
            item["by_request"] = rng.random() < 0.5
        if rng.random() < 0.4:
            item["sections"] = some(rng, SECTIONS, 2)
        if rng.random() < 0.03:
            item["withdrawn"] = "Drawn."
        if rng.random() < 0.3:
            item["purposes"] = _intended(rng, draft, wide=0.9)
        draft.columns[f"{name}.{own}"] = patterns or [own]
        table["fields"].append(item)
    used = sorted({section for item in table["fields"] for section in item.get("sections", [])})
    if used and rng.random() < 0.5:
        table["sections"] = [
            {"name": name, "purposes": _intended(rng, draft, wide=0.9)} for name in some(rng, used, 2)
        ]
    return table
