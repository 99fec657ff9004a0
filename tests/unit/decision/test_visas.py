"""Visas beside the registry: they may give more, never less, and never against a suspension."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import (
    NOW,
    SCHEME,
    accreditation,
    agreement,
    ask,
    bringing,
    project,
    requester,
    visa,
)

from policyd.decision.accreditation import Standing, boundaries, standing, supervisors
from policyd.decision.cache import Decider
from policyd.decision.counterfactual import relevant
from policyd.decision.decide import decide
from policyd.decision.explain import explain
from policyd.decision.gates import admit
from policyd.decision.snapshot import Snapshot, build_snapshot
from policyd.model import (
    Accreditation,
    AccreditationLevel,
    AccreditationStatus,
    Registry,
    Status,
    VisaAccreditation,
    Visas,
)
from policyd.policy.policyset import PolicySet
from policyd.reasons import Reason

FULL, PROVISIONAL = AccreditationLevel.FULL, AccreditationLevel.PROVISIONAL
VALID = AccreditationStatus.VALID
SUPERVISOR = ("issuer-1", "researcher-9")
ONS = "https://source-1.test"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


def registered(*entries: object) -> Registry:
    """Return the tiny registry with ``entries``, of whose accreditations there are no others."""
    own = {each.id: each for each in entries if isinstance(each, Accreditation)}
    return replace(tiny.registry(*entries), accreditations=own)


def of(
    policy: PolicySet, registry: Registry, *visas: VisaAccreditation, now: int = NOW, scheme: str = SCHEME
) -> Standing:
    snapshot = build_snapshot(policy, registry, epoch=1)
    person = snapshot.requesters_by_id["researcher-1"]
    return standing(snapshot, person, scheme, now=now, visas=Visas(visas))


def test_a_visa_stands_in_for_a_record(policy: PolicySet) -> None:
    """Who is not in the registry's accreditations is accredited by visa, and the source is told."""
    found = of(policy, registered(), visa())

    assert (found.status, found.visa) == (VALID, ONS)
    assert found.record == Accreditation(
        "visa",
        "researcher-1",
        "uni",
        SCHEME,
        FULL,
        visa().from_at,
        visa().until_at,
        Status.ACTIVE,
        ONS,
    )


@pytest.mark.parametrize(
    "bad",
    [
        visa(scheme="other"),
        visa(organisation="dept"),
        visa(from_at=NOW + 1),
        visa(until_at=NOW),
        visa(level=PROVISIONAL),
        visa(level=PROVISIONAL, supervisor=("issuer-1", "nobody")),
    ],
    ids=[
        "another scheme",
        "another organisation",
        "to come",
        "over",
        "no supervisor",
        "an unknown supervisor",
    ],
)
def test_a_visa_that_does_not_hold_is_as_if_it_had_not_been_brought(
    bad: VisaAccreditation, policy: PolicySet
) -> None:
    """The standing is that of the registry, whatever it is."""
    lapsed = accreditation(until_at=NOW)

    assert of(policy, registered(), bad) == Standing(AccreditationStatus.NONE)
    assert of(policy, registered(lapsed), bad) == Standing(AccreditationStatus.EXPIRED, lapsed)
    assert of(policy, registered(accreditation()), bad) == Standing(VALID, accreditation())


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({"from_at": NOW}, VALID),
        ({"until_at": NOW + 1}, VALID),
        ({"until_at": NOW}, AccreditationStatus.NONE),
    ],
)
def test_a_visa_counts_from_its_first_instant_and_not_at_its_last(
    change: dict[str, int], want: AccreditationStatus, policy: PolicySet
) -> None:
    """Half open, as everything that is dated."""
    assert of(policy, registered(), visa(**change)).status is want


def test_a_suspension_in_the_registry_wins_over_every_visa(policy: PolicySet) -> None:
    """Also one of another scheme, and one older than the visa."""
    suspended = accreditation(status=Status.SUSPENDED, scheme="other", from_at=0, until_at=1)

    assert of(policy, registered(suspended), visa()) == Standing(AccreditationStatus.SUSPENDED, suspended)


