"""The clock, and the text form of instants: the one module that asks what time it is."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from policyd.model import Instant

_TEXT = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:T(\d{2}):(\d{2}):(\d{2})(?:\.(\d{3}))?Z)?", re.ASCII)


def now() -> Instant:
    """Return the wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def monotonic() -> float:
    """Return seconds on a clock that never steps; only differences mean anything."""
    return time.monotonic()


def boot_seconds() -> float:
    """Return seconds since the machine started, counting those in which it slept (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def parse_instant(text: str) -> Instant:
    """Read ``2026-02-05`` (midnight UTC) or ``2026-02-05T09:30:00Z`` as an instant.

    Raises:
        ValueError: the text has another form, or names no real date.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"`{text}` is not an instant; write 2026-02-05 or 2026-02-05T09:30:00Z")
    year, month, day, hour, minute, second, milli = (int(part or 0) for part in match.groups())
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"`{text}` is not a date: {error}") from None
    return int(moment.timestamp()) * 1000 + milli


def format_instant(instant: Instant) -> str:
    """Write an instant as RFC 3339 in UTC; milliseconds only where there are some."""
    seconds, milli = divmod(instant, 1000)
    # isoformat writes four digits for every year; strftime does not.
    text = datetime.fromtimestamp(seconds, tz=UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    return f"{text}.{milli:03d}Z" if milli else f"{text}Z"
