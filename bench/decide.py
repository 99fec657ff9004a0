"""Time `decide`: warm and cold, by fields, rules and conditions, beside a loop over fields in plain Python.

Run with the tests on the path, as it takes the loop from them::

    PYTHONPATH=tests python bench/decide.py
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from support.slow_decide import Asker, decide_field
from support.tiny_policy import attributes, load_files
from support.tiny_registry import NOW, agreement, ask, snapshot

from policyd.decision.cache import Decider
from policyd.decision.decide import decide
from policyd.decision.entitlement import attribute_values, entitle
from policyd.decision.gates import admit
from policyd.decision.snapshot import Snapshot
from policyd.model import Request

TABLES, FIELDS_A_TABLE = 8, 50
SIZES = (1, 20, 200)
TARGET_US = 100.0
"""For a warm decision on 200 fields."""

PURPOSES = tuple(f"purpose-{number}" for number in range(10))


def rules_of(
    count: int, *, conditions: int = 30, purposes: tuple[str, ...] = PURPOSES
) -> list[dict[str, Any]]:
    """Return ``count`` rules, a fifth of them denying, over about ``conditions`` distinct conditions.

    Each is for one of ``purposes``, as rules of a real policy set are; with one purpose all apply at once.
    """
    found = []
    for number in range(count):
        allow = number % 5 != 4
        other = f"kind-{number % max(1, conditions - len(purposes) - 1)}"
        rule: dict[str, Any] = {
            "uid": f"r{number:04}",
            "why": f"rule {number}",
            "effect": "allow" if allow else "deny",
            "targets": {"resource_id": f"T{number // len(purposes) % TABLES}.*"},
            "rules": {
                "resource": {"$.identification_risk": {"condition": "Gte", "value": 1 + number % 3}},
                "subject": {
                    "$.organisation.kind": {"condition": "NotEquals" if allow else "Equals", "value": other}
                },
                "context": {
                    "$.purpose_within": {"condition": "AnyIn", "values": [purposes[number % len(purposes)]]},
                    "$.setting": {"condition": "Equals", "value": "secure"},
                },
            },
        }
        if allow:
            rule["grant"] = {"top_code": {"at": 60 + number % 7}} if number % 3 == 0 else "release"
            rule["obligations"] = {"retention_days": 100 + number % 9}
        found.append(rule)
    return found


def world(rules: list[dict[str, Any]], *, fields_a_table: int = FIELDS_A_TABLE) -> tuple[Snapshot, list[str]]:
    """Return a snapshot over a catalogue of eight tables, and one column name for each field."""
    files = {
        "policyset.yaml": "name: bench\nversion: 1\ndescription: x\n"
        "effective_from: 2025-01-01\ncombining: deny-overrides\n",
        "purposes.yaml": "root: any\npurposes:\n  any: {label: x, requestable: false}\n"
        + "".join(f"  {name}: {{label: x, parents: [any]}}\n" for name in PURPOSES),
        "gateways.yaml": "min_cell_count_floor: 10\ngateways:\n"
        "  - {id: OPEN-1, label: x, valid_from: 2020-01-01, valid_until: open, source: x}\n",
        "attributes.yaml": attributes(),
        "catalogue/defaults.yaml": "catalogue: {allowed: [any]}\n",
        "rules/rules.yaml": json.dumps(rules),
    }
    names = []
    for table in range(TABLES):
        entries = []
        for number in range(fields_a_table):
            columns = f', columns: ["F{number}_[term][yy]"]' if number % 2 else ""
            classes = f"identification_risk: {1 + number % 5}, sensitivity: [{'BCDE'[number % 4]}]"
            entries.append(f"  - {{name: F{number}, label: x, {classes}{columns}}}")
            names.append(f"T{table}.F{number}" + ("_SPR19" if number % 2 else ""))
        head = f"table: T{table}\nlabel: x\nlevel: pupil\nfields:\n"
        files[f"catalogue/T{table}.yaml"] = head + "\n".join(entries) + "\n"
    with tempfile.TemporaryDirectory() as directory:
        policy = load_files(Path(directory), files)
    agreed = agreement(fields=frozenset(policy.index.ids), purposes=frozenset(PURPOSES))
    return snapshot(policy, agreed), names


def question(*names: str) -> Request:
    """Return a question for the first purpose."""
    return ask(*names, purposes=PURPOSES[:1])


def best_us(call: Callable[[], object], *, rounds: int = 60, least_s: float = 0.002) -> float:
    """Return the microseconds of one call: the best of many short rounds, to shut out other work."""
    started = time.perf_counter()
    call()
    number = max(1, int(least_s / max(time.perf_counter() - started, 1e-7)))
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(number):
            call()
        best = min(best, (time.perf_counter() - started) / number)
    return best * 1e6


def loop(seen: Snapshot, rules: list[dict[str, Any]], request: Request) -> Callable[[], object]:
    """Return a call that decides the same question field by field and rule by rule."""
    _, admitted, _ = admit(seen, request, now=NOW)
    assert admitted is not None
    values = attribute_values(seen, admitted, request, PURPOSES[0], now=NOW)
    fields = frozenset(name.lower() for name in admitted.agreement.agreement.fields)
    asker = Asker(values, fields, frozenset(), "secure", PURPOSES[0])
    policy = seen.policy

    def run() -> object:
        columns = [policy.index.resolve(name) for name in request.claimed.fields]
        return [decide_field(policy, rules, asker, policy.fields[each.position]) for each in columns if each]

    return run


def by_fields(rules: list[dict[str, Any]]) -> float:
    """Print warm, cold and the loop for each number of fields; return warm for the largest."""
    seen, names = world(rules)
    decider = Decider(seen)
    warm = 0.0
    for size in SIZES:
        request = question(*names[:: len(names) // size][:size])
        groups = len(decider.decide(request, NOW).groups)
        warm = best_us(partial(decider.decide, request, NOW))
        cold = best_us(partial(decide, seen, request, NOW))
        slow = best_us(loop(seen, rules, request), rounds=3)
        print(
            f"{size:>8}{groups:>8}{warm:>10.1f}{cold:>10.1f}{slow:>12.0f}"
            f"{slow / warm:>11.0f}{slow / cold:>11.1f}"
        )
    return warm


def main() -> None:
    """Print every table; the last line says whether the target was met."""
    fields = TABLES * FIELDS_A_TABLE
    head = f"{'fields':>8}{'groups':>8}{'warm':>10}{'cold':>10}{'loop':>12}{'loop/warm':>11}{'loop/cold':>11}"
    print(f"100 rules for ten purposes over {fields} fields, microseconds\n{head}")
    warm_200 = by_fields(rules_of(100))
    print(f"\n100 rules that all apply at once\n{head}")
    by_fields(rules_of(100, purposes=PURPOSES[:1]))
    print("\ncold entitlement, by what grows; microseconds, and times the first line")
    first = 0.0
    for label, rules, each in (
        ("100 rules, 30 conditions, 400 fields", rules_of(100), FIELDS_A_TABLE),
        ("100 rules, 90 conditions, 400 fields", rules_of(100, conditions=90), FIELDS_A_TABLE),
        ("1,000 rules, 30 conditions, 400 fields", rules_of(1_000), FIELDS_A_TABLE),
        ("1,000 rules, 900 conditions, 400 fields", rules_of(1_000, conditions=900), FIELDS_A_TABLE),
        ("100 rules, 30 conditions, 40 fields", rules_of(100), 5),
        ("100 rules, 30 conditions, 4,000 fields", rules_of(100), 500),
    ):
        seen, names = world(rules, fields_a_table=each)
        took = best_us(partial(entitle, seen, question(*names[:20]), now=NOW), rounds=20)
        first = first or took
        print(f"{label:<42}{len(seen.policy.atoms):>5} atoms{took:>9.0f}{took / first:>8.1f}x")
    verdict = "met" if warm_200 < TARGET_US else "MISSED"
    print(f"\n200 fields warm: {warm_200:.1f} us, target {TARGET_US:.0f}: {verdict}")


if __name__ == "__main__":
    main()
