"""Fetching one document: whole, in time, of a bearable size, from where it was asked for, or not at all."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.jwks_server import Answer, JwksServer, jwks_server, with_body, with_status

from policyd import clock
from policyd.errors import ConfigError, NotServing
from policyd.identity.fetch import check_fetch_url, fetch

MAX = 10_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[JwksServer]:
    with jwks_server(tmp_path) as running:
        yield running


def ask(server: JwksServer, *, deadline_s: float = 5.0) -> bytes:
    return fetch(server.url, authority=server.authority, deadline_s=deadline_s, max_bytes=MAX)


def drip(connection: socket.socket, text: bytes, server: JwksServer) -> None:
    for byte in text:
        connection.sendall(bytes([byte]))
        if server.closing.wait(0.02):
            return


def test_a_document_comes_as_it_is(server: JwksServer) -> None:
    """Also with a query in the URL, and up to the last byte allowed."""
    server.answer = with_body(b"x" * MAX)

    assert ask(server) == b"x" * MAX
    url = f"{server.url}?p=policy-1"
    assert fetch(url, authority=server.authority, deadline_s=5.0, max_bytes=MAX) == b"x" * MAX
    assert server.asked == ["GET /jwks.json HTTP/1.1", "GET /jwks.json?p=policy-1 HTTP/1.1"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (with_body(b"x" * (MAX + 1)), "more than 10000 bytes"),
        (with_body(b"", declared=1 << 40), "bytes are missing"),
        (with_body(b"{", declared=100), "99 bytes are missing|IncompleteRead"),
        (with_status("500 Internal Server Error"), "the answer is 500"),
        (with_status("204 No Content"), "the answer is 204"),
        (with_status("302 Found", "Location: https://127.0.0.1:1/jwks.json"), "the answer is 302"),
        (with_status("308 Permanent Redirect", "Location: /other.json"), "the answer is 308"),
        (with_status("200 OK", "Transfer-Encoding: chunked", "", "zz"), "cannot fetch"),
        (lambda connection: connection.sendall(b"\x00\xff nonsense \r\n\r\n"), "BadStatusLine"),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200), "cannot fetch"),
        (lambda _: None, "cannot fetch"),
    ],
    ids=[
        "too large",
        "empty though huge",
        "truncated",
        "500",
        "nothing to say",
        "elsewhere",
        "another path",
        "broken chunks",
        "not HTTP",
        "too many headers",
        "closed at once",
    ],
)
def test_anything_but_a_whole_document_is_no_answer(answer: Answer, said: str, server: JwksServer) -> None:
    """Nor is a redirect, to whatever place: the URL that was configured is the one that is believed."""
    server.answer = answer

    with pytest.raises(NotServing, match=said):
        ask(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_slow_answer_ends_with_the_deadline(part: str, server: JwksServer) -> None:
    """However regularly a byte comes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    text = head * 50 if part == "head" else b"x" * 5000
    server.answer = lambda connection: (
        connection.sendall(head if part == "body" else b""),
        drip(connection, text, server),
    )[1]
    start_s = clock.monotonic()

    with pytest.raises(NotServing, match="cannot fetch"):
        ask(server, deadline_s=0.3)
    assert clock.monotonic() - start_s < 3.0


def test_a_server_that_is_not_there_is_no_answer(tmp_path: Path) -> None:
    """The message names the URL."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NotServing, match=f"https://127.0.0.1:{port}/k"):
        fetch(f"https://127.0.0.1:{port}/k", authority=None, deadline_s=1.0, max_bytes=MAX)


def test_a_certificate_of_another_authority_is_not_believed(server: JwksServer, tmp_path: Path) -> None:
    """Neither by the authorities of the system, nor by a file that names another."""
    (tmp_path / "b").mkdir()
    with jwks_server(tmp_path / "b") as other, pytest.raises(NotServing, match="certificate verify failed"):
        fetch(server.url, authority=other.authority, deadline_s=5.0, max_bytes=MAX)
    with pytest.raises(NotServing, match="certificate verify failed"):
        fetch(server.url, authority=None, deadline_s=5.0, max_bytes=MAX)
    assert server.asked == []


def test_a_certificate_for_another_name_is_not_believed(server: JwksServer) -> None:
    """The certificate of 127.0.0.1 does not vouch for 127.0.0.2, which leads to the same place."""
    with socket.create_server(("127.0.0.2", 0)):
        pass  # this machine has the address
    url = server.url.replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(NotServing):
        fetch(url, authority=server.authority, deadline_s=5.0, max_bytes=MAX)


def test_an_authority_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """It is a mistake of the configuration, not of the issuer."""
    (tmp_path / "empty.pem").write_bytes(b"")
    for name in ("absent.pem", "empty.pem"):
        with pytest.raises(ConfigError, match=name):
            fetch("https://127.0.0.1:1/k", authority=tmp_path / name, deadline_s=1.0, max_bytes=MAX)


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example/jwks.json",
        "https://login.example:8443/",
        "https://login.example/a/b?p=policy_1&x=%20",
        "https://[2001:db8::1]/k",
        "http://127.0.0.1:8080/jwks.json",
        "http://[::1]/jwks.json",
    ],
)
def test_https_and_loopback_may_be_fetched(url: str) -> None:
    """Plain http only where nobody is on the way."""
    assert check_fetch_url(url).geturl() == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://login.example",
        "ftp://login.example/k",
        "file:///etc/passwd",
        "//login.example/k",
        "https://user:secret@login.example/k",
        "https://login.example/k#part",
        "https://login.example/k k",
        "https://login.example:0/k",
        "https://login.example:99999/k",
        "https://[::1/k",
        "https:///k",
        "https://login.example/k\r\nX: y",
        "http://login.example/k",
        "http://localhost/k",
        "http://127.0.0.1.evil.example/k",
        "http://10.0.0.1/k",
    ],
)
def test_nothing_else_may_be_fetched(url: str) -> None:
    """No other scheme, no credentials, no fragment, no plain http over a network."""
    with pytest.raises(ValueError, match=re.escape(f"`{url}` is not ")):
        check_fetch_url(url)


def test_proxies_of_the_environment_are_not_used(server: JwksServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come from where the configuration says, whatever the process inherits."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.answer = with_body(b"{}")

    assert ask(server) == b"{}"
