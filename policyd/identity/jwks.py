"""The public keys of issuers, read from JWKS documents (RFC 7517); each is bound to one algorithm."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from policyd.errors import ConfigError
from policyd.identity.strict_json import read_json

ALGORITHMS = frozenset({"EdDSA", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256"})
"""What an issuer may be allowed. No `none`, and no HMAC: a verifier that can verify could also sign."""

MAX_JWKS_BYTES = 1 << 20
MIN_RSA_BITS = 2048

KEY_ID = re.compile(r"[A-Za-z0-9._~=-]{1,128}", re.ASCII)
_KEY_TYPES = {
    name: "OKP" if name == "EdDSA" else "EC" if name.startswith("ES") else "RSA" for name in ALGORITHMS
}
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class RemoteJwks:
    """A JWKS document that is fetched, by https, every ``refresh_s``.

    Keys that could not be fetched for ``stale_after_s`` count no longer. ``authority`` is a PEM file of
    the authorities to believe in place of the system's.
    """

    url: str
    authority: Path | None = None
    refresh_s: int = 300
    stale_after_s: int = 900


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer whose tokens are believed: its exact `iss`, its keys, and the algorithms it may use.

    ``audience`` is what its tokens must name; empty means the audience given to the verifier.
    """

    issuer: str
    jwks: Path | RemoteJwks
    algorithms: tuple[str, ...] = ("EdDSA",)
    audience: str = ""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """One verification key, bound to one algorithm (RFC 8725 section 3.1)."""

    key_id: str
    algorithm: str
    key: jwt.PyJWK

    @property
    def material(self) -> bytes:
        """The public key itself, in one form (SubjectPublicKeyInfo)."""
        public: PublicKeyTypes = self.key.key
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def read_issuer_keys(issuer: Issuer) -> dict[str, IssuerKey]:
    """Read the issuer's JWKS file and return its keys by `kid`; one unfit key is a mistake in the file.

    Raises:
        ConfigError: the issuer or its file cannot be used; the message names file and key.
    """
    check_issuer(issuer)
    if not isinstance(issuer.jwks, Path):
        raise ConfigError(f"the keys of issuer `{issuer.issuer}` are not in a file")
    where = str(issuer.jwks)
    members = _members(_parse(_read_file(issuer.jwks), where=where), where=where)
    if not members:
        raise ConfigError(f"{where}: no keys; a JWKS file is an object with a list `keys`")
    found = []
    for number, member in enumerate(members, start=1):
        found.append(_issuer_key(member, issuer=issuer, where=f"{where}: key {number}"))
    return _by_id(found, where=where)


def parse_issuer_keys(data: bytes, issuer: Issuer, *, where: str) -> dict[str, IssuerKey]:
    """Return the keys by `kid` of a document that the issuer publishes, which may be none.

    What the issuer publishes for other uses, for other algorithms or without a `kid` is left out: it
    is not written for policyd. Where `alg` is missing it is the one of the issuer's that fits the key, if
    just one does.

    Raises:
        ConfigError: it is no JWKS, holds private key material, or two keys share a `kid` or one key two
            algorithms; nothing of it may be used.
    """
    found: list[IssuerKey] = []
    for number, member in enumerate(_members(_parse(data, where=where), where=where), start=1):
        try:
            found.append(_issuer_key(_with_algorithm(member, issuer), issuer=issuer, where=f"key {number}"))
        except _UnfitKey:
            continue
    return _by_id(found, where=where)


def _with_algorithm(member: dict[str, object], issuer: Issuer) -> dict[str, object]:
    fitting = [name for name in issuer.algorithms if member.get("kty") == _KEY_TYPES[name]]
    return {"alg": fitting[0], **member} if len(fitting) == 1 else member


def check_issuer(issuer: Issuer) -> None:
    """Check an issuer's name and algorithms.

    Raises:
        ConfigError: they cannot be used; the message says why.
    """
    where = issuer.jwks.url if isinstance(issuer.jwks, RemoteJwks) else issuer.jwks
    if not issuer.issuer:
        raise ConfigError(f"an issuer has an empty name; state the `iss` of its tokens ({where})")
    unknown = [name for name in issuer.algorithms if name not in ALGORITHMS]
    if unknown or not issuer.algorithms:
        named = unknown[0] if unknown else ""
        choice = ", ".join(sorted(ALGORITHMS))
        raise ConfigError(f"issuer `{issuer.issuer}` may not use algorithm `{named}`; choose among {choice}")


class _UnfitKey(ConfigError):
    """A key that cannot be used, though the document it is in may be sound."""


def _members(document: object, *, where: str) -> list[dict[str, object]]:
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ConfigError(f"{where}: no keys; a JWKS is an object with a list `keys`")
    for number, member in enumerate(members, start=1):
        if not isinstance(member, dict):
            raise ConfigError(f"{where}: key {number} is not an object")
        if _PRIVATE_MEMBERS & member.keys():
            raise ConfigError(
                f"{where}: key {number} holds a private or shared key; only public ones belong here"
            )
    return members


def _by_id(found: list[IssuerKey], *, where: str) -> dict[str, IssuerKey]:
    keys: dict[str, IssuerKey] = {}
    algorithms: dict[bytes, str] = {}
    for key in found:
        if key.key_id in keys:
            raise ConfigError(f"{where}: two keys have the `kid` `{key.key_id}`")
        # SPEC: RFC 8725 section 3.1, one key for one algorithm, under whatever name it comes.
        if algorithms.setdefault(key.material, key.algorithm) != key.algorithm:
            raise ConfigError(f"{where}: the key `{key.key_id}` is there for two algorithms")
        keys[key.key_id] = key
    return keys


def _read_file(path: Path) -> bytes:
    try:
        status = path.stat()
        # SECURITY: whoever can write this file can mint requesters (test_a_jwks_file_that_others_can_write).
        if stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(f"{path} can be written by others; run: chmod go-w {path}")
        if status.st_size > MAX_JWKS_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_JWKS_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the JWKS file {path}: {error.strerror}") from None


def _parse(data: bytes, *, where: str) -> object:
    try:
        return read_json(data)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _issuer_key(member: dict[str, object], *, issuer: Issuer, where: str) -> IssuerKey:
    key_id, algorithm = member.get("kid"), member.get("alg")
    if not isinstance(key_id, str) or KEY_ID.fullmatch(key_id) is None:
        raise _UnfitKey(f"{where} needs a `kid` of 1 to 128 of [A-Za-z0-9._~=-]")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        raise _UnfitKey(f"{where} (`{key_id}`) needs an `alg` among {', '.join(issuer.algorithms)}")
    if member.get("use", "sig") != "sig":
        raise _UnfitKey(f"{where} (`{key_id}`) is not for signatures; its `use` must be `sig`")
    try:
        key = jwt.PyJWK(member)
        # Only this step compares the curve with the algorithm.
        key.Algorithm.prepare_key(key.key)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        # PyJWT's own message quotes the key.
        raise _UnfitKey(f"{where} (`{key_id}`) is not a usable {algorithm} key") from None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < MIN_RSA_BITS:
        raise _UnfitKey(f"{where} (`{key_id}`) has {key.key.key_size} bits; RSA needs {MIN_RSA_BITS}")
    return IssuerKey(key_id=key_id, algorithm=algorithm, key=key)
