"""Decisions: every name in one group, obligations that add up, several purposes, and big questions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_files, load_tiny, tiny_files
from support.tiny_registry import (
    EVERYTHING,
    NOW,
    accreditation,
    agreement,
    ask,
    data_service,
    gives_no_more,
    group_of,
    organisation,
    owes_no_less,
    spell,
)

from policyd.canonical import answer_digest
from policyd.decision.decide import decide
from policyd.decision.snapshot import Snapshot
from policyd.fieldset import positions
from policyd.model import (
    AccreditationLevel,
    Action,
    ColumnSet,
    Decision,
    Effect,
    Obligations,
    Outcome,
)
from policyd.policy.policyset import PolicySet
from policyd.reasons import GATE_OF, Reason

PURPOSES = ("academic", "research", "industry", "commercial", "statistics", "marketing", "exclusion-review")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


WithRules = Callable[[str], PolicySet]


@pytest.fixture(scope="module")
def with_rules(tmp_path_factory: pytest.TempPathFactory) -> WithRules:
    """Load the tiny policy set with one more file of rules."""
    return lambda rules: load_tiny(tmp_path_factory.mktemp("rules"), rules=rules)


@pytest.fixture(scope="module")
def snapshot(policy: PolicySet) -> Snapshot:
    return tiny.snapshot(policy, agreement(purposes=frozenset({"any"})))


def check_shape(
    decision: Decision, snapshot: Snapshot, names: tuple[str, ...], used: tuple[str, ...]
) -> None:
    """Hold what is true of every decision, whatever was asked."""
    listed = [name for group in decision.groups for name in group.names]
    assert sorted(listed) == sorted(set(names) | set(used))
    rules = {rule.uid: rule for rule in snapshot.policy.rules}
    index = snapshot.policy.index
    keys = [(group.effect, group.reason, group.rule, group.transform) for group in decision.groups]
    assert len(set(keys)) == len(keys)
    for group in decision.groups:
        assert (group.effect is Effect.WITHHOLD) == (group.reason is not Reason.NONE)
        assert (group.effect is Effect.TRANSFORM) == bool(group.transform)
        if group.rule.startswith("gate:"):
            assert group.effect is Effect.WITHHOLD
            assert int(group.rule.split(":")[1]) == GATE_OF[group.reason]
        else:
            rule = rules[group.rule]
            assert rule.allow is (group.reason not in (Reason.DENIED_BY_RULE, Reason.RULE_ERROR))
        for sets, mine in ((group.released, names), (group.used, used)):
            asked: dict[tuple[str, int], set[int]] = {}
            for name in set(group.names) & set(mine):
                column = index.resolve(name)
                if column is not None:
                    asked.setdefault((column.term, column.year), set()).add(column.position)
            assert [(each.term, each.year) for each in sets] == sorted(asked)
            assert {(each.term, each.year): set(positions(each.mask)) for each in sets} == asked
    withheld = sum(group.effect is Effect.WITHHOLD for group in decision.groups)
    if withheld == len(decision.groups):
        assert decision.outcome is Outcome.WITHHOLD
        assert decision.obligations == Obligations()
    else:
        assert decision.outcome is (Outcome.PARTIAL if withheld else Outcome.RELEASE)
        assert decision.obligations.exclude_sealed_epoch == snapshot.epoch


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_name_stands_in_exactly_one_group(purpose: str, action: Action, snapshot: Snapshot) -> None:
    """Whatever is asked, groups cover the names, name what decided, and hold the bits of their names."""
    odd = (
        "Pupil.Ethnicity_SPR19",
        "pupil.ethnicity_aut19",
        "Pupil.Ethnicity_ab21",
        "School.Code_3_ex18",
        "No.Such",
    )
    names = (*sorted(EVERYTHING), *odd)
    for fields, used in (
        (names, ()),
        (names[::2], names[1::2]),
        (names, names),
        ((), names),
        (names[:1], names[5:6]),
    ):
        request = ask(*fields, purposes=(purpose,), action=action, used_fields=used)
        check_shape(decide(snapshot, request, NOW), snapshot, fields, used)


def test_a_question_that_names_no_field_releases_nothing(snapshot: Snapshot) -> None:
    """With nothing asked for, the outcome is WITHHOLD, also where a gate refuses the whole question."""
    for request in (ask(), ask(agreement="AG-9"), ask(service="nobody")):
        decision = decide(snapshot, request, NOW)
        assert decision.outcome is Outcome.WITHHOLD
        assert decision.groups == ()
        assert decision.obligations == Obligations()


def test_five_thousand_names_are_answered(snapshot: Snapshot) -> None:
    """The largest question that is admitted has each of its names in one group, in the order asked."""
    names = tuple(
        f"{table}.{stem}_{number}_ex{year:02}"
        for table, stem in (("School", "Code"), ("Pupil", "Nothing"))
        for number in range(1, 26)
        for year in range(100)
    )
    assert len(names) == 5000
    decision = decide(snapshot, ask(*names), NOW)

    check_shape(decision, snapshot, names, ())
    released = group_of(decision, "School.Code_1_ex16")
    assert released.effect is Effect.RELEASE
    assert len(released.names) == 25 * 5
    assert [name for name in names if name in set(released.names)] == list(released.names)
    assert len(group_of(decision, "Pupil.Nothing_1_ex16").names) == 2500


def test_spellings_of_one_field_are_names_of_their_own(snapshot: Snapshot) -> None:
    """Each spelling asked for is answered, and the record has the field's bit once for each term and year."""
    names = ("Pupil.Fsm", "PUPIL.FSM", "pupil.fsm", "Pupil.Ethnicity_SPR19", "Pupil.ETHNICITY_SPR19")

    group = group_of(decide(snapshot, ask(*names), NOW), "pupil.fsm")

    index = snapshot.policy.index
    assert group.names == names
    assert group.released == (
        ColumnSet("", 0, index.mask(["Pupil.Fsm"])[0]),
        ColumnSet("SPR", 2018, index.mask(["Pupil.Ethnicity"])[0]),
    )


