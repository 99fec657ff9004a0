"""Keep entitlements while nothing that they depend on can have changed.

One cache belongs to one snapshot, so the policy set, the registry and the epoch are never part of a
key. The rest of the key is every other input of ``entitle``: the data service, the verified claims,
the agreement, the purposes and the action. Time is handled by validity: an entitlement is used only
while ``valid_from <= now < valid_until``, the nearest instants at which anything starts or ends.
"""

from __future__ import annotations

import threading

from policyd.decision.decide import decide
from policyd.decision.entitlement import Entitlement, entitle
from policyd.decision.listing import list_fields
from policyd.decision.snapshot import Snapshot
from policyd.model import Decision, Instant, Request

Key = tuple[object, ...]

_READ = ("organisations", "requesters", "accreditations", "data_services", "agreements")
"""The sections of a registry that ``entitle`` reads."""


class Decider:
    """Decides on one snapshot, reusing entitlements. Safe for many threads; answers equal ``decide``.

    At most ``limit`` entitlements are kept for each data service (about 5 KiB each for 3,800 fields),
    so that one cannot push out another's; the oldest goes first.
    """

    def __init__(self, snapshot: Snapshot, *, limit: int = 1024) -> None:
        self.snapshot = snapshot
        self._limit = limit
        self._lock = threading.Lock()  # held to make room and to keep, never while deciding
        self._kept: dict[str, dict[Key, Entitlement]] = {id_: {} for id_ in snapshot.services}

    def advanced(self, snapshot: Snapshot) -> Decider:
        """Return what decides on ``snapshot``, a later state of the same policy set.

        Where only seals were changed, what was worked out stays: entitlements depend on nothing of them.
        """
        before, after = self.snapshot.registry, snapshot.registry
        made = Decider(snapshot, limit=self._limit)
        if self.snapshot.policy is snapshot.policy and all(
            getattr(before, section) is getattr(after, section) for section in _READ
        ):
            made._kept, made._lock = self._kept, self._lock
        return made

    def decide(self, request: Request, now: Instant) -> Decision:
        """Return the decision on ``request`` at ``now``."""
        return self.decide_until(request, now)[0]

    def decide_until(self, request: Request, now: Instant) -> tuple[Decision, Instant]:
        """Return the decision, and the first instant at which time alone could change it."""
        entitlement = self._entitlement(request, now)
        return decide(self.snapshot, request, now, entitlement=entitlement), entitlement.valid_until

    def list_fields(self, request: Request, now: Instant, *, table: str = "") -> Decision:
        """Return what ``request`` could have at ``now``, of one ``table`` or of all."""
        entitlement = self._entitlement(request, now)
        return list_fields(self.snapshot, request, now, table=table, entitlement=entitlement)

    def _entitlement(self, request: Request, now: Instant) -> Entitlement:
        kept = self._kept.get(request.verified.spiffe_id)
        if kept is None or request.verified.token is None:
            return entitle(self.snapshot, request, now=now)  # refused at gate 1 or 2: nothing worth keeping
        key = cache_key(request)
        entitlement = kept.get(key)
        if entitlement is None or not entitlement.valid_from <= now < entitlement.valid_until:
            entitlement = entitle(self.snapshot, request, now=now)
            with self._lock:
                if len(kept) >= self._limit and key not in kept:
                    del kept[next(iter(kept))]
                kept[key] = entitlement
        return entitlement


def cache_key(request: Request) -> Key:
    """Return every input of ``entitle`` but the snapshot, the data service and the time."""
    claimed, token = request.claimed, request.verified.token
    if token is None:
        raise ValueError("a question without a verified token has no cache key")
    return (claimed.agreement, claimed.purposes, claimed.action, token.issuer, token.subject, token.roles)
