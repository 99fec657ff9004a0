"""A history sorted by what it is about: each seal from asking to lifting, each query from asking to rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
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
STATES = frozenset({IN_FORCE, "pending", "failed"})


@dataclass(slots=True)
class Seal:
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
class Query:
    """One query of one client, as far as it got."""

    asked: Asked | None = None
    answered: Answered | None = None
    began: Began | None = None
    released: Released | None = None


@dataclass(slots=True)
class Story:
    """The history sorted by what it is about."""

    seals: dict[str, Seal] = field(default_factory=dict)
    queries: dict[tuple[str, str], Query] = field(default_factory=lambda: defaultdict(Query))
    recorded: dict[str, Recorded] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def read_story(events: Iterable[Event]) -> Story:
    """Sort the events of a history, which may come in any order.

    Raises:
        ValueError: the history contradicts itself, so nothing can be said of it.
    """
    story = Story()
    returns: list[SealReturned] = []
    lifts: list[LiftAsked] = []
    for event in events:
        match event:
            case SealAsked():
                _refuse_second(story.seals.get(event.seal), event)
                story.seals[event.seal] = Seal(event)
            case SealReturned():
                if event.state not in STATES:
                    raise ValueError(
                        f"a seal is {', '.join(sorted(STATES))}, not otherwise: {to_dict(event)}"
                    )
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
    for said in sorted(returns, key=lambda event: event.at):
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
    for lift in sorted(lifts, key=lambda event: event.at):
        seal = _known(story, lift)
        seal.lifted = seal.lifted or lift
    return story


def _known(story: Story, event: SealReturned | LiftAsked) -> Seal:
    seal = story.seals.get(event.seal)
    if seal is None or event.at < seal.asked.at:
        raise ValueError(f"seal `{event.seal}` was not asked for before: {to_dict(event)}")
    return seal


def _refuse_second(known: object, event: Event) -> None:
    if known is not None:
        raise ValueError(f"the same thing happened twice: {to_dict(event)}")
