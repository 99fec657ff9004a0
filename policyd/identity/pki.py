"""A certificate authority for `policyd dev` and `policyd demo` on one machine (RFC 5280, X509-SVID 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from policyd.errors import ConfigError
from policyd.identity.keys import read_private, replace_file
from policyd.identity.spiffe import check_spiffe_id, check_trust_domain
from policyd.model import Instant

LEAF_LIFETIME_S = 24 * 3600
AUTHORITY_LIFETIME_S = 30 * 24 * 3600
BACKDATED_S = 60
"""Certificates begin this long before they are made, for processes whose clocks differ a little."""

AUTHORITY_CERTIFICATE_FILE = "ca.pem"
AUTHORITY_KEY_FILE = "ca.key"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate and its private key, both PEM, as grpc takes them."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)

    def write(self, directory: Path, *, name: str) -> tuple[Path, Path]:
        """Write `name`.pem (0644) and `name`.key (0600), replacing older ones; return both paths.

        Raises:
            ConfigError: the files cannot be written.
        """
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        replace_file(key, self.key_pem)
        replace_file(certificate, self.certificate_pem, mode=0o644)
        return certificate, key


@dataclass(frozen=True, slots=True)
class Authority:
    """Issues certificates for the workloads of one trust domain."""

    trust_domain: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def certificate_pem(self) -> bytes:
        """The authority's certificate: what both sides take as their root."""
        return self.certificate.public_bytes(Encoding.PEM)

    def server(
        self,
        spiffe_id: str,
        *,
        now: Instant,
        lifetime_s: int = LEAF_LIFETIME_S,
        dns_names: Sequence[str] = ("localhost",),
        addresses: Sequence[str] = ("127.0.0.1",),
    ) -> Credentials:
        """Return credentials for a server reached under these names (extended key usage: server).

        Raises:
            ValueError: ``spiffe_id`` is not of this trust domain, or an address is none.
        """
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(ip_address(address)) for address in addresses]
        return self._leaf(
            spiffe_id,
            now=now,
            lifetime_s=lifetime_s,
            other_names=names,
            usage=ExtendedKeyUsageOID.SERVER_AUTH,
        )

    def client(self, spiffe_id: str, *, now: Instant, lifetime_s: int = LEAF_LIFETIME_S) -> Credentials:
        """Return credentials for a data service, named by exactly one URI (extended key usage: client).

        Raises:
            ValueError: ``spiffe_id`` is not of this trust domain.
        """
        return self._leaf(
            spiffe_id,
            now=now,
            lifetime_s=lifetime_s,
            other_names=[],
            usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        )

    def _leaf(
        self,
        spiffe_id: str,
        *,
        now: Instant,
        lifetime_s: int,
        other_names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
    ) -> Credentials:
        check_spiffe_id(spiffe_id, trust_domain=self.trust_domain)
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.UniformResourceIdentifier(spiffe_id), *other_names]
        builder = _builder(key.public_key(), now=now, lifetime_s=lifetime_s)
        certificate = (
            builder.subject_name(
                x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "policyd development")])
            )
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        return Credentials(certificate_pem=certificate.public_bytes(Encoding.PEM), key_pem=_key_pem(key))


def create_authority(trust_domain: str, *, now: Instant, lifetime_s: int = AUTHORITY_LIFETIME_S) -> Authority:
    """Return a new authority that exists in memory only.

    Raises:
        ValueError: ``trust_domain`` is none.
    """
    check_trust_domain(trust_domain)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"policyd development authority of {trust_domain}")]
    )
    domain = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")
    certificate = (
        _builder(key.public_key(), now=now, lifetime_s=lifetime_s)
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([domain]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(trust_domain=trust_domain, certificate=certificate, key=key)


def open_authority(directory: Path, *, trust_domain: str, now: Instant) -> Authority:
    """Use the authority in `directory`, making one when there is none or its last day has begun.

    Raises:
        ConfigError: the directory or its files cannot be used, or belong to another trust domain.
    """
    certificate_path, key_path = directory / AUTHORITY_CERTIFICATE_FILE, directory / AUTHORITY_KEY_FILE
    if certificate_path.exists() and key_path.exists():
        authority = _load_authority(certificate_path, key_path=key_path, trust_domain=trust_domain)
        if authority.certificate.not_valid_after_utc >= _moment(now) + timedelta(seconds=LEAF_LIFETIME_S):
            return authority
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {directory}: {error.strerror}") from None
    authority = create_authority(trust_domain, now=now)
    replace_file(key_path, _key_pem(authority.key))
    replace_file(certificate_path, authority.certificate_pem, mode=0o644)
    return authority


def _load_authority(certificate_path: Path, *, key_path: Path, trust_domain: str) -> Authority:
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = load_pem_private_key(read_private(key_path), password=None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        raise ConfigError(
            f"{certificate_path} or {key_path} is damaged; remove both to make new ones"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{key_path} is not the key of {certificate_path}; remove both to make new ones")
    if names.get_values_for_type(x509.UniformResourceIdentifier) != [f"spiffe://{trust_domain}"]:
        raise ConfigError(
            f"{certificate_path} is for another trust domain than `{trust_domain}`; remove it and {key_path}"
        )
    return Authority(trust_domain=trust_domain, certificate=certificate, key=key)


def _builder(
    public_key: ec.EllipticCurvePublicKey, *, now: Instant, lifetime_s: int
) -> x509.CertificateBuilder:
    begin = _moment(now)
    return (
        x509.CertificateBuilder()
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - timedelta(seconds=BACKDATED_S))
        .not_valid_after(begin + timedelta(seconds=lifetime_s))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _moment(now: Instant) -> datetime:
    return datetime.fromtimestamp(now // 1000, tz=UTC)
