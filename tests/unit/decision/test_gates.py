"""Gates: their order, what they do not look at, and both ends of every interval of time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import (
    NOW,
    accreditation,
    agreement,
    ask,
    at,
    data_service,
    organisation,
    requester,
    spell,
)

from policyd.decision.decide import decide
from policyd.decision.entitlement import attribute_values
from policyd.decision.gates import admit
from policyd.decision.snapshot import build_snapshot
from policyd.model import Outcome, Status
from policyd.policy.attributes import DERIVED, Part, Type
from policyd.policy.conditions import MISSING
from policyd.policy.policyset import PolicySet
from policyd.reasons import Reason


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


# One fault for each check of gates 1 to 5 in the order in which they are made: (kind, change, reason).
_FAULTS: list[tuple[str, dict[str, Any], Reason]] = [
    ("service", {"status": Status.SUSPENDED}, Reason.DATA_SERVICE_SUSPENDED),
    ("verified", {"token": None, "token_error": "expired"}, Reason.REQUESTER_UNVERIFIED),
    ("requester", {"subject": "other"}, Reason.REQUESTER_UNKNOWN),
    ("requester", {"status": Status.SUSPENDED}, Reason.REQUESTER_SUSPENDED),
    ("organisation", {"status": Status.SUSPENDED}, Reason.ORGANISATION_SUSPENDED),
    ("claimed", {"agreement": "AG-9"}, Reason.AGREEMENT_UNKNOWN),
    ("agreement", {"requesters": frozenset()}, Reason.AGREEMENT_NOT_YOURS),
    ("agreement", {"status": Status.SUSPENDED}, Reason.AGREEMENT_SUSPENDED),
    ("agreement", {"from_at": NOW + 1}, Reason.AGREEMENT_NOT_STARTED),
    ("agreement", {"until_at": NOW}, Reason.AGREEMENT_EXPIRED),
    ("agreement", {"setting": "open"}, Reason.SETTING_NOT_APPROVED),
    ("agreement", {"actions": frozenset()}, Reason.ACTION_NOT_APPROVED),
    ("claimed", {"purposes": ()}, Reason.PURPOSE_MISSING),
    ("claimed", {"purposes": ("fun",)}, Reason.PURPOSE_UNKNOWN),
    ("claimed", {"purposes": ("any",)}, Reason.PURPOSE_NOT_REQUESTABLE),
    ("agreement", {"purposes": frozenset({"marketing"})}, Reason.PURPOSE_NOT_IN_AGREEMENT),
    ("agreement", {"gateway": "NEVER-1"}, Reason.GATEWAY_NOT_IN_FORCE),
    ("agreement", {"gateway": "STRICT-1", "project_accredited": False}, Reason.GATEWAY_PRECONDITION),
]


@pytest.mark.parametrize("first", range(len(_FAULTS)))
def test_the_first_gate_that_fails_names_the_reason(first: int, policy: PolicySet) -> None:
    """With this fault and every later one present at once, the reason is this one's."""
    parts: dict[str, Any] = {
        "service": data_service(),
        "requester": requester(),
        "organisation": organisation(),
        "agreement": agreement(),
    }
    request = ask("Pupil.*", "Pupil.Shoe")
    for kind, change, _ in reversed(_FAULTS[first:]):
        if kind == "verified":
            request = replace(request, verified=replace(request.verified, **change))
        elif kind == "claimed":
            request = replace(request, claimed=replace(request.claimed, **change))
        else:
            parts[kind] = replace(parts[kind], **change)

    decision = decide(tiny.snapshot(policy, *parts.values()), request, NOW)

    assert set(spell(decision).values()) == {f"withhold {_FAULTS[first][2]}"}
    assert decision.outcome is Outcome.WITHHOLD


def trapped(policy: PolicySet) -> PolicySet:
    """Return the policy set with conditions that fail the test when anything evaluates them."""

    def spring(_: object) -> int:
        raise AssertionError("a rule was evaluated")

    return replace(policy, atoms=tuple(replace(atom, test=spring) for atom in policy.atoms))


