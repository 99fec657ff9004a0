"""The URL of a Redis is read strictly, and never holds or shows a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyd.errors import ConfigError
from policyd.registry.redis_url import RedisUrl, Secret, parse_redis_url

BASE = Path("/etc/policyd")

GOOD = {
    "redis://localhost": RedisUrl((("localhost", 6379),)),
    "redis://127.0.0.1:7000/3": RedisUrl((("127.0.0.1", 7000),), database=3),
    "redis://[::1]:7000": RedisUrl((("::1", 7000),)),
    "redis://policyd@r.test?password_file=keys/redis": RedisUrl(
        (("r.test", 6379),), user="policyd", password=Secret(file=BASE / "keys/redis")
    ),
    "redis://r.test?password_env=REDIS_SECRET": RedisUrl(
        (("r.test", 6379),), password=Secret(variable="REDIS_SECRET")
    ),
    "rediss://r.test?ca=/etc/ca.pem&certificate=c.pem&key=k.pem": RedisUrl(
        (("r.test", 6379),),
        tls=True,
        authority=Path("/etc/ca.pem"),
        certificate=BASE / "c.pem",
        key=BASE / "k.pem",
    ),
    "redis+sentinel://a,b:7,[::2]:8/npd/2": RedisUrl(
        (("a", 26379), ("b", 7), ("::2", 8)), service="npd", database=2
    ),
    "rediss+sentinel://u@a/npd?password_file=p&sentinel_user=s&sentinel_password_file=q": RedisUrl(
        (("a", 26379),),
        service="npd",
        tls=True,
        user="u",
        password=Secret(file=BASE / "p"),
        sentinel_user="s",
        sentinel_password=Secret(file=BASE / "q"),
    ),
}


@pytest.mark.parametrize("text", GOOD)
def test_a_url_is_read_into_its_parts(text: str) -> None:
    """Schemes, hosts with their default ports, paths from the data directory."""
    assert parse_redis_url(text, base=BASE) == GOOD[text]


BAD = {
    "": "must begin with",
    "localhost:6379": "must begin with",
    "http://localhost": "must begin with",
    "unix:///run/redis.sock": "must begin with",
    "redis://": "names no host",
    "redis://:6379": "names no host",
    "redis://a:": "a port that is no number",
    "redis://a:70000": "a port that is no number",
    "redis://a:1x": "a port that is no number",
    "redis://a b": "a host that is no name",
    "redis://[::1": "cannot be read",
    "redis://a/x": "a database that is no number",
    "redis://a/1/2": "parts too many",
    "redis://a#b": "parts too many",
    "redis://a,b": "several hosts",
    "redis://a?x=1": "an unknown parameter `x`",
    "redis://a?password=secret": "an unknown parameter `password`",
    "redis://a?password_file=a&password_file=b": "a name twice",
    "redis://a?password_file": "cannot be read",
    "redis://a?password_file=p&password_env=P": "both password_file and password_env",
    "redis://user@a": "a user, but no password_file",
    "redis://us er@a?password_file=p": "a user that is not",
    "redis://a?ca=ca.pem": "only rediss:// uses TLS",
    "rediss://a?certificate=c.pem": "both `certificate` and `key`",
    "rediss://a?ca=": "an empty path",
    "redis+sentinel://a": "no service",
    "redis+sentinel://a/b c": "no service",
    "redis://a?sentinel_password_file=p": "a login for sentinels, but names none",
    "redis+sentinel://a/npd?sentinel_user=s": "a sentinel_user without a password",
}


@pytest.mark.parametrize("text", BAD)
def test_a_url_of_another_form_is_refused(text: str) -> None:
    """Each mistake is named."""
    with pytest.raises(ConfigError, match=BAD[text]):
        parse_redis_url(text, base=BASE)


@pytest.mark.parametrize(
    "text", ["redis://u:hunter2@a", "redis://:hunter2@a", "redis+sentinel://u:hunter2@a/s"]
)
def test_a_password_in_the_url_is_refused_and_not_repeated(text: str) -> None:
    """It would end in a configuration file, a process list or a log."""
    with pytest.raises(ConfigError, match="holds a password: put it into a file") as caught:
        parse_redis_url(text, base=BASE)

    assert "hunter2" not in str(caught.value)


def test_a_url_is_shown_without_its_query() -> None:
    """Messages say where, and neither user nor files."""
    shown = {str(url): text for text, url in GOOD.items()}

    assert list(shown) == [
        "redis://localhost:6379",
        "redis://127.0.0.1:7000/3",
        "redis://[::1]:7000",
        "redis://r.test:6379",
        "rediss://r.test:6379",
        "redis+sentinel://a:26379,b:7,[::2]:8/npd/2",
        "rediss+sentinel://a:26379/npd",
    ]


def test_hosts_of_this_machine_are_told_from_others() -> None:
    """Only they may be reached without TLS and without a warning."""
    local = {text: parse_redis_url(text, base=BASE).local for text in GOOD}

    assert [text for text, here in local.items() if here] == list(GOOD)[:3]


def test_a_password_is_one_line_in_a_file_of_ones_own(tmp_path: Path) -> None:
    """A file that others may read, an empty one and one of several lines are refused."""
    path = tmp_path / "secret"
    path.write_text("s3cret\n", "utf-8")
    path.chmod(0o600)
    assert Secret(file=path).read() == "s3cret"

    path.chmod(0o640)
    with pytest.raises(ConfigError, match="open to others; run: chmod 600"):
        Secret(file=path).read()
    path.chmod(0o600)
    for content in (b"", b"\n", b"a\nb\n", b"a\0", b"x" * 5_000):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="holds no password"):
            Secret(file=path).read()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Secret(file=path).read()
    path.unlink()
    with pytest.raises(ConfigError, match="cannot read the password"):
        Secret(file=path).read()


def test_a_password_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set is refused."""
    monkeypatch.setenv("POLICYD_TEST_SECRET", "s3cret")
    assert Secret(variable="POLICYD_TEST_SECRET").read() == "s3cret"

    monkeypatch.delenv("POLICYD_TEST_SECRET")
    with pytest.raises(ConfigError, match="environment variable POLICYD_TEST_SECRET holds no password"):
        Secret(variable="POLICYD_TEST_SECRET").read()
