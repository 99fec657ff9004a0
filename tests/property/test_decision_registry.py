"""Properties of the registry: losing a fact about anyone never gives anyone more."""

from __future__ import annotations

import functools
import itertools
import random
import tempfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import EVERYTHING, NOW, ask, gives_no_more, owes_no_less

from policyd.decision.decide import decide
from policyd.decision.snapshot import build_snapshot
from policyd.model import (
    AccreditationLevel,
    Action,
    Decision,
    Effect,
    Registry,
    Request,
    Status,
    VisaAccreditation,
    VisaProject,
)
from policyd.policy.policyset import PolicySet
from policyd.registry.entry import SECTIONS as SECTIONS_OF
from policyd.registry.entry import entries
from policyd.registry.reach import gives_more
from policyd.registry.state import merge

SECTIONS = ("organisations", "requesters", "accreditations", "data_services", "agreements")
DAY = 86_400_000
WORDS: dict[str, list[object]] = {
    "kind": ["university", "local-authority", "department"],
    "commercial": [True, False],
    "organisation": ["uni", "dept"],
    "level": list(AccreditationLevel),
    "supervisor": [None, "researcher-1", "researcher-2"],
    "scheme": [tiny.SCHEME, "scheme-2"],
    "setting": ["secure", "vault", "annexe"],
    "gateway": ["OPEN-1", "STRICT-1", "PAST-1"],
    "article9": ["none", "art-9-2-j"],
    "project_accredited": [True, False],
    "local_authorities": [frozenset(), frozenset({"301"})],
    "roles": [frozenset(), frozenset({"researcher"})],
}
MORE: dict[str, list[object]] = {
    "requesters": ["researcher-1", "researcher-2"],
    "data_services": ["svc-secure"],
    "purposes": ["research", "commercial", "any"],
    "fields": sorted(EVERYTHING),
    "years": [2014, 2015, 2018],
    "actions": list(Action),
    "roles": ["researcher", "author"],
    "local_authorities": ["301", "302"],
}


@functools.cache
def policy() -> PolicySet:
    with tempfile.TemporaryDirectory() as directory:
        return load_tiny(Path(directory))


def draw_registry(rng: random.Random) -> Registry:
    """Return a registry of two people, a supervisor among them, with up to two records each."""
    near = [NOW - 2, NOW - 1, NOW, NOW + 1, NOW + 99]
    setting = rng.choice(["secure", "vault", "annexe"])
    entries: list[object] = [
        tiny.organisation(
            kind=rng.choice(["university", "local-authority", "department"]),
            changed_at=rng.choice([None, None, NOW - 5, NOW + 5]),
            verified_at=rng.choice([NOW - 9, NOW - 1, NOW + 1]),
            local_authorities=frozenset(rng.sample(["301", "302"], rng.randint(0, 2))),
        ),
        tiny.requester("researcher-2"),
        tiny.data_service(setting=setting),
        tiny.agreement(
            requesters=frozenset({"researcher-1", "researcher-2"}),
            purposes=frozenset(rng.sample(["research", "statistics", "commercial", "any"], 2)),
            fields=frozenset(rng.sample(sorted(EVERYTHING), rng.randint(4, 12))),
            years=frozenset(rng.sample(range(2015, 2020), 4)),
            table_years=rng.choice([(), (("Pupil", frozenset({2017, 2018})),)]),
            gateway=rng.choice(["OPEN-1", "STRICT-1", "PAST-1"]),
            setting=setting,
            article9=rng.choice(["none", "art-9-2-j"]),
            from_at=rng.choice(near[:3]),
        ),
    ]
    for number in range(1, rng.randint(2, 5)):
        level = rng.choice(list(AccreditationLevel))
        entries.append(
            tiny.accreditation(
                f"ACC-{number}",
                requester=f"researcher-{1 + number % 2}",
                level=level,
                supervisor="researcher-2" if level is AccreditationLevel.PROVISIONAL else None,
                from_at=rng.choice(near[:4]),
                until_at=rng.choice(near[2:]),
                status=Status.SUSPENDED if rng.random() < 0.1 else Status.ACTIVE,
            )
        )
    return tiny.registry(*entries)


