"""Counterfactuals under the reference evaluator: each set does it, no part of it does, none is missed."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from reference.duel import Tally, draw_loadable
from reference.evaluator import WITHHOLD, evaluate
from reference.source import Source, read_directory, read_texts
from reference.worlds import DAY, EPOCH

from policyd.decision.change import Terms
from policyd.decision.counterfactual import MAX_CHANGES, Counterfactual, Search, counterfactuals
from policyd.decision.lever import Vocabulary
from policyd.decision.snapshot import build_snapshot
from policyd.model import Action, Claimed, Registry, Request
from policyd.policy.load import load_policy_set
from policyd.policy.policyset import PolicySet
from policyd.policytest.cases import read_case_files
from policyd.policytest.run import request_of
from policyd.registry.check import Fault, check
from policyd.registry.entry import from_dict, to_dict

SEED = int(os.environ.get("POLICYD_SEED", "20261124"))
NPD = Path(__file__).parents[2] / "policies" / "npd"
Document = dict[str, Any]

SECTIONS = {
    "data service": "data_services",
    "requester": "requesters",
    "organisation": "organisations",
    "accreditation": "accreditations",
    "agreement": "agreements",
}
MEMBERS = {"from": "from_at", "until": "until_at"}
LISTS = ("requesters", "data_services", "purposes", "fields", "actions", "roles")


def steps(count: int) -> Callable[[], bool]:
    """Return a budget of so many judgements."""
    left = iter(range(count))
    return lambda: next(left, None) is not None


def changed(
    registry: Registry, claimed: Claimed, now: int, changes: Sequence[Terms]
) -> tuple[Registry, Claimed]:
    """Make changes to the registry's document and to the question, from nothing but their plain values."""
    document: Document = to_dict(registry)
    for each in changes:
        if each.entry == "question":
            claimed = _claim(claimed, each)
        elif each.member == "accreditation":
            _accredit(document, each, now)
        else:
            entry = document[SECTIONS[each.entry]][each.id]
            member = MEMBERS.get(each.member, each.member)
            if member in LISTS:
                entry[member] = sorted({*entry.get(member, ()), *each.values})
            elif member == "years":
                _cover(entry, each.values)
            elif member in ("from_at", "until_at", "verified_at"):
                entry[member] = int(each.values[0])
                if member == "until_at":
                    entry["destroy_by"] = max(entry["destroy_by"], entry[member])
            elif member == "project_accredited":
                entry[member] = True
            else:
                (entry[member],) = each.values
                if entry[member] == "none" and member != "scheme":
                    del entry[member]  # how a document says so
    return from_dict(document), claimed


def _claim(claimed: Claimed, change: Terms) -> Claimed:
    if change.member == "purposes":
        declared = [*(each for each in claimed.purposes if each != change.part), *change.values]
        return replace(claimed, purposes=tuple(dict.fromkeys(declared)))
    if change.member == "years":
        return replace(claimed, years=tuple(map(int, change.values)))
    if change.member == "action":
        return replace(claimed, action=Action(change.values[0]))
    assert change.member == "agreement"
    return replace(claimed, agreement=change.values[0])


def _accredit(document: Document, change: Terms, now: int) -> None:
    scheme, level, *supervisor = change.values
    held = document.setdefault("accreditations", {})
    for name in [
        name
        for name, each in held.items()
        if (each["requester"], each["scheme"], each["status"]) == (change.id, scheme, "active")
    ]:
        del held[name]
    held["ACC-NEW"] = {
        "requester": change.id,
        "organisation": document["requesters"][change.id]["organisation"],
        "scheme": scheme,
        "level": level,
        "from_at": now,
        "until_at": now + (5 if level == "full" else 3) * 365 * DAY,
        "status": "active",
        "source": "proposed",
        **({"supervisor": supervisor[0]} if supervisor else {}),
    }


