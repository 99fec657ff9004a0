"""Establish who calls, from the certificate and nothing else, and turn away who is denied or out of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import grpc

from policyd import clock
from policyd.errors import NotPermitted
from policyd.identity.deny import DenyList
from policyd.identity.spiffe import Caller, caller_of
from policyd.interceptors.around import Around, is_ours
from policyd.interceptors.call import call_of


class AuthenticationInterceptor(Around):
    """Takes the SPIFFE ID of the verified client certificate; without one no call of this API passes.

    ``deny_list`` is asked on every call, and on every message of a stream, and gives the list then in force.
    """

    def __init__(self, *, trust_domain: str, deny_list: Callable[[], DenyList] = DenyList) -> None:
        self._trust_domain = trust_domain
        self._deny_list = deny_list

    @contextmanager
    def call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Fill in who calls."""
        if is_ours(method):
            caller = self._admit(context)
            call = call_of(context)
            call.spiffe_id, call.certificate_der = caller.spiffe_id, caller.certificate_der
        yield

    def message(self, method: str, context: grpc.ServicerContext) -> None:
        """Look again: a stream lives longer than a denial may wait, and than some certificates."""
        if is_ours(method):
            self._admit(context)

    def _admit(self, context: grpc.ServicerContext) -> Caller:
        # The stubs say bytes; gRPC gives a tuple of bytes for each name.
        seen = cast("Mapping[str, Sequence[bytes]]", context.auth_context())
        caller = caller_of(seen, trust_domain=self._trust_domain, now=clock.now())
        if self._deny_list().find(caller.spiffe_id, caller.certificate_sha256) is not None:
            # The reason is for operators: it may say what was found out.
            raise NotPermitted("this caller is on the deny-list: ask who runs this node")
        return caller
