"""Establish which data service calls, from its certificate and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import grpc

from policyd.identity.spiffe import certificate_der, data_service_id
from policyd.interceptors.around import Around, is_ours
from policyd.interceptors.call import call_of


class AuthenticationInterceptor(Around):
    """Takes the SPIFFE ID of the verified client certificate; without one no call of this API passes."""

    def __init__(self, *, trust_domain: str) -> None:
        self._trust_domain = trust_domain

    @contextmanager
    def call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Fill in who calls."""
        if is_ours(method):
            # The stubs say bytes; gRPC gives a tuple of bytes for each name.
            seen = cast("Mapping[str, Sequence[bytes]]", context.auth_context())
            call = call_of(context)
            call.spiffe_id = data_service_id(seen, trust_domain=self._trust_domain)
            call.certificate_der = certificate_der(seen)
        yield
