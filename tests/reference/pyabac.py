"""Ask py-abac's own decision point the question of gate 9: deny overrides, on one thread.

Only where it is sound: every attribute there and of its type (DESIGN.md section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from py_abac import PDP, AccessRequest, EvaluationAlgorithm, Policy
from py_abac.storage.memory import MemoryStorage

from policyd.policy.attributes import DERIVED, Type
from reference.policies import write
from reference.source import Document, Source


class DecisionPoint:
    """One policy set's rules in py-abac's in-memory store."""

    def __init__(self, source: Source) -> None:
        self._asked_for_all = frozenset(_asked_for_all(source.rules))
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

    def is_sound(self, attributes: dict[str, object]) -> bool:
        """Return whether py-abac may be asked.

        Every attribute that a condition may name is there, and no rule asks for all of an empty set,
        which is an error here and true there.
        """
        usable = {name for name, each in DERIVED.items() if each.type is not Type.INSTANT}
        return usable <= attributes.keys() and not any(
            attributes[path.removeprefix("$.")] == frozenset() for path in self._asked_for_all
        )


def without_where(files: dict[str, str]) -> dict[str, str]:
    """Return the files of a policy set without the conditions that py-abac does not know."""
    kept = dict(files)
    for name, text in files.items():
        if name.startswith("rules/"):
            rules: list[Document] = yaml.safe_load(text)
            kept[name] = write([{k: v for k, v in rule.items() if k != "where"} for rule in rules])
    return kept


def _asked_for_all(rules: tuple[Document, ...]) -> Iterator[str]:
    """Yield every path with a condition that holds an AllIn."""
    for rule in rules:
        for part in rule["rules"].values():
            for alternative in part if isinstance(part, list) else [part]:
                yield from (path for path, condition in alternative.items() if "AllIn" in str(condition))
