"""Verifies a requester's token and remembers, for its short life, that it did (RFC 7519, 8725, 9068)."""

from __future__ import annotations

import hashlib
import re
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import jwt

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
from policyd.identity.jwks import Issuer, IssuerKey, read_issuer_keys
from policyd.identity.strict_json import read_json
from policyd.model import Instant, Token

MAX_TOKEN_BYTES = 16 << 10

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
_JWS = jwt.PyJWS()


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that verified once; only its times can still fail."""

    token: Token
    claims: Claims


class TokenVerifier:
    """Verifies tokens of a fixed list of issuers. Safe to use from many threads; does no I/O in `verify`."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        audience: str,
        skew_s: int = MAX_SKEW_S,
        cache_size: int = 4096,
    ) -> None:
        """Read the issuers' keys.

        ``skew_s`` (0 to 30) is how far the issuer's clock may differ; ``cache_size`` (0 or more) is how
        many verified tokens are remembered.

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
        self._keys = {issuer.issuer: read_issuer_keys(issuer) for issuer in issuers}

    def reload(self) -> None:
        """Read the keys again and forget every verified token; on failure everything stays as it was.

        Raises:
            ConfigError: a JWKS file cannot be used.
        """
        keys = {name: read_issuer_keys(issuer) for name, issuer in self._issuers.items()}
        with self._lock:
            self._keys = keys
            self._cache = OrderedDict()

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
        if _COMPACT.fullmatch(token) is None:
            raise TokenError(TokenFault.MALFORMED)
        digest = hashlib.sha256(token.encode("ascii")).digest()
        cache_key = _cache_key(digest, data_service=data_service, certificate_der=certificate_der)
        with self._lock:
            # INVARIANT: a cache belongs to the keys that filled it; a late store cannot undo a reload.
            cache, keys = self._cache, self._keys
            known = cache.get(cache_key)
            if known is not None:
                cache.move_to_end(cache_key)
        if known is None:
            known = self._verify(
                token, keys=keys, digest=digest, data_service=data_service, certificate_der=certificate_der
            )
            check_time(known.claims, now=now, skew_s=self._skew_s)
            self._remember(cache, cache_key=cache_key, known=known)
            return known.token
        try:
            check_time(known.claims, now=now, skew_s=self._skew_s)
        except TokenError:
            with self._lock:
                cache.pop(cache_key, None)
            raise
        return known.token

    def _verify(
        self,
        token: str,
        *,
        keys: dict[str, dict[str, IssuerKey]],
        digest: bytes,
        data_service: str,
        certificate_der: bytes | None,
    ) -> _Known:
        head, body, _ = token.split(".")
        header = read_header(_read_segment(head))
        payload = _read_segment(body)
        name = payload.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise TokenError(TokenFault.ISSUER)
        if header.algorithm not in issuer.algorithms:
            raise TokenError(TokenFault.ALGORITHM)
        key = keys[issuer.issuer].get(header.key_id)
        if key is None:
            raise TokenError(TokenFault.KEY)
        if key.algorithm != header.algorithm:
            raise TokenError(TokenFault.ALGORITHM)
        try:
            # Claims are checked below: PyJWT would use its own clock and accept much that we refuse.
            _JWS.decode(token, key.key, algorithms=[key.algorithm])
        except jwt.InvalidSignatureError:
            raise TokenError(TokenFault.SIGNATURE) from None
        except jwt.PyJWTError:
            raise TokenError(TokenFault.MALFORMED) from None
        claims = read_claims(payload, audience=issuer.audience or self._audience)
        check_caller(claims, data_service=data_service)
        check_binding(payload, certificate_der=certificate_der)
        verified = Token(
            issuer=issuer.issuer,
            subject=claims.subject,
            digest=digest,
            expires_at=claims.expires * 1000,
            roles=claims.roles,
        )
        return _Known(token=verified, claims=claims)

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


def _read_segment(segment: str) -> dict[str, object]:
    """Decode one base64url segment in its only canonical form (RFC 7515 section 2) to a JSON object."""
    try:
        data = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        value = read_json(data)
    except ValueError:
        raise TokenError(TokenFault.MALFORMED) from None
    if urlsafe_b64encode(data).rstrip(b"=").decode() != segment or not isinstance(value, dict):
        raise TokenError(TokenFault.MALFORMED)
    return value
