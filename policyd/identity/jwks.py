"""The public keys of token issuers, read from JWKS files (RFC 7517) and nowhere else."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from policyd.errors import ConfigError
from policyd.identity.strict_json import read_json

ALGORITHMS = frozenset({"EdDSA", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256"})
"""What an issuer may be allowed. No `none`, and no HMAC: a verifier that can verify could also sign."""

MAX_JWKS_BYTES = 1 << 20
MIN_RSA_BITS = 2048

KEY_ID = re.compile(r"[A-Za-z0-9._~=-]{1,128}", re.ASCII)
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer whose tokens are believed: its exact `iss`, its keys, and the algorithms it may use.

    ``audience`` is what its tokens must name; empty means the audience given to the verifier.
    """

    issuer: str
    jwks: Path
    algorithms: tuple[str, ...] = ("EdDSA",)
    audience: str = ""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """One verification key, bound to one algorithm (RFC 8725 section 3.1)."""

    key_id: str
    algorithm: str
    key: jwt.PyJWK


def read_issuer_keys(issuer: Issuer) -> dict[str, IssuerKey]:
    """Read the issuer's JWKS file and return its keys by `kid`.

    Raises:
        ConfigError: the issuer or its file cannot be used; the message names file and key.
    """
    if not issuer.issuer:
        raise ConfigError(f"an issuer has an empty name; state the `iss` of its tokens ({issuer.jwks})")
    unknown = [name for name in issuer.algorithms if name not in ALGORITHMS]
    if unknown or not issuer.algorithms:
        named = unknown[0] if unknown else ""
        choice = ", ".join(sorted(ALGORITHMS))
        raise ConfigError(f"issuer `{issuer.issuer}` may not use algorithm `{named}`; choose among {choice}")
    document = _read_document(issuer.jwks)
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list) or not members:
        raise ConfigError(f"{issuer.jwks}: no keys; a JWKS file is an object with a list `keys`")
    keys: dict[str, IssuerKey] = {}
    for number, member in enumerate(members, start=1):
        key = _issuer_key(member, issuer=issuer, where=f"{issuer.jwks}: key {number}")
        if key.key_id in keys:
            raise ConfigError(f"{issuer.jwks}: key {number} repeats `kid` `{key.key_id}`")
        keys[key.key_id] = key
    return keys


def _read_document(path: Path) -> object:
    try:
        status = path.stat()
        # SECURITY: whoever can write this file can mint requesters (test_a_jwks_file_that_others_can_write).
        if stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(f"{path} can be written by others; run: chmod go-w {path}")
        if status.st_size > MAX_JWKS_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_JWKS_BYTES} bytes")
        return read_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the JWKS file {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _issuer_key(member: object, *, issuer: Issuer, where: str) -> IssuerKey:
    if not isinstance(member, dict):
        raise ConfigError(f"{where} is not an object")
    if _PRIVATE_MEMBERS & member.keys():
        raise ConfigError(f"{where} holds a private or shared key; keep only the public part here")
    key_id, algorithm = member.get("kid"), member.get("alg")
    if not isinstance(key_id, str) or KEY_ID.fullmatch(key_id) is None:
        raise ConfigError(f"{where} needs a `kid` of 1 to 128 of [A-Za-z0-9._~=-]")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        raise ConfigError(f"{where} (`{key_id}`) needs an `alg` among {', '.join(issuer.algorithms)}")
    if member.get("use", "sig") != "sig":
        raise ConfigError(f"{where} (`{key_id}`) is not for signatures; its `use` must be `sig`")
    try:
        key = jwt.PyJWK(member)
        # Only this step compares the curve with the algorithm.
        key.Algorithm.prepare_key(key.key)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        # PyJWT's own message quotes the key.
        raise ConfigError(f"{where} (`{key_id}`) is not a usable {algorithm} key") from None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < MIN_RSA_BITS:
        raise ConfigError(f"{where} (`{key_id}`) has {key.key.key_size} bits; RSA needs {MIN_RSA_BITS}")
    return IssuerKey(key_id=key_id, algorithm=algorithm, key=key)
