"""Properties of rules over random rule sets, people and questions: they can only take away."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import tiny_registry as tiny
from support.slow_decide import Asker, Verdict, decide_field
from support.tiny_policy import load_tiny, tiny_files
from support.tiny_registry import NOW, gives_no_more, owes_no_less
from support.tiny_rules import Document, deny_rules, rule_sets, with_rules

from policyd.decision.combine import Grade, Part, decide_trial, weigh
from policyd.decision.decide import decide
from policyd.decision.entitlement import attribute_values
from policyd.decision.gates import Admitted, admit
from policyd.decision.snapshot import Snapshot
from policyd.fieldset import positions
from policyd.model import AccreditationLevel, Action, Effect, Request, Status
from policyd.policy.attributes import DERIVED
from policyd.policy.conditions import MISSING, PYTHON
from policyd.policy.policyset import PolicySet

PURPOSES = ("academic", "research", "industry", "statistics", "commercial")


@functools.cache
def base() -> PolicySet:
    with tempfile.TemporaryDirectory() as directory:
        return load_tiny(Path(directory))


@dataclass(frozen=True)
class World:
    """A random registry, as the entries that differ from the usual one, and who asks what of it."""

    entries: tuple[Any, ...]
    purpose: str
    action: Action


def _world(
    *,
    kind: str,
    commercial: bool,
    record: dict[str, Any] | None,
    roles: frozenset[str],
    setting: str,
    fields: frozenset[str],
    purpose: str,
    action: Action,
    article9: str,
) -> World:
    entries: list[Any] = [
        tiny.organisation(kind=kind, commercial=commercial, local_authorities=frozenset({"301"})),
        tiny.requester(roles=roles),
        tiny.data_service(setting=setting),
        tiny.agreement(setting=setting, fields=fields, purposes=frozenset({"any"}), article9=article9),
    ]
    entries.append(tiny.accreditation(scheme="other") if record is None else tiny.accreditation(**record))
    return World(tuple(entries), purpose, action)


worlds = st.builds(
    _world,
    kind=st.sampled_from(["university", "local-authority", "press", "department"]),
    commercial=st.booleans(),
    record=st.sampled_from(
        [
            None,
            {},
            {},
            {"until_at": NOW},
            {"status": Status.SUSPENDED},
            {"level": AccreditationLevel.PROVISIONAL},
        ]
    ),
    roles=st.frozensets(st.sampled_from(["researcher", "administrator"])),
    setting=st.sampled_from(["secure", "open", "vault"]),
    fields=st.just(tiny.EVERYTHING) | st.frozensets(st.sampled_from(sorted(tiny.EVERYTHING)), min_size=1),
    purpose=st.sampled_from(PURPOSES),
    action=st.sampled_from(list(Action)),
    article9=st.sampled_from(["none", "art-9-2-j"]),
)


def question(world: World, *purposes: str) -> Request:
    return tiny.ask(
        *sorted(tiny.EVERYTHING), purposes=purposes or (world.purpose,), action=world.action, years=(2018,)
    )


def seen(rules: Sequence[Document], world: World, policy: PolicySet | None = None) -> Snapshot:
    compiled = with_rules(policy or base(), rules)
    assume(compiled is not None)
    assert compiled is not None
    return tiny.snapshot(compiled, *world.entries)


def admitted_of(snapshot: Snapshot, world: World) -> Admitted:
    _, admitted, refusal = admit(snapshot, question(world), now=NOW)
    assert refusal is None
    assert admitted is not None
    return admitted


def by_field(parts: Sequence[Part], policy: PolicySet) -> dict[str, Grade]:
    found: dict[str, Grade] = {}
    for part in parts:
        for position in positions(part.mask):
            assert policy.index.ids[position] not in found, "two parts hold one field"
            found[policy.index.ids[position]] = part.grade
    assert len(found) == len(policy.index), "a field is in no part"
    return found


def no_more(before: dict[str, Grade], after: dict[str, Grade]) -> None:
    """Fail when some field moved up, or came out with less to do."""
    for name, grade in after.items():
        assert gives_no_more(before[name], grade), (name, before[name], grade)
        if grade.effect is not Effect.WITHHOLD:
            assert owes_no_less(before[name].obligations, grade.obligations), (name, before[name], grade)


def graded(snapshot: Snapshot, world: World, values: dict[str, object] | None = None) -> dict[str, Grade]:
    admitted = admitted_of(snapshot, world)
    if values is None:
        values = dict(attribute_values(snapshot, admitted, question(world), world.purpose, now=NOW))
    parts = decide_trial(snapshot, admitted, world.action, weigh(snapshot, admitted, world.purpose, values))
    return by_field(parts, snapshot.policy)


@settings(max_examples=60)
@given(rule_sets, worlds)
def test_masks_decide_as_a_loop_over_fields_and_rules_does(rules: list[Document], world: World) -> None:
    """The compiled rules give each field the verdict, rule, transform and duties of the plain decider."""
    snapshot = seen(rules, world)
    admitted = admitted_of(snapshot, world)
    values = attribute_values(snapshot, admitted, question(world), world.purpose, now=NOW)
    asker = Asker(
        values=values,
        fields=frozenset(name.lower() for name in admitted.agreement.agreement.fields),
        authorities=admitted.organisation.local_authorities,
        setting=admitted.service.setting,
        purpose=world.purpose,
    )

    have = graded(snapshot, world)

    for field in snapshot.policy.fields:
        want = decide_field(snapshot.policy, rules, asker, field)
        grade = have[field.id]
        owed = grade.obligations
        if world.action is Action.COUNT and grade.effect is not Effect.WITHHOLD:
            floor = snapshot.policy.gateways.min_cell_count_floor
            assert owed.min_cell_count == max(floor, want.obligations.min_cell_count or 0)
            owed = replace(owed, min_cell_count=want.obligations.min_cell_count)
        rule = "" if grade.rule.startswith("gate:") else grade.rule
        told = Verdict(grade.effect, grade.reason, rule, grade.transform, owed)
        assert told == want, field.id


@settings(max_examples=60)
@given(rule_sets, deny_rules, worlds)
def test_adding_a_deny_rule_never_gives_more(rules: list[Document], added: Document, world: World) -> None:
    """No field moves up and no duty is lost, wherever the new rule stands among the others."""
    before, after = seen(rules, world), seen([*rules, added], world)

    no_more(graded(before, world), graded(after, world))


@settings(max_examples=40)
@given(rule_sets, worlds)
def test_losing_an_attribute_never_gives_more(rules: list[Document], world: World) -> None:
    """Each attribute in turn is taken away, then made null, a number and a list; nothing moves up."""
    snapshot = seen(rules, world)
    admitted = admitted_of(snapshot, world)
    values = dict(attribute_values(snapshot, admitted, question(world), world.purpose, now=NOW))
    before = graded(snapshot, world, values)
    for name in values:
        if name in ("requester.id", "action"):
            continue  # targets look at these two, which no request is without
        for instead in (MISSING, None, 7, ["a"], "", frozenset[str]()):
            if type(instead) is PYTHON[DERIVED[name].type]:
                continue  # that would be another value, not the loss of one
            no_more(before, graded(snapshot, world, {**values, name: instead}))
        no_more(before, graded(snapshot, world, {k: v for k, v in values.items() if k != name}))


@settings(max_examples=40)
@given(rule_sets, worlds, st.frozensets(st.sampled_from(["Pupil.Ethnicity", "Pupil.Fsm"]), min_size=1))
def test_losing_what_is_known_of_a_field_never_gives_more(
    rules: list[Document], world: World, forgotten: frozenset[str]
) -> None:
    """Whether a field is by request may be unknown; forgetting it moves nothing up."""
    snapshot = seen(rules, world)
    fields = tuple(
        replace(field, by_request=None) if field.id in forgotten else field for field in base().fields
    )
    after = seen(rules, world, replace(base(), fields=fields))

    no_more(graded(snapshot, world), graded(after, world))


@settings(max_examples=40)
@given(
    rule_sets, worlds, st.lists(st.sampled_from(PURPOSES), min_size=1, max_size=3), st.sampled_from(PURPOSES)
)
def test_adding_a_purpose_never_gives_more(
    rules: list[Document], world: World, purposes: list[str], added: str
) -> None:
    """With one more purpose declared, each field is where it was or lower."""
    snapshot = seen(rules, world)
    before = decide(snapshot, question(world, *purposes), NOW)
    after = decide(snapshot, question(world, *purposes, added), NOW)
    for name in tiny.EVERYTHING:
        assert gives_no_more(tiny.group_of(before, name), tiny.group_of(after, name)), name


@settings(max_examples=40)
@given(rule_sets, worlds, st.randoms(use_true_random=False))
def test_the_order_of_rules_and_names_changes_nothing(rules: list[Document], world: World, rng: Any) -> None:
    """Shuffled rules and a shuffled question give every name the same verdict, rule and duties."""
    shuffled = list(rules)
    rng.shuffle(shuffled)
    request = question(world)
    names = list(request.claimed.fields)
    rng.shuffle(names)
    asked = replace(request, claimed=replace(request.claimed, fields=tuple(names)))

    one, other = decide(seen(rules, world), request, NOW), decide(seen(shuffled, world), asked, NOW)

    assert tiny.spell(one) == tiny.spell(other)
    assert one.obligations == other.obligations
    assert {name: tiny.group_of(one, name).rule for name in names} == {
        name: tiny.group_of(other, name).rule for name in names
    }


@settings(max_examples=40)
@given(rule_sets, worlds, st.integers(2012, 2022))
def test_nothing_outside_the_agreement_is_released(rules: list[Document], world: World, year: int) -> None:
    """Whatever rules say, a field or a year that the agreement does not list stays in."""
    snapshot = seen(rules, world)
    agreed = snapshot.agreements["AG-1"].agreement
    request = question(world)
    asked = replace(request, claimed=replace(request.claimed, years=(year,)))
    for name, verdict in tiny.spell(decide(snapshot, asked, NOW)).items():
        if name not in agreed.fields or year not in agreed.years:
            assert verdict.startswith("withhold "), name


def test_the_properties_are_not_empty() -> None:
    """Random rule sets do release, transform, deny and err: the properties above bite on something."""
    told: set[str] = set()

    @settings(max_examples=150, database=None)
    @given(rule_sets, worlds)
    def look(rules: list[Document], world: World) -> None:
        grades = graded(seen(rules, world), world).values()
        told.update(f"{grade.effect} {grade.reason}" for grade in grades)
        told.update("duties" for grade in grades if grade.obligations.round_to)

    look()
    assert told >= {
        "release NONE",
        "transform NONE",
        "withhold DENIED_BY_RULE",
        "withhold RULE_ERROR",
        "withhold NO_RULE_ALLOWS",
        "withhold SUPPRESSED",
        "withhold OBLIGATION_CONFLICT",
        "duties",
    }


def test_rules_compiled_without_the_disk_are_the_rules_loaded_from_it() -> None:
    """The builder of these tests compiles what the loader compiles."""
    documents = yaml.safe_load(tiny_files()["rules/rules.yaml"])
    built = with_rules(base(), documents)

    assert built is not None
    assert [replace(rule, place=base().rules[0].place) for rule in built.rules] == [
        replace(rule, place=base().rules[0].place) for rule in base().rules
    ]
    assert [atom.key for atom in built.atoms] == [atom.key for atom in base().atoms]
