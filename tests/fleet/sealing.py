"""How a seal is asked for, and what its return promises: the one place that changes with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from support.server import seals_text

from fleet.harness import Fleet
from fleet.history import Event, SealAsked, SealReturned, now
from policyd.service.lease import OUTLASTED_S


class Sealing(Protocol):
    """A way to put records under seal.

    Before it asks it adds a `SealAsked` to the history, and a `SealReturned` after it was told something:
    `in_force` only for what somebody was promised.
    """

    @property
    def tail_s(self) -> float:
        """How long the load goes on after the last seal, so that there are questions to judge it by."""

    def seal(self, fleet: Fleet, *, name: str, record: str, tokens: Mapping[str, bytes]) -> None:
        """Seal one record, and return when nothing more will be said about it.

        ``tokens`` name the record to each data service. May be called while nodes are paused or dead.
        """


class Applied:
    """`policyd registry apply` of a seal: its return says that the change is stored, and no more.

    What holds is the lease: a node whose lease was not renewed for so long stops by itself,
    so the seal is in force when that time is over. It is entered as pending now, and as in force then.
    """

    tail_s = OUTLASTED_S + 1.0

    def seal(self, fleet: Fleet, *, name: str, record: str, tokens: Mapping[str, bytes]) -> None:
        """Apply it on the first node's host, whose `state.db` all nodes share."""
        fleet.history.add(SealAsked(now(), name, record))
        epoch = fleet.site.apply(seals_text({name: tokens}))
        told = now()
        nodes = tuple(node.name for node in fleet.nodes)
        fleet.history.add(SealReturned(told, name, "pending", epoch, waiting_for=nodes))
        fleet.history.add(SealReturned(told + OUTLASTED_S, name, "in_force", epoch))


def as_if_in_force(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the history in which every pending seal had been said to be in force at once."""
    for event in events:
        if isinstance(event, SealReturned):
            if event.state == "pending":
                yield replace(event, state="in_force")
        else:
            yield event