@pytest.mark.parametrize("number", range(len(_FAULTS)))
def test_nothing_later_is_evaluated_once_a_gate_failed(number: int, policy: PolicySet) -> None:
    """Gates 1 to 5 stop before any rule runs, and what is told of the question ends there too."""
    kind, change, reason = _FAULTS[number]
    parts: dict[str, Any] = {
        "service": data_service(),
        "requester": requester(),
        "organisation": organisation(),
        "agreement": agreement(),
    }
    request = ask("Pupil.Fsm")
    if kind == "verified":
        request = replace(request, verified=replace(request.verified, **change))
    elif kind == "claimed":
        request = replace(request, claimed=replace(request.claimed, **change))
    else:
        parts[kind] = replace(parts[kind], **change)
    snapshot = tiny.snapshot(trapped(policy), *parts.values())

    decision = decide(snapshot, request, NOW)

    assert spell(decision) == {"Pupil.Fsm": f"withhold {reason}"}
    told = (decision.data_service, decision.requester, decision.agreement, decision.gateway)
    if reason in (Reason.REQUESTER_UNVERIFIED, Reason.REQUESTER_UNKNOWN, Reason.DATA_SERVICE_SUSPENDED):
        assert told == ("svc-secure", "", "", "")
    elif reason in (Reason.AGREEMENT_UNKNOWN, Reason.AGREEMENT_NOT_YOURS) or number < 5:
        assert told == ("svc-secure", "researcher-1", "", "")
    else:
        assert told == ("svc-secure", "researcher-1", "AG-1", decision.gateway)
        assert decision.gateway


def test_the_trap_springs_where_rules_do_run(policy: PolicySet) -> None:
    """The test above can fail: without a fault the conditions are evaluated."""
    with pytest.raises(AssertionError, match="a rule was evaluated"):
        decide(tiny.snapshot(trapped(policy)), ask("Pupil.Fsm"), NOW)


