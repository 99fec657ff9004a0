"""The local issuer mints what the verifier believes."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from policyd.clock import parse_instant
from policyd.errors import ConfigError, TokenError
from policyd.identity.issuer import LocalIssuer
from policyd.identity.token import TokenVerifier

NOW = parse_instant("2026-03-01T10:00:00Z")
SERVICE = "spiffe://policyd.test/data-service/npd-secure"


def _mint(issuer: LocalIssuer, *, lifetime_s: int = 600, certificate_der: bytes | None = None) -> str:
    return issuer.mint(
        "researcher-1",
        data_service=SERVICE,
        audience="policyd",
        now=NOW,
        lifetime_s=lifetime_s,
        roles=["researcher"],
        certificate_der=certificate_der,
    )


def test_a_minted_token_is_believed(tmp_path: Path) -> None:
    """The verifier that trusts the issuer returns subject, roles and expiry as they were asked for."""
    issuer = LocalIssuer.open(tmp_path)
    verifier = TokenVerifier([issuer.trust()], audience="policyd")

    have = verifier.verify(_mint(issuer), data_service=SERVICE, now=NOW)

    assert (have.issuer, have.subject, have.roles) == (
        "policyd-dev",
        "researcher-1",
        frozenset({"researcher"}),
    )
    assert have.expires_at == NOW + 600_000


def test_a_bound_token_needs_its_certificate(tmp_path: Path) -> None:
    """A token minted for a certificate is believed over that one alone."""
    issuer = LocalIssuer.open(tmp_path)
    verifier = TokenVerifier([issuer.trust()], audience="policyd")
    token = _mint(issuer, certificate_der=b"one")

    assert verifier.verify(token, data_service=SERVICE, now=NOW, certificate_der=b"one")
    with pytest.raises(TokenError, match="binding"):
        verifier.verify(token, data_service=SERVICE, now=NOW, certificate_der=b"two")


def test_no_two_tokens_are_alike(tmp_path: Path) -> None:
    """Each token has an id of its own, also within one second."""
    issuer = LocalIssuer.open(tmp_path)

    assert _mint(issuer) != _mint(issuer)


def test_an_issuer_keeps_its_key(tmp_path: Path) -> None:
    """A token minted before a restart is believed after it."""
    token = _mint(LocalIssuer.open(tmp_path))

    verifier = TokenVerifier([LocalIssuer.open(tmp_path).trust()], audience="policyd")

    assert verifier.verify(token, data_service=SERVICE, now=NOW)


def test_another_issuer_of_the_same_name_is_not_believed(tmp_path: Path) -> None:
    """The name counts for nothing without the key."""
    ours, theirs = LocalIssuer.open(tmp_path / "ours"), LocalIssuer.open(tmp_path / "theirs")
    verifier = TokenVerifier([ours.trust()], audience="policyd")

    with pytest.raises(TokenError, match="key"):
        verifier.verify(_mint(theirs), data_service=SERVICE, now=NOW)


@pytest.mark.parametrize("lifetime_s", [0, -1, 901])
def test_a_life_that_no_verifier_accepts_is_not_minted(tmp_path: Path, lifetime_s: int) -> None:
    """Tokens live 1 to 900 seconds."""
    with pytest.raises(ValueError, match="1 to 900"):
        _mint(LocalIssuer.open(tmp_path), lifetime_s=lifetime_s)


def test_the_jwks_file_is_public_and_holds_no_secret(tmp_path: Path) -> None:
    """The key file is for its owner, the JWKS file for everyone and without private members."""
    LocalIssuer.open(tmp_path)

    assert stat.S_IMODE((tmp_path / "issuer.key").stat().st_mode) == 0o600
    (member,) = json.loads((tmp_path / "jwks.json").read_text(encoding="ascii"))["keys"]
    assert member.keys() == {"kty", "crv", "alg", "use", "kid", "x"}


def test_an_issuer_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The issuer does not start with a key that others can read."""
    LocalIssuer.open(tmp_path)
    (tmp_path / "issuer.key").chmod(0o644)

    with pytest.raises(ConfigError, match="chmod 600"):
        LocalIssuer.open(tmp_path)


def test_many_threads_may_open_one_issuer_at_once(tmp_path: Path) -> None:
    """Each finds the same key, and its public file is written when it says something else, not each time."""
    LocalIssuer.open(tmp_path)
    jwks = tmp_path / "jwks.json"
    jwks.write_text("{}", "utf-8")
    start, problems = threading.Barrier(8), []

    def open_it() -> None:
        start.wait()
        try:
            LocalIssuer.open(tmp_path)
        except ConfigError as error:
            problems.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = jwks.stat().st_ino
    LocalIssuer.open(tmp_path)

    assert problems == []
    assert "keys" in json.loads(jwks.read_text("utf-8"))
    assert jwks.stat().st_ino == written
