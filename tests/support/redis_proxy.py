"""A TCP proxy that tests can cut, hold, turn to another server, or put TLS in front of."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress


class Proxy:
    """Listens on a free loopback port and passes bytes on to ``port``.

    ``tls`` makes it speak TLS to those who connect. `cut` closes everything and refuses, until `mend`.
    `lose` and `hold` name a word: a connection on which a client says it gets no answer any more, or what
    it says is kept back until `mend`.
    """

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._target = port
        self._tls = tls
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._cut = False
        self._lose: bytes | None = None
        self._hold: bytes | None = None
        self._held = threading.Condition(self._lock)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"redis{'s' * (self._tls is not None)}://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Close every connection, and each new one at once."""
        with self._lock:
            self._cut = True
        self._close_all()

    def mend(self) -> None:
        """Pass on again, first what was held back."""
        with self._held:
            self._cut, self._lose, self._hold = False, None, None
            self._held.notify_all()

    def turn_to(self, port: int) -> None:
        """Pass new connections to another server, and close those there are."""
        with self._lock:
            self._target = port
        self._close_all()

    def lose(self, word: bytes) -> None:
        """Give no answer to a connection from when it says ``word``."""
        with self._lock:
            self._lose = word

    def hold(self, word: bytes) -> None:
        """Keep back what a connection says from ``word`` on, even after it was closed."""
        with self._lock:
            self._hold = word

    def close(self) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            target, cut = self._target, self._cut
        if cut:
            client.close()
            return
        try:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            server = socket.create_connection(("127.0.0.1", target), timeout=5.0)
        except OSError:
            client.close()
            return
        with self._lock:
            self._open |= {client, server}
        try:
            with suppress(OSError, ValueError):  # closed by `cut`, or by one of the two
                self._pump(client, server)
        finally:
            with self._lock:
                self._open -= {client, server}
            client.close()
            server.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        losing = False
        while True:
            waiting = isinstance(client, ssl.SSLSocket) and client.pending()
            ready = [client] if waiting else select.select([client, server], [], [], 5.0)[0]
            for source in ready:
                data = source.recv(65_536)
                if not data:
                    return
                if source is server:
                    if not losing:
                        client.sendall(data)
                    continue
                with self._held:
                    losing = losing or (self._lose is not None and self._lose in data)
                    if self._hold is not None and self._hold in data:
                        self._held.wait_for(lambda: self._hold is None)
                        losing = True
                server.sendall(data)

    def _close_all(self) -> None:
        with self._lock:
            found = list(self._open)
        for each in found:
            with suppress(OSError):  # gone already
                each.shutdown(socket.SHUT_RDWR)
