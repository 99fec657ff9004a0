"""Reading from a socket until an instant, however slowly the bytes come."""

from __future__ import annotations

import io
import socket
from typing import Any

from policyd import clock


class DeadlineSource(io.RawIOBase):
    """A socket as the file that `http.client.HTTPResponse` reads from, with one time limit for all of it.

    The limits of `http.client` itself start anew with each byte that a slow peer sends.
    """

    def __init__(self, connection: socket.socket, until_s: float) -> None:
        """Read until ``until_s`` on the clock that never steps; then every read raises TimeoutError."""
        self._connection = connection
        self._until_s = until_s

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return itself, buffered: what is asked of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come, or wait for it."""
        self._connection.settimeout(left_s(self._until_s))
        return self._connection.recv_into(buffer)


def left_s(until_s: float) -> float:
    """Return the seconds until an instant.

    Raises:
        TimeoutError: it is over.
    """
    seconds = until_s - clock.monotonic()
    if seconds <= 0:
        raise TimeoutError("the time is up")
    return seconds
