"""Channels to policyd: always mutual TLS, never through a proxy, one for each target."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import grpc
from cryptography import x509

Pem = bytes | str | os.PathLike[str]
"""PEM text as bytes, or the path of a file that holds it."""

CONNECT_TIMEOUT_S = 0.5
"""How long one target may take to connect before the next is tried."""

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.enable_retries", 0),  # this client alone decides what is asked twice
    ("grpc.enable_http_proxy", 0),  # an environment variable must not reroute questions about children
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT_S * 1000)),  # also bounds one attempt to connect
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),  # also how long sent bytes may stay unacknowledged by a dead peer
)


def open_channels(
    targets: Sequence[str],
    *,
    ca: Pem,
    certificate: Pem,
    key: Pem,
    options: tuple[tuple[str, int], ...] = (),
) -> tuple[grpc.Channel, ...]:
    """Open a channel to each `host:port` of `targets`; connections are made when first used.

    Raises:
        ValueError: there is no target, one has no port, or one of the PEM texts is not what it should be.
        OSError: a PEM file cannot be read.
    """
    if not targets:
        raise ValueError("`targets` is empty; give at least one host:port")
    for target in targets:
        host, colon, port = target.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit()):
            raise ValueError(f"target `{target}` is not host:port")
    credentials = grpc.ssl_channel_credentials(
        root_certificates=read_pem(ca, "ca", "CERTIFICATE"),
        private_key=read_pem(key, "key", "PRIVATE KEY"),
        certificate_chain=read_pem(certificate, "certificate", "CERTIFICATE"),
    )
    return tuple(
        grpc.secure_channel(target, credentials, options=(*_OPTIONS, *options)) for target in targets
    )


def own_spiffe_id(certificate: Pem) -> str:
    """Return the SPIFFE id that a client certificate names.

    Raises:
        ValueError: it names none, or several.
        OSError: the file cannot be read.
    """
    pem = read_pem(certificate, "certificate", "CERTIFICATE")
    try:
        names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise ValueError(f"`certificate` cannot be read: {error}") from None
    if len(uris) != 1 or not uris[0].startswith("spiffe://"):
        raise ValueError("`certificate` names no SPIFFE id, to which receipts are bound")
    return uris[0]


def read_pem(source: Pem, part: str, label: str) -> bytes:
    """Return PEM bytes. grpc falls back to public roots, or to no certificate, where it is given nothing."""
    pem = source if isinstance(source, bytes) else Path(source).read_bytes()
    if b"-----BEGIN " not in pem or f"{label}-----".encode() not in pem:
        raise ValueError(f"`{part}` holds no PEM block `{label}`")
    return pem
