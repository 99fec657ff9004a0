"""Projects committed records to `pbac.decision` spans and sends them where `OTEL_*` settings say.

The ledger is the queue: nothing here can delay a decision, and nothing that a collector loses is gone.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.sdk.resources import Resource

from policyd import clock
from policyd.ledger import store
from policyd.ledger.reader import LedgerReader
from policyd.ledger.writer import Ledger
from policyd.telemetry.delivery import Delivery, Outbox, Sender
from policyd.telemetry.losses import BATCH, LOSSES, Loss, add_losses

CURSOR = "span-cursor"
"""The file beside the ledger that says which record is to be sent next."""
LINGER_S = 0.2
_CURSOR_EVERY_S = 1.0
_LOOK_EVERY_S = 0.25
"""How soon an idle projector sees that it should stop."""
_LONGEST_WAIT_S = 30.0
_LEAVE_S = 5.0
"""How long a closed exporter may take to let go of the projector's thread."""
_PROBES = 8
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProjectorState:
    """How far the projector is. `waiting` are decisions and state changes not yet looked at.

    ``lost_spans`` were not kept by the collector since the start; ``problem`` is why nothing is taken
    now, empty while spans go out.
    """

    next_index: int
    sent_spans: int
    failed_sends: int
    waiting: int
    lost_spans: int = 0
    problem: str = ""


