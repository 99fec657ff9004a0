"""Administer policyd: read its registry, and bring changes that administrators have signed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

from pbac.v1 import registry_pb2 as pb

from policyd_client._clock import Clock, boot_seconds
from policyd_client.calls import Calls
from policyd_client.errors import NoDecision
from policyd_client.transport import Pem, open_channels

_SERVICE = "/pbac.v1.RegistryService/"
_MAX_ANSWER_BYTES = 64 << 20
"""An answer to a change of 16 MiB has a part for each of its entries."""
_ANSWERED = frozenset(
    {
        "ABORTED",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "UNAUTHENTICATED",
        "UNIMPLEMENTED",
    }
)


class NotDone(Exception):
    """A call did not do what it was for. ``code`` is a gRPC status name.

    ``unknown`` says that a change may have been made all the same: send the same again to know.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
        self.unknown = code not in _ANSWERED


class AdminClient:
    """A connection of one administrator to one node, or to several that stand in for each other.

    `targets`, `ca`, `certificate` and `key` are as for ``PolicyClient``; the certificate is the
    administrator's. `deadline_s` bounds each call, all its attempts included. Safe to use from many
    threads. Close it, or use it in a `with`.

    Raises:
        ValueError: a target, a PEM text or the deadline has the wrong form.
        OSError: a PEM file cannot be read.
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        *,
        ca: Pem,
        certificate: Pem,
        key: Pem,
        deadline_s: float = 30.0,
        clock: Clock = boot_seconds,
    ) -> None:
        self._channels = open_channels(
            (targets,) if isinstance(targets, str) else tuple(targets),
            ca=ca,
            certificate=certificate,
            key=key,
            options=(("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),),
        )
        calls = self._calls = Calls(self._channels, default_deadline_s=deadline_s, clock=clock)
        self._apply = calls.method(_SERVICE + "Apply", pb.ApplyRequest, pb.ApplyResponse.FromString)
        self._suspend = calls.method(_SERVICE + "Suspend", pb.SuspendRequest, pb.SuspendResponse.FromString)
        self._get = calls.method(_SERVICE + "Get", pb.GetRequest, pb.GetResponse.FromString)
        self._list = calls.method(_SERVICE + "List", pb.ListRequest, pb.ListResponse.FromString)

    def apply(self, request: pb.ApplyRequest) -> pb.ApplyResponse:
        """Bring a signed change, or ask what one would change. To send the same again is safe.

        A state that is not known here is none in which the change is in force.

        Raises:
            NotDone: no answer came, or it was turned away.
        """
        try:
            return self._calls.ask(self._apply, request).message
        except NoDecision as error:
            raise _not_done(error) from error

    def suspend(self, request: pb.SuspendRequest) -> pb.SuspendResponse:
        """Bring the signed change that takes one entry out of use. To send the same again is safe.

        Raises:
            NotDone: as `apply`.
        """
        try:
            return self._calls.ask(self._suspend, request).message
        except NoDecision as error:
            raise _not_done(error) from error

    def get(self, request: pb.GetRequest) -> pb.GetResponse:
        """Return one entry.

        Raises:
            NotDone: no answer came, or there is no such entry.
        """
        try:
            return self._calls.ask(self._get, request).message
        except NoDecision as error:
            raise _not_done(error) from error

    def list(self, request: pb.ListRequest) -> Iterator[pb.ListResponse]:
        """Yield the pages of a listing, all read at one epoch.

        Raises:
            NotDone: no answer came; with code ABORTED, the state moved on and the listing has to begin again.
        """
        asked = pb.ListRequest()
        asked.CopyFrom(request)
        while True:
            try:
                page = self._calls.ask(self._list, asked).message
            except NoDecision as error:
                raise _not_done(error) from error
            yield page
            if not page.next_page_token:
                return
            asked.page_token = page.next_page_token

    def close(self) -> None:
        """Close the connections; calls in progress end with ``NotDone``."""
        self._calls.closed.set()
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _not_done(error: NoDecision) -> NotDone:
    text = str(error).removeprefix("no decision: ").removeprefix(f"{error.code}: ")
    return NotDone(text, code=error.code)
