"""Ask py-abac's own decision point the question of gate 9: deny overrides, on one thread.

Only where it is sound: every attribute there and of its type (DESIGN.md section 3.4).
"""

from __future__ import annotations

from typing import Any

from py_abac import PDP, AccessRequest, EvaluationAlgorithm, Policy
from py_abac.storage.memory import MemoryStorage

from policyd.policy.attributes import DERIVED, Type
from reference.source import Source


class DecisionPoint:
    """One policy set's rules in py-abac's in-memory store."""

    def __init__(self, source: Source) -> None:
        storage = MemoryStorage()
        for rule in source.rules:
            storage.add(
                Policy.from_json(
                    {
                        "uid": rule["uid"],
                        "description": rule["why"],
                        "effect": rule["effect"],
                        "rules": rule["rules"],
                        "targets": rule.get("targets", {}),
                    }
                )
            )
        self._pdp = PDP(storage, EvaluationAlgorithm.DENY_OVERRIDES)

    def allows(self, attributes: dict[str, object]) -> bool:
        """Return whether at least one allow rule holds and no deny rule does."""
        parts: dict[str, dict[str, Any]] = {"subject": {}, "resource": {}, "action": {}, "context": {}}
        for name, value in attributes.items():
            place = parts[DERIVED[name].part.value]
            *above, last = name.split(".")
            for step in above:
                place = place.setdefault(step, {})
            place[last] = sorted(value) if isinstance(value, frozenset) else value
        request = {
            "subject": {"id": attributes["requester.id"], "attributes": parts["subject"]},
            "resource": {"id": attributes["field"], "attributes": parts["resource"]},
            "action": {"id": attributes["action"], "attributes": parts["action"]},
            "context": parts["context"],
        }
        return bool(self._pdp.is_allowed(AccessRequest.from_json(request)))


def is_complete(attributes: dict[str, object]) -> bool:
    """Return whether every attribute that a condition may name is there; instants take no condition yet."""
    usable = {name for name, each in DERIVED.items() if each.type is not Type.INSTANT}
    return usable <= attributes.keys()
