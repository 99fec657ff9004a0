"""Counterfactuals: the smallest sets of changes that would release what a decision withholds.

For policy authors and auditors alone; a data service that learned them could shop for a purpose that would
do (AMENDMENTS.md items 10 and 15, domain.md section 8). The search goes by size: of every set that does not
do yet, it looks at the check with the fewest repairs (``policyd.decision.repair``) and adds each. Whether
a set does, only ``decide`` says, on a snapshot with just those facts replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain, combinations

from policyd.decision.accreditation import supervisors
from policyd.decision.change import Change, ChangeSet, Facts, make_all, order, slot
from policyd.decision.combine import DEPARTMENT
from policyd.decision.decide import decide
from policyd.decision.entitlement import examine, settle
from policyd.decision.lever import State, Vocabulary, find_supervisor
from policyd.decision.repair import Repairs, Wanted, fewest, is_theirs, repairs, wanted
from policyd.decision.snapshot import CompiledAgreement, Snapshot, build_snapshot
from policyd.model import NO_VISAS, Agreement, Effect, FieldMask, Instant, Registry, Request

MAX_CHANGES = 3
"""The size up to which sets are searched."""
MAX_SETS = 20
"""The sets that are given for one group."""


class Search(StrEnum):
    """How a search ended, which says what the sets mean."""

    ALL = "all"
    """The sets are all of the smallest size."""
    SOME = "some"
    """There are more sets of this size than are given, or time ran out; each given one does it."""
    NOTHING = "nothing"
    """No changes would release the names: what withholds them is not for anybody to change."""
    LARGER = "larger"
    """No set of up to ``MAX_CHANGES`` would; larger ones were not searched."""
    STOPPED = "stopped"
    """Time ran out before any set was found; more was not searched."""


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """What would have to change so that ``names``, all or part of a withheld group, are not withheld.

    ``group`` is the index of the group in the decision. Each set does it and no part of a set does.
    """

    group: int
    names: tuple[str, ...]
    search: Search
    sets: tuple[ChangeSet, ...] = ()


def counterfactuals(
    snapshot: Snapshot, request: Request, now: Instant, *, more: Callable[[], bool]
) -> tuple[Counterfactual, ...]:
    """Return what would have to change for each group of names that is withheld at ``now``.

    ``more`` is asked before each set is judged (about a millisecond with 100 rules) and ends the search
    when it says no. The result depends on nothing else, and has the order of the decision's groups; of a
    group, names that nothing would release come apart from the others.
    """
    bench = _Bench(snapshot, request, now, more)
    start = bench.start
    goals = [
        _Goal(number, names, wanted(start, (*names, *request.claimed.used_fields)))
        for number, group in enumerate(start.decision.groups)
        if group.effect is Effect.WITHHOLD
        for names in _parts(start, group.names)
    ]
    # Size by size for all groups, so that one which needs much does not take the time of the others.
    for size in range(1, MAX_CHANGES + 1):
        for goal in goals:
            if not goal.found and not goal.stopped:
                _widen(bench, goal, size=size)
    return tuple(_result(goal) for goal in goals)


@dataclass(slots=True)
class _Goal:
    """The names to release, and how far the search for them has come: ``edge`` are sets that do not do."""

    group: int
    names: tuple[str, ...]
    want: Wanted
    edge: list[frozenset[Change]] = field(default_factory=lambda: [frozenset()])
    found: set[frozenset[Change]] = field(default_factory=set)
    larger: bool = False
    stopped: bool = False

    def met(self, state: State) -> bool:
        """Return whether none of the names is withheld."""
        withheld = (group.names for group in state.decision.groups if group.effect is Effect.WITHHOLD)
        return set(self.names).isdisjoint(chain.from_iterable(withheld))


class _Bench:
    """Judges sets of changes, each once, with the engine."""

    def __init__(self, snapshot: Snapshot, request: Request, now: Instant, more: Callable[[], bool]) -> None:
        self._snapshot, self._request, self._now, self._more = snapshot, request, now, more
        self._words = Vocabulary(snapshot.policy)
        registry = relevant(snapshot, request, now=now, provisional=self._words.tell_provisional)
        facts = Facts(registry, request.claimed)
        # An agreement may have thousands of fields, and most changes leave it as it is.
        self._compiled = {each: snapshot.agreements[each.id] for each in facts.registry.agreements.values()}
        self.start = self._decide(facts)
        self._judged = {frozenset[Change](): self.start}

    def judge(self, changes: frozenset[Change]) -> State | None:
        """Return what the engine makes of the facts after ``changes``; None when there is no more time."""
        if changes not in self._judged:
            if not self._more():
                return None
            self._judged[changes] = self._decide(make_all(self.start.facts, changes))
        return self._judged[changes]

    def _decide(self, facts: Facts) -> State:
        agreements = {each.id: self._compile(each) for each in facts.registry.agreements.values()}
        others = build_snapshot(self._snapshot.policy, replace(facts.registry, agreements={}), epoch=0)
        # What the snapshot knows of its policy set, and of that alone, is good for this one as well.
        snapshot = replace(
            self._snapshot,
            services=others.services,
            requesters=others.requesters,
            requesters_by_id=others.requesters_by_id,
            organisations=others.organisations,
            accreditations=others.accreditations,
            agreements=agreements,
        )
        request = replace(self._request, claimed=facts.claimed)
        seen = examine(snapshot, request, now=self._now)
        entitlement = settle(snapshot, request, seen, now=self._now)
        decision = decide(snapshot, request, self._now, entitlement=entitlement)
        return State(facts, snapshot, seen, decision, self._now, self._words)

    def _compile(self, agreement: Agreement) -> CompiledAgreement:
        if agreement not in self._compiled:
            alone = build_snapshot(
                self._snapshot.policy, Registry(agreements={agreement.id: agreement}), epoch=0
            )
            self._compiled[agreement] = alone.agreements[agreement.id]
        return self._compiled[agreement]


def _widen(bench: _Bench, goal: _Goal, *, size: int) -> None:
    """Go from the sets of one change less, which do not do, to those of ``size``."""
    edge, goal.edge = goal.edge, []
    tried: set[frozenset[Change]] = set()
    for changes in edge:
        state = bench.judge(changes)
        checks = [] if state is None else list(repairs(state, goal.want))
        choices = _choices(checks, left=MAX_CHANGES - size + 1)
        goal.larger |= not choices and all(checks)
        taken = {slot(each) for each in changes}
        for change in choices:
            more = changes | {change}
            if slot(change) in taken or more in tried:
                continue
            tried.add(more)
            after = bench.judge(more)
            if after is None:
                goal.stopped = True
                return
            if not goal.met(after):
                goal.edge.append(more)
            elif (least := _least(bench, goal, more)) is None:
                goal.stopped = True
            else:
                goal.found.add(least)


def _choices(checks: Sequence[Repairs], *, left: int) -> Repairs:
    """Return the changes to try where every one of ``checks`` fails and ``left`` more changes may be made.

    One of its repairs is needed for each check, so all sets begin with those of the check with the fewest.
    Checks without a common repair need as many changes: with more than ``left`` such there is nothing to try.
    """
    shortest = fewest(checks)
    if left == 1:
        return tuple(change for change in shortest if all(change in each for each in checks))
    apart: set[Change] = set()
    needed = 0
    for each in sorted(checks, key=len):
        if apart.isdisjoint(each):
            apart.update(each)
            needed += 1
    return shortest if needed <= left else ()


def _least(bench: _Bench, goal: _Goal, changes: frozenset[Change]) -> frozenset[Change] | None:
    """Return the smallest part of ``changes`` that does, mostly all of them; None where time runs out."""
    for size in range(1, len(changes)):
        for part in combinations(sorted(changes, key=order), size):
            state = bench.judge(frozenset(part))
            if state is None:
                return None
            if goal.met(state):
                return frozenset(part)
    return changes


def _result(goal: _Goal) -> Counterfactual:
    size = min(map(len, goal.found), default=0)
    sets = sorted(
        (tuple(sorted(each, key=order)) for each in goal.found if len(each) == size),
        key=lambda changes: [order(change) for change in changes],
    )
    if sets:
        search = Search.SOME if goal.stopped or len(sets) > MAX_SETS else Search.ALL
    elif goal.stopped:
        search = Search.STOPPED
    else:
        search = Search.LARGER if goal.edge or goal.larger else Search.NOTHING
    return Counterfactual(goal.group, goal.names, search, tuple(sets[:MAX_SETS]))


def _parts(start: State, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Part the names of a group in those that something may release, and those that nothing does."""
    policy, organisation = start.policy, start.seen.parties.organisation
    beyond: FieldMask = policy.classes.withdrawn
    if organisation is not None and organisation.kind != DEPARTMENT:
        beyond |= policy.classes.sensitivity["A"]
    sides: tuple[list[str], list[str]] = ([], [])
    for name in names:
        column = policy.index.resolve(name)
        sides[column is None or bool(column.bit & beyond)].append(name)
    for side in sides:
        if side:
            yield tuple(side)


