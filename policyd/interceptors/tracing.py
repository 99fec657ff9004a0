"""Give every call its trace: the caller's ids where it sent some, never its sampling decision."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from policyd import ids
from policyd.interceptors.around import Around
from policyd.interceptors.call import call_of

# SPEC: W3C Trace Context, 3.2 and 4: lower-case hex, ids not all zero; version 00 ends after the flags, a
# later one may go on after a dash and is read as far as it is known, ff is never valid.
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.ASCII
)


class TracingInterceptor(Around):
    """Reads ``traceparent``; one that is absent, repeated or malformed starts a trace of our own.

    The flags are ignored: a caller may choose where its trace goes on, not whether we record
    (trust.md section 0.1).
    """

    @contextmanager
    def call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Fill in the trace of the call."""
        sent = [value for key, value in context.invocation_metadata() or () if key == "traceparent"]
        match = _TRACEPARENT.fullmatch(str(sent[0])) if len(sent) == 1 else None
        if match and match[1] == "00" and match[4] is not None:
            match = None
        call = call_of(context)
        call.trace_id = bytes.fromhex(match[2]) if match else ids.trace_id()
        call.parent_span_id = bytes.fromhex(match[3]) if match else b""
        yield
