"""The Redis files of deploy/, as they stand, carry a fleet through a failover; their users can do no more."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.administration import AT, NODE_A, TRUST, make, propose
from support.redis import server_program
from support.waiting import wait_until

from policyd.errors import NotServing, PolicydError
from policyd.model import Organisation, Registry, Status
from policyd.registry.lease import Acknowledgement
from policyd.registry.redis_script import Keys
from policyd.registry.redis_store import Fleet, RedisStore
from policyd.registry.redis_url import parse_redis_url
from policyd.registry.republish import republish

DEPLOY = Path(__file__).parents[2] / "deploy"
DOMAIN = "policyd.test"
KEYS = Keys.of(DOMAIN)
NOT_ALLOWED = r"(?i)no permissions|NOPERM"
PASSWORDS = {
    name: f"password-of-{name.lower()}" for name in ("POLICYD", "REPLICA", "SENTINEL", "LOOKUP", "OPERATOR")
}


def filled(name: str, directory: Path) -> str:
    """Return a file of deploy/ with everything that an operator fills in; TLS is the wheel's to lack."""
    text = (DEPLOY / name).read_text("utf-8").replace("/etc/redis", str(directory))
    for user, password in PASSWORDS.items():
        text = text.replace(f"{user}-PASSWORD", password)
    lines = [line for line in text.replace("DOMAIN", DOMAIN).splitlines() if not line.startswith("tls-")]
    return "\n".join(lines) + "\n"


