"""Which JWKS files are believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd.errors import ConfigError
from policyd.identity.jwks import ALGORITHMS, Issuer, read_issuer_keys

ED25519: dict[str, Any] = jwt.algorithms.OKPAlgorithm.to_jwk(
    Ed25519PrivateKey.generate().public_key(), as_dict=True
)
P256: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(
    ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True
)
P384: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(
    ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True
)
GOOD = {**ED25519, "alg": "EdDSA", "kid": "k1"}


def _rsa(bits: int) -> dict[str, Any]:
    public = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key()
    return jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)


def _file(directory: Path, content: object) -> Path:
    path = directory / "jwks.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    path.chmod(0o644)
    return path


def test_keys_come_by_their_id_with_their_one_algorithm(tmp_path: Path) -> None:
    """Keys of every allowed kind are read, each bound to its own algorithm."""
    members = [GOOD, {**P256, "alg": "ES256", "kid": "k2"}, {**_rsa(2048), "alg": "PS256", "kid": "k3"}]
    issuer = Issuer("i", jwks=_file(tmp_path, {"keys": members}), algorithms=("EdDSA", "ES256", "PS256"))

    have = {key_id: key.algorithm for key_id, key in read_issuer_keys(issuer).items()}

    assert have == {"k1": "EdDSA", "k2": "ES256", "k3": "PS256"}


def test_no_shared_secret_and_no_none_can_be_allowed() -> None:
    """The list from which issuers' algorithms are chosen holds only public-key signatures."""
    assert not {name for name in ALGORITHMS if name.startswith("HS") or name.lower() == "none"}


@pytest.mark.parametrize("algorithms", [(), ("none",), ("HS256",), ("EdDSA", "HS512"), ("eddsa",)])
def test_an_issuer_with_an_unfit_algorithm_is_refused(tmp_path: Path, algorithms: tuple[str, ...]) -> None:
    """An issuer may not be configured for an algorithm outside the list, nor for none at all."""
    with pytest.raises(ConfigError, match="may not use algorithm"):
        read_issuer_keys(Issuer("i", jwks=_file(tmp_path, {"keys": [GOOD]}), algorithms=algorithms))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "no keys"),
        ({}, "no keys"),
        ({"keys": []}, "no keys"),
        ({"keys": {"k": GOOD}}, "no keys"),
        ('{"keys":[],"keys":[]}', "twice"),
        ({"keys": ["k"]}, "not an object"),
        ({"keys": [{**GOOD, "d": "AAAA"}]}, "private or shared"),
        ({"keys": [{"kty": "oct", "k": "AAAA", "alg": "EdDSA", "kid": "k"}]}, "private or shared"),
        ({"keys": [{**ED25519, "alg": "EdDSA"}]}, "needs a `kid`"),
        ({"keys": [{**GOOD, "kid": 1}]}, "needs a `kid`"),
        ({"keys": [{**GOOD, "kid": "../a"}]}, "needs a `kid`"),
        ({"keys": [{**ED25519, "kid": "k1"}]}, "needs an `alg`"),
        ({"keys": [{**GOOD, "alg": "HS256"}]}, "needs an `alg`"),
        ({"keys": [{**GOOD, "alg": "RS256"}]}, "needs an `alg`"),
        ({"keys": [{**GOOD, "use": "enc"}]}, "not for signatures"),
        ({"keys": [GOOD, GOOD]}, "two keys have the `kid`"),
        ({"keys": [{**GOOD, "x": "AAAA"}]}, "not a usable"),
        ({"keys": [{**GOOD, "crv": "P-256"}]}, "not a usable"),
        ({"keys": [{**GOOD, "alg": "ES256"}]}, "not a usable"),
        ({"keys": [{**P384, "alg": "ES256", "kid": "k"}]}, "not a usable"),
        ({"keys": [{**P256, "alg": "EdDSA", "kid": "k"}]}, "not a usable"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_jwks_file_with_a_mistake_is_refused_whole(tmp_path: Path, content: object, message: str) -> None:
    """One unfit key is enough; the message says which, and quotes no key material."""
    path = _file(tmp_path, content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_issuer_keys(Issuer("i", jwks=path, algorithms=("EdDSA", "ES256")))

    assert "AAAA" not in str(caught.value)
    assert ED25519["x"] not in str(caught.value)


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    """RSA keys have at least 2048 bits."""
    path = _file(tmp_path, {"keys": [{**_rsa(1024), "alg": "RS256", "kid": "k"}]})
    with pytest.raises(ConfigError, match="1024 bits"):
        read_issuer_keys(Issuer("i", jwks=path, algorithms=("RS256",)))


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_jwks_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever can write the file can mint requesters."""
    path = _file(tmp_path, {"keys": [GOOD]})
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod go-w"):
        read_issuer_keys(Issuer("i", jwks=path))


def test_a_missing_or_huge_jwks_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there, or over a megabyte, is named."""
    with pytest.raises(ConfigError, match="cannot read"):
        read_issuer_keys(Issuer("i", jwks=tmp_path / "absent.json"))
    with pytest.raises(ConfigError, match="larger"):
        read_issuer_keys(Issuer("i", jwks=_file(tmp_path, " " * (1 << 20) + "{}")))


def test_an_issuer_without_a_name_is_refused(tmp_path: Path) -> None:
    """An empty issuer would match nothing that could be audited."""
    with pytest.raises(ConfigError, match="empty name"):
        read_issuer_keys(Issuer("", jwks=_file(tmp_path, {"keys": [GOOD]})))
