"""A node's lease: the short time for which it may decide on what it knows, and the thread that renews it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from policyd import clock
from policyd.errors import NotServing, PolicydError, StateCorrupt
from policyd.registry.draft import Signer
from policyd.registry.lease import Acknowledgement, Renewal, acknowledge

LEASE_S = 2.0
"""How long a lease runs on the node's own clock. One for all nodes: who seals has to wait for the longest."""

DRIFT = 0.002
"""The most that two clocks of a fleet may differ in pace; quartz is off by a twentieth of that."""

MARGIN_S = 0.05
"""For reading two clocks one after the other, and the longest pause that no clock of the machine sees."""

OUTLASTED_S = LEASE_S * (1 + DRIFT) + MARGIN_S
"""How long, on another machine's clock, no lease can run on that was not renewed any more."""

_RENEWALS = 3
"""How often a lease is renewed while it runs."""

_LOG = logging.getLogger("policyd")


class Lease:
    """Until when a node may decide, on CLOCK_BOOTTIME. Safe for many threads: one writes, all read."""

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self.lease_s = lease_s
        self._until_s = float("-inf")

    @property
    def until_s(self) -> float:
        """When it ends, as it stands now."""
        return self._until_s

    def grant(self, asked_at_s: float) -> None:
        """Let it run from ``asked_at_s``, the instant before the renewal was sent."""
        # SECURITY: not from the answer. The store took the renewal at some instant in between, and whoever
        # seals counts from an append after that (test_a_lease_runs_from_before_the_question).
        self._until_s = max(self._until_s, asked_at_s + self.lease_s)

    @property
    def missing(self) -> str:
        """Why the node may not decide now; empty while the lease runs."""
        # SECURITY: looked at by every question itself. A thread that hangs, or a process that was stopped,
        # cannot report that it is late (test_a_node_that_cannot_renew_its_lease_stops_by_itself).
        late_s = clock.boot_seconds() - self._until_s
        if late_s < 0:
            return ""
        if late_s == float("inf"):
            return "this node has no lease on the state yet: ask another"
        return f"this node's lease on the state ran out {late_s:.1f} s ago: ask another"


class LeaseStore(Protocol):
    """What this takes of a state store."""

    def renew(self, acknowledgement: Acknowledgement) -> Renewal:
        """Keep an acknowledgement, in one step with the comparison: only if it names the head."""

    def continuity(self) -> str:
        """Return what stays the same for as long as the store cannot have lost what it accepted."""


class Continuity:
    """Since when, for certain, the store has been the same without a break. One thread writes, all read."""

    def __init__(self) -> None:
        self._known: tuple[str, float] = ("", float("inf"))

    def saw(self, word: str) -> None:
        """Take down what the store said of itself just now."""
        if word != self._known[0]:
            self._known = word, clock.boot_seconds()

    @property
    def since(self) -> tuple[str, float]:
        """What it is, and since when on CLOCK_BOOTTIME it is known to be that; infinity: not known."""
        return self._known


class LeaseKeeper:
    """Acknowledges what the node decides on and renews its lease by that, on a thread of its own."""

    def __init__(
        self,
        lease: Lease,
        store: LeaseStore,
        *,
        name: str,
        signer: Signer,
        head: Callable[[], tuple[int, bytes]],
    ) -> None:
        """``head`` returns number and chain hash of the change that all decisions from now on are made on."""
        self.continuity = Continuity()
        self._lease = lease
        self._store = store
        self._name = name
        self._signer = signer
        self._head = head
        self._said = ""
        self._renewing = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing and wait for the thread; the lease runs out by itself."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Renew at once: the node decides on something newer."""
        self._wake.set()

    def renew(self) -> bool:
        """Acknowledge once, and return whether the lease was renewed: only the newest change gives one.

        Raises:
            NotServing, StateCorrupt: the store cannot be asked now; the lease runs on to its end.
        """
        with self._renewing:
            return self._renew()

    def _renew(self) -> bool:
        asked_at_s = clock.boot_seconds()
        epoch, chain_hash = self._head()
        word = acknowledge(
            self._name,
            epoch=epoch,
            chain_hash=chain_hash,
            at_boot_ms=max(0, int(asked_at_s * 1000)),
            signer=self._signer,
        )
        renewal = self._store.renew(word)
        if renewal.accepted:
            self._lease.grant(asked_at_s)
        self.continuity.saw(self._store.continuity())
        return renewal.accepted

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self.renew()
                self._say("")
            except (NotServing, StateCorrupt) as error:
                self._say(str(error))
            except Exception as error:
                # The outer boundary of this thread: without it the lease runs out, and nothing is decided.
                _LOG.error("leases are renewed no more: %s", _told(error))
                raise
            self._wake.wait(self._lease.lease_s / _RENEWALS)

    def _say(self, why: str) -> None:
        if why and not self._said:
            _LOG.warning("cannot renew the lease on the state, and go on trying: %s", why)
        elif self._said and not why:
            _LOG.info("the lease on the state can be renewed again")
        self._said = why


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, PolicydError) else type(error).__name__
