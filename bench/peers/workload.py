"""The workload: a catalogue, rules, a registry of 1,000 agreements, and questions about them.

Every question passes gates 1 to 5, so that engines without such gates answer the same question. Of the
gates over fields, peers are told the outcome of 6 to 8 by two set look-ups a field (``About``), except
that nothing of sensitivity A leaves the department, which is a rule to them.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from peers.rules import KINDS, SETTINGS, Rule, generate_rules
from policyd.decision.accreditation import standing
from policyd.decision.entitlement import entitle
from policyd.decision.snapshot import Snapshot, build_snapshot
from policyd.fieldset import positions
from policyd.model import (
    Accreditation,
    AccreditationLevel,
    Action,
    Agreement,
    Claimed,
    DataService,
    Instant,
    Organisation,
    Registry,
    Request,
    Requester,
    Status,
    Token,
    Verified,
)
from policyd.policy.importer import import_catalogue, write_catalogue
from policyd.policy.load import load_policy_set
from policyd.policy.policyset import PolicySet

DAY_MS = 86_400_000
NOW: Instant = 1_772_000_000_000
YEAR = 2017
MAX_FAMILY = 8
"""Purposes below one that a rule may name; of rules for every purpose a policy set has few."""
AGREEMENTS = 1_000
GATEWAY, SCHEME = "EA1996-537A", "dea-accredited-researcher"
NEVER_EXTERNAL = Rule("gate-never-external", allow=False, kinds=KINDS, letters=("A",))
"""Gate 6 for peers: no organisation of the workload is the department."""


@dataclass(frozen=True, slots=True)
class FieldFacts:
    """What rules may look at of one field."""

    id: str
    table: str
    risk: int
    letters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class About:
    """What rules may look at of one question, looked up beforehand for those that have no registry."""

    kind: str
    status: str
    setting: str
    within: tuple[str, ...]
    agreed: frozenset[str]
    """Ids of the fields in the agreement."""
    permitted: frozenset[str]
    """Ids of the fields whose intended purposes the declared purpose complies with."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question: the names asked, and everything else about it."""

    names: tuple[str, ...]
    agreement: str
    purpose: str
    verified: Verified
    about: About

    def request(self) -> Request:
        """Return the question as policyd takes it."""
        claimed = Claimed("q", self.agreement, (self.purpose,), Action.RELEASE, self.names, years=(YEAR,))
        return Request(claimed, self.verified)

    def fresh(self) -> Question:
        """Return the same question with strings that nobody has hashed yet, as they come off the wire."""
        return replace(self, names=tuple(name[:1] + name[1:] for name in self.names))