class Projector:
    """Sends one span a decision, in index order, from where its cursor stands.

    A span is sent again after a crash if the cursor had not been written yet: at most about a second's
    worth, with the same ids, so that a receiver that goes by ids holds each exactly once.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        senders: Sequence[Sender],
        resource: Resource,
        first_retry_s: float = 0.5,
    ) -> None:
        """Stand at the stored cursor; `start` begins to send.

        Raises:
            LedgerCorrupt: the log cannot be read.
        """
        self._ledger = ledger
        self._first_retry_s = first_retry_s
        self._cursor = ledger.directory / CURSOR
        self._next = self._saved = read_cursor(ledger.directory, origin=ledger.origin, size=ledger.size)
        self._saved_at_s = clock.monotonic()
        self._limit = BATCH
        self._sent_spans = 0
        self._failed_sends = 0
        self._lost_spans = 0
        self._losses: list[Loss] = []
        self._problem = ""
        self._closed = False
        self._stop = threading.Event()
        self._reader = LedgerReader(ledger.directory)
        self._outbox = Outbox(self._reader, senders, resource)
        self._thread = threading.Thread(target=self._run, name="span-projector", daemon=True)

    @property
    def state(self) -> ProjectorState:
        """How far it is."""
        return ProjectorState(
            next_index=self._next,
            sent_spans=self._sent_spans,
            failed_sends=self._failed_sends,
            waiting=max(0, self._ledger.size - self._next),
            lost_spans=self._lost_spans,
            problem=self._problem,
        )

    def start(self) -> None:
        """Begin to send on a thread of its own."""
        self._thread.start()

    def close(self, *, flush_s: float = 2.0) -> None:
        """Send what is left for up to `flush_s`, keep the place, and let the exporters go. Idempotent.

        Call it after the last answer has gone out; it does not matter whether the ledger is still open.
        An exporter that never returns is left behind with its thread, and keeps nobody from stopping.
        """
        if self._closed:
            return
        self._closed = True
        self._stop.set()
        if self._thread.ident is None:
            self._outbox.close_senders()
            self._reader.close()
            return
        self._thread.join(flush_s)
        self._outbox.close_senders()
        self._thread.join(_LEAVE_S)
        if self._thread.is_alive():
            _LOG.warning("a span exporter does not return: %d records wait for the next start", self._waiting)

    @property
    def _waiting(self) -> int:
        return self.state.waiting

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            self._reader.close()

    def _follow(self) -> None:
        retry_s = self._first_retry_s
        while not self._stop.is_set():
            size = self._ledger.wait_beyond(self._next, timeout_s=_LOOK_EVERY_S)
            if size <= self._next:
                self._keep_place()
                if self._ledger.failure:
                    self._stop.wait(_LOOK_EVERY_S)  # nothing will come; wait_beyond no longer waits
                continue
            if size - self._next < BATCH:
                self._stop.wait(LINGER_S)
            if self._send():
                if retry_s != self._first_retry_s:
                    _LOG.warning("spans are exported again; %d records wait", self._waiting)
                retry_s = self._first_retry_s
                if clock.monotonic() - self._saved_at_s >= _CURSOR_EVERY_S:
                    self._keep_place()
            else:
                if retry_s == self._first_retry_s:
                    _LOG.warning(
                        "spans cannot be exported (%s): trying again; decisions are recorded all the same",
                        self._problem,
                    )
                self._stop.wait(retry_s)
                retry_s = min(2 * retry_s, _LONGEST_WAIT_S)
        while self._next < self._ledger.size and self._send():
            pass
        self._keep_place()

    def _send(self) -> bool:
        """Send the next batch; the place moves only over what was taken, or was refused for itself.

        A batch that is refused is cut down until it goes through or is one record.
        """
        while True:
            stop = min(self._next + self._limit, self._ledger.size)
            delivery = self._outbox.deliver(self._next, stop)
            if delivery.taken:
                self._limit = min(BATCH, 2 * self._limit)
                self._advance(stop, delivery)
                return True
            self._failed_sends += 1
            if delivery.refused and stop - self._next > 1:
                self._limit = (stop - self._next) // 2
                continue
            if delivery.refused and self._step_over():
                return True
            self._problem = delivery.why
            return False

    def _step_over(self) -> bool:
        """Get past records that a collector refuses while it takes one behind them.

        One that refuses everything is waited for: that is no reason to count a single span as lost.
        """
        for index in range(self._next + 1, min(self._next + 1 + _PROBES, self._ledger.size)):
            probe = self._outbox.deliver(index, index + 1)
            if not probe.taken or not probe.spans:
                continue
            again = [self._outbox.deliver(each, each + 1) for each in range(self._next, index)]
            if any(not each.taken and not each.refused for each in again):
                return False
            for each in again:
                self._advance(self._next + 1, each)
            self._advance(index + 1, probe)
            return True
        return False

    def _advance(self, stop: int, delivery: Delivery) -> None:
        lost = delivery.rejected if delivery.taken else delivery.spans
        if lost:
            why = "partial-success" if delivery.taken else delivery.why
            loss = Loss(first=self._next, last=stop - 1, spans=lost, why=why)
            if not self._lost_spans:
                _LOG.warning(
                    "the collector did not keep %d spans of records %d..%d (%s); `policyd audit spans` "
                    "counts them and sends them again; decisions are recorded all the same",
                    lost,
                    loss.first,
                    loss.last,
                    why,
                )
            self._losses.append(loss)
            self._lost_spans += lost
        self._sent_spans += delivery.spans - lost
        self._next = stop
        self._problem = ""

    def _keep_place(self) -> None:
        if self._saved == self._next:
            return
        origin = self._ledger.origin
        try:
            if self._losses:
                # Before the place: a crash in between counts them twice, never not at all.
                add_losses(self._ledger.directory, self._losses, origin=origin)
                self._losses = []
            store.replace_file(self._cursor, json.dumps({"origin": origin, "next": self._next}) + "\n")
        except OSError as error:
            what = f"`{LOSSES}`" if self._losses else f"`{CURSOR}`"
            _LOG.warning("the place of the span export cannot be kept in %s: %s", what, error.strerror)
            return
        self._saved, self._saved_at_s = self._next, clock.monotonic()


def read_cursor(directory: Path, *, origin: str, size: int) -> int:
    """Return the next record to send: 0 without a cursor of this log, never beyond its end."""
    try:
        content = json.loads((directory / CURSOR).read_text(encoding="utf-8"))
        position = content["next"] if content["origin"] == origin else 0
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, TypeError):
        _LOG.warning("`%s` is unreadable: spans are exported from the beginning", CURSOR)
        return 0
    return min(max(position, 0), size) if type(position) is int else 0
