"""Sends a Redis the changes that it has lost, from a node's own copy: signed originals, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from policyd.clock import format_instant
from policyd.errors import ConfigError, StateAstray, StateConflict
from policyd.registry.change import Change, State
from policyd.registry.redis_entry import Head
from policyd.registry.redis_link import Link
from policyd.registry.redis_store import Fleet


@dataclass(frozen=True, slots=True)
class Republished:
    """The epoch of Redis before, the changes that were sent, and the epoch of the node's own copy."""

    before: int
    sent: tuple[Change, ...]
    own: int


def republish(fleet: Fleet) -> Republished:
    """Send every change that Redis lacks from this node's copy, one by one, each only onto its predecessor.

    Everything that Redis has is compared with the copy first, as far as both go.

    Raises:
        StateAstray: Redis has another change under one of the numbers; the message shows both.
        StateConflict: others changed the state meanwhile; what was sent until then is in force.
        StateCorrupt: the copy does not verify.
        ConfigError, StateUnfit, NotServing: Redis or the copy cannot be used.
    """
    copy = fleet.open_copy()
    if copy is None:
        raise ConfigError("this node keeps no copy of the changes, so it has nothing to republish")
    with closing(copy), closing(copy.follow(State())) as follower, closing(fleet.link()) as link:
        update = follower.poll(0.0)
        own = update.changes if update else ()
        link.check_settings()
        head = link.head()
        _compare(link, head, own)
        sent: list[Change] = []
        for change in own[head.epoch :]:
            moved = link.append(change)
            if moved is not None:
                raise StateConflict(
                    f"{link} moved to epoch {moved.epoch} while changes were sent, {len(sent)} of them;"
                    " run it again"
                )
            sent.append(change)
    return Republished(before=head.epoch, sent=tuple(sent), own=len(own))


def _compare(link: Link, head: Head, own: Sequence[Change]) -> None:
    """Refuse unless Redis and the copy agree on every change that both have."""
    both = min(head.epoch, len(own))
    epoch = 0
    while epoch < both:
        batch = link.changes_after(epoch)[: both - epoch]
        if not batch:
            raise StateConflict(f"{link} lost change {epoch + 1} while it was read; run it again")
        for theirs in batch:
            epoch += 1
            ours = own[epoch - 1]
            if theirs != ours:
                raise StateAstray(
                    f"{link} and this node have different changes {epoch}, and nothing was sent:"
                    f"\n  in Redis: {_shown(theirs)}\n  here:     {_shown(ours)}"
                    "\nchoosing between them takes two people (docs/state.md)"
                )


def _shown(change: Change) -> str:
    draft = change.draft
    return (
        f"change {change.epoch}, {draft.kind.value}, asked by {draft.who} at {format_instant(draft.at)}"
        f" ({draft.why}), admitted by {change.node}, chain hash {change.chain_hash.hex()[:16]}"
    )