class System(Protocol):
    """One engine, loaded with one workload."""

    name: str

    def answer(self, question: Question) -> Any:
        """Answer; this is what is timed."""

    def allowed(self, question: Question, answer: Any) -> list[bool]:
        """Say of each name whether the answer lets it leave; this is not timed."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One policy set with one registry, and the same as peers see it."""

    rules: tuple[Rule, ...]
    snapshot: Snapshot
    fields: dict[str, FieldFacts]
    """By the name that questions use."""
    load_s: float
    """Processor time that loading the policy set took."""
    seed: int

    def questions(self, size: int, *, count: int) -> list[Question]:
        """Return ``count`` questions for ``size`` fields each, one an agreement."""
        chance = random.Random(f"{self.seed}/{size}")  # noqa: S311
        names = {facts.id: name for name, facts in self.fields.items()}
        agreements = list(self.snapshot.agreements)
        chance.shuffle(agreements)
        found: list[Question] = []
        for agreement in agreements:
            if len(found) == count:
                break
            question = self._question(chance, agreement, size, names)
            if question is not None:
                found.append(question)
        if len(found) < count:
            raise SystemExit(f"only {len(found)} of {count} questions for {size} fields pass the gates")
        return found

    def _question(
        self, chance: random.Random, agreement: str, size: int, names: dict[str, str]
    ) -> Question | None:
        """Ask four fifths inside the agreement; None when a gate refuses the question as a whole."""
        snapshot = self.snapshot
        granted = snapshot.agreements[agreement].agreement
        purpose = min(granted.purposes)
        inside = sorted(granted.fields)
        chosen = chance.sample(inside, min(len(inside), max(1, size * 4 // 5)))
        others = [id_ for id_ in snapshot.policy.index.ids if id_ not in granted.fields]
        chosen += chance.sample(others, min(len(others), size - len(chosen)))
        if len(chosen) < size:
            return None
        chance.shuffle(chosen)
        requester = snapshot.requesters_by_id[min(granted.requesters)]
        service = next(each for each in snapshot.services.values() if each.id in granted.data_services)
        token = Token(requester.issuer, requester.subject, bytes(32), NOW + DAY_MS)
        graph = snapshot.policy.graph
        number = graph.ids.index(purpose)
        permitted = (snapshot.policy.full[number] | snapshot.policy.conditional[number]) & ~(
            snapshot.policy.prohibited[number] | snapshot.policy.classes.withdrawn
        )
        about = About(
            kind=snapshot.organisations[granted.organisation].kind,
            status=standing(snapshot, requester, SCHEME, now=NOW).status.value,
            setting=service.setting,
            within=tuple(sorted(graph.names(graph.up(graph.bit(purpose))))),
            agreed=granted.fields,
            permitted=frozenset(snapshot.policy.index.ids[position] for position in positions(permitted)),
        )
        verified = Verified(service.spiffe_id, token)
        question = Question(tuple(names[id_] for id_ in chosen), agreement, purpose, verified, about)
        return question if entitle(snapshot, question.request(), now=NOW).refusal is None else None


def write_policy(policy: Path, directory: Path, *, csv: Path | None) -> None:
    """Copy the policy set ``policy`` without its rules and tests; with ``csv``, its catalogue from there."""
    shutil.copytree(policy, directory, ignore=shutil.ignore_patterns("rules", "tests"))
    (directory / "rules").mkdir()
    if csv is not None:
        for path in (directory / "catalogue").glob("*.yaml"):
            if path.name != "defaults.yaml":
                path.unlink()
        write_catalogue(import_catalogue(csv), directory / "catalogue")


def build_workload(directory: Path, *, rules: int, seed: int, agreements: int = AGREEMENTS) -> Workload:
    """Generate ``rules`` rules into the policy set in ``directory``, load it, and register agreements."""
    _write_rules(directory, [Rule("nothing", allow=False, risks=(1,))])
    bare = load_policy_set(directory)
    usable = _purposes(bare)
    aims = _aims(bare, usable)
    tables = sorted({field.table for field in bare.fields})
    generated = tuple(generate_rules(rules, purposes=aims, tables=tables, seed=seed))
    _write_rules(directory, generated)
    begun_s = time.thread_time()
    policy = load_policy_set(directory)
    load_s = time.thread_time() - begun_s
    registry = _registry(policy, usable, agreements=agreements, seed=seed)
    return Workload(
        rules=generated,
        snapshot=build_snapshot(policy, registry, epoch=1),
        fields=dict(_fields(policy)),
        load_s=load_s,
        seed=seed,
    )


def policy_document(rule: Rule) -> dict[str, Any]:
    """Write a rule in py-abac's schema, which is policyd's as well."""
    parts: dict[str, dict[str, Any]] = {"subject": {}, "resource": {}, "context": {}}
    one_of = {"condition": "IsIn"}
    if rule.kinds:
        parts["subject"]["$.organisation.kind"] = {**one_of, "values": list(rule.kinds)}
    if rule.statuses:
        parts["subject"]["$.accreditation.status"] = {**one_of, "values": list(rule.statuses)}
    if rule.tables:
        parts["resource"]["$.table"] = {**one_of, "values": list(rule.tables)}
    if rule.risks:
        parts["resource"]["$.identification_risk"] = {**one_of, "values": list(rule.risks)}
    carries = {"condition": "AnyIn", "values": list(rule.letters)}
    lacks = {"condition": "Not", "value": {"condition": "AnyIn", "values": list(rule.without)}}
    if rule.letters or rule.without:
        parts["resource"]["$.sensitivity"] = carries if rule.letters else lacks
    if rule.settings:
        parts["context"]["$.setting"] = {**one_of, "values": list(rule.settings)}
    if rule.within:
        parts["context"]["$.purpose_within"] = {"condition": "AnyIn", "values": list(rule.within)}
    return {
        "uid": rule.uid,
        "effect": "allow" if rule.allow else "deny",
        "targets": {},
        "rules": {name: part for name, part in parts.items() if part},
    }


def _write_rules(directory: Path, rules: Sequence[Rule]) -> None:
    """Write rules as the policy set's files, a thousand each; JSON is YAML."""
    for path in (directory / "rules").iterdir():
        path.unlink()
    for start in range(0, len(rules), 1_000):
        lines = ["- " + json.dumps(_source(rule)) for rule in rules[start : start + 1_000]]
        (directory / "rules" / f"from-{start:05d}.yaml").write_text("\n".join(lines) + "\n")


def _source(rule: Rule) -> dict[str, Any]:
    document = {**policy_document(rule), "why": "Generated to measure."}
    if rule.allow:
        document["grant"] = {"generalise": {"to": rule.coarsen}} if rule.coarsen else "release"
    if rule.min_cell_count:
        document["obligations"] = {"min_cell_count": rule.min_cell_count}
    return document


def _purposes(policy: PolicySet) -> list[str]:
    """Return the purposes that may be asked for and permit something."""
    graph = policy.graph
    return [
        name
        for number, name in enumerate(graph.ids)
        if graph.requestable & graph.bit(name)
        and (policy.full[number] | policy.conditional[number]).bit_count() > len(policy.index) // 10
    ]


def _aims(policy: PolicySet, purposes: Sequence[str]) -> list[str]:
    """Return the purposes that rules are written for: those that may be asked for, and small families."""
    graph = policy.graph
    above = {name for purpose in purposes for name in graph.names(graph.up(graph.bit(purpose)))}
    return sorted(name for name in above if graph.down(graph.bit(name)).bit_count() <= MAX_FAMILY)


def _fields(policy: PolicySet) -> Iterator[tuple[str, FieldFacts]]:
    """Name every field as a caller would: a concrete column of a year where there is one."""
    for field in policy.fields:
        facts = FieldFacts(field.id, field.table, field.identification_risk, tuple(sorted(field.sensitivity)))
        yield _spelling(policy, field.id, field.columns), facts


def _spelling(policy: PolicySet, id_: str, columns: Sequence[str]) -> str:
    for pattern in columns:
        column = pattern.replace("[term]", "SPR").replace("[yy]", str(YEAR + 1)[2:]).replace("[n]", "1")
        name = f"{id_.split('.', 1)[0]}.{column}"
        found = policy.index.resolve(name)
        if found is not None and policy.index.ids[found.position] == id_ and found.year in (0, YEAR):
            return name
    return id_


def _registry(policy: PolicySet, purposes: Sequence[str], *, agreements: int, seed: int) -> Registry:
    """Register organisations of every kind, five people in each, and agreements between them."""
    chance = random.Random(f"{seed}/registry")  # noqa: S311
    early, late = NOW - 400 * DAY_MS, NOW + 400 * DAY_MS
    organisations: dict[str, Organisation] = {}
    requesters: dict[str, Requester] = {}
    accreditations: dict[str, Accreditation] = {}
    for number in range(len(KINDS) * 5):
        org = f"org-{number:03d}"
        organisations[org] = Organisation(
            org, KINDS[number % len(KINDS)], False, Status.ACTIVE, org, early, None, frozenset()
        )
        for person in range(5):
            id_ = f"researcher-{number * 5 + person:04d}"
            requesters[id_] = Requester(id_, org, "bench", id_, Status.ACTIVE)
            until = late if person < 3 else NOW - DAY_MS
            if person < 4:
                accreditations[f"ACC-{id_}"] = Accreditation(
                    f"ACC-{id_}",
                    id_,
                    org,
                    SCHEME,
                    AccreditationLevel.FULL,
                    early,
                    until,
                    Status.ACTIVE,
                    "bench",
                )
    services = {
        setting: DataService(setting, f"spiffe://bench.test/{setting}", "org-000", setting, Status.ACTIVE)
        for setting in SETTINGS
    }
    people = sorted(requesters)
    granted: dict[str, Agreement] = {}
    for number in range(agreements):
        id_, person_id, setting = f"DS{number:05d}", chance.choice(people), chance.choice(SETTINGS)
        # One agreement in ten is for most of the catalogue; the others are of the usual size.
        size = len(policy.index) * 4 // 5 if number % 10 == 0 else 300
        granted[id_] = Agreement(
            id=id_,
            organisation=requesters[person_id].organisation,
            requesters=frozenset({person_id}),
            data_services=frozenset({setting}),
            purposes=frozenset({chance.choice(purposes)}),
            fields=frozenset(chance.sample(policy.index.ids, min(size, len(policy.index)))),
            years=frozenset(range(2005, 2024)),
            setting=setting,
            actions=frozenset({Action.RELEASE}),
            gateway=GATEWAY,
            scheme=SCHEME,
            from_at=early,
            until_at=late,
            destroy_by=late,
            status=Status.ACTIVE,
        )
    return Registry(organisations, requesters, accreditations, services, granted)