def test_a_name_that_leaves_and_is_used_stands_once_with_both_bits(snapshot: Snapshot) -> None:
    """One group lists it once; its bits are among the released and among the used."""
    decision = decide(snapshot, ask("Pupil.Fsm", used_fields=("Pupil.Fsm", "Pupil.Score")), NOW)

    (group,) = decision.groups
    assert group.names == ("Pupil.Fsm", "Pupil.Score")
    (released,), (used,) = group.released, group.used
    assert released.mask < used.mask
    assert used.mask & released.mask == released.mask


def test_a_withheld_field_among_the_used_withholds_all_for_every_action(snapshot: Snapshot) -> None:
    """A filter on a secret tells the secret, so nothing leaves, and nothing is obliged."""
    for action in Action:
        for used in ("Pupil.Name", "Pupil.Secret", "Pupil.Nationality", "No.Such", "Pupil.Ethnicity_SPR25"):
            request = ask("Pupil.Fsm", "Pupil.Dob", used_fields=(used, "Pupil.Score"), action=action)
            decision = decide(snapshot, request, NOW)
            assert decision.outcome is Outcome.WITHHOLD
            assert decision.obligations == Obligations()
            assert group_of(decision, "Pupil.Fsm").reason is Reason.USED_FIELD_WITHHELD
            assert group_of(decision, "Pupil.Score").reason is Reason.USED_FIELD_WITHHELD
            assert group_of(decision, used).reason is not Reason.USED_FIELD_WITHHELD


def test_a_count_always_has_the_floor(policy: PolicySet, with_rules: WithRules) -> None:
    """The floor of gateways.yaml holds for counts alone; a rule may ask for more and never for less."""
    low = (
        "- {uid: x1, why: x, effect: allow, grant: release, rules: {}, "
        "targets: {resource_id: Pupil.Fsm}, obligations: {min_cell_count: %d}}\n"
    )
    for asked, want in ((3, 10), (10, 10), (25, 25)):
        seen = tiny.snapshot(with_rules(low % asked))
        for action in Action:
            decision = decide(seen, ask("Pupil.Fsm", action=action), NOW)
            assert decision.obligations.min_cell_count == (want if action is Action.COUNT else asked)
    bare = decide(tiny.snapshot(policy), ask("Pupil.Fsm", action=Action.COUNT), NOW)
    assert bare.obligations.min_cell_count == 10


