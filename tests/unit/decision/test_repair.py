"""Repairs: for each check that fails, exactly the changes that could mend it."""

from __future__ import annotations

from typing import Any

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import EVERYTHING, NOW, accreditation, agreement, ask, organisation, requester
from support.tiny_rules import with_rules

from policyd.decision.change import (
    ActionAsked,
    AgreementCited,
    PurposeDeclared,
    RoleGiven,
    ServiceSetting,
    YearsStated,
)
from policyd.decision.change_agreement import AgreementNames, AgreementTerm, AgreementYears
from policyd.decision.counterfactual import _Bench, _parts, relevant
from policyd.decision.lever import State
from policyd.decision.repair import Repairs, fewest, is_theirs, repairs, wanted
from policyd.model import AccreditationLevel, Action, Request, Status
from policyd.policy.policyset import PolicySet

A, B, C = (RoleGiven("researcher-1", name) for name in "abc")

IS_IN = {"condition": "IsIn"}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


def start(policy: PolicySet, *entries: Any, request: Request) -> State:
    return _Bench(tiny.snapshot(policy, *entries), request, NOW, lambda: True).start


def mend(policy: PolicySet, *entries: Any, request: Request, names: tuple[str, ...] = ()) -> list[Repairs]:
    """Return the repairs of each check that fails for the names, by default all that leave."""
    state = start(policy, *entries, request=request)
    return list(repairs(state, wanted(state, names or request.claimed.fields)))


def ruled(policy: PolicySet, *rules: dict[str, Any]) -> PolicySet:
    base = {"why": "x", "effect": "allow", "grant": "release"}
    documents = [{key: value for key, value in (base | each).items() if value is not None} for each in rules]
    found = with_rules(policy, documents)
    assert found is not None
    return found


def years(*several: int, table: str = "") -> AgreementYears:
    return AgreementYears("AG-1", ((table, several),))


def test_the_fewest_are_the_first_of_the_shortest() -> None:
    """Of nothing, none."""
    assert fewest([(A, B), (C,), (A,)]) == (C,)
    assert fewest([]) == ()


def test_what_is_wanted_is_each_name_once_and_its_fields_by_year(policy: PolicySet) -> None:
    """A name that is no field is wanted as well, and said to be unknown."""
    state = start(policy, request=ask("Pupil.Fsm"))
    mask = {name: policy.index.mask([f"Pupil.{name}"])[0] for name in ("Fsm", "Score", "Ethnicity")}
    names = ("Pupil.Fsm", "Pupil.Score", "Pupil.Ethnicity_SPR19", "Pupil.Fsm")

    want = wanted(state, names)

    assert want.names == names[:3]
    assert want.columns == ((0, mask["Fsm"] | mask["Score"]), (2018, mask["Ethnicity"]))
    assert want.mask == mask["Fsm"] | mask["Score"] | mask["Ethnicity"]
    assert want.known
    assert not wanted(state, ("Pupil.Shoe", "Pupil.Fsm")).known


@pytest.mark.parametrize(
    ("changes", "theirs"),
    [
        ({}, True),
        ({"organisation": "dept"}, False),
        ({"requesters": frozenset({"researcher-2"})}, False),
        ({"data_services": frozenset({"svc-open"})}, False),
    ],
)
def test_an_agreement_is_theirs_where_it_names_all_three(changes: dict[str, Any], *, theirs: bool) -> None:
    """The organisation, the requester and the data service."""
    assert is_theirs(agreement(**changes), "uni", "researcher-1", "svc-secure") is theirs


def test_who_may_not_use_an_agreement_cites_another_or_is_named_in_it(policy: PolicySet) -> None:
    """Only an agreement that is theirs is cited, and only one of their organisation would name them."""
    ours = agreement(requesters=frozenset({"researcher-2"}))
    others = agreement("AG-2"), agreement("AG-3", organisation="dept")
    named = AgreementNames("AG-1", "requesters", ("researcher-1",))
    request = ask("Pupil.Fsm")

    assert mend(policy, ours, *others, request=request) == [(AgreementCited("AG-2"), named)]
    assert mend(policy, ours, request=request) == [(named,)]
    theirs = agreement(organisation="dept", requesters=frozenset({"researcher-2"}))
    assert mend(policy, theirs, request=request) == [()]
    assert mend(policy, theirs, *others, request=request) == [(AgreementCited("AG-2"),)]


