"""A real HTTPS server on loopback that publishes keys, or misbehaves as a test asks it to."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd import clock
from policyd.identity.pki import create_authority

Answer = Callable[[socket.socket], None]
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"


def signing_key(number: int) -> Ed25519PrivateKey:
    """Return a key that is the same each time."""
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


def jwk(key: Ed25519PrivateKey, key_id: str, **changes: Any) -> dict[str, Any]:
    """Return the public half as a JWKS member, changed as asked."""
    public = urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "kid": key_id,
        "x": public,
    } | changes


def with_body(body: bytes, *, declared: int | None = None) -> Answer:
    """Answer 200 with a body, and with a length that may be a lie."""
    length = len(body) if declared is None else declared

    def answer(connection: socket.socket) -> None:
        connection.sendall(_HEAD + f"Content-Length: {length}\r\n\r\n".encode() + body)

    return answer


def with_status(status: str, *lines: str) -> Answer:
    """Answer something else than 200."""

    def answer(connection: socket.socket) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *lines])
        connection.sendall(f"{head}\r\n\r\n".encode())

    return answer


def with_keys(*members: object) -> Answer:
    """Answer with a JWKS."""
    return with_body(json.dumps({"keys": members}).encode())


class JwksServer:
    """Answers every request as ``answer`` says at the moment; counts what it was asked."""

    def __init__(self, directory: Path) -> None:
        credentials = create_authority("policyd.test", now=clock.now())
        self.authority = directory / "authority.pem"
        self.authority.write_bytes(credentials.certificate_pem)
        leaf = credentials.server("spiffe://policyd.test/issuer", now=clock.now())
        certificate, key = leaf.write(directory, name="jwks-server")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}/jwks.json"
        self.asked: list[str] = []
        self.answer: Answer = with_keys()
        self.closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Stop listening, end slow answers and wait for every thread."""
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with plain, self._tls.wrap_socket(plain, server_side=True) as connection:
                head = connection.recv(4096)
                self.asked.append(head.split(b"\r\n")[0].decode())
                self.answer(connection)
        except OSError:
            pass  # the client gave up, which some tests are about


@contextmanager
def jwks_server(directory: Path) -> Iterator[JwksServer]:
    """Run a server for as long as the block lasts."""
    server = JwksServer(directory)
    try:
        yield server
    finally:
        server.close()
