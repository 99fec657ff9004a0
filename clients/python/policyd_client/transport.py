"""Channels to policyd: always mutual TLS, never through a proxy, one for each target."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import grpc
from cryptography import x509

from policyd_client.following import FollowingChannel

Pem = bytes | str | os.PathLike[str]
"""PEM text as bytes, or the path of a file that holds it."""

Channel = grpc.Channel | FollowingChannel
"""What calls go through; both have the same methods, as far as this package uses them."""

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
) -> tuple[Channel, ...]:
    """Open a channel to each `host:port` of `targets`; connections are made when first used.

    Where all three PEM texts are files, new connections follow them.

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

    def read() -> tuple[bytes, bytes, bytes]:
        return (
            read_pem(ca, "ca", "CERTIFICATE"),
            read_pem(certificate, "certificate", "CERTIFICATE"),
            read_pem(key, "key", "PRIVATE KEY"),
        )

    def open_channel(target: str, pem: Sequence[bytes]) -> grpc.Channel:
        authority, chain, private = pem
        credentials = grpc.ssl_channel_credentials(
            root_certificates=authority, private_key=private, certificate_chain=chain
        )
        return grpc.secure_channel(target, credentials, options=(*_OPTIONS, *options))

    paths = [Path(source) for source in (ca, certificate, key) if not isinstance(source, bytes)]
    if len(paths) < 3:
        pem = read()
        return tuple(open_channel(target, pem) for target in targets)
    return tuple(FollowingChannel(paths, read=read, make=partial(open_channel, target)) for target in targets)


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
