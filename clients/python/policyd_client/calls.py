"""Put one call to any of several nodes: a deadline over all attempts, and again only where that is safe."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Generic, TypeVar

import grpc

from policyd_client._clock import Clock
from policyd_client.errors import NoDecision
from policyd_client.transport import Channel

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_Response = TypeVar("_Response")


@dataclass(frozen=True, slots=True)
class Answered(Generic[_Response]):
    """An answer, the clock just before it was asked for, and the number of the node that gave it."""

    message: _Response
    sent_at_s: float
    target: int


class Calls:
    """Calls one method at one of several channels. Safe to use from many threads."""

    def __init__(self, channels: Sequence[Channel], *, default_deadline_s: float, clock: Clock) -> None:
        """Raises ValueError when the deadline is no positive number of seconds."""
        self.default_deadline_s = _check_deadline(default_deadline_s)
        self.closed = Event()
        self._channels = channels
        self._clock = clock
        self._preferred = 0

    def method(self, path: str, request: Any, response: Callable[[bytes], _Response]) -> Method[_Response]:
        """Return a method by its path, with the class of its question and the reader of its answer."""
        return tuple(
            channel.unary_unary(
                path, request_serializer=request.SerializeToString, response_deserializer=response
            )
            for channel in self._channels
        )

    def ask(
        self,
        method: Method[_Response],
        request: Any,
        *,
        deadline_s: float | None = None,
        traceparent: str | None = None,
        first: int | None = None,
        elsewhere: frozenset[grpc.StatusCode] = frozenset(),
    ) -> Answered[_Response]:
        """Return the first answer of any node.

        Asks again only where a node says that it is unavailable, or ended the call because it stops. Begins
        with node `first`, or with the one that answered last. With one of the codes `elsewhere` the next
        node is asked instead, each once.

        Raises:
            NoDecision: no answer came.
            ValueError: the deadline or `traceparent` has the wrong form.
        """
        metadata = _metadata(traceparent)
        allowed_s = self.default_deadline_s if deadline_s is None else _check_deadline(deadline_s)
        ends_at_s = self._clock() + allowed_s
        pause_s, attempts, problem = _FIRST_PAUSE_S, 0, "the deadline is too short to ask"
        refused: dict[int, NoDecision] = {}
        while True:
            begin = self._preferred if first is None else first
            for index in (*range(begin, len(method)), *range(begin)):
                sent_at_s = self._clock()
                if self.closed.is_set() or sent_at_s >= ends_at_s:
                    break
                if index in refused:
                    continue
                attempts += 1
                try:
                    answer = method[index](request, timeout=ends_at_s - sent_at_s, metadata=metadata)
                except grpc.RpcError as error:
                    code, problem = _describe(error)
                    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                        self._preferred = (index + 1) % len(method)  # the next question goes elsewhere first
                    # Nobody here cancels a call but close(): it was the node, which stops.
                    stopped = code is grpc.StatusCode.CANCELLED and not self.closed.is_set()
                    if code is grpc.StatusCode.UNAVAILABLE or stopped:
                        continue
                    refusal = NoDecision(
                        f"no decision: {code.name}: {problem}", code=code.name, attempts=attempts
                    )
                    if code not in elsewhere:
                        raise refusal from error
                    refused[index] = refusal
                    if len(refused) == len(method):
                        raise refusal from error
                except ValueError as error:  # grpc refuses a channel that was closed under it
                    raise NoDecision("no decision: the client is closed", code="CANCELLED") from error
                else:
                    if first is None:
                        self._preferred = index
                    return Answered(answer, sent_at_s, index)
            left_s = ends_at_s - self._clock()
            if left_s > 0 and not self.closed.wait(
                min(left_s, pause_s * (0.5 + secrets.randbelow(512) / 1024))
            ):
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                continue
            if self.closed.is_set():
                raise NoDecision("no decision: the client is closed", code="CANCELLED", attempts=attempts)
            raise NoDecision(
                f"no decision: policyd was unavailable for {allowed_s:g} s: {problem}",
                code="UNAVAILABLE",
                attempts=attempts,
            )


Method = tuple[Callable[..., _Response], ...]
"""One method at each node, in the order of the targets."""


def _metadata(traceparent: str | None) -> tuple[tuple[str, str], ...]:
    if traceparent is None:
        return ()
    if not _TRACEPARENT.fullmatch(traceparent):
        raise ValueError(f"`traceparent` is not of the form 00-<32 hex>-<16 hex>-<2 hex>: `{traceparent}`")
    return (("traceparent", traceparent),)


def _check_deadline(deadline_s: float) -> float:
    if not (math.isfinite(deadline_s) and deadline_s > 0):
        raise ValueError(f"a deadline is a number of seconds above 0, not `{deadline_s}`")
    return deadline_s


def _describe(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """Return the status of a failed call and its text, on one line and without end."""
    if not isinstance(error, grpc.Call):
        return grpc.StatusCode.UNKNOWN, "the call failed"
    return error.code(), " ".join((error.details() or "").split())[:500]
