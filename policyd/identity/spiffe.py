"""Names the data service at the other end of a connection (SPIFFE-ID 2.1 to 2.3, X509-SVID 5)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from policyd.clock import format_instant
from policyd.errors import Unauthenticated
from policyd.model import Instant

MAX_SPIFFE_ID_BYTES = 2048
MAX_CERTIFICATE_BYTES = 16 << 10
"""Of a client's certificate as PEM; with the number that are remembered, it bounds their memory."""

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_ONE_NAME = "the client certificate must carry exactly one URI name, a SPIFFE ID"
_NO_LEAF = "the client certificate must be one that cannot sign certificates"
_UNREADABLE = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the verified certificate says; both instants belong to its period."""

    spiffe_id: str
    certificate_der: bytes = field(repr=False)
    certificate_sha256: str
    """Of the DER form, in lower-case hex."""
    not_before: Instant
    not_after: Instant


def check_trust_domain(name: str) -> str:
    """Return `name` when it is a trust domain: lower case, no scheme, port or path.

    Raises:
        ValueError: it is not.
    """
    if _TRUST_DOMAIN.fullmatch(name) is None:
        raise ValueError(f"`{name}` is not a trust domain; use 1 to 255 of [a-z0-9._-], such as policyd.test")
    return name


def check_spiffe_id(text: str, *, trust_domain: str) -> str:
    """Return `text` when it is a workload's SPIFFE ID in exactly this trust domain.

    Nothing is normalised: another spelling of a valid id is another id, and refused.

    Raises:
        ValueError: it is not; the message says which part is wrong.
    """
    if len(text) > MAX_SPIFFE_ID_BYTES:
        raise ValueError(f"a SPIFFE ID has at most {MAX_SPIFFE_ID_BYTES} bytes")
    scheme, separator, rest = text.partition("://")
    if scheme != "spiffe" or not separator:
        raise ValueError("a SPIFFE ID begins with `spiffe://`, in lower case")
    domain, slash, path = rest.partition("/")
    # SECURITY: compared whole; a prefix match would admit policyd.test.example (test_trust_domain_is_exact).
    if domain != trust_domain:
        raise ValueError(f"the trust domain is not `{trust_domain}`")
    if not slash or not path:
        raise ValueError("a workload's SPIFFE ID has a path after the trust domain")
    for segment in path.split("/"):
        if _SEGMENT.fullmatch(segment) is None or segment in (".", ".."):
            raise ValueError("path segments are one or more of [A-Za-z0-9._-], and neither `.` nor `..`")
    return text


def caller_of(auth_context: Mapping[str, Sequence[bytes]], *, trust_domain: str, now: Instant) -> Caller:
    """Return who is at the other end, from what gRPC says about the connection and from the certificate.

    gRPC sets `peer_spiffe_id` only when the verified certificate has exactly one URI name and that is a
    SPIFFE ID; the certificate itself is read all the same. Common and DNS names are the caller's own
    invention. Microseconds for a certificate that was seen before.

    Raises:
        Unauthenticated: no certificate, one that may sign others, that is not valid at ``now``, none or
            several URI names, or an id not of this trust domain.
    """
    names = auth_context.get("peer_spiffe_id", ())
    # SECURITY: X509-SVID 5.2, more than one URI name must be refused
    # (test_a_certificate_of_our_authority_that_names_no_data_service_is_unauthenticated).
    if len(names) != 1 or len(auth_context.get("peer_uri", names)) != 1:
        raise Unauthenticated(_ONE_NAME)
    certificates = auth_context.get("x509_pem_cert", ())
    leaf = _read_leaf(certificates[0], trust_domain) if len(certificates) == 1 else _NO_LEAF
    if isinstance(leaf, str):
        raise Unauthenticated(leaf)
    if leaf.spiffe_id.encode() != names[0]:
        raise Unauthenticated(_ONE_NAME)
    # SECURITY: a connection outlives the certificate that it was made with, which TLS looks at but once
    # (test_a_client_certificate_that_ends_while_connected_is_refused).
    if now < leaf.not_before or now > leaf.not_after:
        raise Unauthenticated(
            f"the client certificate is valid from {format_instant(leaf.not_before)} until "
            f"{format_instant(leaf.not_after)}: connect again with its successor"
        )
    return leaf


@lru_cache(maxsize=1024)
def _read_leaf(certificate_pem: bytes, trust_domain: str) -> Caller | str:
    """Read a certificate by the rules of X509-SVID 5.2; the text says which one it breaks."""
    if len(certificate_pem) > MAX_CERTIFICATE_BYTES:
        return f"the client certificate has more than {MAX_CERTIFICATE_BYTES} bytes"
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        extensions = certificate.extensions
    except _UNREADABLE:
        return _NO_LEAF
    names: list[str] = []
    for extension in extensions:
        value = extension.value
        # SECURITY: gRPC itself takes an authority's certificate for a client's
        # (test_an_authority_is_no_data_service).
        if isinstance(value, x509.BasicConstraints) and value.ca:
            return _NO_LEAF
        if isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign):
            return _NO_LEAF
        if isinstance(value, x509.SubjectAlternativeName):
            names = value.get_values_for_type(x509.UniformResourceIdentifier)
    if len(names) != 1:
        return _ONE_NAME
    try:
        check_spiffe_id(names[0], trust_domain=trust_domain)
    except ValueError as error:
        return f"the client certificate names no data service: {error}"
    der = certificate.public_bytes(Encoding.DER)
    return Caller(
        spiffe_id=names[0],
        certificate_der=der,
        certificate_sha256=hashlib.sha256(der).hexdigest(),
        not_before=int(certificate.not_valid_before_utc.timestamp()) * 1000,
        # SPEC: RFC 5280, 4.1.2.5: the last second belongs to the period.
        not_after=int(certificate.not_valid_after_utc.timestamp()) * 1000 + 999,
    )