class Deployed:
    """Three Redis and three sentinels on loopback, each with its files in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: dict[str, int] = {}
        for name in [f"{kind}-{number}" for kind in ("redis", "sentinel") for number in (1, 2, 3)]:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.ports[name] = probe.getsockname()[1]
        for name in self.ports:
            (directory / name).mkdir(parents=True)
            self._write(directory / name, name)
        for name in self.ports:
            self.start(name, directory / name)
            if name == "redis-3":
                wait_until(lambda: self.info("redis-1").get("min_slaves_good_slaves") == 2, what="replicas")

    def start(self, name: str, directory: Path) -> None:
        kind = name.partition("-")[0]
        arguments = [server_program(), str(directory / f"{kind}.conf")]
        arguments += ["--sentinel"] if kind == "sentinel" else []
        self.processes[name] = subprocess.Popen(
            arguments, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def client(self, name: str, user: str) -> Any:
        secret = "LOOKUP" if name.startswith("sentinel") and user == "policyd" else user.upper()
        return redis.Redis(port=self.ports[name], username=user, password=PASSWORDS[secret], protocol=2)

    def info(self, name: str, user: str = "policyd") -> dict[str, Any]:
        with suppress(redis.exceptions.RedisError), closing(self.client(name, user)) as client:
            found: dict[str, Any] = client.info()
            return found
        return {}

    def run(self, name: str, user: str, *command: str) -> Any:
        with closing(self.client(name, user)) as client:
            return client.execute_command(*command)

    def primaries(self) -> list[str]:
        alive = [name for name in ("redis-1", "redis-2", "redis-3") if self.processes[name].poll() is None]
        return [name for name in alive if self.info(name).get("role") == "master"]

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def url(self, directory: Path) -> str:
        """Return the URL of the example configuration with the hosts of this test, and no TLS."""
        text = (DEPLOY / "policyd.example.yaml").read_text("utf-8")
        match = re.search(
            r'^state: "rediss(\+sentinel://\w+@)[^/]+(/\w+)\?ca=[^&]+&(.+)"$', text, re.MULTILINE
        )
        assert match is not None
        (directory / "keys").mkdir()
        for file, user in (("redis", "POLICYD"), ("sentinel", "LOOKUP")):
            (directory / f"keys/{file}.password").write_text(PASSWORDS[user], "utf-8")
            (directory / f"keys/{file}.password").chmod(0o600)
        hosts = ",".join(f"127.0.0.1:{self.ports[f'sentinel-{number}']}" for number in (1, 2, 3))
        return f"redis{match[1]}{hosts}{match[2]}?{match[3]}"

    def _write(self, directory: Path, name: str) -> None:
        port, first = self.ports[name], self.ports["redis-1"]
        if name.startswith("sentinel"):
            text = filled("sentinel.conf", directory).replace("port 0", f"port {port}", 1)
            text = text.replace("redis-1.npd.example.org 6379", f"127.0.0.1 {first}")
            text = text.replace("bind 0.0.0.0", "bind 127.0.0.1")
            text = re.sub(r"(?m)^sentinel announce-(?:ip|port|hostnames) .*\n", "", text)
            # The wait before a failover is what the operator chose; a test need not sit it out.
            text = text.replace("down-after-milliseconds policyd 3000", "down-after-milliseconds policyd 500")
            (directory / "sentinel.conf").write_text(text, "utf-8")
            return
        text = filled("redis.conf", directory).replace("port 0", f"port {port}", 1)
        if name != "redis-1":
            text = text.replace("# replicaof redis-1.npd.example.org 6379", f"replicaof 127.0.0.1 {first}")
        text = re.sub(r"(?m)^replica-announce-.*\n", "", text).replace("bind 0.0.0.0", "bind 127.0.0.1")
        # Replicas that connect at start are served at once instead of after five seconds.
        (directory / "redis.conf").write_text(f"{text}repl-diskless-sync-delay 0\n", "utf-8")
        for other in ("users.acl", "replication.conf"):
            (directory / other).write_text(filled(other, directory), "utf-8")

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    fleet = Deployed(tmp_path / "hosts")
    try:
        yield fleet
    finally:
        fleet.close()


def school(number: int) -> Registry:
    entry = Organisation(f"org-{number}", "school", False, Status.ACTIVE, f"School {number}", AT)
    return Registry(organisations={entry.id: entry})


def test_the_files_carry_a_fleet_through_a_failover(deployed: Deployed, tmp_path: Path) -> None:
    """All that a node does works under the users as shipped, before and after a failover."""
    place = Fleet(parse_redis_url(deployed.url(tmp_path), base=tmp_path), DOMAIN, TRUST, tmp_path / "copy.db")
    with ExitStack() as stack:
        store = stack.enter_context(RedisStore(place, signer=NODE_A))
        wait_until(lambda: _knows_all(deployed), what="the sentinels to know each other")
        make(store, TRUST)
        make(store, school(1))
        state = store.load()
        follower = stack.enter_context(closing(store.follow(state)))
        assert store.renew(Acknowledgement("node-a", 2, state.chain_hash, 5, b"\1" * 64)).accepted
        assert set(store.acknowledgements()) == {"node-a"}
        before = store.continuity()
        wait_until(lambda: _replicated(deployed), what="both replicas to have it")
        deployed.kill("redis-1")
        wait_until(lambda: len(deployed.primaries()) == 1, what="another primary", timeout_s=40.0)
        wait_until(lambda: _appended(store), what="a change to be taken", timeout_s=40.0)
        update = follower.poll(10.0)

        assert deployed.primaries() != ["redis-1"]
        assert update is not None
        assert update.state.epoch == 3
        assert store.continuity() != before
        assert republish(place).sent == ()


def test_the_users_can_do_nothing_else(deployed: Deployed) -> None:
    """No user deletes, empties or reads what is not theirs, the default user is off, and so on sentinels."""
    refused = {
        "policyd": [
            "DEL x",
            f"DEL {KEYS.log}",
            f"XTRIM {KEYS.log} MAXLEN 0",
            "FLUSHALL",
            "KEYS *",
            "GET x",
            "CONFIG SET maxmemory 1",
            "REPLICAOF NO ONE",
            "SHUTDOWN",
            "ACL LIST",
        ],
        "operator": [f"DEL {KEYS.log}", "FLUSHALL", "CONFIG GET masterauth", "ACL SETUSER x on"],
        "replica": [f"XLEN {KEYS.log}", f"DEL {KEYS.log}", "FLUSHALL", "CONFIG GET masterauth"],
        "sentinel": [f"XLEN {KEYS.log}", f"DEL {KEYS.log}", "FLUSHALL", "CONFIG GET masterauth", "ACL LIST"],
    }
    for user, commands in refused.items():
        for command in commands:
            with pytest.raises(redis.exceptions.ResponseError, match=NOT_ALLOWED):
                deployed.run("redis-1", user, *command.split())
    with pytest.raises(redis.exceptions.ResponseError, match=NOT_ALLOWED):
        deployed.run("sentinel-1", "policyd", "SENTINEL", "FAILOVER", "policyd")
    for name in ("redis-1", "sentinel-1"):
        with (
            closing(
                redis.Redis(port=deployed.ports[name], protocol=2, retry=Retry(NoBackoff(), 0))
            ) as nobody,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            nobody.ping()


def test_a_primary_without_replicas_takes_no_change(deployed: Deployed, tmp_path: Path) -> None:
    """With both replicas gone the change is not made, and the message says what to bring back."""
    place = Fleet(parse_redis_url(deployed.url(tmp_path), base=tmp_path), DOMAIN, TRUST)
    with RedisStore(place, signer=NODE_A) as store:
        make(store, TRUST)
        for name in ("redis-2", "redis-3"):
            deployed.kill(name)
        wait_until(
            lambda: deployed.info("redis-1").get("connected_slaves") == 0, what="the primary to notice"
        )

        with pytest.raises(NotServing, match="too few replicas in reach to take changes; bring them back"):
            make(store, school(1))
        assert store.load().epoch == 1


def test_a_password_is_changed_without_a_stop(deployed: Deployed, tmp_path: Path) -> None:
    """Both passwords for a while, then the new one in the node's file, then the old one goes."""
    place = Fleet(parse_redis_url(deployed.url(tmp_path), base=tmp_path), DOMAIN, TRUST)
    with RedisStore(place, signer=NODE_A) as store:
        make(store, TRUST)
        _change_users(deployed, tmp_path, f">{PASSWORDS['POLICYD']}", f">{PASSWORDS['POLICYD']} >new")
        assert make(store, school(1)) == 2
        (tmp_path / "keys/redis.password").write_text("new", "utf-8")
        _change_users(deployed, tmp_path, f">{PASSWORDS['POLICYD']} >new", ">new")

        assert make(store, school(2)) == 3
        (tmp_path / "keys/redis.password").write_text(PASSWORDS["POLICYD"], "utf-8")
        with RedisStore(place) as late, pytest.raises(NotServing, match="refuses user `policyd`"):
            late.load()