def test_an_agreement_is_not_to_name_a_purpose_that_the_catalogue_prohibits(policy: PolicySet) -> None:
    """The agreement has no say in that, so another purpose is declared."""
    entry = agreement(purposes=frozenset({"statistics"}))

    (found,) = mend(policy, entry, request=ask("Pupil.Fsm", purposes=("marketing",)))

    assert found
    assert all(isinstance(each, PurposeDeclared) for each in found)


def test_a_rule_is_looked_for_on_the_fields_that_none_allows(policy: PolicySet) -> None:
    """What lets go of the other fields is of no use to them."""
    roles = {"subject": {"$.roles": {"condition": "AnyIn", "values": ["linker"]}}}
    first, second = sorted(("Pupil.Fsm", "Pupil.Score"), key=policy.index.position)  # type: ignore[arg-type]
    changed = ruled(
        policy,
        {"uid": "open", "targets": {"resource_id": first}, "rules": {}},
        {"uid": "linkers", "targets": {"resource_id": second}, "rules": roles},
    )

    assert mend(changed, request=ask(first, second)) == [(RoleGiven("researcher-1", "linker"),)]


def test_what_holds_for_every_purpose_is_mended_once(policy: PolicySet) -> None:
    """What does not is mended for each purpose for which it fails."""
    lacking = agreement(purposes=frozenset({"any"}), fields=EVERYTHING - {"Pupil.Fsm"})
    named = AgreementNames("AG-1", "fields", ("Pupil.Fsm",))
    wide = ruled(policy, {"uid": "wide", "rules": {}})

    assert mend(policy, lacking, request=ask("Pupil.Fsm", purposes=("academic", "research"))) == [(named,)]
    for purposes in (("academic", "marketing"), ("marketing", "academic")):
        entry = agreement(purposes=frozenset({"any"}))
        found = mend(wide, entry, request=ask("Pupil.Fsm", purposes=purposes))
        assert PurposeDeclared("", "marketing") in found[0]
        assert PurposeDeclared("", "academic") not in found[0]


def test_grants_are_only_changed_for_names_that_they_leave_nothing_of(policy: PolicySet) -> None:
    """A suppressed name in the same question is no affair of a withdrawn one."""
    narrow = {"uid": "narrow", "grant": "suppress", "rules": {}, "targets": {"action_id": "release"}}
    changed = ruled(policy, {"uid": "wide", "rules": {}}, narrow)
    request = ask("Pupil.Fsm", "Pupil.Nationality")

    assert mend(changed, request=request, names=("Pupil.Nationality",)) == [()]
    assert mend(changed, request=request, names=("Pupil.Fsm",)) != []


@pytest.mark.parametrize(
    ("entry", "request_", "want"),
    [
        (
            agreement(),
            ask("Pupil.Fsm", "Pupil.Ethnicity_SPR25", years=(2018, 2021)),
            [(years(2021, 2024), years(2021), YearsStated((2018,))), (years(2021, 2024), years(2024))],
        ),
        (agreement(), ask("Pupil.Ethnicity_SPR25", "Pupil.Ethnicity_SPR19"), [(years(2024),)]),
        (
            agreement(),
            ask("Pupil.Fsm", "Pupil.Ethnicity_SPR19", years=()),
            [(YearsStated((2015, 2016, 2017, 2018, 2019)),)],
        ),
        (
            agreement(table_years=(("School", frozenset({2016})),)),
            ask("Pupil.Fsm", years=(2018, 2021)),
            [(years(2021), YearsStated((2018,)))],
        ),
        (
            agreement(table_years=(("PUPIL", frozenset({2015})), ("pupil", frozenset({2016})))),
            ask("Pupil.Fsm", years=(2015,)),
            [(years(2015, table="Pupil"), YearsStated((2016,)))],
        ),
        (
            agreement(table_years=(("School", frozenset({2016, 2018})),)),
            ask("Pupil.Fsm", "School.Size", years=(2016, 2021)),
            [
                (
                    AgreementYears("AG-1", (("", (2021,)), ("School", (2021,)))),
                    YearsStated((2016,)),
                )
            ],
        ),
    ],
    ids=["two checks", "of one column", "none stated", "another table", "spelt twice", "two tables"],
)
def test_years_are_mended_in_the_agreement_or_in_the_question(
    entry: Any, request_: Request, want: list[Repairs], policy: PolicySet
) -> None:
    """For all columns at once or for those of one year; columns that carry none can be asked for others."""
    assert mend(policy, entry, request=request_) == want


