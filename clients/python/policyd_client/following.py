"""A channel that follows its certificate: replaced files are taken up without an error seen by callers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from policyd_client._clock import boot_seconds

LOOK_EVERY_S = 1.0
"""How often at most the files are looked at."""

_LOG = logging.getLogger("policyd_client")

Read = Callable[[Path], bytes]
Make = Callable[[Sequence[bytes]], grpc.Channel]
_Signature = tuple[tuple[int, ...], ...]


class FollowingChannel:
    """A channel to one target, made anew when one of the files it was made from is another.

    Offers what this package uses of ``grpc.Channel``. Calls in progress go on where they began: a channel is
    closed when the one after it is replaced, too. Files that do not fit each other are not taken. Safe to use
    from many threads.

    ``read`` gives PEM texts: the authority, the certificate and its key.
    """

    def __init__(self, paths: Sequence[Path], *, read: Callable[[], Sequence[bytes]], make: Make) -> None:
        """Raises ValueError or OSError when ``read`` does: there is nothing to begin with then."""
        self._paths = tuple(paths)
        self._read = read
        self._make = make
        self._lock = Lock()
        self._closed = False
        self._seen = self._signature()
        self._pem = tuple(read())
        self._channel = make(self._pem)
        self._before: grpc.Channel | None = None
        self._looked_at_s = boot_seconds()
        self._said = ""

    def unary_unary(self, path: str, **codec: Any) -> Callable[..., Any]:
        """Return a method that is called on the channel of the moment."""
        return self._following(lambda channel: channel.unary_unary(path, **codec))

    def unary_stream(self, path: str, **codec: Any) -> Callable[..., Any]:
        """Return a method whose streams begin on the channel of the moment."""
        return self._following(lambda channel: channel.unary_stream(path, **codec))

    def close(self) -> None:
        """Close all connections; calls in progress are cancelled."""
        with self._lock:
            self._closed = True
            for channel in (self._channel, self._before):
                if channel is not None:
                    channel.close()

    def _following(self, method_of: Callable[[grpc.Channel], Callable[..., Any]]) -> Callable[..., Any]:
        made: tuple[grpc.Channel, Callable[..., Any]] | None = None

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal made
            channel, known = self._current(), made
            if known is None or known[0] is not channel:
                known = made = (channel, method_of(channel))
            return known[1](*arguments, **options)

        return call

    def _current(self) -> grpc.Channel:
        if boot_seconds() - self._looked_at_s >= LOOK_EVERY_S:
            with self._lock:
                self._look()
        return self._channel

    def _look(self) -> None:
        now_s = boot_seconds()
        if self._closed or now_s - self._looked_at_s < LOOK_EVERY_S:
            return
        self._looked_at_s = now_s
        # Before reading: what is replaced in between then shows as another change.
        seen = self._signature()
        if seen == self._seen:
            return
        try:
            pem = tuple(self._read())
            x509.load_pem_x509_certificates(pem[0])
            check_pair(certificate=pem[1], key=pem[2])
            _same_name(pem[1], self._pem[1])
        except (OSError, ValueError) as error:
            # A renewal replaces one file after the other; what does not fit yet is looked at again.
            if str(error) != self._said:
                self._said = str(error)
                _LOG.warning("the certificate's files cannot be used yet, the ones before stay: %s", error)
            return
        self._seen, self._said = seen, ""
        if pem == self._pem:
            return
        if self._before is not None:
            self._before.close()
        self._pem, self._before, self._channel = pem, self._channel, self._make(pem)
        _LOG.info("the client's certificate was read again")

    def _signature(self) -> _Signature:
        return tuple(_state_of(path) for path in self._paths)


def check_pair(*, certificate: bytes, key: bytes) -> None:
    """Return if a private key is that of a certificate, both PEM.

    Raises:
        ValueError: it is not, or one of them cannot be read.
    """
    try:
        named = x509.load_pem_x509_certificate(certificate).public_key()
        held = load_pem_private_key(key, password=None).public_key()
    except TypeError:
        raise ValueError("the key is protected by a password") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if named.public_bytes(*form) != held.public_bytes(*form):
        raise ValueError("the key is not that of the certificate")


def _same_name(new: bytes, old: bytes) -> None:
    # What the logs prove is bound to the name with which the client began.
    if _names(new) != _names(old):
        raise ValueError("the new certificate names somebody else")


def _names(certificate: bytes) -> list[str]:
    try:
        found = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return []
    return sorted(found.value.get_values_for_type(x509.UniformResourceIdentifier))


def _state_of(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
