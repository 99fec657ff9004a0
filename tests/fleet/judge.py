"""Says of a history whether the seals held: for every seal, on every node, in every row that left.

A seal counts from the instant at which somebody was told that it is in force, until somebody asks to
lift it. What was under way at that instant may still go either way (DESIGN.md section 3.6); a seal that
is pending promises nothing. The rules:

* `row`: a sealed record left by a query whose question was asked after the seal was in force;
* `row-of-old-answer`: a sealed record left by a query that began after no answer still out could release it;
* `decision`: a decision asked for after the seal was in force is of an epoch before it;
* `made-late`: a decision made, as the ledger has it, after the seal was in force is of an epoch before it;
* `table`: a query ran with a table of seals that has not reached the epoch that its decision demands;
* `back`: a client got an epoch lower than one that it held before it asked;
* `unrecorded`: a client holds an answer that is in no ledger that verifies, or is there with another epoch;
* `unfounded`: rows left without a decision that lets any leave.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fleet.history import (
    Answered,
    Asked,
    Began,
    Event,
    LiftAsked,
    Recorded,
    Refused,
    Released,
    SealAsked,
    SealReturned,
    to_dict,
)

IN_FORCE = "in_force"


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that was broken, in words, and the events that show it."""

    rule: str
    text: str
    events: tuple[Event, ...]

    def __str__(self) -> str:
        shown = "".join(f"\n    {to_dict(event)}" for event in self.events)
        return f"{self.rule}: {self.text}{shown}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """All faults of a history, and how much there was to judge."""

    faults: tuple[Fault, ...]
    counts: Counter[str]

    def of(self, *rules: str) -> tuple[Fault, ...]:
        """Return the faults of some rules."""
        return tuple(fault for fault in self.faults if fault.rule in rules)

    def __str__(self) -> str:
        broken = Counter(fault.rule for fault in self.faults)
        counted = ", ".join(f"{number} {what}" for what, number in sorted(self.counts.items()))
        found = ", ".join(f"{number} {rule}" for rule, number in sorted(broken.items())) or "none"
        return f"{counted}; faults: {found}"


@dataclass(slots=True)
class _Seal:
    """One seal: what was asked, and from when it was said to hold, for decisions and for answers."""

    asked: SealAsked
    returned: SealReturned | None = None
    answers_at: float | None = None
    lifted: LiftAsked | None = None
    epoch: int = 0

    def stood(self, since: float | None, *, begin: float, end: float) -> bool:
        """Whether it stood, counted from ``since``, from the begin of something to its end."""
        return since is not None and since < begin and (self.lifted is None or end < self.lifted.at)


@dataclass(slots=True)
class _Query:
    """One query of one client, as far as it got."""

    asked: Asked | None = None
    answered: Answered | None = None
    began: Began | None = None
    released: Released | None = None


@dataclass(slots=True)
class _Story:
    """The history sorted by what it is about."""

    seals: dict[str, _Seal] = field(default_factory=dict)
    queries: dict[tuple[str, str], _Query] = field(default_factory=lambda: defaultdict(_Query))
    recorded: dict[str, Recorded] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def judge(events: Iterable[Event]) -> Verdict:
    """Return every fault of a history. About linear in it, whatever the order of its events.

    Raises:
        ValueError: the history contradicts itself, so nothing can be said of it.
    """
    story = _read(events)
    in_force = _InForce(story.seals.values())
    faults: list[Fault] = []
    for query in story.queries.values():
        faults += _answers(query, in_force, story)
        faults += _rows(query, in_force, story)
    faults += _backwards(story)
    return Verdict(tuple(faults), story.counts)


class _InForce:
    """Answers for any instant: which seals stood, and what epoch did they ask for?"""

    def __init__(self, seals: Iterable[_Seal]) -> None:
        told = [each for each in seals if each.returned is not None]
        # A lift raises the epoch too, so what a seal asked for at once it asks for ever after.
        self._by_return = sorted(told, key=lambda each: _at(each.returned))
        self._instants = [_at(each.returned) for each in self._by_return]
        self._highest: list[_Seal] = []
        for each in self._by_return:
            best = self._highest[-1] if self._highest else each
            self._highest.append(each if each.epoch > best.epoch else best)
        self._of_record: dict[str, list[_Seal]] = defaultdict(list)
        for each in told:
            self._of_record[each.asked.record].append(each)
        self.records = frozenset(self._of_record)

    def newest(self, at: float) -> _Seal | None:
        """Return the seal of the highest epoch among those in force before an instant."""
        place = bisect_left(self._instants, at)
        return self._highest[place - 1] if place else None

    def of(self, records: frozenset[str]) -> Iterator[_Seal]:
        """Yield every seal of these records that was ever said to be in force."""
        for record in records & self.records:
            yield from self._of_record[record]


def _read(events: Iterable[Event]) -> _Story:
    story = _Story()
    returns: list[SealReturned] = []
    lifts: list[LiftAsked] = []
    for event in events:
        match event:
            case SealAsked():
                _refuse_second(story.seals.get(event.seal), event)
                story.seals[event.seal] = _Seal(event)
            case SealReturned():
                returns.append(event)
                story.counts[f"seals {event.state}"] += 1
            case LiftAsked():
                lifts.append(event)
            case Asked() | Answered() | Began() | Released():
                query = story.queries[event.client, event.query]
                name = type(event).__name__.lower()
                _refuse_second(getattr(query, name), event)
                setattr(query, name, event)
                story.counts[name] += 1
            case Recorded():
                _refuse_second(story.recorded.get(event.decision), event)
                story.recorded[event.decision] = event
            case Refused():
                story.counts["refused"] += 1
    for said in sorted(returns, key=_at):
        seal = _known(story, said)
        if said.state != IN_FORCE:
            continue
        if said.epoch < 1:
            raise ValueError(f"a seal in force has no epoch: {to_dict(said)}")
        if seal.returned is None:
            seal.returned, seal.epoch = said, said.epoch
        if said.answers_at is not None:
            known = seal.answers_at
            seal.answers_at = said.answers_at if known is None else min(known, said.answers_at)
    for lift in sorted(lifts, key=_at):
        seal = _known(story, lift)
        seal.lifted = seal.lifted or lift
    return story


def _answers(query: _Query, in_force: _InForce, story: _Story) -> Iterator[Fault]:
    answered, asked = query.answered, query.asked
    if answered is None:
        return
    if asked is None or asked.at > answered.at:
        raise ValueError(f"an answer to no question before it: {to_dict(answered)}")
    recorded = story.recorded.get(answered.decision)
    if recorded is None or (recorded.node, recorded.epoch) != (answered.node, answered.epoch):
        where = "in no ledger that verifies" if recorded is None else "in a ledger otherwise"
        shown = (answered,) if recorded is None else (answered, recorded)
        yield Fault("unrecorded", f"decision `{answered.decision}` is {where}", shown)
    before = _below(in_force.newest(asked.at), answered.epoch)
    if before is not None:
        late = _ms(asked.at - _at(before.returned))
        text = f"asked {late} after it, `{answered.node}` is below {_name(before)}"
        yield Fault("decision", text, (before.asked, _told(before), asked, answered))
    elif recorded is not None:
        before = _below(in_force.newest(recorded.at), answered.epoch)
        if before is not None:
            late = _ms(recorded.at - _at(before.returned))
            text = f"made {late} after it, `{answered.node}` is below {_name(before)}"
            yield Fault("made-late", text, (before.asked, _told(before), asked, recorded, answered))


def _rows(query: _Query, in_force: _InForce, story: _Story) -> Iterator[Fault]:
    released, began, answered, asked = query.released, query.began, query.answered, query.asked
    if released is None:
        return
    story.counts["rows"] += len(released.records)
    if answered is None or answered.excludes is None or began is None or asked is None:
        yield Fault("unfounded", "rows left without a decision, or without its seals", (released,))
        return
    if began.table < answered.excludes:
        text = f"the table of seals is at {began.table}, the decision demands {answered.excludes}"
        yield Fault("table", text, (answered, began, released))
    for seal in in_force.of(released.records):
        shown = (seal.asked, _told(seal), asked, answered, began, released)
        record = f"`{seal.asked.record}` left `{released.client}`"
        if seal.stood(_at(seal.returned), begin=asked.at, end=released.at):
            late = _ms(asked.at - _at(seal.returned))
            yield Fault("row", f"{record} though the query was asked {late} after {_name(seal)}", shown)
        elif seal.stood(seal.answers_at, begin=began.at, end=released.at):
            yield Fault(
                "row-of-old-answer", f"{record} though every answer was over for {_name(seal)}", shown
            )
        elif seal.stood(_at(seal.returned), begin=released.at, end=released.at):
            story.counts["rows under way when a seal came"] += 1


def _backwards(story: _Story) -> Iterator[Fault]:
    """Yield each answer that is older than one which its client held before it asked."""
    by_client: dict[str, list[tuple[Asked, Answered]]] = defaultdict(list)
    for query in story.queries.values():
        if query.asked is not None and query.answered is not None:
            by_client[query.asked.client].append((query.asked, query.answered))
    for pairs in by_client.values():
        held: list[tuple[float, Answered]] = []
        for _, answered in pairs:
            insort(held, (answered.at, answered), key=lambda each: each[0])
        highest: list[Answered] = []
        for _, answered in held:
            highest.append(answered if not highest or answered.epoch > highest[-1].epoch else highest[-1])
        instants = [at for at, _ in held]
        for asked, answered in pairs:
            place = bisect_left(instants, asked.at)
            if place and highest[place - 1].epoch > answered.epoch:
                text = f"`{asked.client}` held epoch {highest[place - 1].epoch}, then got {answered.epoch}"
                yield Fault("back", text, (highest[place - 1], asked, answered))


def _below(seal: _Seal | None, epoch: int) -> _Seal | None:
    return seal if seal is not None and epoch < seal.epoch else None


def _known(story: _Story, event: SealReturned | LiftAsked) -> _Seal:
    seal = story.seals.get(event.seal)
    if seal is None or event.at < seal.asked.at:
        raise ValueError(f"seal `{event.seal}` was not asked for before: {to_dict(event)}")
    return seal


def _refuse_second(known: object, event: Event) -> None:
    if known is not None:
        raise ValueError(f"the same thing happened twice: {to_dict(event)}")


def _told(seal: _Seal) -> SealReturned:
    if seal.returned is None:
        raise ValueError(f"seal `{seal.asked.seal}` was never in force")
    return seal.returned


def _at(event: Event | None) -> float:
    if event is None:
        raise ValueError("an event that did not happen has no instant")
    return event.at


def _name(seal: _Seal) -> str:
    return f"seal `{seal.asked.seal}` of epoch {seal.epoch}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