def less_by_one_entry(base: Registry) -> Iterator[tuple[str, Registry]]:
    """Yield the registry without each entry, but for records whose meaning is to restrict.

    Those are suspended records, and records that a person holds beside older ones of the scheme: the
    latest counts (DESIGN.md section 3.2), so without it an older one would.
    """
    for section in SECTIONS:
        for name in getattr(base, section):
            if section == "accreditations":
                record = base.accreditations[name]
                others = [
                    each
                    for each in base.accreditations.values()
                    if each.requester == record.requester and each.id != name
                ]
                if record.status is Status.SUSPENDED or others:
                    continue
            yield f"{section}/{name}", tiny.without(base, section, name)


def less_by_one_word(base: Registry) -> Iterator[tuple[str, Registry]]:
    """Yield the registry with each thing that the agreement grants taken away."""
    agreed = base.agreements["AG-1"]
    for name in ("requesters", "data_services", "purposes", "fields", "years", "actions"):
        for word in sorted(getattr(agreed, name)):
            less = replace(agreed, **{name: getattr(agreed, name) - {word}})
            yield f"{name}/{word}", replace(base, agreements={"AG-1": less})
    for name, none in (("article9", "none"), ("project_accredited", False), ("gateway", "")):
        yield name, replace(base, agreements={"AG-1": replace(agreed, **{name: none})})
    for table, years in agreed.table_years:
        for year in years:
            less = replace(agreed, table_years=((table, years - {year}),))
            yield f"{table}/{year}", replace(base, agreements={"AG-1": less})
    uni = base.organisations["uni"]
    for code in uni.local_authorities:
        fewer = replace(uni, local_authorities=uni.local_authorities - {code})
        yield f"authority/{code}", replace(base, organisations={**base.organisations, "uni": fewer})


def suspended(base: Registry) -> Iterator[tuple[str, Registry]]:
    """Yield the registry with each entry suspended in turn."""
    for section in SECTIONS:
        for name, entry in getattr(base, section).items():
            stopped = replace(entry, status=Status.SUSPENDED)
            yield f"{section}/{name}", replace(base, **{section: {**getattr(base, section), name: stopped}})


def released(decision: Decision) -> set[str]:
    return {name for group in decision.groups if group.effect is not Effect.WITHHOLD for name in group.names}


def compare(request: Request, before: Decision, after: Decision, what: str) -> None:
    for name in request.claimed.fields:
        one, other = tiny.group_of(before, name), tiny.group_of(after, name)
        assert gives_no_more(one, other), (what, name, one, other)
    # A duty is that of a field: compare where the same fields come out.
    if released(after) and released(after) == released(before):
        assert owes_no_less(before.obligations, after.obligations), what


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.sampled_from([("academic",), ("statistics",), ("industry",), ("academic", "statistics")]),
    st.sampled_from(list(Action)),
    st.sampled_from(["researcher-1", "researcher-2"]),
)
def test_losing_a_registered_fact_never_gives_more(
    seed: int, purposes: tuple[str, ...], action: Action, who: str
) -> None:
    """Whatever entry, or part of an agreement, goes missing or is suspended, no field moves up."""
    base = draw_registry(random.Random(seed))  # noqa: S311  (cases, not secrets)
    request = ask(*sorted(EVERYTHING), "Pupil.Ethnicity_SPR19", who=who, purposes=purposes, action=action)
    before = decide(build_snapshot(policy(), base, epoch=1), request, NOW)
    for changes in (less_by_one_entry, less_by_one_word, suspended):
        for what, less in changes(base):
            compare(request, before, decide(build_snapshot(policy(), less, epoch=1), request, NOW), what)


def draw_facts(rng: random.Random) -> list[VisaAccreditation | VisaProject]:
    """Return what up to three visas say, most of it true of somebody at some time."""
    near = [NOW - 2, NOW - 1, NOW, NOW + 1, NOW + 99]
    found: list[VisaAccreditation | VisaProject] = [
        tiny.visa(
            level=rng.choice(list(AccreditationLevel)),
            organisation=rng.choice(["uni", "uni", "uni", "dept"]),
            from_at=rng.choice(near[:4]),
            until_at=rng.choice(near[2:]),
            supervisor=rng.choice([None, ("issuer-1", "researcher-2"), ("issuer-1", "nobody")]),
            source=f"https://source-{number}.test",
        )
        for number in range(rng.randint(1, 3))
    ]
    if rng.random() < 0.5:
        found.append(tiny.project(until_at=rng.choice(near)))
    return found


