"""What is in deploy/ is fit to be copied: every command, option, path, name and setting in it exists."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from policyd.cli import main
from policyd.config import read_config
from policyd.registry.redis_url import RedisUrl
from policyd.registry.trust import Role, read_trust

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
STATE_PAGE = ROOT / "docs/state.md"


def faults(command: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the words of a `policyd` command: a command or an option that is not there."""
    group: click.Command = main
    context = click.Context(main)
    words = list(command)
    while isinstance(group, click.Group) and words:
        found = group.get_command(context, words[0])
        if found is None:
            yield f"no command `{words[0]}`"
            return
        group = found
        words.pop(0)
    known = {name for parameter in group.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in known:
            yield f"no option `{option}` of `{group.name}`"


def as_string(word: str) -> list[str]:
    """Read the JSON form of an instruction of a Dockerfile."""
    return [str(each) for each in yaml.safe_load(word)]


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1].strip()) for line in lines]


def compose() -> Mapping[str, Any]:
    document: Mapping[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return document


def unit() -> configparser.ConfigParser:
    class Parser(configparser.ConfigParser):
        optionxform = staticmethod(str)  # type: ignore[assignment]  # keys of units are in capitals

    parser = Parser(strict=False, interpolation=None)
    parser.read(DEPLOY / "policyd.service", "utf-8")
    return parser


def test_the_image_runs_commands_that_exist() -> None:
    """Entry point, arguments and probe are commands of policyd, and what is copied is there."""
    parts = instructions()
    entry = next(as_string(value) for word, value in parts if word == "ENTRYPOINT")
    command = next(as_string(value) for word, value in parts if word == "CMD")
    probe = next(value for word, value in parts if word == "HEALTHCHECK")
    copied = [value.split()[:-1] for word, value in parts if word == "COPY" and "--from" not in value]

    assert entry == ["policyd"]
    assert list(faults(command)) == []
    assert list(faults(shlex.split(probe.partition("CMD policyd ")[2]))) == []
    assert "--name" in probe
    assert [path for paths in copied for path in paths if not (ROOT / path).exists()] == []


def test_the_image_runs_as_nobody_special_from_hashed_packages() -> None:
    """A user of its own in the last stage, and only what the locks name is installed."""
    parts = instructions()
    stages = [index for index, (word, _) in enumerate(parts) if word == "FROM"]
    last = parts[stages[-1] :]
    installs = " ".join(value for word, value in parts if word == "RUN").split("pip install ")[1:]

    assert len(stages) == 2
    assert [value for word, value in last if word == "USER"] == ["10001:10001"]
    assert all("--require-hashes" in each or "--no-deps" in each for each in installs)
    assert len(installs) == 3


def test_the_services_are_locked_down_and_run_what_exists() -> None:
    """Three nodes, three Redis, three sentinels: read-only, without capabilities, on volumes declared."""
    document = compose()
    services = document["services"]

    assert sorted(services) == [f"{kind}-{n}" for kind in ("node", "redis", "sentinel") for n in (1, 2, 3)]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in document["volumes"] or source == f"./fleet/{name}", volume
        assert set(service.get("depends_on", ())) <= set(services), name
    assert {services[f"node-{n}"]["build"]["dockerfile"] for n in (1, 2, 3)} == {"deploy/Dockerfile"}
    assert all("command" not in services[f"node-{n}"] for n in (1, 2, 3))  # the image's own, tested above
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert sorted(ports) == [f"127.0.0.1:5015{n}:50151" for n in (1, 2, 3)]


def test_the_hosts_of_the_example_are_services_of_the_composition(tmp_path: Path) -> None:
    """Each name that the configuration of a node, of Redis or of a sentinel uses is a service or an alias."""
    services = compose()["services"]
    known = {each.get("hostname", "") for each in services.values()}
    for service in services.values():
        if isinstance(service["networks"], dict):
            known |= set(service["networks"]["fleet"]["aliases"])
    named = {
        host
        for name in ("policyd.example.yaml", "redis.conf", "sentinel.conf")
        for host in re.findall(
            r"\b(?:redis|sentinel|node)-\d\.npd\.example\.org", (DEPLOY / name).read_text("utf-8")
        )
    }

    assert named
    assert named <= known


def test_the_example_configuration_reads(tmp_path: Path) -> None:
    """policyd.example.yaml and trust.example.yaml are what a node reads, with every kind of person."""
    shutil.copy(DEPLOY / "policyd.example.yaml", tmp_path / "policyd.yaml")
    shutil.copy(DEPLOY / "trust.example.yaml", tmp_path / "trust.yaml")
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/idp.jwks.json").write_text('{"keys": []}', "utf-8")
    config = read_config(tmp_path)
    trust = read_trust(DEPLOY / "trust.example.yaml")

    assert isinstance(config.redis, RedisUrl)
    assert config.redis.tls
    assert config.redis.service == "policyd"
    assert len(config.redis.hosts) == len(trust.nodes) == 3
    assert config.node in trust.nodes
    assert {role for admin in trust.administrators.values() for role in admin.roles} == set(Role)
    assert str(config.policy) in (DEPLOY / "Dockerfile").read_text("utf-8")


def test_the_unit_starts_what_exists() -> None:
    """Every command of the service is one of policyd, with options that it has."""
    service = unit()["Service"]
    start = shlex.split(service["ExecStart"])

    assert Path(start[0]).name == "policyd"
    assert list(faults(start[1:])) == []
    assert start[start.index("--data") + 1] == f"/var/lib/{service['StateDirectory']}"
    assert service["RestartPreventExitStatus"] == "2"
    assert float(service["TimeoutStopSec"]) > float(start[start.index("--grace") + 1])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_finds_the_unit_well_formed_and_closed(tmp_path: Path) -> None:
    """`systemd-analyze` finds no mistake in it, and rates its exposure below 2."""
    copy = tmp_path / "policyd.service"
    text = (DEPLOY / "policyd.service").read_text("utf-8")
    copy.write_text(text.replace("/opt/policyd/bin/policyd", shutil.which("true") or "true"), "utf-8")
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert verified.stderr == ""
    assert rated.returncode == 0, rated.stdout[-300:]


def test_the_users_of_redis_are_those_of_the_state_page() -> None:
    """The user of policyd has, in the file to copy, exactly the rules that docs/state.md gives and tests."""
    documented = re.search(r"^ACL SETUSER (policyd on .+)$", STATE_PAGE.read_text("utf-8"), re.MULTILINE)
    lines = (DEPLOY / "users.acl").read_text("utf-8").splitlines()

    assert documented is not None
    assert f"user {documented[1].replace('>PASSWORD', '>POLICYD-PASSWORD')}" in lines
    assert lines[0] == "user default off ~* &* +@all"


def test_what_is_not_there_is_found() -> None:
    """A command that does not exist, at either level, and an option of another command."""
    assert list(faults(["fly"])) == ["no command `fly`"]
    assert list(faults(["registry", "bake"])) == ["no command `bake`"]
    assert list(faults(["serve", "--data", "x", "--lost"])) == ["no option `--lost` of `serve`"]