def test_a_denial_is_mended_by_what_makes_it_less_true(policy: PolicySet) -> None:
    """Another setting for which it is as true as before is no way out."""
    assert mend(policy, request=ask("Pupil.Name")) == [(ServiceSetting("svc-secure", "vault"),)]


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        ("university", [("Pupil.Fsm",), ("Pupil.Secret", "Pupil.Nationality")]),
        ("department", [("Pupil.Fsm", "Pupil.Secret"), ("Pupil.Nationality",)]),
    ],
)
def test_what_never_leaves_comes_apart_outside_the_department(
    kind: str, want: list[tuple[str, ...]], policy: PolicySet
) -> None:
    """Inside it, only what was withdrawn is beyond repair."""
    names = ("Pupil.Fsm", "Pupil.Secret", "Pupil.Nationality")
    entries = organisation(kind=kind), agreement(status=Status.SUSPENDED)
    state = start(policy, *entries, request=ask(*names))

    assert list(_parts(state, names)) == want


def test_a_slice_has_the_other_agreements_where_the_cited_one_is_of_no_use(policy: PolicySet) -> None:
    """Those that are theirs, and no others."""
    others = agreement("AG-2"), agreement("AG-3", organisation="dept")

    def sliced(*entries: Any, **claims: Any) -> list[str]:
        snapshot = tiny.snapshot(policy, *entries, *others)
        return list(relevant(snapshot, ask("Pupil.Fsm", **claims), now=NOW, provisional=False).agreements)

    assert sliced() == ["AG-1"]
    assert sliced(agreement(organisation="dept")) == ["AG-1", "AG-2"]
    assert sliced(agreement="AG-9") == ["AG-1", "AG-2"]


def test_a_slice_has_who_could_supervise_under_any_scheme_in_question(policy: PolicySet) -> None:
    """The agreement's, and those under which the requester has held an accreditation."""
    colleagues = [
        each
        for number, scheme in ((2, "scheme-2"), (3, "scheme-1"), (4, "scheme-4"))
        for each in (
            requester(f"researcher-{number}"),
            accreditation(f"ACC-{number}", requester=f"researcher-{number}", scheme=scheme),
        )
    ]
    own = accreditation(scheme="scheme-2", level=AccreditationLevel.PROVISIONAL, supervisor="researcher-9")
    snapshot = tiny.snapshot(policy, *colleagues, own)

    found = relevant(snapshot, ask("Pupil.Fsm"), now=NOW, provisional=True)

    assert list(found.requesters) == ["researcher-1", "researcher-2", "researcher-3"]
    assert list(relevant(snapshot, ask("Pupil.Fsm"), now=NOW, provisional=False).requesters) == [
        "researcher-1"
    ]


def has(*roles: str) -> dict[str, Any]:
    return {"subject": {"$.roles": {"condition": "AnyIn", "values": [*roles]}}}


FIRST, SECOND = "Pupil.Fsm", "Pupil.Score"
TIED = {"resource": {"$.table": {"condition": "MemberOf", "attribute": "$.roles"}}}
PRESS = {"subject": {"$.organisation.kind": {"condition": "Equals", "value": "press"}}}


def test_of_fields_that_no_rule_allows_the_first_is_mended_first(policy: PolicySet) -> None:
    """By the rules that could allow it: what is said of the next one, or against it, is no help."""
    changed = ruled(
        policy,
        {"uid": "first", "targets": {"resource_id": FIRST}, "rules": has("linker")},
        {"uid": "second", "targets": {"resource_id": SECOND}, "rules": has("reader")},
        {"uid": "against", "effect": "deny", "rules": has("press"), "grant": None},
    )

    assert mend(changed, request=ask(SECOND, FIRST)) == [(RoleGiven("researcher-1", "linker"),)]


