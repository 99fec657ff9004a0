"""Verifies a requester's token and remembers, for its short life, that it did (RFC 7519, 8725, 9068)."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from policyd.errors import ConfigError, TokenError
from policyd.identity.claims import (
    MAX_SKEW_S,
    Claims,
    TokenFault,
    check_binding,
    check_caller,
    check_time,
    read_claims,
    read_header,
)
from policyd.identity.jwks import Issuer
from policyd.identity.jwks_source import Keyring
from policyd.identity.jws import check_compact, open_compact
from policyd.identity.visa import NO_PASSPORT, PASSPORT, Passport, VisaVerifier
from policyd.identity.visa_facts import VisaTrust
from policyd.model import Instant, Token

MAX_TOKEN_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that verified once; only its times can still fail."""

    token: Token
    claims: Claims
    passport: Passport


class TokenVerifier:
    """Verifies tokens of a fixed list of issuers, and the visas in them. Safe to use from many threads.

    Keys behind URLs are fetched from ``start`` to ``close``; before, none of them counts. `verify` does no
    I/O, and waits at most a quarter of a second for keys that it has never seen.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        audience: str,
        skew_s: int = MAX_SKEW_S,
        cache_size: int = 4096,
        visas: VisaTrust | None = None,
    ) -> None:
        """Read the issuers' keys.

        ``skew_s`` (0 to 30) is how far the issuer's clock may differ; ``cache_size`` (0 or more) is how
        many verified tokens are remembered. Without ``visas`` no visa means anything.

        Raises:
            ConfigError: no issuer, two of one name, an issuer that cannot be used, a number out of range.
        """
        if not issuers:
            raise ConfigError("no token issuer is configured, so no requester could ever be verified")
        if len({issuer.issuer for issuer in issuers}) != len(issuers):
            raise ConfigError("two token issuers have one name; `iss` must lead to one set of keys")
        if not audience:
            raise ConfigError(
                "the audience of requester tokens is empty; name what tokens for policyd must name"
            )
        if not 0 <= skew_s <= MAX_SKEW_S:
            raise ConfigError(f"the clock skew of tokens is {skew_s} s; it must be 0 to {MAX_SKEW_S}")
        if cache_size < 0:
            raise ConfigError(f"the token cache size is {cache_size}; it must be 0 or more")
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._audience = audience
        self._skew_s = skew_s
        self._cache_size = cache_size
        self._lock = threading.Lock()
        self._cache: OrderedDict[bytes, _Known] = OrderedDict()
        self._keyring = Keyring(issuers)
        self._visas = VisaVerifier(visas, audience=audience, skew_s=skew_s) if visas is not None else None
        self._versions = (0, 0)

    def start(self) -> list[str]:
        """Begin to fetch keys, wait shortly for the first, and return a line for each issuer without any."""
        lines = self._keyring.start()
        return lines if self._visas is None else [*lines, *self._visas.keyring.start()]

    def close(self) -> None:
        """Stop fetching keys."""
        self._keyring.close()
        if self._visas is not None:
            self._visas.keyring.close()

    def reload(self) -> None:
        """Read the keys again, have those behind URLs fetched soon, and forget every verified token.

        On failure everything stays as it was.

        Raises:
            ConfigError: a JWKS file cannot be used.
        """
        keyrings = [self._keyring] if self._visas is None else [self._keyring, self._visas.keyring]
        # All are read before the first is used.
        for keyring, read in [(each, each.read_files()) for each in keyrings]:
            keyring.use(read)

    def verify(
        self, token: str, *, data_service: str, now: Instant, certificate_der: bytes | None = None
    ) -> Token:
        """Return the verified claims of `token` as brought by `data_service` (a SPIFFE ID) at `now`.

        ``certificate_der`` is the caller's certificate, needed only by tokens that are bound to one.
        Microseconds when this token was verified before for the same caller, else one signature check.

        Raises:
            TokenError: the token is refused; ``code`` is a `TokenFault`, never text of the token.
        """
        if not token:
            raise TokenError(TokenFault.MISSING)
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenError(TokenFault.TOO_LONG)
        check_compact(token)
        digest = hashlib.sha256(token.encode("ascii")).digest()
        cache_key = _cache_key(digest, data_service=data_service, certificate_der=certificate_der)
        known, cache = self._recall(cache_key)
        if known is None:
            known = self._verify(
                token, digest=digest, data_service=data_service, certificate_der=certificate_der, now=now
            )
            if known.passport.whole:
                self._remember(cache, cache_key=cache_key, known=known)
            return known.token
        try:
            self._check_known(known, now=now)
        except TokenError:
            with self._lock:
                cache.pop(cache_key, None)
            raise
        return known.token

    def _verify(
        self, token: str, *, digest: bytes, data_service: str, certificate_der: bytes | None, now: Instant
    ) -> _Known:
        issuer, payload = open_compact(token, self._issuers, keyring=self._keyring, read_header=read_header)
        claims = read_claims(payload, audience=issuer.audience or self._audience)
        check_caller(claims, data_service=data_service)
        check_binding(payload, certificate_der=certificate_der)
        # Before anything else is opened: nobody needs the visas of a token that is over.
        check_time(claims, now=now, skew_s=self._skew_s)
        passport = NO_PASSPORT
        if self._visas is not None and PASSPORT in payload:
            bearer = (issuer.issuer, claims.subject)
            passport = self._visas.open(payload[PASSPORT], bearer=bearer, now=now)
        verified = Token(
            issuer=issuer.issuer,
            subject=claims.subject,
            digest=digest,
            expires_at=claims.expires * 1000,
            roles=claims.roles,
            visas=passport.visas,
        )
        return _Known(token=verified, claims=claims, passport=passport)

    def _check_known(self, known: _Known, *, now: Instant) -> None:
        """Check all that can change while the keys stay the same: the time, and whether they are fresh."""
        self._keyring.check_fresh(known.token.issuer)
        check_time(known.claims, now=now, skew_s=self._skew_s)

    def _recall(self, cache_key: bytes) -> tuple[_Known | None, OrderedDict[bytes, _Known]]:
        """Return what is remembered, if it is, and the memory it belongs to."""
        versions = (self._keyring.version, self._visas.keyring.version if self._visas else 0)
        with self._lock:
            # INVARIANT: a memory belongs to the keys that filled it; a late store cannot undo a change.
            if versions != self._versions:
                self._versions, self._cache = versions, OrderedDict()
            cache = self._cache
            known = cache.get(cache_key)
            if known is not None:
                cache.move_to_end(cache_key)
        if known is not None and self._visas is not None:
            try:
                self._visas.check_fresh(known.passport)
            except TokenError:
                return None, cache  # the token may hold all the same, with less to say
        return known, cache

    def _remember(self, cache: OrderedDict[bytes, _Known], *, cache_key: bytes, known: _Known) -> None:
        if self._cache_size == 0:
            return
        with self._lock:
            cache[cache_key] = known
            while len(cache) > self._cache_size:
                cache.popitem(last=False)


def _cache_key(digest: bytes, *, data_service: str, certificate_der: bytes | None) -> bytes:
    """Name all that a verification depends on, apart from the keys and the time."""
    certificate = hashlib.sha256(certificate_der).digest() if certificate_der is not None else b"-" * 32
    return hashlib.sha256(digest + certificate + data_service.encode("utf-8", "surrogatepass")).digest()
