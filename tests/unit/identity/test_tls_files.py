"""A server's certificate, key and authorities: taken whole, matching, valid and protected, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from policyd.clock import parse_instant
from policyd.errors import ConfigError
from policyd.identity import pki
from policyd.identity.tls_files import TlsMaterial, read_tls
from policyd.model import Instant

DOMAIN = "policyd.test"
NODE = f"spiffe://{DOMAIN}/policyd"
NOW = parse_instant("2026-11-24T10:00:00Z")
HOUR_MS = 3600 * 1000


@dataclass(frozen=True)
class Files:
    directory: Path
    authority: pki.Authority

    @property
    def certificate(self) -> Path:
        return self.directory / "server.pem"

    @property
    def key(self) -> Path:
        return self.directory / "server.key"

    @property
    def bundle(self) -> Path:
        return self.directory / "ca.pem"

    def read(self, *, now: Instant = NOW) -> TlsMaterial:
        return read_tls(self.certificate, key=self.key, authority=self.bundle, now=now)


@pytest.fixture(scope="module")
def authority() -> pki.Authority:
    return pki.create_authority(DOMAIN, now=NOW)


@pytest.fixture
def files(tmp_path: Path, authority: pki.Authority) -> Files:
    authority.server(NODE, now=NOW, lifetime_s=3600).write(tmp_path, name="server")
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "ca.pem").chmod(0o644)
    return Files(tmp_path, authority)


def _half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_good_files_are_taken_as_they_are(files: Files) -> None:
    """The bytes for TLS, and the period of the certificate; the key is not shown."""
    have = files.read()

    assert have.certificate_pem == files.certificate.read_bytes()
    assert have.key_pem == files.key.read_bytes()
    assert have.authority_pem == files.bundle.read_bytes()
    assert (have.not_before, have.not_after) == (NOW - 60_000, NOW + HOUR_MS)
    assert have.lifetime_s == 3660
    assert "PRIVATE" not in repr(have)


def test_an_old_and_a_new_authority_may_stand_together(files: Files) -> None:
    """Also when the old one has ended; a bundle of nothing but ended ones is refused."""
    later = NOW + 40 * 24 * HOUR_MS
    new = pki.create_authority(DOMAIN, now=later)
    new.server(NODE, now=later).write(files.directory, name="server")

    files.bundle.write_bytes(files.authority.certificate_pem + new.certificate_pem)
    assert files.read(now=later).authority_pem.count(b"BEGIN CERTIFICATE") == 2
    files.bundle.write_bytes(files.authority.certificate_pem)
    with pytest.raises(ConfigError, match=r"every authority in .* has ended"):
        files.read(now=later)


def test_a_chain_may_follow_the_certificate(files: Files) -> None:
    """What stands between the server's certificate and its authority is shown, too."""
    with files.certificate.open("ab") as file:
        file.write(files.authority.certificate_pem)

    assert files.read().certificate_pem.count(b"BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("certificate", _half, "server.pem does not hold whole PEM certificates"),
        ("key", _half, "server.key does not hold a whole PEM private key"),
        ("bundle", _half, "ca.pem does not hold whole PEM certificates"),
        ("certificate", lambda path: path.write_bytes(b""), "server.pem does not hold whole"),
        ("key", lambda path: path.write_bytes(b""), "server.key does not hold a whole"),
        ("bundle", lambda path: path.write_bytes(b""), "ca.pem does not hold whole"),
        ("bundle", lambda path: path.write_bytes(bytes(range(256))), "ca.pem does not hold whole"),
        ("certificate", Path.unlink, "cannot read .*server.pem"),
        ("key", Path.unlink, "cannot read .*server.key"),
        ("bundle", Path.unlink, "cannot read .*ca.pem"),
        ("certificate", lambda path: path.write_bytes(b" " * (1 << 20) + b"x"), "larger than"),
        ("key", lambda path: path.chmod(0o644), "chmod 600"),
        ("key", lambda path: path.chmod(0o604), "chmod 600"),
        ("key", lambda path: path.chmod(0o660), "chmod go-w"),
        ("certificate", lambda path: path.chmod(0o664), "chmod go-w"),
        ("bundle", lambda path: path.chmod(0o646), "chmod go-w"),
    ],
)
def test_a_file_that_is_cut_short_missing_or_open_is_refused(
    files: Files, name: str, spoil: Callable[[Path], object], message: str
) -> None:
    """The message names the file and what to do; nothing of the three is taken."""
    files.read()
    path: Path = getattr(files, name)

    spoil(path)

    with pytest.raises(ConfigError, match=message):
        files.read()


