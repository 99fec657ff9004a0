"""Turn every exception into one gRPC status; what is not ours becomes INTERNAL and tells nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import grpc

from policyd import errors, ids
from policyd.interceptors.around import Around

_LOG = logging.getLogger("policyd")

STATUS: Mapping[type[errors.PolicydError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyReported: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotServing: grpc.StatusCode.UNAVAILABLE,
    errors.StateUnfit: grpc.StatusCode.UNAVAILABLE,
    errors.LedgerClosed: grpc.StatusCode.UNAVAILABLE,
    errors.TooLate: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.LedgerBusy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StateConflict: grpc.StatusCode.ABORTED,
    errors.NotAuthorised: grpc.StatusCode.PERMISSION_DENIED,
    errors.ApprovalMissing: grpc.StatusCode.PERMISSION_DENIED,
}
"""The one table from exception to status; their texts are made for callers. Any other is INTERNAL."""


class ErrorInterceptor(Around):
    """Outermost: nothing that a method or an inner interceptor raises gets past it unmapped."""

    @contextmanager
    def call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Abort the call with the status of whatever is raised inside."""
        try:
            yield
        except errors.PolicydError as error:
            status = STATUS.get(type(error))
            if status is not None:
                context.abort(status, str(error))
            _internal(method, context, error)
        except NotImplementedError:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not built yet; no decision was made")
        except Exception as error:  # the outer boundary of every call
            if context.code() is not None:  # type: ignore[attr-defined]  # not in the stubs
                raise  # already aborted further in
            _internal(method, context, error)


def _internal(method: str, context: grpc.ServicerContext, error: Exception) -> NoReturn:
    # SECURITY: neither the text of the exception nor its traceback leaves or is logged: a value or a
    # token could be in it. The place is enough to find the fault
    # (test_a_fault_of_ours_tells_nothing_but_a_number).
    number = ids.trace_id().hex()
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
    _LOG.error("%s failed with %s at %s (correlation id %s)", method, type(error).__name__, place, number)
    context.abort(grpc.StatusCode.INTERNAL, f"a fault of this server; no decision was made ({number})")
