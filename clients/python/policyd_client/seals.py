"""Follow the seals of this data service: which records are out of every release, and as of when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition, Event, Lock, Thread
from types import TracebackType
from typing import Any

import grpc
from pbac.v1 import seal_pb2 as pb

from policyd_client._clock import Clock
from policyd_client.epoch import EpochMemory
from policyd_client.errors import SealsNotLive
from policyd_client.seal_table import Broken, SealTable

LIVE_S = 2.0
"""Without a heartbeat for this long the seals are not live."""

STREAM_S = 3600.0
"""The deadline of one stream; a new one follows."""

_LOOK_S = 0.25
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0

SealStream = Callable[..., Any]
"""Opens WatchSeals at one target; grpc gives the call no better type."""


@dataclass(frozen=True, slots=True)
class SealState:
    """All tokens under seal as of one epoch, and whether that is known to be current."""

    live: bool
    epoch: int
    tokens: frozenset[bytes]


class SealWatch:
    """A background stream of this data service's seals, reconnected as often as needed.

    Made by ``PolicyClient.watch_seals()``; close it, or use it in a `with`. Safe to use from many
    threads. Old seals are kept while it reconnects, but they are live only for ``LIVE_S`` seconds after
    the last heartbeat.
    """

    def __init__(self, streams: Sequence[SealStream], *, epochs: EpochMemory, clock: Clock) -> None:
        self._streams = streams
        self._epochs = epochs
        self._clock = clock
        self._closed = Event()
        self._changed = Condition()
        self._epoch = 0
        self._tokens: frozenset[bytes] = frozenset()
        self._beat_at_s: float | None = None
        self._problem = "no snapshot has come yet"
        self._call_lock = Lock()
        self._call: Any = None
        self._heard_at_s = 0.0
        self._threads = [
            Thread(target=self._follow, name="policyd-seals", daemon=True),
            Thread(target=self._drop_silent_streams, name="policyd-seals-watchdog", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def state(self) -> SealState:
        """Epoch, tokens and liveness, of one and the same instant."""
        with self._changed:
            return self._state()

    @property
    def live(self) -> bool:
        """Whether a heartbeat came within the last ``LIVE_S`` seconds."""
        return self.state.live

    @property
    def epoch(self) -> int:
        """The epoch that the tokens have reached, 0 before the first snapshot."""
        return self.state.epoch

    @property
    def tokens(self) -> frozenset[bytes]:
        """The tokens under seal.

        Raises:
            SealsNotLive: they are not known to be current, so they must not be used.
        """
        return self.take().tokens

    @property
    def problem(self) -> str:
        """What last went wrong with the stream; empty while all is well."""
        with self._changed:
            return self._problem

    def take(self, at_least_epoch: int = 0, *, wait_s: float = 0.0) -> SealState:
        """Return the live state once it has reached `at_least_epoch`, waiting up to `wait_s` seconds.

        A query may start only with a state that has reached its decision's ``exclude_sealed_epoch``.

        Raises:
            SealsNotLive: the state is not live, or not there yet, when the time is over.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready(at_least_epoch) or self._closed.is_set(), wait_s)
            state = self._state()
            if state.live and state.epoch >= at_least_epoch:
                return state
            if state.live:
                raise SealsNotLive(
                    f"seals are known to epoch {state.epoch}; epoch {at_least_epoch} is needed"
                )
            raise SealsNotLive(
                f"it is not known which records are under seal: {self._problem or 'no heartbeat'}"
            )

    def close(self) -> None:
        """Stop watching; the state is not live from now on. Closing twice does nothing."""
        self._closed.set()
        with self._changed:
            self._beat_at_s, self._problem = None, "the watch is closed"
            self._changed.notify_all()
        with self._call_lock:
            if self._call is not None:
                self._call.cancel()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> SealWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _state(self) -> SealState:
        live = self._beat_at_s is not None and self._clock() - self._beat_at_s <= LIVE_S
        return SealState(live=live, epoch=self._epoch, tokens=self._tokens)

    def _ready(self, at_least_epoch: int) -> bool:
        state = self._state()
        return state.live and state.epoch >= at_least_epoch

    def _follow(self) -> None:
        """Keep one stream open, going round the targets; runs in a thread of its own."""
        pause_s, turn = _FIRST_PAUSE_S, 0
        while not self._closed.is_set():
            try:
                whole = self._follow_one(self._streams[turn % len(self._streams)])
            except Broken as broken:
                self._distrust(str(broken))
                whole = False
            pause_s = _FIRST_PAUSE_S if whole else min(pause_s * 2, _LONGEST_PAUSE_S)
            turn += 1
            self._closed.wait(pause_s)

    def _follow_one(self, stream: SealStream) -> bool:
        """Follow one stream to its end; return whether its snapshot was complete."""
        at_least_epoch = self._epochs.highest
        table = SealTable(at_least_epoch)
        with self._call_lock:
            if self._closed.is_set():
                return False
            call = stream(pb.WatchSealsRequest(at_least_epoch=at_least_epoch), timeout=STREAM_S)
            self._call, self._heard_at_s = call, self._clock()
        try:
            for event in call:
                self._heard_at_s = self._clock()
                self._publish(table, current=table.apply(event))
        except grpc.RpcError as error:
            self._note(_describe(error))
        else:
            self._note("the node ended the stream")
        finally:
            with self._call_lock:
                self._call = None
            call.cancel()
        return table.tokens is not None

    def _publish(self, table: SealTable, *, current: bool) -> None:
        if table.tokens is None:
            return
        self._epochs.saw(table.epoch)
        with self._changed:
            if self._closed.is_set():
                return
            self._epoch, self._tokens = table.epoch, table.tokens
            if current:
                self._beat_at_s, self._problem = self._clock(), ""
            self._changed.notify_all()

    def _note(self, problem: str) -> None:
        with self._changed:
            if not self._closed.is_set():
                self._problem = problem

    def _distrust(self, problem: str) -> None:
        """Stop being live at once: what came does not fit together."""
        with self._changed:
            if not self._closed.is_set():
                self._beat_at_s, self._problem = None, problem

    def _drop_silent_streams(self) -> None:
        """Cancel a stream on which nothing came for ``LIVE_S``, so that another node is tried."""
        while not self._closed.wait(_LOOK_S):
            with self._call_lock:
                if self._call is not None and self._clock() - self._heard_at_s > LIVE_S:
                    self._call.cancel()


def _describe(error: grpc.RpcError) -> str:
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {' '.join((error.details() or '').split())[:200]}"
    return "the call failed"
