"""Reads the URL of a fleet's Redis; secrets are named by it and never part of it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from policyd.errors import ConfigError

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")

_PORT, _SENTINEL_PORT = 6379, 26379
_HOST = re.compile(r"\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+)", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9._@-]{1,128}", re.ASCII)
_MAX_SECRET_CHARACTERS = 4_096


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a password is kept, read anew for each connection: a file, or a variable of the environment."""

    file: Path | None = None
    variable: str = ""

    def read(self) -> str:
        """Return the password.

        Raises:
            ConfigError: it is not there, is open to others, or is no line of text.
        """
        if self.file is None:
            text, where = os.environ.get(self.variable, ""), f"environment variable {self.variable}"
        else:
            where = str(self.file)
            try:
                if self.file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise ConfigError(f"{where} is open to others; run: chmod 600 {where}")
                text = self.file.read_text(encoding="utf-8").removesuffix("\n")
            except OSError as error:
                raise ConfigError(f"cannot read the password in {where}: {error.strerror}") from None
            except UnicodeDecodeError:
                raise ConfigError(f"{where} is not UTF-8 text; write the password alone into it") from None
        if not 0 < len(text) <= _MAX_SECRET_CHARACTERS or not text.isprintable():
            raise ConfigError(f"{where} holds no password: it must be one line of printable characters")
        return text


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where the fleet's state is, and with what to identify; ``hosts`` are sentinels if ``service``."""

    hosts: tuple[tuple[str, int], ...]
    service: str = ""
    database: int = 0
    tls: bool = False
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: str = ""
    password: Secret | None = None
    sentinel_user: str = ""
    sentinel_password: Secret | None = None

    def __str__(self) -> str:
        """Return it as messages show it: who and where, no query."""
        scheme = f"redis{'s' * self.tls}{'+sentinel' if self.service else ''}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        path = f"/{self.service}" if self.service else ""
        return f"{scheme}://{hosts}{path}{f'/{self.database}' if self.database else ''}"

    @property
    def local(self) -> bool:
        """Whether every host named is this machine."""
        return all(host in ("localhost", "::1") or host.startswith("127.") for host, _ in self.hosts)


def parse_redis_url(text: str, *, base: Path) -> RedisUrl:
    """Read ``redis://[user@]host[:port][/database][?...]``; relative paths are taken from ``base``.

    Schemes are those of ``SCHEMES``; sentinels are ``redis+sentinel://host:port,host:port/service``. The
    query may hold ``password_file`` or ``password_env``, ``sentinel_user`` with ``sentinel_password_file``
    or ``sentinel_password_env``, and for TLS ``ca``, ``certificate`` and ``key``.

    Raises:
        ConfigError: the text has another form; nothing of a password in it is repeated.
    """
    try:
        parts = urlsplit(text)
        query = dict(
            parse_qsl(parts.query, strict_parsing=True, keep_blank_values=True) if parts.query else []
        )
        doubled = parts.query.count("=") != len(query)
    except ValueError:
        raise ConfigError("the URL of the state cannot be read; write redis://host:port") from None
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"the URL of the state must begin with one of {', '.join(SCHEMES)} and ://")
    login, _, places = parts.netloc.rpartition("@")
    if ":" in login:
        raise ConfigError(
            "the URL of the state holds a password: put it into a file of mode 0600 and name that with"
            " ?password_file=PATH"
        )
    sentinel, tls = parts.scheme.endswith("+sentinel"), parts.scheme.startswith("rediss")
    path = unquote(parts.path).strip("/").split("/") if parts.path.strip("/") else []
    service = path.pop(0) if sentinel and path else ""
    if doubled or parts.fragment or len(path) > 1:
        raise ConfigError("the URL of the state has parts too many: a path too long, `#`, or a name twice")
    if sentinel and _SERVICE.fullmatch(service) is None:
        raise ConfigError("the URL of the state names sentinels, but no service: add /NAME after the hosts")
    url = RedisUrl(
        hosts=tuple(_host(place, _SENTINEL_PORT if sentinel else _PORT) for place in places.split(",")),
        service=service,
        database=_number(path[0], "database", maximum=1_023) if path else 0,
        tls=tls,
        authority=_file(query.pop("ca", None), base),
        certificate=_file(query.pop("certificate", None), base),
        key=_file(query.pop("key", None), base),
        user=_user(unquote(login)),
        password=_secret(query, "password", base),
        sentinel_user=_user(query.pop("sentinel_user", "")),
        sentinel_password=_secret(query, "sentinel_password", base),
    )
    _refuse_unused(url, query)
    return url


def _refuse_unused(url: RedisUrl, query: Mapping[str, str]) -> None:
    """Refuse parts that would have no effect: somebody relies on them."""
    if query:
        raise ConfigError(f"the URL of the state has an unknown parameter `{min(query)[:40]}`")
    if len(url.hosts) > 1 and not url.service:
        raise ConfigError(
            "the URL of the state names several hosts; only redis+sentinel:// takes more than one"
        )
    if not url.tls and (url.authority or url.certificate or url.key):
        raise ConfigError("the URL of the state names TLS files, but only rediss:// uses TLS")
    if (url.certificate is None) != (url.key is None):
        raise ConfigError("the URL of the state must name both `certificate` and `key`, or neither")
    if url.user and url.password is None:
        raise ConfigError("the URL of the state names a user, but no password_file or password_env")
    if (url.sentinel_user or url.sentinel_password) and not url.service:
        raise ConfigError("the URL of the state has a login for sentinels, but names none")
    if url.sentinel_user and url.sentinel_password is None:
        raise ConfigError("the URL of the state names a sentinel_user without a password")


def _host(text: str, default: int) -> tuple[str, int]:
    match = _HOST.match(text)
    if match is None:
        raise ConfigError("the URL of the state names no host; write redis://host:port")
    port = text[match.end() :]
    if port and not port.startswith(":"):
        raise ConfigError("the URL of the state has a host that is no name and no address")
    return match["six"] or match["name"], _number(port[1:], "port", maximum=65_535) if port else default


def _number(text: str, what: str, *, maximum: int) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) is None or int(text) > maximum:
        raise ConfigError(f"the URL of the state has a {what} that is no number up to {maximum}")
    return int(text)


def _user(text: str) -> str:
    if text and _USER.fullmatch(text) is None:
        raise ConfigError("the URL of the state names a user that is not 1 to 128 of [A-Za-z0-9._@-]")
    return text


def _secret(query: dict[str, str], name: str, base: Path) -> Secret | None:
    file, variable = query.pop(f"{name}_file", ""), query.pop(f"{name}_env", "")
    if file and variable:
        raise ConfigError(f"the URL of the state has both {name}_file and {name}_env; give one")
    return Secret(file=_file(file or None, base), variable=variable) if file or variable else None


def _file(text: str | None, base: Path) -> Path | None:
    if text == "":
        raise ConfigError("the URL of the state names an empty path")
    return None if text is None else base.absolute() / text
