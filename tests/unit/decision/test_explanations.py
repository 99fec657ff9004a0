"""Whole explanations, line by line: tests/vectors/decision/explanations.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import NOW, accreditation, agreement, ask
from support.tiny_rules import with_rules

from policyd.decision.explain import Checked, Explanation, explain
from policyd.policy.policyset import PolicySet
from policyd.reasons import Reason

VECTORS = yaml.safe_load(
    (Path(__file__).parents[2] / "vectors/decision/explanations.yaml").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


def told(explanation: Explanation) -> Iterator[str]:
    """Yield the explanation as lines: the question's checks, then each group with its own."""
    yield from map(line, explanation.question)
    for each in explanation.groups:
        yield f"{', '.join(each.group.names)}: {each.group.effect} {each.group.reason} by {each.group.rule}"
        yield from map(line, each.checks)
    yield f"{explanation.not_shown} not shown"


def line(each: Checked) -> str:
    reason = "" if each.reason is Reason.NONE else f" {each.reason}"
    purpose = f" for {each.purpose}" if each.purpose else ""
    conditions = [f"{c.attribute} {c.text}: {c.result} ({c.clause}.{c.alternative})" for c in each.conditions]
    listed = f" [{'; '.join(conditions)}]" if conditions else ""
    place = f" at {each.place.file}" if each.place is not None else ""
    return f"{each.check} {each.result}{reason}{purpose}, {each.fields} fields: {each.why}{place}{listed}"


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_an_explanation_tells_every_check_in_its_order(case: dict[str, Any], policy: PolicySet) -> None:
    """What it was about, what came of it and for how many fields, why it exists, and where it stands."""
    if "rules" in case:
        found = with_rules(policy, case["rules"])
        assert found is not None
        policy = found
    entries = [agreement(fields=frozenset(case["agreed"])) if "agreed" in case else agreement()]
    if case.get("accredited") is False:
        entries.append(accreditation(scheme="other"))
    claims = {key: tuple(case[key]) for key in ("purposes", "used_fields", "years") if key in case}

    have = explain(tiny.snapshot(policy, *entries), ask(*case["fields"], **claims), NOW)

    assert [*told(have)] == case["want"]
