"""Names the data service at the other end of a connection (SPIFFE-ID 2.1 to 2.3, X509-SVID 5)."""

from __future__ import annotations

import binascii
import re
import ssl
from collections.abc import Mapping, Sequence
from functools import lru_cache

from cryptography import x509

from policyd.errors import Unauthenticated

MAX_SPIFFE_ID_BYTES = 2048

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


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


def data_service_id(auth_context: Mapping[str, Sequence[bytes]], *, trust_domain: str) -> str:
    """Return the caller's SPIFFE ID from what gRPC says about the connection.

    The name comes from `peer_spiffe_id` alone: gRPC sets it only when the verified certificate has exactly
    one URI name and that is a SPIFFE ID. Common and DNS names are the caller's own invention.
    Microseconds for a certificate that was seen before.

    Raises:
        Unauthenticated: no certificate, one that may sign others, none or several URI names, or an id
            not of this trust domain.
    """
    names = auth_context.get("peer_spiffe_id", ())
    # SECURITY: X509-SVID 5.2, more than one URI name must be refused (test_two_uri_names).
    if len(names) != 1 or len(auth_context.get("peer_uri", names)) != 1:
        raise Unauthenticated("the client certificate must carry exactly one URI name, a SPIFFE ID")
    certificates = auth_context.get("x509_pem_cert", ())
    # SECURITY: X509-SVID 5.2, gRPC itself takes an authority's certificate for a client's
    # (test_an_authority_is_no_data_service).
    if len(certificates) != 1 or not _is_leaf(certificates[0]):
        raise Unauthenticated("the client certificate must be one that cannot sign certificates")
    try:
        return check_spiffe_id(names[0].decode("ascii"), trust_domain=trust_domain)
    except UnicodeDecodeError:
        raise Unauthenticated("the client certificate's SPIFFE ID is not ASCII") from None
    except ValueError as error:
        raise Unauthenticated(f"the client certificate names no data service: {error}") from None


@lru_cache(maxsize=1024)
def _is_leaf(certificate_pem: bytes) -> bool:
    """Say whether the certificate neither is nor may act as an authority; one that cannot be read may."""
    try:
        extensions = x509.load_pem_x509_certificate(certificate_pem).extensions
    except ValueError:
        return False
    for extension in extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            return False
        if isinstance(extension.value, x509.KeyUsage):
            usage = extension.value
            if usage.key_cert_sign or usage.crl_sign:
                return False
    return True


def certificate_der(auth_context: Mapping[str, Sequence[bytes]]) -> bytes | None:
    """Return the caller's certificate as DER, or None when gRPC gives none that can be read."""
    certificates = auth_context.get("x509_pem_cert", ())
    if len(certificates) != 1:
        return None
    try:
        return ssl.PEM_cert_to_DER_cert(certificates[0].decode("ascii"))
    except (ValueError, binascii.Error):
        return None