@settings(max_examples=80)
@given(
    st.integers(0, 2**32),
    st.sampled_from([("academic",), ("industry",), ("academic", "statistics")]),
    st.sampled_from(list(Action)),
    st.sampled_from(["researcher-1", "researcher-2"]),
)
def test_leaving_out_a_visa_never_gives_more(
    seed: int, purposes: tuple[str, ...], action: Action, who: str
) -> None:
    """Whoever asks chooses what to bring: no field moves up for any visa that stays at home."""
    rng = random.Random(seed)  # noqa: S311  (cases, not secrets)
    base, facts = draw_registry(rng), draw_facts(rng)
    agreed = replace(base.agreements["AG-1"], project_accredited=rng.random() < 0.5)
    snapshot = build_snapshot(policy(), replace(base, agreements={"AG-1": agreed}), epoch=1)
    request = ask(*sorted(EVERYTHING), who=who, purposes=purposes, action=action)
    for size in range(1, len(facts) + 1):
        for brought in itertools.combinations(facts, size):
            before = decide(snapshot, tiny.bringing(request, *brought), NOW)
            for left in range(size):
                fewer = [each for at, each in enumerate(brought) if at != left]
                after = decide(snapshot, tiny.bringing(request, *fewer), NOW)
                compare(request, before, after, f"visa {left} of {brought}")


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from(["researcher-1", "researcher-2"]))
def test_losing_a_registered_fact_gives_no_more_to_who_brings_visas(seed: int, who: str) -> None:
    """Apart from a record that outdates a visa, whose loss needs two people as any gain does."""
    rng = random.Random(seed)  # noqa: S311  (cases, not secrets)
    base, facts = draw_registry(rng), draw_facts(rng)
    request = tiny.bringing(ask(*sorted(EVERYTHING), who=who, purposes=("academic",)), *facts)
    before = decide(build_snapshot(policy(), base, epoch=1), request, NOW)
    for changes in (less_by_one_entry, less_by_one_word, suspended):
        for what, less in changes(base):
            lost = base.accreditations.keys() - less.accreditations.keys()
            if any(base.accreditations[name].requester == who for name in lost):
                continue
            compare(request, before, decide(build_snapshot(policy(), less, epoch=1), request, NOW), what)


def test_visas_drawn_do_give_more() -> None:
    """The properties above bite: among what they draw there are visas that accredit person and project."""
    gained = 0
    for seed in range(200):
        rng = random.Random(seed)  # noqa: S311  (cases, not secrets)
        base, facts = draw_registry(rng), draw_facts(rng)
        snapshot = build_snapshot(policy(), base, epoch=1)
        request = ask(*sorted(EVERYTHING), purposes=("academic",))
        without, brought = (decide(snapshot, each, NOW) for each in (request, tiny.bringing(request, *facts)))
        assert released(without) <= released(brought)
        gained += released(without) < released(brought)
    assert gained >= 10


def draw_change(rng: random.Random, base: Registry) -> Registry:
    """Return up to three entries of `base` with up to three members each drawn anew."""
    change = Registry()
    for _ in range(rng.randint(1, 3)):
        section = SECTIONS_OF[rng.choice(SECTIONS)]
        entry = rng.choice(list(section.of(base).values()))
        members = rng.sample([item.name for item in fields(entry) if item.name != "id"], rng.randint(1, 3))
        new = {name: drawn_anew(rng, getattr(entry, name), name) for name in members}
        section.of(change)[entry.id] = cast("Any", replace)(entry, **new)
    return change