@pytest.mark.parametrize("age", [0, 1])
def test_a_later_record_supersedes_a_visa(age: int, policy: PolicySet) -> None:
    """Who looked at the person last is believed: a visa asserted before or with the record says nothing."""
    lapsed = accreditation(from_at=visa().from_at + age, until_at=NOW)

    assert of(policy, registered(lapsed), visa()) == Standing(AccreditationStatus.EXPIRED, lapsed)
    assert of(policy, registered(lapsed), visa(from_at=lapsed.from_at + 1)).status is VALID


@pytest.mark.parametrize(
    ("record", "brought", "by_visa"),
    [
        (accreditation(), visa(until_at=accreditation().until_at + 1), True),
        (accreditation(), visa(until_at=accreditation().until_at), False),
        (accreditation(), visa(until_at=accreditation().until_at - 1), False),
        (
            accreditation(),
            visa(level=PROVISIONAL, until_at=tiny.at("2030-01-01"), supervisor=SUPERVISOR),
            False,
        ),
        (accreditation(level=PROVISIONAL, supervisor="researcher-9"), visa(), True),
    ],
    ids=["longer", "as long", "shorter", "provisional", "full beside a provisional record"],
)
def test_beside_a_valid_record_a_visa_counts_only_where_it_gives_more(
    record: Accreditation, brought: VisaAccreditation, by_visa: bool, policy: PolicySet
) -> None:
    """Full before provisional, then the longest: a visa that gives less could as well be left out."""
    people = requester("researcher-9"), accreditation("ACC-9", requester="researcher-9")

    found = of(policy, registered(record, *people), brought)

    assert (found.status, bool(found.visa)) == (VALID, by_visa)


def test_of_several_visas_the_best_counts(policy: PolicySet) -> None:
    """In whatever order they come."""
    visas = [
        visa(),
        visa(until_at=NOW + 5),
        visa(until_at=tiny.at("2026-09-01"), source="https://source-3.test"),
    ]

    assert of(policy, registered(), *visas).visa == "https://source-3.test"
    assert of(policy, registered(), *reversed(visas)).visa == "https://source-3.test"


PUPIL = visa(level=PROVISIONAL, supervisor=SUPERVISOR)
NAMED_BY_NOBODY = visa(level=PROVISIONAL)
OWN = accreditation("ACC-9", requester="researcher-9")


@pytest.mark.parametrize(
    ("entries", "want"),
    [
        ((requester("researcher-9"), OWN), True),
        ((requester("researcher-9"), replace(OWN, until_at=NOW)), False),
        ((requester("researcher-9"), replace(OWN, status=Status.SUSPENDED)), False),
        ((requester("researcher-9"), replace(OWN, level=PROVISIONAL, supervisor="researcher-1")), False),
        ((requester("researcher-9"), replace(OWN, scheme="other")), False),
        ((requester("researcher-9", organisation="dept"), OWN), False),
        ((requester("researcher-9", status=Status.SUSPENDED), OWN), False),
        ((OWN,), False),
    ],
)
def test_a_provisional_visa_stands_while_its_supervisor_is_fully_accredited_in_the_registry(
    entries: tuple[object, ...], want: bool, policy: PolicySet
) -> None:
    """The lapsed supervisor of domain.md section 5: active, of the same organisation, full, valid, now."""
    assert (of(policy, registered(*entries), PUPIL).status is VALID) == want


def test_a_provisional_visa_without_a_supervisor_takes_the_one_of_the_record(policy: PolicySet) -> None:
    """The registry names who supervises; a visa may name another, but an unknown one is none."""
    record = accreditation(level=PROVISIONAL, supervisor="researcher-9", until_at=NOW)
    people = requester("researcher-9"), OWN

    assert of(policy, registered(record, *people), NAMED_BY_NOBODY).status is VALID
    stranger = visa(level=PROVISIONAL, supervisor=("issuer-1", "nobody"))
    assert of(policy, registered(record, *people), stranger).status is AccreditationStatus.EXPIRED
    assert of(policy, registered(accreditation(until_at=NOW)), NAMED_BY_NOBODY).status is not VALID


def test_who_moved_needs_a_visa_of_the_new_organisation(policy: PolicySet) -> None:
    """The registry says where a person works; a visa of the old place gives nothing, one of the new does."""
    moved = registered(requester(organisation="dept"), accreditation())

    assert of(policy, moved, visa()).status is AccreditationStatus.ORGANISATION_CHANGED
    assert of(policy, moved, visa(organisation="dept")).status is VALID


