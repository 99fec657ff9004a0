"""Opens a signed JWT in compact form with a key that its issuer is known by (RFC 7515, RFC 8725)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping

import jwt

from policyd.errors import TokenError
from policyd.identity.claims import Header, TokenFault
from policyd.identity.jwks import Issuer
from policyd.identity.jwks_source import Keyring
from policyd.identity.strict_json import read_json

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
_JWS = jwt.PyJWS()


def check_compact(text: str) -> None:
    """Check that `text` has three segments of base64url, the last of which may be empty.

    Raises:
        TokenError: `malformed`.
    """
    if _COMPACT.fullmatch(text) is None:
        raise TokenError(TokenFault.MALFORMED)


def open_compact(
    text: str,
    issuers: Mapping[str, Issuer],
    *,
    keyring: Keyring,
    read_header: Callable[[dict[str, object]], Header],
) -> tuple[Issuer, dict[str, object]]:
    """Return the issuer and the payload of `text`, once its signature is verified; no claim but `iss` is.

    Raises:
        TokenError: what ``read_header`` raises, `malformed`, `issuer`, `algorithm`, `key`, `keys-stale` or
            `signature`.
    """
    check_compact(text)
    head, body, _ = text.split(".")
    header = read_header(_read_segment(head))
    payload = _read_segment(body)
    name = payload.get("iss")
    issuer = issuers.get(name) if isinstance(name, str) else None
    if issuer is None:
        raise TokenError(TokenFault.ISSUER)
    if header.algorithm not in issuer.algorithms:
        raise TokenError(TokenFault.ALGORITHM)
    key = keyring.find(issuer.issuer, header.key_id)
    if key is None:
        raise TokenError(TokenFault.KEY)
    if key.algorithm != header.algorithm:
        raise TokenError(TokenFault.ALGORITHM)
    try:
        # Claims are left to the caller: PyJWT would use its own clock and accept much that we refuse.
        _JWS.decode(text, key.key, algorithms=[key.algorithm])
    except jwt.InvalidSignatureError:
        raise TokenError(TokenFault.SIGNATURE) from None
    except jwt.PyJWTError:
        raise TokenError(TokenFault.MALFORMED) from None
    return issuer, payload


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
