"""Keep entitlements and rulings while nothing that they depend on can have changed.

One cache belongs to one snapshot, so the policy set, the registry and the epoch are never part of a
key. The rest of the key is every other input of ``entitle``: the data service, the verified claims,
the agreement, the purposes and the action. Time is handled by validity: an entitlement is used only
while ``valid_from <= now < valid_until``, the nearest instants at which anything starts or ends.

A ruling is kept with its entitlement and goes with it. Its key is every other input of ``rule``: the
epoch, and the fields, the used fields and the years as they were asked.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from policyd.decision.decide import Ruling, answer, rule
from policyd.decision.entitlement import Entitlement, entitle
from policyd.decision.listing import list_fields
from policyd.decision.snapshot import Snapshot
from policyd.model import Claimed, Decision, Instant, Request

Key = tuple[object, ...]
_NAMES_LIMIT = 100_000


@dataclass(slots=True)
class _Kept:
    """An entitlement, and the rulings that it gave."""

    entitlement: Entitlement
    rulings: dict[Key, Ruling] = field(default_factory=dict)


@dataclass(slots=True)
class _Shelf:
    """What is kept for one data service; ``names`` counts those in its rulings."""

    kept: dict[Key, _Kept] = field(default_factory=dict)
    names: int = 0


_READ = ("organisations", "requesters", "accreditations", "data_services", "agreements")
"""The sections of a registry that ``entitle`` reads."""


class Decider:
    """Decides on one snapshot, reusing what it worked out. Safe for many threads; answers equal ``decide``.

    At most ``limit`` entitlements are kept for each data service (about 5 KiB each for 3,800 fields),
    so that one cannot push out another's; the oldest goes first. Rulings on ``names_limit`` names are
    kept for each (about 100 bytes a name); then all of them make room.
    """

    def __init__(self, snapshot: Snapshot, *, limit: int = 1024, names_limit: int = _NAMES_LIMIT) -> None:
        self.snapshot = snapshot
        self._limit = limit
        self._names_limit = names_limit
        self._lock = threading.Lock()  # held to make room and to keep, never while deciding
        self._shelves = {id_: _Shelf() for id_ in snapshot.services}

    def advanced(self, snapshot: Snapshot) -> Decider:
        """Return what decides on ``snapshot``, a later state of the same policy set.

        Where only seals were changed, what was worked out stays: entitlements depend on nothing of them.
        """
        before, after = self.snapshot.registry, snapshot.registry
        made = Decider(snapshot, limit=self._limit, names_limit=self._names_limit)
        if self.snapshot.policy is snapshot.policy and all(
            getattr(before, section) is getattr(after, section) for section in _READ
        ):
            made._shelves, made._lock = self._shelves, self._lock
        return made

    def decide(self, request: Request, now: Instant) -> Decision:
        """Return the decision on ``request`` at ``now``."""
        return self.decide_until(request, now)[0]

    def decide_until(self, request: Request, now: Instant) -> tuple[Decision, Instant]:
        """Return the decision, and the first instant at which time alone could change it."""
        kept = self._entitled(request, now)
        claimed = request.claimed
        asked = ruling_key(claimed, epoch=self.snapshot.epoch)
        ruled = kept.rulings.get(asked)
        if ruled is None:
            ruled = rule(self.snapshot, claimed, kept.entitlement)
            self._keep_ruling(request, kept, asked, ruled)
        decision = answer(self.snapshot, request, now, kept.entitlement, ruled)
        return decision, kept.entitlement.valid_until

    def list_fields(self, request: Request, now: Instant, *, table: str = "") -> Decision:
        """Return what ``request`` could have at ``now``, of one ``table`` or of all."""
        kept = self._entitled(request, now)
        return list_fields(self.snapshot, request, now, table=table, entitlement=kept.entitlement)

    def _shelf(self, request: Request) -> _Shelf | None:
        """Return where to keep what this question gives; None when it is refused at gate 1 or 2."""
        return self._shelves.get(request.verified.spiffe_id) if request.verified.token is not None else None

    def _entitled(self, request: Request, now: Instant) -> _Kept:
        shelf = self._shelf(request)
        if shelf is None:
            return _Kept(entitle(self.snapshot, request, now=now))
        key = cache_key(request)
        found = shelf.kept.get(key)
        if found is None or not found.entitlement.valid_from <= now < found.entitlement.valid_until:
            found = _Kept(entitle(self.snapshot, request, now=now))
            with self._lock:
                if len(shelf.kept) >= self._limit and key not in shelf.kept:
                    del shelf.kept[next(iter(shelf.kept))]
                shelf.kept[key] = found
        return found

    def _keep_ruling(self, request: Request, kept: _Kept, asked: Key, ruled: Ruling) -> None:
        claimed = request.claimed
        names = len(claimed.fields) + len(claimed.used_fields) + len(claimed.years)
        shelf = self._shelf(request)
        # What is no field may be anything, and is not ours to keep.
        if shelf is None or ruled.unknown or names > self._names_limit:
            return
        with self._lock:
            if shelf.names + names > self._names_limit:
                for each in shelf.kept.values():
                    each.rulings.clear()
                shelf.names = 0
            kept.rulings[asked] = ruled
            shelf.names += names


def cache_key(request: Request) -> Key:
    """Return every input of ``entitle`` but the snapshot, the data service and the time."""
    claimed, token = request.claimed, request.verified.token
    if token is None:
        raise ValueError("a question without a verified token has no cache key")
    who = (token.issuer, token.subject, token.roles, token.visas)
    return (claimed.agreement, claimed.purposes, claimed.action, *who)


def ruling_key(claimed: Claimed, *, epoch: int) -> Key:
    """Return every input of ``rule`` but the entitlement.

    One text for each list, which takes a quarter of the time that 3,800 names take to hash and compare.
    """
    # SECURITY: lists that differ may give one text only if a name holds a zero character, and a ruling on
    # such a list is not kept: it is no field. Of lists as long as one without, none gives the same text
    # (test_a_zero_character_in_a_name_gets_no_ruling_of_another_list).
    fields, used = claimed.fields, claimed.used_fields
    # The epoch is in the obligations, and a shelf may be that of an earlier snapshot.
    return (epoch, len(fields), "\0".join(fields), len(used), "\0".join(used), claimed.years)
