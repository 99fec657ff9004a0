"""What a node listens with: certificates and a deny-list that follow their files, and bounded connections."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import grpc

from policyd import clock
from policyd.clock import format_instant
from policyd.errors import ConfigError
from policyd.identity.deny import DenyList, read_deny_list
from policyd.identity.followed import Followed
from policyd.identity.tls_files import TlsMaterial, read_tls

CERTIFICATE_HEALTH = "policyd.certificate"
DENY_LIST_HEALTH = "policyd.deny-list"
"""Names under which grpc.health.v1 tells whether the files are those in force."""

GRACE_S = 60
"""How long calls may go on at most on a connection that has reached its age."""

_LATE = 5
"""In the last fifth of its life a certificate is overdue: renewers replace it after two thirds or less."""
_SAY_EVERY_S = 60.0

_LOG = logging.getLogger("policyd")


class Listening:
    """The files of one node's TLS, followed. Safe for many threads."""

    def __init__(
        self,
        certificate: Path,
        *,
        key: Path,
        authority: Path,
        deny_list: Path | None,
        trust_domain: str,
        connection_age_s: int,
    ) -> None:
        """Read all files.

        Raises:
            ConfigError: a file cannot be used, or a connection may live longer than the certificate.
            SourceError: the deny-list has mistakes.
        """
        self._certificate = certificate
        self._deny_path = deny_list
        self._connection_age_s = connection_age_s
        self._tls = Followed(
            (certificate, key, authority),
            lambda: read_tls(certificate, key=key, authority=authority, now=clock.now()),
            called="the server's certificate",
        )
        self._denied = None
        if deny_list is not None:
            self._denied = Followed(
                (deny_list,),
                lambda: read_deny_list(deny_list, trust_domain=trust_domain),
                called="the deny-list",
            )
        self._shown = self._tls.current
        self._lock = threading.Lock()
        self._said: TlsMaterial | None = None
        self._said_at_s = -_SAY_EVERY_S
        lifetime_s = self._shown.lifetime_s
        if connection_age_s > lifetime_s:
            raise ConfigError(
                f"connection_age_s is {connection_age_s}, but the certificate in {certificate} lives "
                f"{lifetime_s} s in all; a connection must not live longer"
            )

    @property
    def notice(self) -> str:
        """What an operator should know at start about who is turned away, in one line."""
        if self._deny_path is None:
            return "no deny-list: only the registry turns a data service away (docs/identity.md)"
        return f"deny-list {self._deny_path}: {len(self.deny_list().denials)} denied"

    @property
    def expired(self) -> bool:
        """Whether the server's certificate has ended, so that no client can connect any more."""
        return clock.now() > self._tls.current.not_after

    @property
    def options(self) -> tuple[tuple[str, int], ...]:
        """Server options that bound how long a connection lives; gRPC varies the age by a tenth."""
        grace_s = min(GRACE_S, self._connection_age_s)
        return (
            ("grpc.max_connection_age_ms", self._connection_age_s * 1000),
            ("grpc.max_connection_age_grace_ms", grace_s * 1000),
        )

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for mutual TLS that take up new files at the next handshake."""
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._fetch)  # the stubs lack None
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._shown), fetch, require_client_authentication=True
        )

    def deny_list(self) -> DenyList:
        """Return the deny-list in force now; an empty one where none is configured."""
        return DenyList() if self._denied is None else self._denied.current

    def look(self) -> Mapping[str, bool]:
        """Look at all files, say what has to be said, and return what is well, by its name in health.

        An overdue certificate is said once, one that has ended each minute. Call it often.
        """
        self._speak_of_age(self._tls.current)
        well = {CERTIFICATE_HEALTH: not self._tls.problem and not self.expired}
        if self._denied is not None:
            _ = self._denied.current
            well[DENY_LIST_HEALTH] = not self._denied.problem
        return well

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Give gRPC the files of now before a handshake, or None when it has them already."""
        with self._lock:
            current = self._tls.current
            if current is self._shown:
                return None
            self._shown = current
        return _configuration(current)

    def _speak_of_age(self, tls: TlsMaterial) -> None:
        left_ms = tls.not_after - clock.now()
        if left_ms < 0:
            if clock.monotonic() - self._said_at_s >= _SAY_EVERY_S:
                self._said_at_s = clock.monotonic()
                _LOG.error(
                    "the server's certificate ended at %s: no client can connect any more; renew %s",
                    format_instant(tls.not_after),
                    self._certificate,
                )
        elif left_ms * _LATE < tls.lifetime_s * 1000 and self._said is not tls:
            self._said = tls
            _LOG.warning(
                "the server's certificate ends at %s and has not been replaced; renew %s",
                format_instant(tls.not_after),
                self._certificate,
            )


def _configuration(tls: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    """Return a configuration for one use: gRPC empties what it is given."""
    return grpc.ssl_server_certificate_configuration(
        [(tls.key_pem, tls.certificate_pem)], root_certificates=tls.authority_pem
    )
