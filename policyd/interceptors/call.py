"""What the interceptors found out about one call, for the servicers behind them."""

from __future__ import annotations

from dataclasses import dataclass

import grpc


@dataclass(slots=True)
class Call:
    """One call in progress; each interceptor fills in its part before the servicer runs."""

    trace_id: bytes = b""
    parent_span_id: bytes = b""
    """Empty when the caller sent no ``traceparent``."""
    spiffe_id: str = ""
    certificate_der: bytes | None = None


_ATTRIBUTE = "policyd_call"


def call_of(context: grpc.ServicerContext) -> Call:
    """Return the call that ``context`` belongs to, making it on first use.

    Kept on the context, not in a context variable: a streamed answer may be continued on another
    thread than the one that began it.
    """
    call = getattr(context, _ATTRIBUTE, None)
    if call is None:
        call = Call()
        setattr(context, _ATTRIBUTE, call)
    assert isinstance(call, Call)  # noqa: S101  # narrows for the type checker
    return call