def _cover(agreement: Document, values: Sequence[str]) -> None:
    for value in values:
        table, _, year = value.rpartition(":")
        names = [name for name in agreement.get("table_years", {}) if name.lower() == table.lower()]
        for years in (agreement["table_years"][name] for name in names) if table else [agreement["years"]]:
            years[:] = sorted({*years, int(year)})


class World:
    """A policy set under both evaluators, a registry, and one question to ask of them."""

    def __init__(
        self, policy: PolicySet, source: Source, registry: Registry, request: Request, now: int
    ) -> None:
        self.policy, self.source, self.registry = policy, source, registry
        self.request, self.now = request, now

    def search(self, count: int) -> tuple[Counterfactual, ...]:
        snapshot = build_snapshot(self.policy, self.registry, epoch=EPOCH)
        return counterfactuals(snapshot, self.request, self.now, more=steps(count))

    def releases(self, names: Sequence[str], changes: Sequence[Terms]) -> bool:
        """Ask the reference evaluator whether nothing of ``names`` is withheld after ``changes``."""
        registry, claimed = changed(self.registry, self.request.claimed, self.now, changes)
        request = replace(self.request, claimed=claimed)
        answer = evaluate(self.source, registry, request, self.now, epoch=EPOCH)
        return all(answer.verdicts[name].effect != WITHHOLD for name in names)


def drawn(worlds: int, questions: int, *, name: str) -> Iterator[World]:
    print(f"seed {SEED}")
    for number in range(worlds):
        rng = random.Random(f"{SEED}:{name}:{number}")  # noqa: S311  (cases, not secrets)
        world, policy = draw_loadable(rng, Tally(), questions=questions)
        source = read_texts(world.files)
        for request, now in world.questions:
            yield World(policy, source, world.registry, request, now)


def _where(fault: Fault) -> tuple[str, ...]:
    # Without the message: the nearest name that it offers is another one after a change.
    return fault.section.noun, fault.id, fault.member, fault.word


def hold(world: World, found: Counterfactual, seen: Counter[str]) -> None:
    """Assert that each set does it, no part of one does, and a registry would take the changes."""
    assert not world.releases(found.names, [])
    faults = {_where(fault) for fault in check(world.registry)}
    for changes in found.sets:
        terms = [change.terms for change in changes]
        assert len(terms) == len(found.sets[0]) <= MAX_CHANGES
        assert world.releases(found.names, terms), f"{terms} does not release {found.names}"
        for size in range(len(terms)):
            for part in combinations(terms, size):
                assert not world.releases(found.names, part), f"of {terms}, {part} is enough"
        registry, _ = changed(world.registry, world.request.claimed, world.now, terms)
        new = [str(fault) for fault in check(registry) if _where(fault) not in faults]
        assert not [each for each in new if "an accreditation of" not in each], new
        seen[f"size {len(terms)}"] += 1
        seen.update(f"{each.entry} {each.member}" for each in terms)
    seen[found.search.value] += 1


def test_every_set_releases_under_the_reference_and_no_part_of_one_does() -> None:
    """Made in the registry's document and asked of the other evaluator, which knows no counterfactuals."""
    seen: Counter[str] = Counter()
    for world in drawn(30, 15, name="counterfactuals"):
        for found in world.search(150):
            hold(world, found, seen)

    print(seen)
    assert min(seen[each.value] for each in Search if each is not Search.SOME) >= 3, seen
    assert min(seen["size 1"], seen["size 2"], seen["size 3"]) >= 20, seen
    assert len([each for each in seen if " " in each]) >= 20, seen


def test_every_set_for_the_cases_of_the_npd_policy_set_holds() -> None:
    """The same over what the shipped policy set withholds in its own tests."""
    policy, source, seen = load_policy_set(NPD), read_directory(NPD), Counter[str]()
    for file in read_case_files(NPD):
        snapshot = build_snapshot(policy, file.registry, epoch=EPOCH)
        for case in file.cases:
            world = World(policy, source, file.registry, request_of(snapshot, case), case.now)
            for found in world.search(60):
                hold(world, found, seen)

    assert seen["all"] >= 70, seen