def test_obligations_of_all_released_fields_accumulate(snapshot: Snapshot) -> None:
    """One answer carries what each of its fields owes; a withheld field owes nothing."""
    dob = decide(snapshot, ask("Pupil.Dob", purposes=("industry",)), NOW)
    size = decide(snapshot, ask("School.Size", purposes=("statistics",)), NOW)
    both = decide(snapshot, ask("School.Size", "Pupil.Fsm", "Pupil.Name", purposes=("statistics",)), NOW)

    assert dob.obligations.retention_days == 30
    assert size.obligations == replace(
        Obligations(),
        min_cell_count=20,
        output_check=True,
        round_to=5,
        retention_days=365,
        row_years=frozenset({2018}),
        exclude_sealed_epoch=7,
    )
    assert both.obligations == size.obligations
    assert both.outcome is Outcome.PARTIAL


def test_an_allow_rule_in_error_still_obliges_and_transforms(policy: PolicySet) -> None:
    """Without a level of accreditation the provisional's band holds, and its cell count too."""
    valid = tiny.snapshot(policy)
    provisional = tiny.snapshot(
        policy,
        accreditation(level=AccreditationLevel.PROVISIONAL, supervisor="researcher-9"),
        tiny.requester("researcher-9"),
        accreditation("ACC-9", requester="researcher-9"),
    )
    unknown = tiny.snapshot(policy, accreditation(scheme="other"), agreement(purposes=frozenset({"any"})))

    assert spell(decide(valid, ask("Pupil.Score"), NOW)) == {"Pupil.Score": "release"}
    banded = decide(provisional, ask("Pupil.Score"), NOW)
    assert spell(banded) == {"Pupil.Score": "transform band:5"}
    assert banded.obligations.min_cell_count == 15
    unsure = decide(unknown, ask("Pupil.Score", purposes=("statistics",)), NOW)
    assert spell(unsure) == {"Pupil.Score": "transform band:5"}
    assert unsure.obligations.min_cell_count == 15
    assert group_of(unsure, "Pupil.Score").rule == "a20-statistics"


def test_rows_are_those_of_the_requesters_own_authorities(policy: PolicySet) -> None:
    """`own` is filled in from the organisation; one that is no authority's gets no row."""
    for authorities in (frozenset({"301", "302"}), frozenset[str]()):
        seen = tiny.snapshot(policy, organisation(kind="local-authority", local_authorities=authorities))
        decision = decide(seen, ask("School.Size"), NOW)
        assert decision.obligations.row_local_authorities == authorities
        elsewhere = decide(seen, ask("Pupil.Fsm"), NOW)
        assert elsewhere.obligations.row_local_authorities is None


@pytest.mark.parametrize(
    ("names", "years", "want"),
    [
        (("Pupil.Fsm",), (2018,), {2018}),
        (("Pupil.Fsm",), (2018, 2016, 2018), {2016, 2018}),
        (("Pupil.Ethnicity_SPR19",), (2018,), None),
        (("Pupil.Ethnicity_SPR19",), (), None),
        (("Pupil.Ethnicity_SPR19", "Pupil.Fsm"), (2018,), {2018}),
        (("Pupil.Ethnicity_SPR19", "Pupil.Name"), (2018,), None),
    ],
)
def test_a_released_column_without_year_limits_rows_to_the_years_asked(
    names: tuple[str, ...], years: tuple[int, ...], want: set[int] | None, policy: PolicySet
) -> None:
    """Rows are of the years stated as soon as one released column does not say its own."""
    decision = decide(tiny.snapshot(policy), ask(*names, years=years), NOW)

    assert decision.obligations.row_years == (None if want is None else frozenset(want))


def test_a_used_column_without_year_limits_rows_too(policy: PolicySet) -> None:
    """A filter on a table of all years is one on the years stated."""
    request = ask("Pupil.Ethnicity_SPR19", used_fields=("Pupil.Fsm",), years=(2017,))

    assert decide(tiny.snapshot(policy), request, NOW).obligations.row_years == {2017}