def test_a_standing_by_visa_changes_by_itself_only_at_its_boundaries(policy: PolicySet) -> None:
    """Of the visa, and of the supervisor that it names."""
    own = replace(OWN, from_at=NOW + 10, until_at=NOW + 20)
    brought = replace(PUPIL, from_at=NOW, until_at=NOW + 15)
    registry = registered(requester("researcher-9"), own)
    snapshot = build_snapshot(policy, registry, epoch=1)
    person = snapshot.requesters_by_id["researcher-1"]

    instants = range(NOW - 5, NOW + 30)
    found = [of(policy, registry, brought, now=instant).status for instant in instants]

    changes = {NOW - 5 + at for at in range(1, len(found)) if found[at] is not found[at - 1]}
    assert changes == {NOW + 10, NOW + 15}
    bounds = boundaries(snapshot, person, visas=Visas((brought,)))
    assert {NOW, NOW + 10, NOW + 15, NOW + 20} == set(bounds)


def test_everybody_whose_accreditation_is_looked_at_is_named(policy: PolicySet) -> None:
    """By the registry and by visas, known people only."""
    record = accreditation(level=PROVISIONAL, supervisor="researcher-8")
    full = accreditation("ACC-0", scheme="other")
    snapshot = tiny.snapshot(policy, record, full, requester("researcher-9"))
    visas = Visas((PUPIL, NAMED_BY_NOBODY, visa(level=PROVISIONAL, supervisor=("issuer-1", "nobody"))))

    found = supervisors(snapshot, snapshot.requesters_by_id["researcher-1"], visas=visas)

    assert found == {"researcher-8", "researcher-9"}
    own = [each for held in (record, full) for each in (held.from_at, held.until_at)]
    bounds = boundaries(snapshot, snapshot.requesters_by_id["researcher-1"], visas=visas)
    assert set(bounds) == {*own, PUPIL.from_at, PUPIL.until_at}


STRICT = agreement(gateway="STRICT-1", purposes=frozenset({"research"}))


def strict(policy: PolicySet, *entries: object) -> Snapshot:
    return build_snapshot(policy, registered(STRICT, *entries), epoch=1)


def test_a_visa_passes_the_gate_that_asks_for_an_accredited_person(policy: PolicySet) -> None:
    """Without it the question is refused, with it fields are released."""
    plain = ask("Pupil.Fsm")

    assert tiny.spell(decide(strict(policy), plain, NOW)) == {"Pupil.Fsm": "withhold GATEWAY_PRECONDITION"}
    assert tiny.spell(decide(strict(policy), bringing(plain, visa()), NOW)) == {"Pupil.Fsm": "release"}


@pytest.mark.parametrize(
    ("grant", "want"),
    [
        (project(), "https://source-2.test"),
        (project(agreement="AG-2"), ""),
        (project(from_at=NOW + 1), ""),
        (project(from_at=NOW), "https://source-2.test"),
        (project(until_at=NOW), ""),
    ],
)
def test_a_visa_accredits_the_project_of_its_agreement(grant: object, want: str, policy: PolicySet) -> None:
    """For this agreement alone, and while it lasts."""
    snapshot = build_snapshot(policy, tiny.registry(replace(STRICT, project_accredited=False)), epoch=1)
    request = bringing(ask("Pupil.Fsm"), grant)  # type: ignore[arg-type]  # parametrized

    _, admitted, _ = admit(snapshot, request, now=NOW)

    assert admitted is not None
    assert admitted.project_visa == want
    verdict = "release" if want else "withhold GATEWAY_PRECONDITION"
    assert tiny.spell(decide(snapshot, request, NOW)) == {"Pupil.Fsm": verdict}


def test_a_project_that_the_registry_accredits_needs_no_visa(policy: PolicySet) -> None:
    """And none is shown for it."""
    _, admitted, _ = admit(tiny.snapshot(policy, STRICT), bringing(ask("Pupil.Fsm"), project()), now=NOW)

    assert admitted is not None
    assert admitted.project_visa == ""


