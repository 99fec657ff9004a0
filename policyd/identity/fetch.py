"""Fetches one small document by HTTPS, bounded in time and size as a whole, and follows no redirects."""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from policyd import clock
from policyd.deadline import DeadlineSource, left_s
from policyd.errors import ConfigError, NotServing

_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+/[A-Za-z0-9._~/%-]*(\?[A-Za-z0-9._~/%&=:-]*)?", re.ASCII)
_SAID = 120


def check_fetch_url(url: str) -> SplitResult:
    """Return the parts of a URL that may be fetched: https, or http from this very machine.

    Raises:
        ValueError: it is another; says what would do.
    """
    try:
        parts = urlsplit(url)
        known = bool(parts.hostname) and parts.port != 0 and _URL.fullmatch(url) is not None
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"`{url[:_SAID]}` is not a URL such as https://login.example/jwks.json")
    # SECURITY: over plain http anybody on the way could put in keys of their own.
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError(f"`{url[:_SAID]}` is not https; plain http is for addresses such as 127.0.0.1 only")
    return parts


def fetch(url: str, *, authority: Path | None, deadline_s: float, max_bytes: int) -> bytes:
    """Return the document at `url` (as `check_fetch_url` takes it) if it comes whole within ``deadline_s``.

    ``authority`` is a PEM file of the authorities to believe in place of the system's. Proxy settings of
    the environment are not used. Looking up the name may take longer than the deadline.

    Raises:
        NotServing: no answer, an answer that is not 200, or more than ``max_bytes``.
        ConfigError: the authority file cannot be used.
    """
    parts = check_fetch_url(url)
    until_s = clock.monotonic() + deadline_s
    tls = _context(authority) if parts.scheme == "https" else None
    try:
        with _connect(parts, tls=tls, until_s=until_s) as connection:
            return _exchange(connection, parts, until_s=until_s, max_bytes=max_bytes)
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = "".join(c if c.isprintable() else "?" for c in str(error)[:_SAID])
        raise NotServing(f"cannot fetch `{url}` ({type(error).__name__}: {said})") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name could be made to lead elsewhere.
        return False


def _context(authority: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if authority is None else str(authority))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the authorities in {authority}: {error.strerror or error}") from None


def _connect(parts: SplitResult, *, tls: ssl.SSLContext | None, until_s: float) -> socket.socket:
    host = parts.hostname or ""
    port = parts.port or (443 if tls else 80)
    plain = socket.create_connection((host, port), timeout=left_s(until_s))
    try:
        plain.settimeout(left_s(until_s))
        return tls.wrap_socket(plain, server_hostname=host) if tls else plain
    except BaseException:
        plain.close()
        raise


def _exchange(connection: socket.socket, parts: SplitResult, *, until_s: float, max_bytes: int) -> bytes:
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    head = (
        f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        "Accept: application/jwk-set+json, application/json\r\nConnection: close\r\n\r\n"
    )
    connection.settimeout(left_s(until_s))
    connection.sendall(head.encode("ascii"))
    # HTTPResponse wants nothing of a socket but a file to read from.
    source: Any = DeadlineSource(connection, until_s)
    with http.client.HTTPResponse(source, method="GET") as response:
        response.begin()
        if response.status != http.client.OK:
            raise http.client.HTTPException(f"the answer is {response.status}")
        body = response.read(max_bytes + 1)
        if len(body) > max_bytes:
            raise http.client.HTTPException(f"more than {max_bytes} bytes")
        if response.length:
            raise http.client.HTTPException(f"{response.length} bytes are missing")
        return body