def test_a_tied_rule_with_a_clause_that_nobody_may_mend_is_let_be(policy: PolicySet) -> None:
    """Whatever the tie would need, what kind of body asks stays as it is."""
    rule = {"uid": "tied", "rules": PRESS, "where": TIED}

    assert mend(ruled(policy, rule), request=ask(FIRST)) == [()]


def test_a_condition_is_mended_by_the_words_for_which_it_holds(policy: PolicySet) -> None:
    """Of the settings that rules know, only the one that this rule asks for."""
    names = [
        {"uid": name, "rules": {"context": {"$.setting": IS_IN | {"values": [name]}}}} for name in ("a", "b")
    ]
    names[1]["targets"] = {"resource_id": SECOND}

    assert mend(ruled(policy, *names), request=ask(FIRST)) == [(ServiceSetting("svc-secure", "a"),)]


def test_of_a_condition_on_two_attributes_either_may_be_changed_to_anything(policy: PolicySet) -> None:
    """Both may have to be, so that its truth after one change says nothing."""
    rule = {
        "uid": "same",
        "rules": {},
        "where": {"context": {"$.gateway": {"condition": "SameAs", "attribute": "$.setting"}}},
    }

    assert mend(ruled(policy, rule), request=ask(FIRST)) == [
        (
            AgreementTerm("AG-1", "gateway", "PAST-1"),
            AgreementTerm("AG-1", "gateway", "STRICT-1"),
            ServiceSetting("svc-secure", "vault"),
        )
    ]


SUPPRESSED = {"uid": "none", "grant": "suppress", "rules": {}, "targets": {"action_id": "release"}}


def test_grants_are_changed_in_what_the_rules_on_their_fields_read(policy: PolicySet) -> None:
    """Not in what rules on other fields, or rules that deny, read; a rule with a tie may read anything."""
    other = {"uid": "other", "targets": {"resource_id": SECOND}, "rules": has("linker")}
    basis = {"context": {"$.agreement.basis": IS_IN | {"values": ["art-6-1-e"]}}}
    deny = {"uid": "deny", "effect": "deny", "rules": basis, "grant": None}
    wide = {"uid": "wide", "rules": {}, "targets": {"resource_id": FIRST}}
    narrow = SUPPRESSED | {"targets": {"action_id": "release", "resource_id": FIRST}}
    role, term = RoleGiven("researcher-1", "linker"), AgreementTerm("AG-1", "basis", "art-6-1-e")

    (untied,) = mend(ruled(policy, wide, narrow, other, deny), request=ask(FIRST))
    tied = {"uid": "tied", "rules": {}, "where": TIED, "targets": {"resource_id": FIRST}}
    (anything,) = mend(ruled(policy, wide, narrow, other, deny, tied), request=ask(FIRST))

    assert ActionAsked(Action.COUNT) in untied
    assert not {role, term} & {*untied}
    assert {role, term} <= {*anything}


@pytest.mark.parametrize(
    ("first", "second", "want"),
    [
        ([2016, 2017], [2017, 2019], [(2016, 2017), (2017, 2019), (2017,)]),
        ([2016], [2019], [(2016,), (2019,)]),
    ],
    ids=["some in common", "none in common"],
)
def test_years_of_rows_are_asked_for_as_the_rules_leave_them(
    first: list[int], second: list[int], want: list[tuple[int, ...]], policy: PolicySet
) -> None:
    """Of each rule on the whole question, and those that they have in common, if they do."""
    rules = [
        {
            "uid": f"r{years[0]}",
            "rules": {},
            "targets": {"resource_id": name},
            "obligations": {"rows": {"years": years}},
        }
        for name, years in ((FIRST, first), (SECOND, second))
    ]

    (found,) = mend(ruled(policy, *rules), request=ask(FIRST, SECOND), names=(FIRST,))

    assert [each.years for each in found if isinstance(each, YearsStated)] == want
