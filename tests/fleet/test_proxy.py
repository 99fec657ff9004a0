"""The proxy does to connections what the tests of a fleet believe it does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from support.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1024):
                    connection.sendall(data)
            except OSError:
                return

    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in (accepting, *threads):
        thread.join()


@pytest.fixture
def proxy(echo: str) -> Iterator[Proxy]:
    with Proxy(echo) as running:
        yield running


def connect(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def say(connection: socket.socket, text: bytes = b"hello") -> bytes:
    connection.sendall(text)
    return connection.recv(1024)


def test_what_goes_in_comes_back(proxy: Proxy) -> None:
    """Left alone, the proxy passes everything on, both ways, and the end of a stream too."""
    with connect(proxy) as connection:
        assert say(connection) == b"hello"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1024) == b""


def test_a_delay_holds_in_each_direction(proxy: Proxy) -> None:
    """There and back takes twice the delay, on a connection that was open before."""
    with connect(proxy) as connection:
        say(connection)
        proxy.delay(0.15)
        begin = time.monotonic()
        assert say(connection) == b"hello"
        assert time.monotonic() - begin >= 0.3

        proxy.heal()
        assert say(connection) == b"hello"


def test_a_frozen_connection_stays_open_and_silent(proxy: Proxy) -> None:
    """Half-open: the sender is told nothing, and what was sent arrives when the proxy heals."""
    with connect(proxy) as connection:
        say(connection)
        proxy.freeze()
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            say(connection, b"late")

        proxy.heal()
        connection.settimeout(10)
        assert connection.recv(1024) == b"late"


def test_a_reset_ends_what_is_open_and_nothing_else(proxy: Proxy) -> None:
    """The peer sees a reset; a new connection passes."""
    with connect(proxy) as connection:
        say(connection)
        proxy.reset()
        with pytest.raises(ConnectionError):
            assert say(connection)
    with connect(proxy) as connection:
        assert say(connection) == b"hello"


def test_a_refusing_proxy_lets_nobody_in(proxy: Proxy) -> None:
    """Open and new connections end, until it heals."""
    with connect(proxy) as connection:
        say(connection)
        proxy.refuse()
        with pytest.raises(ConnectionError):
            assert say(connection)
    with pytest.raises(ConnectionError), connect(proxy) as connection:
        assert say(connection)

    proxy.heal()
    with connect(proxy) as connection:
        assert say(connection) == b"hello"


def test_a_connection_to_nobody_ends(proxy: Proxy) -> None:
    """With nothing behind it the proxy does what a dead host's port does; it may be pointed elsewhere."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
    alive = proxy._upstream
    proxy.point_to(dead)
    with pytest.raises(ConnectionError), connect(proxy) as connection:
        assert say(connection)

    proxy.point_to(alive)
    with connect(proxy) as connection:
        assert say(connection) == b"hello"
