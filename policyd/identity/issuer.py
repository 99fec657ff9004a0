"""A token issuer for one machine: `policyd dev` and `policyd demo` use it as their identity provider."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

import jwt

from policyd import ids
from policyd.errors import ConfigError
from policyd.identity.claims import MAX_LIFETIME_S
from policyd.identity.jwks import Issuer
from policyd.identity.keys import SigningKey, create_signing_key, load_signing_key, replace_file
from policyd.model import Instant

KEY_FILE = "issuer.key"
JWKS_FILE = "jwks.json"


class LocalIssuer:
    """Mints requester tokens with one Ed25519 key, for any subject it is asked for. Never for production."""

    def __init__(self, name: str, *, directory: Path, key: SigningKey) -> None:
        self._name = name
        self._directory = directory
        self._key = key

    @classmethod
    def open(cls, directory: Path, *, name: str = "policyd-dev") -> LocalIssuer:
        """Use the issuer in `directory`, making its key and JWKS file when there are none.

        ``name`` is the `iss` of its tokens.

        Raises:
            ConfigError: the directory or its key file cannot be used.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {directory}: {error.strerror}") from None
        path = directory / KEY_FILE
        key = load_signing_key(path) if path.exists() else create_signing_key(path)
        _write_jwks(directory / JWKS_FILE, key=key)
        return cls(name, directory=directory, key=key)

    def trust(self) -> Issuer:
        """Return the configuration by which a `TokenVerifier` believes this issuer."""
        return Issuer(issuer=self._name, jwks=self._directory / JWKS_FILE, algorithms=("EdDSA",))

    def mint(
        self,
        subject: str,
        *,
        data_service: str,
        audience: str,
        now: Instant,
        lifetime_s: int = 600,
        roles: Sequence[str] = (),
        certificate_der: bytes | None = None,
        visas: Sequence[str] = (),
    ) -> str:
        """Return a token that `data_service` (a SPIFFE ID) may bring on behalf of `subject`.

        ``lifetime_s`` is 1 to 900. With ``certificate_der`` the token is bound to that client certificate.
        ``visas`` are carried as they are (docs/visas.md).

        Raises:
            ValueError: ``lifetime_s`` is out of range.
        """
        if not 0 < lifetime_s <= MAX_LIFETIME_S:
            raise ValueError(f"a token lives 1 to {MAX_LIFETIME_S} s, not {lifetime_s}")
        issued = now // 1000
        claims: dict[str, object] = {
            "iss": self._name,
            "sub": subject,
            "aud": audience,
            "iat": issued,
            "exp": issued + lifetime_s,
            "jti": ids.token_id(),
            "act": {"sub": data_service},
        }
        if roles:
            claims["roles"] = list(roles)
        if visas:
            claims["ga4gh_passport_v1"] = list(visas)
        if certificate_der is not None:
            claims["cnf"] = {"x5t#S256": _base64url(hashlib.sha256(certificate_der).digest())}
        headers = {"typ": "at+jwt", "kid": self._key.id}
        return jwt.encode(claims, self._key.private, algorithm="EdDSA", headers=headers)


def _write_jwks(path: Path, *, key: SigningKey) -> None:
    """Write the public key (RFC 8037 section 2), replacing the file in one step unless it says so already."""
    member = {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "kid": key.id,
        "x": _base64url(key.public),
    }
    data = (json.dumps({"keys": [member]}, indent=2) + "\n").encode("ascii")
    try:
        written = path.read_bytes()
    except OSError:
        written = b""
    if written != data:
        replace_file(path, data, mode=0o644)


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