def _change_users(deployed: Deployed, directory: Path, old: str, new: str) -> None:
    for name in ("redis-1", "redis-2", "redis-3"):
        file = directory / "hosts" / name / "users.acl"
        file.write_text(file.read_text("utf-8").replace(old, new), "utf-8")
        deployed.run(name, "operator", "ACL", "LOAD")
    wait_until(
        lambda: deployed.info("redis-1", "operator").get("min_slaves_good_slaves") == 2, what="replicas"
    )


def test_what_was_taken_is_there_after_a_restart_of_all(deployed: Deployed, tmp_path: Path) -> None:
    """A default user without rights would have Redis leave every change out of its append-only file."""
    place = Fleet(parse_redis_url(deployed.url(tmp_path), base=tmp_path), DOMAIN, TRUST, tmp_path / "copy.db")
    with RedisStore(place, signer=NODE_A) as store:
        make(store, TRUST)
        make(store, school(1))
        wait_until(lambda: _replicated(deployed), what="both replicas to have it")
        for name in ("redis-1", "redis-2", "redis-3"):
            deployed.kill(name)
        for name in ("redis-1", "redis-2", "redis-3"):
            deployed.start(name, tmp_path / "hosts" / name)
        wait_until(lambda: _loaded(store), what="the store to answer", timeout_s=40.0)

        assert store.load().epoch == 2


def _loaded(store: RedisStore) -> bool:
    with suppress(NotServing):
        store.load()
        return True
    return False


def _appended(store: RedisStore) -> bool:
    with suppress(PolicydError):
        state = store.load()
        return state.epoch == 3 or store.append(propose(school(2), state), state.epoch) == 3
    return False


def _replicated(deployed: Deployed) -> bool:
    known = deployed.info("redis-1")
    return all(known[f"slave{number}"]["lag"] <= 1 for number in (0, 1)) and all(
        deployed.info(name)["slave_repl_offset"] == deployed.info("redis-1")["master_repl_offset"]
        for name in ("redis-2", "redis-3")
    )


def _knows_all(deployed: Deployed) -> bool:
    with suppress(redis.exceptions.RedisError), closing(deployed.client("sentinel-1", "sentinel")) as client:
        (found,) = client.sentinel_masters().values()
        return bool(found["num-slaves"] == 2 and found["num-other-sentinels"] == 2)
    return False