def test_a_kept_entitlement_ends_with_the_visa_it_rests_on(policy: PolicySet) -> None:
    """The earliest of accreditation and project by visa bounds how long an answer may be used."""
    snapshot = build_snapshot(policy, registered(replace(STRICT, project_accredited=False)), epoch=1)
    decider = Decider(snapshot)
    request = bringing(ask("Pupil.Fsm"), visa(until_at=NOW + 70), project(until_at=NOW + 50))
    later = bringing(ask("Pupil.Fsm"), visa(until_at=NOW + 40), project(until_at=NOW + 50))

    assert decider.decide_until(request, NOW)[1] == NOW + 50
    assert decider.decide_until(later, NOW)[1] == NOW + 40
    assert tiny.spell(decider.decide(request, NOW + 49)) == {"Pupil.Fsm": "release"}
    assert tiny.spell(decider.decide(request, NOW + 50)) == {"Pupil.Fsm": "withhold GATEWAY_PRECONDITION"}


def test_a_kept_entitlement_ends_where_a_project_begins(policy: PolicySet) -> None:
    """A visa for later may change the answer then."""
    decider = Decider(
        build_snapshot(policy, tiny.registry(replace(STRICT, project_accredited=False)), epoch=1)
    )
    request = bringing(ask("Pupil.Fsm"), project(from_at=NOW + 50))

    assert tiny.spell(decider.decide(request, NOW)) == {"Pupil.Fsm": "withhold GATEWAY_PRECONDITION"}
    assert decider.decide_until(request, NOW)[1] == NOW + 50
    assert tiny.spell(decider.decide(request, NOW + 50)) == {"Pupil.Fsm": "release"}


def test_who_supervises_by_visa_is_among_the_entries_that_a_decision_reads(policy: PolicySet) -> None:
    """Counterfactuals are worked out on those alone."""
    snapshot = tiny.snapshot(policy, requester("researcher-9"), OWN)

    found = relevant(snapshot, bringing(ask("Pupil.Fsm"), PUPIL), now=NOW, provisional=False)

    assert found.requesters.keys() == {"researcher-1", "researcher-9"}
    assert "ACC-9" in found.accreditations


def test_an_explanation_says_that_it_was_a_visa_and_whose(policy: PolicySet) -> None:
    """At the gates that ask for an accredited person and an accredited project, and at no other."""
    snapshot = build_snapshot(policy, registered(replace(STRICT, project_accredited=False)), epoch=1)

    explanation = explain(snapshot, bringing(ask("Pupil.Fsm"), visa(), project()), NOW)

    why = {each.check: each.why for each in explanation.question}
    assert why["gate:5:accredited_person"].endswith("and a visa of `https://source-1.test` says so")
    assert why["gate:5:accredited_project"].endswith("and a visa of `https://source-2.test` says so")
    assert "visa" not in why["gate:4:purpose"]


SEES_ALL = """
- uid: v10-for-the-accredited
  why: Meals are for the accredited.
  effect: allow
  grant: release
  targets: {resource_id: Pupil.Fsm}
  rules:
    subject:
      $.accreditation.status: {condition: Equals, value: valid}
      $.accreditation.scheme: {condition: Equals, value: scheme-1}
"""


@pytest.mark.parametrize(
    ("facts", "want"),
    [((visa(),), {"accreditation.status": "visa", "accreditation.scheme": "registry"}), ((), None)],
)
def test_a_condition_names_the_visa_as_its_source(
    facts: tuple[VisaAccreditation, ...], want: dict[str, str] | None, tmp_path: Path
) -> None:
    """What the visa said comes from the visa, the scheme from the agreement, and all else as ever."""
    rules = load_tiny(tmp_path, rules=SEES_ALL)
    registry = registered() if facts else tiny.registry()
    explanation = explain(build_snapshot(rules, registry, epoch=1), bringing(ask("Pupil.Fsm"), *facts), NOW)

    (seen,) = [
        each
        for group in explanation.groups
        for each in group.checks
        if each.check == "v10-for-the-accredited"
    ]
    sources = {each.attribute: each.source for each in seen.conditions}
    assert sources == (want or {"accreditation.status": "registry", "accreditation.scheme": "registry"})
    assert seen.reason is Reason.NONE
