"""Counts spans that a collector did not keep, by ranges of records, and sends such a range again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from policyd.telemetry.delivery import Outbox

LOSSES = "span-losses"
"""The file beside the ledger: a line for each loss and for each range sent again, only ever added to."""
BATCH = 512


@dataclass(frozen=True, slots=True)
class Loss:
    """``spans`` of the records from ``first`` to ``last`` were not kept; a collector does not say which.

    ``why`` is `partial-success`, or the status of the refusal.
    """

    first: int
    last: int
    spans: int
    why: str


@dataclass(frozen=True, slots=True)
class Resent:
    """What sending again came to. ``next_index`` is where it stopped: past the last when all went."""

    next_index: int
    sent_spans: int
    losses: tuple[Loss, ...]
    why: str = ""


def add_losses(directory: Path, losses: Iterable[Loss], *, origin: str) -> None:
    """Write losses down, durably.

    Raises:
        OSError: they cannot be written.
    """
    _add(directory, [{"origin": origin, **asdict(loss)} for loss in losses])


def settle(directory: Path, first: int, resent: Resent, *, origin: str) -> None:
    """Write down that the spans from ``first`` on were sent again, and what was lost this time.

    Raises:
        OSError: it cannot be written.
    """
    lines: list[dict[str, object]] = []
    if resent.next_index > first:
        lines.append({"origin": origin, "resent": [first, resent.next_index - 1]})
    _add(directory, [*lines, *({"origin": origin, **asdict(loss)} for loss in resent.losses)])


def read_losses(directory: Path, *, origin: str) -> list[Loss]:
    """Return the losses that were not settled since, oldest first; lines without sense are left out."""
    found: list[Loss] = []
    try:
        lines = (directory / LOSSES).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            document = json.loads(line)
            if document.pop("origin") != origin:
                continue
            if "resent" in document:
                first, last = document["resent"]
                found = [loss for loss in found if not first <= loss.first <= loss.last <= last]
            else:
                found.append(Loss(**document))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # the line that a crash cut short
    return found


def send_again(outbox: Outbox, first: int, last: int) -> Resent:
    """Send the spans of the records from ``first`` to ``last`` once more; stops where nobody takes them.

    A record that is refused by itself is a loss again, and does not stop the rest.
    """
    losses: list[Loss] = []
    sent, at, size = 0, first, BATCH
    while at <= last:
        stop = min(at + size, last + 1)
        delivery = outbox.deliver(at, stop)
        if delivery.taken:
            sent += delivery.spans - delivery.rejected
            if delivery.rejected:
                losses.append(Loss(at, stop - 1, delivery.rejected, "partial-success"))
            size = min(BATCH, 2 * size)
        elif not delivery.refused:
            return Resent(at, sent, tuple(losses), delivery.why)
        elif stop - at > 1:
            size = (stop - at) // 2
            continue
        else:
            losses.append(Loss(at, at, delivery.spans, delivery.why))
        at = stop
    return Resent(at, sent, tuple(losses))


def _add(directory: Path, lines: list[dict[str, object]]) -> None:
    data = "".join(json.dumps(line) + "\n" for line in lines).encode("ascii")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(directory / LOSSES, flags, 0o600)
    try:
        while data:  # one write as a rule: a node and a command may both add
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
