"""One HTTP POST at a time over a kept connection, bounded in time and size as a whole."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from policyd import clock
from policyd.deadline import DeadlineSource, left_s
from policyd.errors import NotServing

MAX_REPLY_BYTES = 64 * 1024
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    content_type: str
    body: bytes


def check_url(url: str) -> SplitResult:
    """Return the parts of a URL that can be posted to.

    Raises:
        ValueError: it is none of http or https, or holds more than host, port and path.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or not _URL.fullmatch(url):
        raise ValueError(f"`{url[:120]}` is not a URL such as https://witness.example/prefix")
    return parts


class Poster:
    """Posts to one place; from one thread at a time.

    Written on a socket of its own because the time limits of `http.client` start anew with each byte
    that a slow peer sends.
    """

    def __init__(self, url: str, *, deadline_s: float) -> None:
        """Name the place; connects when there is something to post.

        Raises:
            ValueError: the URL is none of http or https, or holds more than host, port and path.
        """
        parts = check_url(url)
        self._url = url
        self._host, self._netloc, self._path = parts.hostname or "", parts.netloc, parts.path
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._deadline_s = deadline_s
        self._socket: socket.socket | None = None

    def post(self, body: bytes) -> Reply:
        """Post and return the reply; a kept connection that has gone stale is made anew, once.

        Raises:
            NotServing: no whole reply within the deadline.
        """
        until_s = clock.monotonic() + self._deadline_s
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._netloc}\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode("ascii")
        kept = self._socket is not None
        try:
            try:
                return self._exchange(head + body, until_s)
            except (OSError, http.client.HTTPException):
                self.close()
                if not kept:
                    raise
            return self._exchange(head + body, until_s)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            said = "".join(c if c.isprintable() else "?" for c in str(error)[:120])
            raise NotServing(f"no answer from `{self._url}` ({type(error).__name__}: {said})") from error

    def close(self) -> None:
        """Give the connection back; the next post makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, message: bytes, until_s: float) -> Reply:
        connection = self._socket or self._connect(until_s)
        connection.settimeout(left_s(until_s))
        connection.sendall(message)
        # HTTPResponse wants nothing of a socket but a file to read from.
        source: Any = DeadlineSource(connection, until_s)
        with http.client.HTTPResponse(source, method="POST") as response:
            response.begin()
            read = response.read(MAX_REPLY_BYTES + 1)
            if len(read) > MAX_REPLY_BYTES:
                raise http.client.HTTPException(f"a reply of more than {MAX_REPLY_BYTES} bytes")
            if response.will_close:
                self.close()
            content_type = (response.getheader("Content-Type") or "").partition(";")[0].strip()
            return Reply(response.status, content_type, read)

    def _connect(self, until_s: float) -> socket.socket:
        plain = socket.create_connection((self._host, self._port), timeout=left_s(until_s))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(left_s(until_s))
            self._socket = self._tls.wrap_socket(plain, server_hostname=self._host) if self._tls else plain
        except BaseException:
            plain.close()
            raise
        return self._socket