def single_changes(world: World) -> Iterator[Terms]:
    """Yield single changes without asking what would help: every one over the words of the policy set."""
    registry, claimed, words = world.registry, world.request.claimed, Vocabulary(world.policy)
    for entry, section in SECTIONS.items():
        for id_, each in getattr(registry, section).items():
            if each.status == "suspended":
                yield Terms(entry, id_, "status", ("active",), "")
    agreement = registry.agreements.get(claimed.agreement)
    for service in registry.data_services.values():
        for setting in words.of("setting"):
            yield Terms("data service", service.id, "setting", (setting,), "")
    for person in registry.requesters.values():
        for role in words.of("roles"):
            yield Terms("requester", person.id, "roles", (role,), "", role)
    for action in Action:
        yield Terms("question", "", "action", (action.value,), "")
    for old in claimed.purposes or ("",):
        if len(claimed.purposes) > 1:
            yield Terms("question", "", "purposes", (), "", old)
        for purpose in world.policy.graph.ids:
            if purpose not in claimed.purposes:
                yield Terms("question", "", "purposes", (purpose,), "", old)
    if agreement is None:
        return
    for purpose in claimed.purposes:
        yield Terms("agreement", agreement.id, "purposes", (purpose,), "", purpose)
    for person in registry.requesters.values():
        yield Terms("agreement", agreement.id, "requesters", (person.id,), "", person.id)
    for service in registry.data_services.values():
        yield Terms("agreement", agreement.id, "data_services", (service.id,), "", service.id)
    for member in ("basis", "article9", "compatibility", "exemption"):
        for word in words.of(f"agreement.{member}"):
            yield Terms("agreement", agreement.id, member, (word,), "")
    for gateway in world.policy.gateways.by_id:
        yield Terms("agreement", agreement.id, "gateway", (gateway,), "")
    for scheme in words.of("accreditation.scheme"):
        yield Terms("agreement", agreement.id, "scheme", (scheme,), "")
    for setting in words.of("setting"):
        yield Terms("agreement", agreement.id, "setting", (setting,), "")
    yield Terms("agreement", agreement.id, "actions", (claimed.action.value,), "", claimed.action.value)
    yield Terms("agreement", agreement.id, "project_accredited", ("true",), "")


def test_no_single_change_that_releases_is_missed() -> None:
    """Trying out every change over the words of the policy set finds none that the search does not give."""
    tried = released = 0
    for world in drawn(14, 8, name="single"):
        every = None
        for found in world.search(600):
            every = every or [*single_changes(world)]
            given = {change.terms._replace(text="") for change in chain(*found.sets)}
            for change in every:
                tried += 1
                if world.releases(found.names, [change]):
                    released += 1
                    assert found.search in (Search.ALL, Search.SOME, Search.STOPPED), f"{change} does it"
                    assert change in given or found.search is not Search.ALL, f"{change} is missed"
                    assert not found.sets or len(found.sets[0]) == 1, f"{change} is smaller than {found.sets}"

    print(f"{released} of {tried} changes released")
    assert released >= 15


def test_no_smaller_set_is_missed_among_many_tried_at_random() -> None:
    """Where nothing would, or only more changes than two, no pair of changes at random does it either."""
    rng = random.Random(f"{SEED}:pairs")  # noqa: S311  (cases, not secrets)
    tried = 0
    for world in drawn(10, 6, name="pairs"):
        every = None
        for found in world.search(600):
            least = len(found.sets[0]) if found.sets else 0 if found.search is Search.STOPPED else MAX_CHANGES
            if least < MAX_CHANGES:
                continue
            every = every or [*single_changes(world)]
            for _ in range(40):
                pair = rng.sample(every, 2)
                if pair[0][:3] != pair[1][:3]:
                    tried += 1
                    assert not world.releases(found.names, pair), f"{pair} is enough for {found.names}"

    assert tried >= 500
