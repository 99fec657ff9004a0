"""A plain per-field decider, written from docs/policy-set.md alone: the oracle of property tests and benches.

It reads rules as YAML documents and evaluates every condition for every field; it shares no code with
``policyd.decision`` or the compiler, only the purpose algebra, transforms and obligations, which have
tests of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policyd.clock import parse_instant
from policyd.model import NO_OBLIGATIONS, Effect, Obligations, Step, Transform, TransformKind
from policyd.obligation import merge
from policyd.policy.catalogue import Field
from policyd.policy.conditions import MISSING
from policyd.policy.policyset import PolicySet
from policyd.purpose import Compliance, combine, complies
from policyd.reasons import Reason
from policyd.transform import SUPPRESS, join

Document = Mapping[str, Any]
Kleene = bool | None
"""True, false, or None for an error."""


@dataclass(frozen=True)
class Verdict:
    """What one field comes to for one purpose, and the duties that come with it."""

    effect: Effect
    reason: Reason
    rule: str = ""
    transform: Transform = ()
    obligations: Obligations = NO_OBLIGATIONS


@dataclass(frozen=True)
class Asker:
    """What the gates and rules look at beside the field."""

    values: Mapping[str, object]
    fields: frozenset[str]
    """Ids in the agreement, in lower case."""
    authorities: frozenset[str]
    setting: str
    purpose: str


def decide_field(policy: PolicySet, rules: Sequence[Document], asker: Asker, field: Field) -> Verdict:
    """Return the verdict on one field for one purpose: gates 6 to 8, then each rule in order of uid."""
    refused = _gates(policy, asker, field)
    if refused is not None:
        return Verdict(Effect.WITHHOLD, refused)
    values = {**asker.values, **attributes_of(field)}
    held = [(rule, rule_holds(rule, values)) for rule in sorted(rules, key=lambda rule: rule["uid"])]
    for reason, wanted in ((Reason.DENIED_BY_RULE, True), (Reason.RULE_ERROR, None)):
        for rule, holds in held:
            if rule["effect"] == "deny" and holds is wanted:
                return Verdict(Effect.WITHHOLD, reason, rule["uid"])
    allows = [(rule, holds) for rule, holds in held if rule["effect"] == "allow" and holds is not False]
    granting = [rule for rule, holds in allows if holds]
    if not granting:
        return Verdict(Effect.WITHHOLD, Reason.NO_RULE_ALLOWS)
    transform: Transform = ()
    duties = list(_conditional_duties(policy, asker, field))
    for rule, _ in allows:
        transform = join(transform, transform_of(rule["grant"]))
        duties.append(_duties(rule.get("obligations", {}), asker.authorities))
    first = next((r for r in granting if transform_of(r["grant"]) == transform), granting[0])["uid"]
    owed = merge(duties)
    if transform == SUPPRESS:
        return Verdict(Effect.WITHHOLD, Reason.SUPPRESSED, first)
    if owed.setting is not None and asker.setting not in owed.setting:
        return Verdict(Effect.WITHHOLD, Reason.OBLIGATION_CONFLICT, first)
    return Verdict(Effect.TRANSFORM if transform else Effect.RELEASE, Reason.NONE, first, transform, owed)


def _gates(policy: PolicySet, asker: Asker, field: Field) -> Reason | None:
    if field.withdrawn:
        return Reason.FIELD_WITHDRAWN
    if "A" in field.sensitivity and asker.values.get("organisation.kind") != "department":
        return Reason.FIELD_NEVER_EXTERNAL
    if field.id.lower() not in asker.fields:
        return Reason.FIELD_NOT_IN_AGREEMENT
    permitted = combine(policy.graph, [each.level for each in field.levels])
    match complies(permitted, policy.graph.bit(asker.purpose)):
        case Compliance.PROHIBITED:
            return Reason.PURPOSE_PROHIBITED
        case Compliance.NOT_ALLOWED:
            return Reason.PURPOSE_NOT_ALLOWED
    return None


def _conditional_duties(policy: PolicySet, asker: Asker, field: Field) -> list[Obligations]:
    bit = policy.graph.bit(asker.purpose)
    permitted = combine(policy.graph, [each.level for each in field.levels])
    if complies(permitted, bit) is not Compliance.CONDITIONAL:
        return []
    return [
        duties.resolve(asker.authorities)
        for level in field.levels
        for purposes, duties in level.conditions
        if purposes & bit
    ]


def attributes_of(field: Field) -> dict[str, object]:
    """Return the resource attributes of one field."""
    return {
        "field": field.id,
        "table": field.table,
        "level": field.table_level,
        "sections": field.sections,
        "identification_risk": field.identification_risk,
        "sensitivity": field.sensitivity,
        "by_request": MISSING if field.by_request is None else field.by_request,
    }


def rule_holds(rule: Document, values: Mapping[str, object]) -> Kleene:
    """Return whether targets and every part of a rule hold."""
    found: list[Kleene] = []
    targets = rule.get("targets", {})
    for key, name in (("subject_id", "requester.id"), ("resource_id", "field"), ("action_id", "action")):
        if key in targets:
            patterns = targets[key] if isinstance(targets[key], list) else [targets[key]]
            found.append(any(_matches(pattern, values.get(name)) for pattern in patterns))
    for part in (*rule["rules"].values(), *rule.get("where", {}).values()):
        alternatives = part if isinstance(part, list) else [part]
        found.append(_any(_all(_conditions(each, values)) for each in alternatives))
    return _all(found)


def _matches(pattern: str, value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), value) is not None


def _conditions(alternative: Document, values: Mapping[str, object]) -> list[Kleene]:
    return [
        holds(condition, values.get(path[2:], MISSING), values) for path, condition in alternative.items()
    ]


def holds(condition: Document, value: Any, values: Mapping[str, object]) -> Kleene:
    """Return whether one condition holds of one value, beside the other ``values``."""
    name = condition["condition"]
    if name == "Not":
        inner = holds(condition["value"], value, values)
        return None if inner is None else not inner
    if name == "AllOf":
        return _all([holds(each, value, values) for each in condition["values"]])
    if name == "AnyOf":
        return _any([holds(each, value, values) for each in condition["values"]])
    if "attribute" in condition:
        return _of_two(name, value, values.get(condition["attribute"][2:], MISSING))
    if name in ("Before", "After", "Within"):
        return _of_date(name, condition, value, values.get("now"))
    if name in ("AnyIn", "AllIn", "IsEmpty", "IsNotEmpty"):
        return _of_set(name, condition, value) if type(value) is frozenset else None
    if name == "IsIn":
        kind = type(condition["values"][0])
        return value in condition["values"] if type(value) is kind else None
    wanted = condition["value"]
    if type(value) is not type(wanted):
        return None
    compared: dict[str, bool] = {}
    if isinstance(wanted, str):
        compared = {
            "Equals": value == wanted,
            "NotEquals": value != wanted,
            "Contains": wanted in value,
            "NotContains": wanted not in value,
            "StartsWith": value[: len(wanted)] == wanted,
            "EndsWith": value[-len(wanted) :] == wanted,
        }
    else:
        compared = {
            "Eq": value == wanted,
            "Neq": value != wanted,
            "Gt": value > wanted,
            "Gte": value >= wanted,
            "Lt": value < wanted,
            "Lte": value <= wanted,
        }
    return compared[name]


def _of_two(name: str, value: Any, other: Any) -> Kleene:
    if MISSING in (value, other):
        return None
    sets = {"MemberOf": (other,), "Includes": (value,), "SameAs": ()}.get(name, (value, other))
    if any(type(each) is not frozenset for each in sets) or (name == "PartOf" and value == frozenset()):
        return None
    if name == "SameAs":
        return value == other if type(value) is type(other) else None
    if name in ("MemberOf", "Includes"):
        one, many = (value, other) if name == "MemberOf" else (other, value)
        return one in many if type(one) is str else None
    common = value & other
    return common == value if name == "PartOf" else common != frozenset()


def _of_date(name: str, condition: Document, value: Any, now: Any) -> Kleene:
    if type(value) is not int:
        return None
    if name == "Within":
        return parse_instant(condition["from"]) <= value < parse_instant(condition["until"])
    if "value" in condition:
        bound = parse_instant(condition["value"])
    elif type(now) is int:
        bound = now + condition["days_from_now"] * 86_400_000
    else:
        return None
    return (value < bound) is (name == "Before")


def _of_set(name: str, condition: Document, value: frozenset[str]) -> Kleene:
    if name == "IsEmpty":
        return len(value) == 0
    if name == "IsNotEmpty":
        return len(value) > 0
    if name == "AllIn" and not value:
        return None
    found = [each in condition["values"] for each in value]
    return any(found) if name == "AnyIn" else all(found)


def _all(parts: Any) -> Kleene:
    listed = list(parts)
    return False if False in listed else None if None in listed else True


def _any(parts: Any) -> Kleene:
    listed = list(parts)
    return True if True in listed else None if None in listed else False


def transform_of(grant: Any) -> Transform:
    """Return what `grant:` asks for."""
    if grant == "release":
        return ()
    if isinstance(grant, str):
        return (Step(TransformKind(grant)),)
    ((name, detail),) = grant.items()
    ((_, value),) = detail.items()
    if isinstance(value, str):
        return (Step(TransformKind(name), to=value),)
    return (Step(TransformKind(name), amount=value),)


def _duties(stated: Document, authorities: frozenset[str]) -> Obligations:
    rows = stated.get("rows", {})
    return Obligations(
        row_years=frozenset(rows["years"]) if "years" in rows else None,
        row_local_authorities=authorities if "local_authority" in rows else None,
        min_cell_count=stated.get("min_cell_count"),
        round_to=stated.get("round_to"),
        retention_days=stated.get("retention_days"),
        output_check=stated.get("output_check", False),
        publish_in_register=stated.get("publish_in_register", False),
        setting=frozenset({stated["setting"]}) if "setting" in stated else None,
    )
