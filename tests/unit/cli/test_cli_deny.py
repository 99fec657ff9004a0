"""`policyd deny`: who is refused, added and listed without an editor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.server import POLICY

from policyd.devsetup import set_up

SERVICE = "spiffe://policyd.test/data-service/npd-secure"
PRINT = "ab" * 32


@pytest.fixture
def data(tmp_path: Path) -> Path:
    set_up(tmp_path / "data", policy=POLICY)
    return tmp_path / "data"


def test_what_is_denied_is_listed_with_its_reason(run: Any, data: Path) -> None:
    """Id and fingerprint, for people and for machines; the second time nothing changes."""
    assert run("deny", "--list", "--data", data).stdout == "0 denied\n"

    first = run("deny", SERVICE, "--why", "key lost", "--data", data)
    again = run("deny", SERVICE, "--why", "key lost", "--data", data)
    second = run("deny", ":".join(["AB"] * 32), "--why", "laptop lost", "--data", data, "--json")
    lines = run("deny", "--list", "--data", data).stdout.splitlines()
    document = json.loads(run("deny", "--list", "--data", data, "--json").stdout)

    assert (first.exit_code, again.exit_code, second.exit_code) == (0, 0, 0)
    assert f"{SERVICE} is denied, from its next call" in first.stdout
    assert "was denied already; nothing was changed" in again.stdout
    assert json.loads(second.stdout) == {"denied": PRINT, "added": True}
    assert [line.partition(" since ")[0] for line in lines] == [SERVICE, PRINT, "2 denied"]
    assert lines[0].endswith("Z: key lost")
    assert [sorted(each) for each in document["denied"]] == [
        ["at", "spiffe_id", "why"],
        ["at", "certificate_sha256", "why"],
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (SERVICE,),
        ("--why", "x"),
        ("--list", SERVICE),
        ("--list", "--why", "x"),
        ("npd-secure", "--why", "x"),
        ("spiffe://other.test/a", "--why", "x"),
        (SERVICE, "--why", ""),
        (SERVICE, "--why", "a\nb"),
    ],
)
def test_half_a_command_denies_nobody(run: Any, data: Path, arguments: tuple[str, ...]) -> None:
    """No reason, no such caller, or both things at once: usage, and the list as it was."""
    before = (data / "deny.yaml").read_text("utf-8")

    assert run("deny", *arguments, "--data", data).exit_code == 2
    assert (data / "deny.yaml").read_text("utf-8") == before


def test_a_node_without_a_list_says_how_to_get_one(run: Any, data: Path) -> None:
    """Nothing is denied where no node would look."""
    config = data / "policyd.yaml"
    config.write_text(config.read_text("utf-8").replace("deny: deny.yaml\n", ""), "utf-8")

    result = run("deny", SERVICE, "--why", "x", "--data", data)

    assert result.exit_code == 2
    assert "names no deny-list; add `deny: deny.yaml`" in result.stderr


def test_a_list_with_mistakes_is_named_and_left_alone(run: Any, data: Path) -> None:
    """The command fails with the place, because a list that nodes cannot read denies nobody new."""
    (data / "deny.yaml").write_text("denied: nobody\n", "utf-8")

    result = run("deny", SERVICE, "--why", "x", "--data", data)

    assert result.exit_code == 1
    assert "deny.yaml:1:9: must be a list" in result.stderr
    assert (data / "deny.yaml").read_text("utf-8") == "denied: nobody\n"