@pytest.mark.parametrize("cut", [1, 20, 26, 27, 300])
def test_a_bundle_whose_second_certificate_is_cut_short_is_refused(files: Files, cut: int) -> None:
    """What a reader of PEM would pass over in silence is a file that somebody is still writing."""
    second = pki.create_authority(DOMAIN, now=NOW).certificate_pem
    files.bundle.write_bytes(files.authority.certificate_pem + second[:-cut])

    if cut == 1:  # the end of the last line is no part of the certificate
        assert files.read()
        return
    with pytest.raises(ConfigError, match="does not hold whole PEM certificates"):
        files.read()


def test_a_group_may_read_a_key_of_roots_but_not_ones_own(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drivers that make keys as root give them to a group; in one's own hands there is no need of one."""
    files.key.chmod(0o440)
    real = os.fstat

    def owned_by(owner: int) -> Callable[[int], os.stat_result]:
        def fstat(descriptor: int) -> os.stat_result:
            found = real(descriptor)
            return os.stat_result((*found[:4], owner, *found[5:10]))

        return fstat

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "fstat", owned_by(0))
    assert files.read()
    monkeypatch.setattr(os, "fstat", owned_by(1000))
    with pytest.raises(ConfigError, match="chmod 600"):
        files.read()
    monkeypatch.setattr(os, "fstat", owned_by(1001))
    files.key.chmod(0o400)
    with pytest.raises(ConfigError, match="belongs to another user"):
        files.read()


def test_a_key_of_another_certificate_is_refused(files: Files, tmp_path: Path) -> None:
    """New certificate beside old key, as between two writes of a renewal."""
    _, key = files.authority.server(NODE, now=NOW).write(tmp_path, name="other")
    files.key.write_bytes(key.read_bytes())

    with pytest.raises(ConfigError, match="the certificate does not fit its key"):
        files.read()


def test_a_key_with_a_password_is_refused(files: Files) -> None:
    """There is nobody to type it."""
    key = load_pem_private_key(files.key.read_bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    files.key.write_bytes(pem)

    with pytest.raises(ConfigError, match="without a password"):
        files.read()


@pytest.mark.parametrize("now", [NOW - 60_001, NOW + HOUR_MS + 1])
def test_a_certificate_out_of_its_time_is_refused(files: Files, now: Instant) -> None:
    """Before it begins and after it has ended; the first and the last instant are good."""
    assert files.read(now=NOW - 60_000)
    assert files.read(now=NOW + HOUR_MS)

    with pytest.raises(ConfigError, match=r"is valid from .* until .*, not now"):
        files.read(now=now)


def test_a_certificate_for_clients_is_refused(files: Files) -> None:
    """No client would take it for a server's."""
    files.authority.client(NODE, now=NOW).write(files.directory, name="server")

    with pytest.raises(ConfigError, match="is not for servers"):
        files.read()


def test_a_leaf_among_the_authorities_is_refused(files: Files) -> None:
    """TLS would trust its holder for ever, whatever the authority says later."""
    leaf = files.authority.client(f"spiffe://{DOMAIN}/data-service/a", now=NOW).certificate_pem
    files.bundle.write_bytes(files.authority.certificate_pem + leaf)

    with pytest.raises(ConfigError, match=r"certificate 2 in .*ca.pem is no authority's"):
        files.read()


@pytest.mark.parametrize(
    ("make", "usable"),
    [
        (lambda: ec.generate_private_key(ec.SECP384R1()), True),
        (lambda: rsa.generate_private_key(65537, 2048), True),
        (lambda: rsa.generate_private_key(65537, 2047), False),  # noqa: S505  # what must be refused
        (lambda: ec.generate_private_key(ec.SECP256K1()), False),
        (ed25519.Ed25519PrivateKey.generate, False),
    ],
    ids=["P-384", "RSA 2048", "RSA 2047", "secp256k1", "Ed25519"],
)
def test_a_kind_of_key_that_no_client_takes_is_refused(
    files: Files, make: Callable[[], rsa.RSAPrivateKey], usable: bool
) -> None:
    """gRPC would start with some of them, and fail every handshake."""
    key = make()
    own = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(own.issuer)
        .public_key(key.public_key())
        .serial_number(own.serial_number)
        .not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
        .sign(files.authority.key, hashes.SHA256())
    )
    files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    if usable:
        assert files.read()
        return
    with pytest.raises(ConfigError, match="make an ECDSA P-256 key"):
        files.read()


def test_a_directory_or_a_pipe_is_refused_without_waiting(files: Files) -> None:
    """Opening a pipe must not hang the handshake that looks at it."""
    files.key.unlink()
    os.mkfifo(files.key, 0o600)

    with pytest.raises(ConfigError, match="is not a plain file"):
        files.read()