def relevant(snapshot: Snapshot, request: Request, *, now: Instant, provisional: bool) -> Registry:
    """Return the entries of the registry that a decision on ``request`` can read, or could after changes.

    Those are the parties, their agreement or agreements, and who supervises or, with ``provisional``, who
    could supervise a provisional accreditation.
    """
    claimed, verified = request.claimed, request.verified
    service = snapshot.services.get(verified.spiffe_id)
    token = verified.token
    requester = snapshot.requesters.get((token.issuer, token.subject)) if token else None
    employers = [party.organisation for party in (service, requester) if party is not None]
    organisations = {id_: snapshot.organisations[id_] for id_ in employers if id_ in snapshot.organisations}
    if service is None or requester is None:
        services = {} if service is None else {service.id: service}
        return Registry(organisations=organisations, data_services=services)
    compiled = snapshot.agreements.get(claimed.agreement)
    agreements = {} if compiled is None else {claimed.agreement: compiled.agreement}
    if compiled is None or not is_theirs(
        compiled.agreement, requester.organisation, requester.id, service.id
    ):
        theirs = (each.agreement for each in snapshot.agreements.values())
        agreements |= {
            each.id: each
            for each in theirs
            if is_theirs(each, requester.organisation, requester.id, service.id)
        }
    own = snapshot.accreditations.get(requester.id, ())
    visas = token.visas if token is not None else NO_VISAS
    people = {requester.id, *supervisors(snapshot, requester, visas=visas)}
    if provisional:
        schemes = {each.scheme for each in agreements.values()} | {each.scheme for each in own}
        found = (find_supervisor(snapshot, requester, scheme, now=now) for scheme in schemes)
        people.update(each for each in found if each is not None)
    people &= snapshot.requesters_by_id.keys()
    return Registry(
        organisations=organisations,
        requesters={id_: snapshot.requesters_by_id[id_] for id_ in sorted(people)},
        accreditations={
            each.id: each for id_ in sorted(people) for each in snapshot.accreditations.get(id_, ())
        },
        data_services={service.id: service},
        agreements=dict(sorted(agreements.items())),
    )
