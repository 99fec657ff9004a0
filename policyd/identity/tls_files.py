"""Read what a server shows and trusts in TLS from PEM files, and take it only whole, matching and valid."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from policyd.clock import format_instant
from policyd.errors import ConfigError
from policyd.model import Instant

MAX_BYTES = 1 << 20
MIN_RSA_BITS = 2048

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_ODD = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion)


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """A certificate with its chain, its key, and the authorities of clients; and when it is valid."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    authority_pem: bytes
    not_before: Instant
    not_after: Instant

    @property
    def lifetime_s(self) -> int:
        """How long the certificate is valid in all, in seconds."""
        return (self.not_after - self.not_before) // 1000


def read_tls(certificate: Path, *, key: Path, authority: Path, now: Instant) -> TlsMaterial:
    """Read the three files of a server.

    ``certificate`` holds the server's own first, then those between it and its authority; ``authority`` holds
    one or more, so that an old and a new one can be trusted while clients change over.

    Raises:
        ConfigError: a file is missing, cut short, not protected, or of another kind; the key is not that of
            the certificate; or the certificate is not valid at ``now``. Says which, and what to do.
    """
    key_pem = _read(key, secret=True)
    certificate_pem, authority_pem = _read(certificate), _read(authority)
    own = _certificates(certificate, certificate_pem)[0]
    _check_authorities(authority, _certificates(authority, authority_pem), now)
    _check_pair(certificate, own, key, key_pem)
    begin, end = _instant(own.not_valid_before_utc.timestamp()), _instant(own.not_valid_after_utc.timestamp())
    if not begin <= now <= end:
        raise ConfigError(
            f"the certificate in {certificate} is valid from {format_instant(begin)} until "
            f"{format_instant(end)}, not now; put a new one there"
        )
    return TlsMaterial(certificate_pem, key_pem, authority_pem, not_before=begin, not_after=end)


def _read(path: Path, *, secret: bool = False) -> bytes:
    try:
        # Links are followed: volumes of Kubernetes are rotated by their links.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{path} is not a plain file")
            _check_mode(path, found, secret=secret)
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes")
    return data


def _check_mode(path: Path, found: os.stat_result, *, secret: bool) -> None:
    mode = stat.S_IMODE(found.st_mode)
    # SECURITY: who can write these files can be this server, or let anyone in
    # (test_a_file_that_is_cut_short_missing_or_open_is_refused).
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path} can be written by others (mode {mode:04o}); run: chmod go-w {path}")
    if not secret:
        return
    # A group may read a key of root's: drivers that make keys as root hand them to a user in that way.
    others = stat.S_IRWXO if found.st_uid == 0 else stat.S_IRWXO | stat.S_IRWXG
    if mode & others:
        raise ConfigError(f"{path} is open to others (mode {mode:04o}); run: chmod 600 {path}")
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{path} belongs to another user; give it to the user that runs policyd")


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    """Return the certificates of a file, all of them: half of one at its end is a file half written."""
    begun, ended = pem.count(_BEGIN), pem.count(_END)
    try:
        found = x509.load_pem_x509_certificates(pem)
    except _ODD:
        found = []
    if not found or not len(found) == begun == ended:
        raise ConfigError(f"{path} does not hold whole PEM certificates; write it beside, then rename it")
    return found


def _check_authorities(path: Path, found: list[x509.Certificate], now: Instant) -> None:
    for number, certificate in enumerate(found, start=1):
        try:
            basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (*_ODD, x509.ExtensionNotFound):
            basic = None
        # SECURITY: TLS trusts whatever stands here, a client's own certificate too
        # (test_a_leaf_among_the_authorities_is_refused).
        if basic is None or not basic.ca:
            raise ConfigError(f"certificate {number} in {path} is no authority's; take it out")
    if all(_instant(each.not_valid_after_utc.timestamp()) < now for each in found):
        raise ConfigError(f"every authority in {path} has ended; put the new one there")


def _check_pair(path: Path, own: x509.Certificate, key_path: Path, key_pem: bytes) -> None:
    try:
        key = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"{key_path} does not hold a whole PEM private key without a password") from None
    public = key.public_key()
    if public != own.public_key():
        raise ConfigError(f"the certificate does not fit its key: {path}, {key_path}")
    usable = (
        public.key_size >= MIN_RSA_BITS
        if isinstance(public, RSAPublicKey)
        else isinstance(public, EllipticCurvePublicKey)
        and isinstance(public.curve, SECP256R1 | SECP384R1 | SECP521R1)
    )
    if not usable:
        raise ConfigError(f"{key_path} is of a kind that TLS here cannot use; make an ECDSA P-256 key")
    try:
        uses = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    except _ODD:
        raise ConfigError(f"the certificate in {path} has extensions that cannot be read") from None
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(uses):
        raise ConfigError(f"the certificate in {path} is not for servers; ask for the usage `server auth`")


def _instant(seconds: float) -> Instant:
    return int(seconds) * 1000
