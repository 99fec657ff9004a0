"""Changes of single facts: what each says in plain values, and the one fact that it replaces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from support import tiny_registry as tiny
from support.tiny_registry import (
    EVERYTHING,
    NOW,
    accreditation,
    agreement,
    ask,
    at,
    data_service,
    organisation,
    requester,
)

from policyd.decision.change import (
    Accredited,
    ActionAsked,
    AgreementCited,
    Change,
    Facts,
    OrganisationVerified,
    PurposeDeclared,
    Reinstated,
    RoleGiven,
    ServiceSetting,
    Terms,
    YearsStated,
    make_all,
    order,
    slot,
    spell_years,
)
from policyd.decision.change_agreement import (
    AgreementInForce,
    AgreementNames,
    AgreementTerm,
    AgreementYears,
)
from policyd.model import AccreditationLevel, Action, Status

FULL, PROVISIONAL = AccreditationLevel.FULL, AccreditationLevel.PROVISIONAL
IN_ORDER = (
    Reinstated,
    OrganisationVerified,
    Accredited,
    RoleGiven,
    ServiceSetting,
    AgreementNames,
    AgreementYears,
    AgreementTerm,
    AgreementInForce,
    AgreementCited,
    PurposeDeclared,
    ActionAsked,
    YearsStated,
)


def facts(*entries: Any, **claims: Any) -> Facts:
    """Return the small registry with ``entries`` in it, and a question."""
    return Facts(tiny.registry(*entries), ask("Pupil.Fsm", **claims).claimed)


def accredited(level: AccreditationLevel = FULL, **more: Any) -> Accredited:
    return Accredited("researcher-1", "uni", tiny.SCHEME, level, NOW, NOW + 1, **more)


TERMS: list[tuple[Change, Terms]] = [
    (
        Reinstated("requester", "researcher-1"),
        Terms(
            "requester",
            "researcher-1",
            "status",
            ("active",),
            "requester `researcher-1` is no longer suspended",
        ),
    ),
    (
        OrganisationVerified("uni", 5),
        Terms(
            "organisation",
            "uni",
            "verified_at",
            ("5",),
            "organisation `uni` is verified again, after its change of name or control",
        ),
    ),
    (
        accredited(PROVISIONAL, supervisor="researcher-2"),
        Terms(
            "requester",
            "researcher-1",
            "accreditation",
            ("scheme-1", "provisional", "researcher-2"),
            "requester `researcher-1` holds a valid accreditation under scheme `scheme-1`, "
            "level `provisional` and supervisor `researcher-2`",
            "scheme-1",
        ),
    ),
    (
        accredited(),
        Terms(
            "requester",
            "researcher-1",
            "accreditation",
            ("scheme-1", "full"),
            "requester `researcher-1` holds a valid accreditation under scheme `scheme-1`, level `full`",
            "scheme-1",
        ),
    ),
    (
        RoleGiven("researcher-1", "linker"),
        Terms(
            "requester",
            "researcher-1",
            "roles",
            ("linker",),
            "requester `researcher-1` has the role `linker`",
            "linker",
        ),
    ),
    (
        ServiceSetting("svc-secure", "vault"),
        Terms(
            "data service",
            "svc-secure",
            "setting",
            ("vault",),
            "data service `svc-secure` runs in the setting `vault`",
        ),
    ),
    (
        AgreementNames("AG-1", "data_services", ("svc-2", "svc-1")),
        Terms(
            "agreement",
            "AG-1",
            "data_services",
            ("svc-2", "svc-1"),
            "agreement `AG-1` names the data services `svc-2`, `svc-1`",
            "svc-2",
        ),
    ),
    (
        AgreementNames("AG-1", "actions", ("count",)),
        Terms(
            "agreement", "AG-1", "actions", ("count",), "agreement `AG-1` names the action `count`", "count"
        ),
    ),
    (
        AgreementNames("AG-1", "fields", ("T.A", "T.B", "T.C")),
        Terms(
            "agreement",
            "AG-1",
            "fields",
            ("T.A", "T.B", "T.C"),
            "agreement `AG-1` names the fields `T.A`, `T.B`, `T.C`",
            "T.A",
        ),
    ),
    (
        AgreementNames("AG-1", "fields", ("T.A", "T.B", "T.C", "T.D", "T.E")),
        Terms(
            "agreement",
            "AG-1",
            "fields",
            ("T.A", "T.B", "T.C", "T.D", "T.E"),
            "agreement `AG-1` names the fields `T.A`, `T.B`, `T.C` and 2 more",
            "T.A",
        ),
    ),
    (
        AgreementYears("AG-1", (("", (2020, 2021)), ("Pupil", (2018,)))),
        Terms(
            "agreement",
            "AG-1",
            "years",
            ("2020", "2021", "Pupil:2018"),
            "agreement `AG-1` covers 2020/21 to 2021/22 and 2018/19 for table `Pupil`",
        ),
    ),
    (
        AgreementTerm("AG-1", "basis", "art-6-1-e"),
        Terms("agreement", "AG-1", "basis", ("art-6-1-e",), "agreement `AG-1` states basis `art-6-1-e`"),
    ),
    (
        AgreementInForce("AG-1", "from", 7),
        Terms("agreement", "AG-1", "from", ("7",), "agreement `AG-1` has started"),
    ),
    (
        AgreementInForce("AG-1", "until", 7),
        Terms("agreement", "AG-1", "until", ("7",), "agreement `AG-1` has not ended yet"),
    ),
    (
        AgreementCited("AG-2"),
        Terms("question", "", "agreement", ("AG-2",), "the question is asked under agreement `AG-2`"),
    ),
    (
        PurposeDeclared("statistics", "academic"),
        Terms(
            "question",
            "",
            "purposes",
            ("statistics",),
            "the question declares the purpose `statistics` instead of `academic`",
            "academic",
        ),
    ),
    (
        PurposeDeclared("statistics", ""),
        Terms(
            "question", "", "purposes", ("statistics",), "the question declares the purpose `statistics`", ""
        ),
    ),
    (
        PurposeDeclared("", "academic"),
        Terms("question", "", "purposes", (), "the question leaves out `academic`", "academic"),
    ),
    (
        ActionAsked(Action.COUNT),
        Terms("question", "", "action", ("count",), "the question is for the action `count`"),
    ),
    (
        YearsStated((2016, 2018)),
        Terms(
            "question",
            "",
            "years",
            ("2016", "2018"),
            "the question states the academic years 2016/17, 2018/19",
        ),
    ),
]


@pytest.mark.parametrize(("change", "terms"), TERMS, ids=lambda each: getattr(each, "text", ""))
def test_a_change_is_told_in_plain_values(change: Change, terms: Terms) -> None:
    """The entry, the member and the values are enough to make it by hand; the text says the same."""
    assert change.terms == terms


def test_changes_are_listed_by_kind_and_then_by_what_they_say() -> None:
    """What the registry would say of the parties comes first, then the agreement, then the question."""
    assert {type(change) for change, _ in TERMS} == set(IN_ORDER)
    assert all(first.rank < second.rank for first, second in pairwise(IN_ORDER))
    roles = [RoleGiven("researcher-1", role) for role in ("b", "a")]

    assert sorted([YearsStated((2016,)), *roles, Reinstated("requester", "x")], key=order) == [
        Reinstated("requester", "x"),
        *reversed(roles),
        YearsStated((2016,)),
    ]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (YearsStated((2016,)), YearsStated((2017,)), True),
        (accredited(), accredited(PROVISIONAL, supervisor="x"), True),
        (PurposeDeclared("statistics", "academic"), PurposeDeclared("", "academic"), True),
        (PurposeDeclared("statistics", "academic"), PurposeDeclared("statistics", "research"), False),
        (RoleGiven("researcher-1", "a"), RoleGiven("researcher-1", "b"), False),
        (RoleGiven("researcher-1", "a"), RoleGiven("researcher-2", "a"), False),
        (AgreementInForce("AG-1", "from", 1), AgreementInForce("AG-1", "until", 1), False),
        (Reinstated("requester", "x"), Reinstated("organisation", "x"), False),
    ],
)
def test_changes_contradict_each_other_where_they_set_the_same(
    first: Change, second: Change, *, same: bool
) -> None:
    """The same part of the same member of the same entry."""
    assert (slot(first) == slot(second)) is same


@pytest.mark.parametrize(
    ("years", "text"),
    [
        ((), ""),
        ((2018,), "2018/19"),
        ((2017, 2016), "2016/17 to 2017/18"),
        ((2015, 2016, 2017, 2020), "2015/16 to 2017/18, 2020/21"),
        ((2015, 2017), "2015/16, 2017/18"),
        ((2015, 2017, 2018), "2015/16, 2017/18 to 2018/19"),
        ((1999,), "1999/00"),
        ((2008,), "2008/09"),
    ],
)
def test_years_that_follow_each_other_are_told_as_one_run(years: Iterable[int], text: str) -> None:
    """Academic years are spelt with both of their calendar years, in order."""
    assert spell_years(years) == text


TABLES = (("Pupil", frozenset({2015})), ("School", frozenset({2016})))
PAST, FUTURE = at("2026-01-01"), at("2028-06-01")
MADE: list[tuple[Change, Facts, Facts]] = [
    (Reinstated("data service", "svc-secure"), facts(data_service(status=Status.SUSPENDED)), facts()),
    (Reinstated("requester", "researcher-1"), facts(requester(status=Status.SUSPENDED)), facts()),
    (Reinstated("organisation", "uni"), facts(organisation(status=Status.SUSPENDED)), facts()),
    (Reinstated("accreditation", "ACC-1"), facts(accreditation(status=Status.SUSPENDED)), facts()),
    (Reinstated("agreement", "AG-1"), facts(agreement(status=Status.SUSPENDED)), facts()),
    (
        OrganisationVerified("uni", NOW),
        facts(organisation(changed_at=PAST)),
        facts(organisation(changed_at=PAST, verified_at=NOW)),
    ),
    (
        RoleGiven("researcher-1", "linker"),
        facts(),
        facts(requester(roles=frozenset({"researcher", "linker"}))),
    ),
    (ServiceSetting("svc-secure", "vault"), facts(), facts(data_service(setting="vault"))),
    (
        AgreementNames("AG-1", "purposes", ("industry", "academic")),
        facts(agreement(purposes=frozenset({"research"}))),
        facts(agreement(purposes=frozenset({"research", "industry", "academic"}))),
    ),
    (
        AgreementNames("AG-1", "actions", ("count",)),
        facts(agreement(actions=frozenset({Action.LINK}))),
        facts(agreement(actions=frozenset({Action.LINK, Action.COUNT}))),
    ),
    (
        AgreementNames("AG-1", "fields", ("Pupil.Fsm",)),
        facts(agreement(fields=EVERYTHING - {"Pupil.Fsm"})),
        facts(),
    ),
    (
        AgreementYears("AG-1", (("", (2020,)), ("PUPIL", (2018, 2019)))),
        facts(agreement(table_years=TABLES)),
        facts(
            agreement(
                years=frozenset(range(2015, 2021)),
                table_years=(("Pupil", frozenset({2015, 2018, 2019})), TABLES[1]),
            )
        ),
    ),
    (
        AgreementYears("AG-1", (("School", (2018,)),)),
        facts(agreement(table_years=TABLES)),
        facts(agreement(table_years=(TABLES[0], ("School", frozenset({2016, 2018}))))),
    ),
    (AgreementTerm("AG-1", "gateway", "STRICT-1"), facts(), facts(agreement(gateway="STRICT-1"))),
    (
        AgreementTerm("AG-1", "project_accredited", "true"),
        facts(agreement(project_accredited=False)),
        facts(agreement(project_accredited=True)),
    ),
    (AgreementInForce("AG-1", "from", NOW), facts(), facts(agreement(from_at=NOW))),
    (AgreementInForce("AG-1", "until", NOW), facts(agreement(until_at=PAST)), facts(agreement(until_at=NOW))),
    (
        AgreementInForce("AG-1", "until", FUTURE),
        facts(agreement(until_at=PAST)),
        facts(agreement(until_at=FUTURE, destroy_by=FUTURE)),
    ),
    (AgreementCited("AG-2"), facts(), facts(agreement="AG-2")),
    (
        PurposeDeclared("statistics", "academic"),
        facts(purposes=("academic", "research")),
        facts(purposes=("statistics", "research")),
    ),
    (
        PurposeDeclared("research", "academic"),
        facts(purposes=("academic", "research")),
        facts(purposes=("research",)),
    ),
    (
        PurposeDeclared("", "academic"),
        facts(purposes=("academic", "research")),
        facts(purposes=("research",)),
    ),
    (PurposeDeclared("academic", ""), facts(purposes=()), facts(purposes=("academic",))),
    (ActionAsked(Action.COUNT), facts(), facts(action=Action.COUNT)),
    (YearsStated((2016, 2018)), facts(), facts(years=(2016, 2018))),
]


@pytest.mark.parametrize(("change", "before", "after"), MADE, ids=lambda each: type(each).__name__)
def test_a_change_replaces_its_fact_and_no_other(change: Change, before: Facts, after: Facts) -> None:
    """All the other members, entries and claims stay; a list keeps what it has."""
    assert make_all(before, [change]) == after


def test_a_new_accreditation_takes_the_place_of_those_that_are_not_suspended() -> None:
    """Only of the same person under the same scheme; its id is one that nobody has."""
    kept = [
        accreditation("A-1", requester="researcher-2"),
        accreditation("A-2", scheme="scheme-2"),
        accreditation("A-3", status=Status.SUSPENDED),
        accreditation("PROPOSED", scheme="scheme-2"),
    ]
    before = facts(*kept, accreditation("A-4"))

    after = accredited(PROVISIONAL, supervisor="researcher-2").make(before)

    held = accreditation(
        "PROPOSED-",
        level=PROVISIONAL,
        from_at=NOW,
        until_at=NOW + 1,
        source="proposed",
        supervisor="researcher-2",
    )
    assert after.registry.accreditations == {each.id: each for each in (*kept, held)}
    assert replace(after, registry=before.registry) == before