def test_adding_a_purpose_never_gives_more(snapshot: Snapshot) -> None:
    """Each set of purposes, and one more: no field gains and no duty is lost."""
    names = tuple(sorted(EVERYTHING))
    for size in (1, 2, 3):
        for purposes in itertools.combinations(PURPOSES, size):
            before = decide(snapshot, ask(*names, purposes=purposes), NOW)
            for added in PURPOSES:
                after = decide(snapshot, ask(*names, purposes=(*purposes, added)), NOW)
                for name in names:
                    assert gives_no_more(group_of(before, name), group_of(after, name)), (
                        purposes,
                        added,
                        name,
                    )
                    alone = decide(snapshot, ask(name, purposes=(*purposes, added)), NOW)
                    if alone.outcome is not Outcome.WITHHOLD:
                        less = decide(snapshot, ask(name, purposes=purposes), NOW)
                        assert owes_no_less(less.obligations, alone.obligations), (purposes, added, name)


def test_two_purposes_do_not_borrow_each_others_rule(policy: PolicySet) -> None:
    """What is allowed for research alone stays withheld when declared beside a purpose without a rule."""
    seen = tiny.snapshot(policy, agreement(purposes=frozenset({"any"})))

    have = {
        purposes: spell(decide(seen, ask("Pupil.Fsm", purposes=purposes), NOW))["Pupil.Fsm"]
        for purposes in (
            ("academic",),
            ("commercial",),
            ("academic", "commercial"),
            ("commercial", "academic"),
        )
    }

    assert have == {
        ("academic",): "release",
        ("commercial",): "withhold NO_RULE_ALLOWS",
        ("academic", "commercial"): "withhold NO_RULE_ALLOWS",
        ("commercial", "academic"): "withhold NO_RULE_ALLOWS",
    }


def test_the_order_of_purposes_and_their_repetition_change_nothing(snapshot: Snapshot) -> None:
    """Verdicts, reasons, rules and duties are those of the set of purposes."""
    names = tuple(sorted(EVERYTHING))

    def told(purposes: tuple[str, ...]) -> tuple[object, ...]:
        decision = decide(snapshot, ask(*names, purposes=purposes), NOW)
        rules = {name: group.rule for group in decision.groups for name in group.names}
        return spell(decision), rules, decision.obligations, decision.outcome

    for purposes in itertools.combinations(PURPOSES, 3):
        want = told(purposes)
        for order in itertools.permutations(purposes):
            assert told(order) == want
        assert told(purposes + purposes) == want


def test_a_purpose_may_permit_only_with_its_duties(policy: PolicySet) -> None:
    """A conditional purpose brings its obligations, for itself and below, on the fields that state it."""
    seen = tiny.snapshot(policy, agreement(purposes=frozenset({"any"})))

    school = decide(seen, ask("School.Size", purposes=("statistics",)), NOW).obligations
    pupil = decide(seen, ask("Pupil.Fsm", purposes=("statistics",)), NOW).obligations
    full = decide(seen, ask("School.Size", purposes=("academic",)), NOW).obligations

    assert (school.min_cell_count, school.output_check) == (20, True)
    assert (pupil.min_cell_count, pupil.output_check) == (None, False)
    assert (full.min_cell_count, full.output_check) == (None, False)


def test_the_class_of_a_question_is_its_worst_risk_and_all_its_letters(snapshot: Snapshot) -> None:
    """Risk is the lowest number over the known fields asked or used, whatever their verdict."""
    seen = {
        names: decide(snapshot, ask(*names, used_fields=used), NOW)
        for names, used in (
            (("Pupil.Fsm", "Pupil.Ethnicity_SPR19"), ()),
            (("Pupil.Score",), ("Pupil.Name",)),
            (("No.Such",), ()),
            (("Pupil.Secret", "Pupil.Care", "Pupil.Ref"), ()),
        )
    }

    assert [(each.identification_risk, each.sensitivity) for each in seen.values()] == [
        (5, "CD"),
        (1, "E"),
        (0, ""),
        (3, "ABE"),
    ]