def drawn_anew(rng: random.Random, value: object, name: str) -> object:
    """Return another value for a member, more often a narrower one than chance would give."""
    if isinstance(value, Status):
        return rng.choice([Status.SUSPENDED, *Status])
    if name == "table_years":
        return rng.choice([(), (("Pupil", frozenset({2017})),), (("School", frozenset({2015, 2016})),)])
    if isinstance(value, frozenset) and value:
        less = frozenset(rng.sample(sorted(value), rng.randint(1, len(value))))
        return less if rng.random() < 0.8 else less | frozenset({rng.choice(MORE.get(name, sorted(value)))})
    if name.endswith(("_at", "_by")):
        base = NOW if value is None or rng.random() < 0.5 else value
        return None if value and name == "changed_at" else base + rng.choice([-DAY, -3, 3, DAY])
    return rng.choice(WORDS.get(name, [value]))


def draw_changes(rng: random.Random, count: int) -> Iterator[tuple[Registry, Registry]]:
    """Yield a registry and a change to it; and each change that was made turned back, which widens."""
    base = draw_registry(rng)
    for _ in range(count):
        change = draw_change(rng, base)
        back = Registry()
        for section in SECTIONS_OF.values():
            for name in section.of(change):
                section.of(back)[name] = section.of(base)[name]
        yield base, change
        yield merge(base, change), back


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_what_one_person_may_change_never_gives_more(seed: int) -> None:
    """Where `gives_more` finds nothing, no field moves up, whoever asks, for whatever, then or later."""
    rng = random.Random(seed)  # noqa: S311  (cases, not secrets)
    questions = [
        (ask(*sorted(EVERYTHING), who=who, purposes=purposes, action=action, years=(year,)), now)
        for who in ("researcher-1", "researcher-2")
        for purposes, action, year in (
            (("academic",), Action.RELEASE, 2018),
            (("statistics", "industry"), Action.COUNT, 2016),
        )
        for now in (NOW, NOW + DAY // 2)
    ]
    for base, change in draw_changes(rng, 12):
        if next(gives_more(base, change), None) is not None:
            continue
        before = build_snapshot(policy(), base, epoch=1)
        after = build_snapshot(policy(), merge(base, change), epoch=1)
        for request, now in questions:
            compare(request, decide(before, request, now), decide(after, request, now), repr(change))


def test_changes_drawn_go_both_ways() -> None:
    """The property above bites: of the changes drawn, many are for one person, and many do give more."""
    alone: set[str] = set()
    gave = 0
    for seed in range(500):
        rng = random.Random(seed)  # noqa: S311  (cases, not secrets)
        for base, change in draw_changes(rng, 6):
            if next(gives_more(base, change), None) is None:
                for section, entry in entries(change):
                    old = section.of(base)[entry.id]
                    names = [item.name for item in fields(entry)]
                    alone |= {f"{section.key}.{n}" for n in names if getattr(old, n) != getattr(entry, n)}
                continue
            request = ask(*sorted(EVERYTHING), purposes=("academic",))
            one, other = (
                released(decide(build_snapshot(policy(), each, epoch=1), request, NOW))
                for each in (base, merge(base, change))
            )
            gave += bool(other - one)

    assert gave > 20
    assert alone >= {f"{section}.status" for section in SECTIONS}
    of_agreements = "requesters purposes fields years table_years actions from_at until_at destroy_by"
    assert alone >= {f"agreements.{name}" for name in of_agreements.split()}
    assert alone >= {"accreditations.until_at", "organisations.changed_at", "organisations.local_authorities"}


def test_registries_drawn_do_release_and_withhold() -> None:
    """The property above bites: the registries it draws give fields in every form."""
    told: set[str] = set()
    for seed in range(150):
        base = draw_registry(random.Random(seed))  # noqa: S311  (cases, not secrets)
        request = ask(*sorted(EVERYTHING), purposes=("academic",))
        told |= set(tiny.spell(decide(build_snapshot(policy(), base, epoch=1), request, NOW)).values())

    assert told >= {"release", "transform generalise:month", "withhold ORGANISATION_SUSPENDED"}
    assert told >= {"withhold FIELD_NOT_IN_AGREEMENT", "withhold GATEWAY_PRECONDITION"}
    assert told >= {"withhold NO_RULE_ALLOWS", "withhold DENIED_BY_RULE"}
