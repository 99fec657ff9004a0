"""Says of a history whether the seals held: for every seal, on every node, in every row that left.

A seal counts from the instant at which somebody was told that it is in force, until somebody asks to
lift it. What was under way at that instant may still go either way (DESIGN.md section 3.6); a seal that
is pending promises nothing. The rules:

* `row`: a sealed record left by a query whose question was asked after the seal was in force;
* `row-of-old-answer`: a sealed record left by a query that began after no answer still out could release it;
* `decision`: a decision asked for after the seal was in force is of an epoch before it, or excludes by one;
* `made-late`: a decision made, as the ledger has it, after the seal was in force is of an epoch before it;
* `table`: a query ran with a table of seals that has not reached the epoch that its decision demands;
* `back`: a client got an answer, or a table, of an epoch lower than it held before it asked;
* `unrecorded`: a client holds an answer that is in no ledger that verifies, or is there with another epoch;
* `unfounded`: rows left without a decision that lets any leave.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fleet.history import Asked, Began, Event, SealReturned, to_dict
from fleet.story import Query, Seal, Story, read_story


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


def judge(events: Iterable[Event]) -> Verdict:
    """Return every fault of a history. About linear in it, whatever the order of its events.

    Raises:
        ValueError: the history contradicts itself, so nothing can be said of it.
    """
    story = read_story(events)
    in_force = _InForce(story.seals.values())
    faults: list[Fault] = []
    for query in story.queries.values():
        faults += _answers(query, in_force, story)
        faults += _rows(query, in_force, story)
    faults += _backwards(story)
    return Verdict(tuple(faults), story.counts)


class _InForce:
    """Answers for any instant: which seals stood, and what epoch did they ask for?"""

    def __init__(self, seals: Iterable[Seal]) -> None:
        told = [each for each in seals if each.returned is not None]
        # A lift raises the epoch too, so what a seal asked for at once it asks for ever after.
        self._by_return = sorted(told, key=lambda each: _at(each.returned))
        self._instants = [_at(each.returned) for each in self._by_return]
        self._highest: list[Seal] = []
        for each in self._by_return:
            best = self._highest[-1] if self._highest else each
            self._highest.append(each if each.epoch > best.epoch else best)
        self._of_record: dict[str, list[Seal]] = defaultdict(list)
        for each in told:
            self._of_record[each.asked.record].append(each)
        self.records = frozenset(self._of_record)

    def newest(self, at: float) -> Seal | None:
        """Return the seal of the highest epoch among those in force before an instant."""
        place = bisect_left(self._instants, at)
        return self._highest[place - 1] if place else None

    def of(self, records: frozenset[str]) -> Iterator[Seal]:
        """Yield every seal of these records that was ever said to be in force."""
        for record in records & self.records:
            yield from self._of_record[record]


def _answers(query: Query, in_force: _InForce, story: Story) -> Iterator[Fault]:
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
    uses = answered.epoch if answered.excludes is None else min(answered.epoch, answered.excludes)
    before = _below(in_force.newest(asked.at), uses)
    if before is not None:
        late = _ms(asked.at - _at(before.returned))
        text = f"asked {late} after it, `{answered.node}` is below {_name(before)}"
        yield Fault("decision", text, (before.asked, _told(before), asked, answered))
    elif recorded is not None:
        before = _below(in_force.newest(recorded.at), uses)
        if before is not None:
            late = _ms(recorded.at - _at(before.returned))
            text = f"made {late} after it, `{answered.node}` is below {_name(before)}"
            yield Fault("made-late", text, (before.asked, _told(before), asked, recorded, answered))


def _rows(query: Query, in_force: _InForce, story: Story) -> Iterator[Fault]:
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


def _backwards(story: Story) -> Iterator[Fault]:
    """Yield each answer, and each table of seals, older than what its client held before it asked for it.

    A table may be behind an answer that another query got meanwhile; it must not be behind a table.
    """
    by_client: dict[str, list[Query]] = defaultdict(list)
    for query in story.queries.values():
        if query.asked is not None:
            by_client[query.asked.client].append(query)
    for queries in by_client.values():
        answers = [
            (each.answered.at, each.answered.epoch, each.answered) for each in queries if each.answered
        ]
        tables = [
            (each.released.at, each.began.table, each.began)
            for each in queries
            if each.released is not None and each.began is not None
        ]
        held, held_tables = _Held([*answers, *tables]), _Held(tables)
        for each in queries:
            if each.asked is not None and each.answered is not None:
                yield from held.after(each.asked, each.answered.epoch, each.answered)
            if each.began is not None:
                yield from held_tables.after(each.began, each.began.table, each.began)


class _Held:
    """The highest epoch that a client held at any instant, of (instant, epoch, event that shows it)."""

    def __init__(self, known: Iterable[tuple[float, int, Event]]) -> None:
        self._instants: list[float] = []
        self._highest: list[tuple[int, Event]] = []
        for at, epoch, event in sorted(known, key=lambda each: each[0]):
            self._instants.append(at)
            before = self._highest[-1] if self._highest else (epoch, event)
            self._highest.append((epoch, event) if epoch > before[0] else before)

    def after(self, begin: Asked | Began, epoch: int, event: Event) -> Iterator[Fault]:
        """Yield a fault when ``epoch`` is below what was held before something began."""
        place = bisect_left(self._instants, begin.at)
        if place and self._highest[place - 1][0] > epoch:
            highest, shown = self._highest[place - 1]
            yield Fault(
                "back", f"`{begin.client}` held epoch {highest}, then got {epoch}", (shown, begin, event)
            )


def _below(seal: Seal | None, epoch: int) -> Seal | None:
    return seal if seal is not None and epoch < seal.epoch else None


def _told(seal: Seal) -> SealReturned:
    if seal.returned is None:
        raise ValueError(f"seal `{seal.asked.seal}` was never in force")
    return seal.returned


def _at(event: Event | None) -> float:
    if event is None:
        raise ValueError("an event that did not happen has no instant")
    return event.at


def _name(seal: Seal) -> str:
    return f"seal `{seal.asked.seal}` of epoch {seal.epoch}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