def test_a_rule_that_denies_is_named_before_one_in_error(with_rules: WithRules) -> None:
    """Of several deny rules the first uid that is true decides; only then one that cannot tell."""
    rules = (
        "- {uid: d01-unsure, why: x, effect: deny, "
        "rules: {subject: {$.accreditation.level: {condition: Equals, value: full}}}}\n"
        "- {uid: d99-sure, why: x, effect: deny, targets: {resource_id: Pupil.Fsm}, rules: {}}\n"
        "- {uid: d98-sure, why: x, effect: deny, targets: {resource_id: Pupil.Fsm}, rules: {}}\n"
    )
    seen = tiny.snapshot(
        with_rules(rules), accreditation(scheme="other"), agreement(purposes=frozenset({"any"}))
    )

    decision = decide(seen, ask("Pupil.Fsm", "Pupil.Score", purposes=("statistics",)), NOW)

    assert (group_of(decision, "Pupil.Fsm").reason, group_of(decision, "Pupil.Fsm").rule) == (
        Reason.DENIED_BY_RULE,
        "d98-sure",
    )
    assert (group_of(decision, "Pupil.Score").reason, group_of(decision, "Pupil.Score").rule) == (
        Reason.RULE_ERROR,
        "d01-unsure",
    )


def test_a_target_limits_a_rule_to_its_people(with_rules: WithRules) -> None:
    """A deny rule for one requester denies that one; `*` inside a target stands for any text."""
    rule = "- {uid: d01, why: x, effect: deny, targets: {subject_id: %s}, rules: {}}\n"
    for target, want in (
        ("researcher-1", "withhold DENIED_BY_RULE"),
        ('["researcher-2", "*-1"]', "withhold DENIED_BY_RULE"),
        ('"res*1"', "withhold DENIED_BY_RULE"),
        ("researcher-11", "release"),
        ("researcher", "release"),
        ('"*-2"', "release"),
        ('"*"', "withhold DENIED_BY_RULE"),
    ):
        seen = tiny.snapshot(with_rules(rule % target))
        assert spell(decide(seen, ask("Pupil.Fsm"), NOW)) == {"Pupil.Fsm": want}, target


def test_an_empty_catalogue_answers_unknown(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A policy set without a single field is valid and knows none."""
    files = tiny_files()
    del files["catalogue/School.yaml"], files["catalogue/defaults.yaml"]
    files["catalogue/Pupil.yaml"] = "table: Pupil\nlabel: x\nlevel: pupil\nfields: []\n"
    files["rules/rules.yaml"] = "- {uid: a, why: x, effect: allow, grant: release, rules: {}}\n"
    seen = tiny.snapshot(load_files(tmp_path_factory.mktemp("empty"), files))

    assert spell(decide(seen, ask("Pupil.Fsm"), NOW)) == {"Pupil.Fsm": "withhold FIELD_UNKNOWN"}
    assert spell(decide(seen, ask("Pupil.Fsm", purposes=("academic", "research")), NOW)) == {
        "Pupil.Fsm": "withhold FIELD_UNKNOWN"
    }


def test_a_decision_has_a_digest_and_fits_its_messages(snapshot: Snapshot) -> None:
    """Whatever is decided, the canonical encoding of the answer takes it."""
    for purpose in PURPOSES:
        decision = decide(snapshot, ask(*sorted(EVERYTHING), "No.Such", purposes=(purpose,)), NOW)
        assert len(answer_digest(decision, request_id="q1", decision_id="d", valid_for_ms=1)) == 32


def test_the_setting_of_the_data_service_is_the_one_that_counts(policy: PolicySet) -> None:
    """Names leave only in the vault, and the vault is what the registry says of the service."""
    for setting, want in (("secure", "withhold DENIED_BY_RULE"), ("vault", "release")):
        seen = tiny.snapshot(policy, data_service(setting=setting), agreement(setting=setting))
        assert spell(decide(seen, ask("Pupil.Name"), NOW)) == {"Pupil.Name": want}
