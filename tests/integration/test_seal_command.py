"""`policyd seal` against a running node: what it prints, and what it does not promise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fleet.harness import introduced, join
from support.server import POLICY, Site, make_site, registry_text, seals_text, serving
from support.waiting import wait_until

from policyd.cli.exits import Exit
from policyd.cli.main import main
from policyd.devsetup import put_in_force, set_up
from policyd.server import Server

TOKENS = {name: name.encode().ljust(32, b"!") for name in ("npd-secure", "npd-second", "npd-closed")}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, Server]]:
    site = make_site(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    with serving(site) as server:
        yield site, server


def run(site: Site, server: Server | None, *arguments: str, asker: str = "sealing-officer-1") -> Result:
    address = "127.0.0.1:1" if server is None else server.address
    common = ("--data", str(site.data), "--server", address, "--as", asker, "--why", "for a test", "--yes")
    return CliRunner().invoke(main, ["seal", *arguments, *common])


def write(site: Site, *names: str) -> str:
    path = site.data / "tokens.yaml"
    path.write_text(seals_text(dict.fromkeys(names, TOKENS)), "utf-8")
    return str(path)


def intents(site: Site) -> list[dict[str, str]]:
    """Return what was asked for and has no outcome yet."""
    shown = CliRunner().invoke(main, ["registry", "intents", "--data", str(site.data), "--json"])
    assert shown.exit_code == Exit.DONE, shown.output
    found: list[dict[str, str]] = json.loads(shown.output)
    return found


def test_it_says_from_when_the_seal_holds(node: tuple[Site, Server]) -> None:
    """Both instants are printed, and the node has the seals by then."""
    site, server = node
    done = run(site, server, "add", write(site, "SEAL-1", "SEAL-2"))

    assert done.exit_code == Exit.DONE, done.output
    assert done.output.count("in force for decisions at 20") == 2
    assert done.output.count("for every answer still out at 20") == 2
    assert {"SEAL-1", "SEAL-2"} <= server.node.current.state.registry.seals.keys()
    again = run(site, server, "add", write(site, "SEAL-1"))
    assert "nothing to seal" in again.output


def test_a_pending_seal_is_no_success(tmp_path: Path) -> None:
    """It names the node that is not known to have it, and ends with 1."""
    first = Site(set_up(tmp_path / "node-1", policy=POLICY, address="127.0.0.1:0"))
    site, _ = introduced([first, join(first, tmp_path / "node-2")])
    put_in_force(site.config)
    site.apply(registry_text())
    with serving(site) as server:
        done = run(site, server, "add", write(site, "SEAL-1"), "--wait", "0.5")

    assert done.exit_code == Exit.FAILED
    assert "PENDING; not known to hold on node-2" in done.output
    assert "in force" not in done.output


def test_a_node_that_is_not_there_has_sealed_nothing(node: tuple[Site, Server]) -> None:
    """The command says that it does not know."""
    site, server = node
    done = run(site, None, "add", write(site, "SEAL-1"))

    assert done.exit_code == Exit.NO_DECISION
    assert "SEAL-1" not in server.node.current.state.registry.seals


def test_other_entries_are_not_sealed(node: tuple[Site, Server]) -> None:
    """A registry file is for another command."""
    site, server = node
    path = site.data / "registry.yaml"
    path.write_text(registry_text(), "utf-8")
    done = run(site, server, "add", str(path))

    assert done.exit_code == Exit.USAGE
    assert "registry apply" in done.output


def test_another_administrator_is_refused(node: tuple[Site, Server]) -> None:
    """What the node says is passed on."""
    site, server = node
    done = run(site, server, "add", write(site, "SEAL-1"), asker="registrar-1")

    assert done.exit_code == Exit.FAILED
    assert "sealing-officer" in done.output


def test_a_lift_is_handed_to_a_second_person(node: tuple[Site, Server], tmp_path: Path) -> None:
    """The file is what `registry approve` takes; with both signatures at once there is none."""
    site, server = node
    run(site, server, "add", write(site, "SEAL-1", "SEAL-2"))
    asked = run(site, server, "lift", "SEAL-1")
    (path,) = tmp_path.glob("*.change.json")
    listed = intents(site)
    approved = CliRunner().invoke(
        main, ["registry", "approve", str(path), "--data", str(site.data), "--as", "approver-1", "--yes"]
    )
    both = run(site, server, "lift", "SEAL-2", "--approve", "approver-1")
    unknown = run(site, server, "lift", "SEAL-2")

    assert asked.exit_code == approved.exit_code == both.exit_code == Exit.DONE, both.output
    assert "takes a second person" in asked.output
    assert len(listed) == 1
    assert (listed[0]["change"], listed[0]["who"]) == ("lift", "sealing-officer-1")
    wait_until(lambda: not intents(site), what="the outcome of every intent")
    assert "lifted as epoch" in both.output
    assert unknown.exit_code == Exit.USAGE
