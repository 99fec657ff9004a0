"""The HTTP side of a witness: few threads, small bodies, short waits, and an end that loses nothing."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from policyd import clock
from policyd.witness.protocol import MAX_BODY_BYTES, Answer, Witness

MAX_CONNECTIONS = 64
IDLE_S = 30.0
"""How long a connection may take for its next request as a whole, waiting included."""
DRAIN_S = 5.0
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_LOG = logging.getLogger("policyd.witness")


class WitnessServer(ThreadingHTTPServer):
    """Serves one witness at one address until `stop`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, *, witness: Witness, on_failure: Callable[[], None] = lambda: None
    ) -> None:
        """Listen; `serve_forever` answers. `on_failure` is called when the witness cannot go on.

        Raises:
            OSError: the address cannot be used.
        """
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.witness = witness
        self.on_failure = on_failure
        self._changed = threading.Condition()
        self._since_s: dict[socket.socket, float] = {}
        super().__init__((host, port), _Handler)

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def stop(self) -> None:
        """Refuse new connections, finish the requests that have been read, and close. Not for reuse."""
        self.shutdown()
        self.server_close()
        with self._changed:
            for connection in self._since_s:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
            self._changed.wait_for(lambda: not self._since_s, DRAIN_S)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a thread, or turn it away where there are too many."""
        with self._changed:
            free = len(self._since_s) < MAX_CONNECTIONS
            if free:
                self._since_s[request] = clock.monotonic()
        if free:
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # no thread could be started
                self._forget(request)
                raise
            return
        with contextlib.suppress(OSError):
            request.settimeout(0.1)
            request.sendall(_FULL)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def service_actions(self) -> None:
        """Cut off connections whose next request has not come whole in time; runs twice a second."""
        too_old_s = clock.monotonic() - IDLE_S
        with self._changed:
            for connection, since_s in self._since_s.items():
                if since_s < too_old_s:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)

    def answered(self, connection: socket.socket) -> None:
        """Say that a request of this connection has been answered: the time for the next one starts."""
        with self._changed:
            self._since_s[connection] = clock.monotonic()

    def _forget(self, connection: socket.socket) -> None:
        with self._changed:
            self._since_s.pop(connection, None)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke; its request was answered or it was not."""
        _LOG.debug("a connection broke")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "policyd-witness"
    sys_version = ""
    timeout = IDLE_S
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet for a whole answer
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d\n"
    server: WitnessServer

    def do_POST(self) -> None:  # the name that http.server calls
        """Answer add-checkpoint."""
        if self.path.partition("?")[0] != "/add-checkpoint":
            self._refuse(404, "the only path is /add-checkpoint\n")
            return
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self._refuse(411, "name the length of the body\n")
            return
        if len(length) > 9 or int(length) > MAX_BODY_BYTES:
            self._refuse(413, f"a body has at most {MAX_BODY_BYTES} bytes\n")
            return
        body = self.rfile.read(int(length))
        if len(body) != int(length):
            self.close_connection = True
            return
        self._reply(self.server.witness.add_checkpoint(body))
        if self.server.witness.failure:
            self.server.on_failure()

    def do_GET(self) -> None:  # the name that http.server calls
        """Refuse: there is nothing to read here."""
        self._refuse(405, "post to /add-checkpoint\n")

    def handle_expect_100(self) -> bool:
        """Tell a client that waits for it to send its body."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name in http.server
        """Keep what strangers send out of the log."""

    def _refuse(self, status: int, why: str) -> None:
        self.close_connection = True  # its body has not been read
        self._reply(Answer(status, why))

    def _reply(self, answer: Answer) -> None:
        body = answer.body.encode("utf-8")
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.server.answered(self.connection)
