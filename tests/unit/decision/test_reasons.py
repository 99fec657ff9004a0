"""Every reason is given where it is due, by the gate or rule that the vectors name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny

from policyd.decision.cache import Decider
from policyd.decision.decide import decide
from policyd.model import Action, Effect, Outcome, Request, Status
from policyd.reasons import GATE_OF, Reason, for_caller

_CASES = yaml.safe_load(
    (Path(__file__).parents[2] / "vectors" / "decision" / "reasons.yaml").read_text(encoding="utf-8")
)
_MAKE = {
    "organisation": tiny.organisation,
    "requester": tiny.requester,
    "accreditation": tiny.accreditation,
    "data_service": tiny.data_service,
    "agreement": tiny.agreement,
}


def changes(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Turn what a vector says of an entry into what its dataclass holds."""
    read: dict[str, Any] = {}
    for name, value in stated.items():
        if name.endswith("_at"):
            read[name] = tiny.at(str(value))
        elif name == "status":
            read[name] = Status(value)
        elif name == "actions":
            read[name] = frozenset(Action(each) for each in value)
        elif name == "table_years":
            read[name] = tuple((table, frozenset(years)) for table, years in value.items())
        else:
            read[name] = frozenset(value) if isinstance(value, list) else value
    return read


def question(case: Mapping[str, Any]) -> Request:
    asked = dict(case.get("ask", {}))
    token_error = asked.pop("token_error", "")
    for name in ("purposes", "years", "used_fields"):
        if name in asked:
            asked[name] = tuple(asked[name])
    if "action" in asked:
        asked["action"] = Action(asked["action"])
    names = [name for name in case["want"] if name not in asked.get("used_fields", ())]
    request = tiny.ask(*names, **asked)
    if token_error:
        return replace(request, verified=replace(request.verified, token=None, token_error=token_error))
    return request


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["why"])
def test_a_verdict_names_its_reason_and_what_decided(case: dict[str, Any], tmp_path: Path) -> None:
    """Each vector's question comes out as wanted, uncached, cached and cached again."""
    rules = [{"why": each["uid"], **each} for each in case.get("rules", [])]
    policy = load_tiny(tmp_path, rules=yaml.safe_dump(rules) if rules else "")
    entries = [_MAKE[kind](**changes(stated)) for kind, stated in case.get("set", {}).items()]
    snapshot = tiny.snapshot(policy, *entries)
    request = question(case)

    decision = decide(snapshot, request, tiny.NOW)

    assert tiny.spell(decision) == case["want"]
    if "rule" in case:
        assert case["rule"] in {group.rule for group in decision.groups if group.effect is Effect.WITHHOLD}
    else:
        assert decision.outcome is Outcome.RELEASE
    decider = Decider(snapshot)
    assert decider.decide(request, tiny.NOW) == decision
    assert decider.decide(request, tiny.NOW) == decision


def test_every_reason_is_reached_by_a_vector() -> None:
    """No reason of the closed list is left without a vector that gives it."""
    given = {verdict.split()[1] for case in _CASES for verdict in case["want"].values() if " " in verdict}

    assert {reason for reason in Reason if reason is not Reason.NONE} <= given


def test_every_reason_has_a_gate_in_the_order_of_the_list() -> None:
    """The list of reasons runs through the gates in order; NONE comes after all."""
    gates = [GATE_OF[reason] for reason in Reason if reason is not Reason.NONE]

    assert gates == sorted(gates)
    assert GATE_OF[Reason.NONE] > max(gates)


def test_a_caller_cannot_tell_an_unknown_agreement_from_anothers() -> None:
    """The two reasons are one to the caller; every other is told as it is."""
    assert for_caller(Reason.AGREEMENT_UNKNOWN) is for_caller(Reason.AGREEMENT_NOT_YOURS)
    assert [for_caller(each) for each in Reason if each is not Reason.AGREEMENT_UNKNOWN] == [
        each for each in Reason if each is not Reason.AGREEMENT_UNKNOWN
    ]
