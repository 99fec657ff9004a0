"""What a requester's token must say: RFC 9068 profile, delegation by RFC 8693, binding by RFC 8705."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from enum import StrEnum

from policyd.errors import TokenError
from policyd.identity.jwks import ALGORITHMS, KEY_ID
from policyd.model import Instant

MAX_LIFETIME_S = 15 * 60
MAX_SKEW_S = 30
MAX_ROLES = 32

_SUBJECT = re.compile(r"[!-~]{1,255}", re.ASCII)
_ROLE = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}", re.ASCII)
_TYPES = frozenset({"at+jwt", "application/at+jwt"})
_REFUSED_HEADERS = frozenset({"crit", "b64", "zip", "enc", "jku", "jwk", "x5u", "x5c"})


class TokenFault(StrEnum):
    """Why a token is refused: the whole vocabulary, each explained in docs/tokens.md."""

    MISSING = "missing"
    TOO_LONG = "too-long"
    MALFORMED = "malformed"
    HEADER = "header"
    TYPE = "type"
    ALGORITHM = "algorithm"
    ISSUER = "issuer"
    KEY = "key"
    KEYS_STALE = "keys-stale"
    SIGNATURE = "signature"
    CLAIMS = "claims"
    AUDIENCE = "audience"
    ACTOR = "actor"
    LIFETIME = "lifetime"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    BINDING = "binding"


@dataclass(frozen=True, slots=True)
class Header:
    """The three header parameters that count."""

    algorithm: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Claims:
    """The checked payload; ``not_before`` (the later of `iat` and `nbf`) and ``expires`` are seconds."""

    subject: str
    actor: str
    not_before: int
    expires: int
    roles: frozenset[str]


def read_header(
    members: dict[str, object], *, types: frozenset[str] = _TYPES, ignored: frozenset[str] = frozenset()
) -> Header:
    """Check the protected header (RFC 7515 section 4, RFC 8725 sections 3.1 and 3.11).

    ``types`` are the values that `typ` may have, ``ignored`` what is allowed and means nothing.

    Raises:
        TokenError: `header` (it brings its own key, or an extension), `type`, `algorithm` or `key`.
    """
    # SECURITY: a token must not choose the key that verifies it (vectors `jku`, `jwk`, `x5u`, `x5c`).
    if (_REFUSED_HEADERS - ignored) & members.keys():
        raise TokenError(TokenFault.HEADER)
    kind, algorithm, key_id = members.get("typ"), members.get("alg"), members.get("kid")
    if not isinstance(kind, str) or kind not in types:
        raise TokenError(TokenFault.TYPE)
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenError(TokenFault.ALGORITHM)
    if not isinstance(key_id, str) or KEY_ID.fullmatch(key_id) is None:
        raise TokenError(TokenFault.KEY)
    return Header(algorithm=algorithm, key_id=key_id)


def read_claims(members: dict[str, object], *, audience: str) -> Claims:
    """Check every claim that does not depend on the time or the caller.

    Raises:
        TokenError: `claims`, `audience`, `actor` or `lifetime`.
    """
    subject, token_id = members.get("sub"), members.get("jti")
    if not is_name(subject) or not is_name(token_id):
        raise TokenError(TokenFault.CLAIMS)
    audiences = members.get("aud")
    if isinstance(audiences, str):
        audiences = [audiences]
    if not isinstance(audiences, list) or not all(isinstance(name, str) for name in audiences):
        raise TokenError(TokenFault.CLAIMS)
    if audience not in audiences:
        raise TokenError(TokenFault.AUDIENCE)
    issued, expires = read_seconds(members.get("iat")), read_seconds(members.get("exp"))
    not_before = read_seconds(members["nbf"]) if "nbf" in members else issued
    if not issued < expires <= issued + MAX_LIFETIME_S:
        raise TokenError(TokenFault.LIFETIME)
    return Claims(
        subject=str(subject),
        actor=_actor(members.get("act")),
        not_before=max(issued, not_before),
        expires=expires,
        roles=_roles(members.get("roles", [])),
    )


def check_binding(members: dict[str, object], *, certificate_der: bytes | None) -> None:
    """Check `cnf`, where there is one, against the caller's certificate (RFC 8705 section 3.1).

    Raises:
        TokenError: `binding` when it names another certificate, or a binding that cannot be checked here.
    """
    if "cnf" not in members:
        return
    digest = hashlib.sha256(certificate_der or b"").digest()
    want = {"x5t#S256": urlsafe_b64encode(digest).rstrip(b"=").decode()}
    if certificate_der is None or members["cnf"] != want:
        raise TokenError(TokenFault.BINDING)


def check_caller(claims: Claims, *, data_service: str) -> None:
    """Check that the token was given to the data service that brings it (RFC 8693 section 4.1).

    Raises:
        TokenError: `actor`.
    """
    if claims.actor != data_service:
        raise TokenError(TokenFault.ACTOR)


def check_time(claims: Claims, *, now: Instant, skew_s: int) -> None:
    """Check that `now` (milliseconds) lies in the token's life, widened by `skew_s` on both sides.

    Raises:
        TokenError: `not-yet-valid` or `expired`.
    """
    if now < (claims.not_before - skew_s) * 1000:
        raise TokenError(TokenFault.NOT_YET_VALID)
    if now >= (claims.expires + skew_s) * 1000:
        raise TokenError(TokenFault.EXPIRED)


def is_name(value: object) -> bool:
    """Say whether `value` can name a subject: 1 to 255 visible ASCII characters."""
    return isinstance(value, str) and _SUBJECT.fullmatch(value) is not None


def read_seconds(value: object) -> int:
    """Read an instant in whole seconds.

    Raises:
        TokenError: `claims`.
    """
    # SPEC: RFC 7519 section 2 allows fractions and any size; we do not. bool is an int in Python.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 40:
        raise TokenError(TokenFault.CLAIMS)
    return value


def _actor(value: object) -> str:
    # A chain of actors (a nested `act`) is refused with everything else that is not exactly one `sub`.
    if not isinstance(value, dict) or value.keys() != {"sub"} or not isinstance(value["sub"], str):
        raise TokenError(TokenFault.ACTOR)
    return value["sub"]


def _roles(value: object) -> frozenset[str]:
    if not isinstance(value, list) or len(value) > MAX_ROLES:
        raise TokenError(TokenFault.CLAIMS)
    if not all(isinstance(role, str) and _ROLE.fullmatch(role) for role in value):
        raise TokenError(TokenFault.CLAIMS)
    return frozenset(value)