@pytest.mark.parametrize(
    ("entry", "edge", "before", "at_and_after"),
    [
        (agreement(from_at=NOW), NOW, "withhold AGREEMENT_NOT_STARTED", "release"),
        (agreement(until_at=NOW), NOW, "release", "withhold AGREEMENT_EXPIRED"),
        (accreditation(from_at=NOW), NOW, "withhold NO_RULE_ALLOWS", "release"),
        (accreditation(until_at=NOW), NOW, "release", "withhold NO_RULE_ALLOWS"),
        (organisation(changed_at=NOW), NOW, "release", "withhold ORGANISATION_SUSPENDED"),
        (
            organisation(changed_at=NOW - 9, verified_at=NOW),
            NOW,
            "withhold ORGANISATION_SUSPENDED",
            "release",
        ),
        (agreement(gateway="PAST-1"), at("2026-06-01"), "release", "withhold GATEWAY_NOT_IN_FORCE"),
        (agreement(from_at=0), at("2020-01-01"), "withhold GATEWAY_NOT_IN_FORCE", "withhold NO_RULE_ALLOWS"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str | int) else str(value),
)
def test_an_interval_holds_from_its_first_instant_to_just_before_its_last(
    entry: object, edge: int, before: str, at_and_after: str, policy: PolicySet
) -> None:
    """One millisecond before, at, and one after each end."""
    snapshot = tiny.snapshot(policy, entry)

    have = [spell(decide(snapshot, ask("Pupil.Fsm"), edge + by))["Pupil.Fsm"] for by in (-1, 0, 1)]

    assert have == [before, at_and_after, at_and_after]


def test_a_change_and_its_verification_at_one_instant_leave_it_suspended(policy: PolicySet) -> None:
    """Verified means later than changed."""
    snapshot = tiny.snapshot(policy, organisation(changed_at=NOW - 5, verified_at=NOW - 5))

    assert spell(decide(snapshot, ask("Pupil.Fsm"), NOW)) == {"Pupil.Fsm": "withhold ORGANISATION_SUSPENDED"}


def test_rules_see_the_closed_list_of_attributes_in_its_types(policy: PolicySet) -> None:
    """Everything that `attributes.yaml` may list beside the field is derived, with its type or missing."""
    snapshot = tiny.snapshot(policy)
    _, admitted, refusal = admit(snapshot, ask("Pupil.Fsm"), now=NOW)
    assert refusal is None
    assert admitted is not None

    values = attribute_values(snapshot, admitted, ask("Pupil.Fsm"), "academic", now=NOW)

    kinds = {Type.STRING: str, Type.BOOL: bool, Type.STRINGS: frozenset, Type.INSTANT: int, Type.INT: int}
    wanted = {name: each for name, each in DERIVED.items() if each.part is not Part.RESOURCE}
    assert set(values) == set(wanted)
    assert {name: type(value) for name, value in values.items()} == {
        name: kinds[each.type] for name, each in wanted.items()
    }
    assert values["purpose_within"] == {"academic", "research", "any"}
    assert values["purpose_notice"] is True


def test_only_attributes_that_may_be_missing_ever_are(policy: PolicySet) -> None:
    """Without any accreditation its level and end are missing, and nothing else is."""
    snapshot = build_snapshot(policy, tiny.without(tiny.registry(), "accreditations", "ACC-1"), epoch=1)
    _, admitted, _ = admit(snapshot, ask("Pupil.Fsm"), now=NOW)
    assert admitted is not None

    values = attribute_values(snapshot, admitted, ask("Pupil.Fsm"), "academic", now=NOW)

    missing = {name for name, value in values.items() if value is MISSING}
    assert missing == {name for name, each in DERIVED.items() if not each.always and name in values}
    assert missing == {"accreditation.level", "accreditation.until"}


def test_claims_of_the_token_are_no_attributes(policy: PolicySet) -> None:
    """Roles come from the registry: a token that names others changes nothing."""
    snapshot = tiny.snapshot(policy)
    request = ask("Pupil.Fsm")
    assert request.verified.token is not None
    token = replace(request.verified.token, roles=frozenset({"administrator"}))
    claiming = replace(request, verified=replace(request.verified, token=token))

    for each in (request, claiming):
        _, admitted, _ = admit(snapshot, each, now=NOW)
        assert admitted is not None
        assert attribute_values(snapshot, admitted, each, "academic", now=NOW)["roles"] == {"researcher"}
    assert decide(snapshot, request, NOW) == decide(snapshot, claiming, NOW)


def test_a_decision_names_the_state_it_was_made_from(policy: PolicySet) -> None:
    """Digest, version, epoch and instant are those of the snapshot and the call."""
    snapshot = tiny.snapshot(policy)

    decision = decide(snapshot, ask("Pupil.Fsm"), NOW)

    assert (decision.policy_digest, decision.policy_version) == (policy.digest, 3)
    assert (decision.epoch, decision.at) == (snapshot.epoch, NOW)
    assert decision.obligations.exclude_sealed_epoch == snapshot.epoch


def test_a_token_that_fails_without_a_word_is_named_as_the_token(policy: PolicySet) -> None:
    """The deciding check has a name, whatever the verifier had to say."""
    request = ask("Pupil.Fsm")
    for said, named in (("expired", "expired"), ("", "token")):
        failed = replace(request, verified=replace(request.verified, token=None, token_error=said))

        (group,) = decide(tiny.snapshot(policy), failed, NOW).groups
        assert group.rule == f"gate:2:{named}"


@pytest.mark.parametrize(
    ("basis", "want"), [("none", "withhold GATEWAY_PRECONDITION"), ("art-9-2-j", "release")]
)
def test_a_condition_of_article_9_frees_special_categories_only_where_it_is_named(
    basis: str, want: str, policy: PolicySet
) -> None:
    """Under a gateway that asks for it, fields of sensitivity D need one in the agreement."""
    snapshot = tiny.snapshot(policy, agreement(gateway="STRICT-1", article9=basis))

    assert spell(decide(snapshot, ask("Pupil.Ethnicity"), NOW)) == {"Pupil.Ethnicity": want}
