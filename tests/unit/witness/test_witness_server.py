"""The HTTP side of a witness bounds everything that a stranger can send, and ends without losing any."""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path

import pytest
from support.witness import TreeLog, post, serving_witness

from policyd.witness import server as witness_server
from policyd.witness.protocol import MAX_BODY_BYTES

LOG = TreeLog().grow(40)


def raw(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def head(length: object, more: str = "", *, method: str = "POST", path: str = "/add-checkpoint") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: w\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def test_a_checkpoint_comes_back_cosigned(tmp_path: Path) -> None:
    """Over HTTP, too, 200 comes with a signature, and 409 with the size in a type of its own."""
    with serving_witness(tmp_path / "w", LOG.verifier) as server:
        good = post(server.address, LOG.request(0, 5))
        old = post(server.address, LOG.request(0, 9))

    assert (good[0], good[2].startswith("\N{EM DASH} witness.test/w1 ".encode())) == (200, True)
    assert old == (409, "text/x.tlog.size", b"5\n")


def test_one_connection_serves_many_requests(tmp_path: Path) -> None:
    """Connections are kept, as the specification recommends."""
    with serving_witness(tmp_path / "w", LOG.verifier) as server, raw(server.address) as connection:
        for size in range(3):
            body = LOG.request(size, size + 1)
            connection.sendall(head(len(body)) + body)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head(MAX_BODY_BYTES + 1), 413),
        (head("9" * 400), 413),
        (head("-1"), 411),
        (head("1e3"), 411),
        (head("\u0661"), 411),
        (head(5, "Transfer-Encoding: chunked\r\n"), 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\n\r\n", 411),
        (head(0, path="/"), 404),
        (head(0, path="/add-checkpoint/x"), 404),
        (head(0, method="GET"), 405),
        (head(0, method="PUT"), 501),
        (head(0, "X: " + "y" * 70_000 + "\r\n"), 431),
        (b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"\x16\x03\x01 hello hello\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_of_the_protocol_is_refused(tmp_path: Path, sent: bytes, status: int) -> None:
    """One status line, and the connection is closed without reading what else would come."""
    with serving_witness(tmp_path / "w", LOG.verifier) as server, raw(server.address) as connection:
        connection.sendall(sent)

        # What does not even look like HTTP gets the status alone.
        assert re.match(rf"(HTTP/1.1 )?{status}\b".encode(), read_all(connection))


def test_a_body_that_ends_early_changes_nothing(tmp_path: Path) -> None:
    """A caller that goes away in the middle of its body gets nothing and leaves nothing."""
    body = LOG.request(0, 5)
    with serving_witness(tmp_path / "w", LOG.verifier) as server:
        with raw(server.address) as connection:
            connection.sendall(head(len(body) + 1) + body)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b""
        assert post(server.address, LOG.request(7, 7))[2] == b"0\n"


def test_a_client_that_waits_to_be_told_is_told(tmp_path: Path) -> None:
    """`Expect: 100-continue` is answered before the body."""
    body = LOG.request(0, 5)
    with serving_witness(tmp_path / "w", LOG.verifier) as server, raw(server.address) as connection:
        connection.sendall(head(len(body), "Expect: 100-continue\r\n"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")


def test_too_many_connections_are_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound there is 503 at once; when one goes, another may come."""
    monkeypatch.setattr(witness_server, "MAX_CONNECTIONS", 3)
    with serving_witness(tmp_path / "w", LOG.verifier) as server:
        held = [raw(server.address) for _ in range(3)]
        _wait_until(lambda: len(server._since_s) == 3)
        with raw(server.address) as fourth:
            assert read_all(fourth).startswith(b"HTTP/1.1 503 ")
        for each in held:
            each.close()
        _wait_until(lambda: not server._since_s)
        assert post(server.address, LOG.request(0, 5))[0] == 200


def test_a_slow_caller_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a byte comes: what is not there as a whole in time is not waited for."""
    monkeypatch.setattr(witness_server, "IDLE_S", 0.5)
    with serving_witness(tmp_path / "w", LOG.verifier) as server, raw(server.address) as connection:
        begin_s = time.monotonic()
        with pytest.raises(OSError, match=r"[Rr]eset|[Bb]roken pipe"):
            _drip(connection, until_s=begin_s + 15)
        assert not read_all(connection)
        assert time.monotonic() - begin_s < 10


def test_stop_answers_what_has_been_read_and_ends_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request under way is answered, an idle connection is closed, a new one is refused."""
    reached, go_on = threading.Event(), threading.Event()
    with serving_witness(tmp_path / "w", LOG.verifier) as server:
        real = server.witness.add_checkpoint

        def slowly(body: bytes) -> object:
            reached.set()
            assert go_on.wait(20)
            return real(body)

        monkeypatch.setattr(server.witness, "add_checkpoint", slowly)
        with raw(server.address) as idle, raw(server.address) as busy:
            body = LOG.request(0, 5)
            busy.sendall(head(len(body)) + body)
            assert reached.wait(20)
            stopper = threading.Thread(target=server.stop)
            stopper.start()
            assert read_all(idle) == b""
            go_on.set()
            assert read_all(busy).startswith(b"HTTP/1.1 200 ")
            stopper.join()
            with pytest.raises(ConnectionError):
                raw(server.address)


def _drip(connection: socket.socket, *, until_s: float) -> None:
    while time.monotonic() < until_s:
        connection.sendall(b"P")
        time.sleep(0.02)  # slowness is the point


def _wait_until(holds: object) -> None:
    assert callable(holds)
    until_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.01)
