"""`policyd health`: one exit code for probes, and the parts for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.redis import free_port
from support.server import POLICY, Site, make_site, serving
from support.waiting import wait_until

from policyd.cli.health import _near
from policyd.devsetup import client_files, set_up
from policyd.server import Server


def test_a_node_that_decides_ends_with_0(run: Any, site: Site, server: Server) -> None:
    """For people the parts beside it stand below; for machines all is one document."""
    done = run("health", server.address, "--data", site.data)
    document = json.loads(run("health", server.address, "--data", site.data, "--json").stdout)

    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{server.address} SERVING",
        "  policyd.certificate SERVING",
        "  policyd.deny-list SERVING",
    ]
    assert document["serving"] is True
    assert set(document["services"]) == {"", "policyd.certificate", "policyd.deny-list"}


def test_files_of_ones_own_need_no_data_directory(
    run: Any, site: Site, server: Server, tmp_path: Path
) -> None:
    """A monitor elsewhere has its own certificate, and the name may be another than the address."""
    files = client_files(site.config, site.spiffe_id("monitor"))
    own = ["--ca", files.authority, "--certificate", files.certificate, "--key", files.key]
    arguments = ["health", server.address, *own, "--data", tmp_path]

    assert run(*arguments).exit_code == 0
    assert run(*arguments, "--name", "localhost").exit_code == 0
    wrong = run(*arguments, "--name", "other.test", "--deadline", "2")
    assert wrong.exit_code == 4
    assert "does not answer: UNAVAILABLE" in wrong.stderr


def test_a_node_that_refuses_ends_with_4(run: Any, tmp_path: Path) -> None:
    """It answers, and says that it does not decide."""
    site = make_site(tmp_path / "data")
    with serving(site) as server:
        server.node.refuse("for a test")
        arguments = ("health", server.address, "--data", site.data)
        wait_until(lambda: run(*arguments).exit_code == 4, what="the health to follow")

        assert run(*arguments).stdout.startswith(f"{server.address} NOT_SERVING\n")


def test_what_stands_beside_counts_when_it_is_asked_for(run: Any, tmp_path: Path) -> None:
    """A deny-list that cannot be read does not stop the node, and has an exit code of its own."""
    site = make_site(tmp_path / "data")
    with serving(site) as server:
        (site.data / "deny.yaml").write_text("denied: nobody\n", "utf-8")
        alone = ("health", server.address, "--data", site.data, "--service", "policyd.deny-list")
        wait_until(lambda: run(*alone).exit_code == 4, what="the deny-list to be looked at")

        assert run(*alone).stdout == f"{server.address} policyd.deny-list: NOT_SERVING\n"
        assert run("health", server.address, "--data", site.data).exit_code == 0
        unknown = run("health", server.address, "--data", site.data, "--service", "policyd.other")
        assert unknown.exit_code == 4
        assert "has no `policyd.other`" in unknown.stderr


def test_nobody_there_ends_with_4_and_half_a_pair_with_2(run: Any, site: Site) -> None:
    """A probe can tell a node that is down from a mistake in the probe."""
    nobody = run("health", f"127.0.0.1:{free_port()}", "--data", site.data)
    half = run("health", "--data", site.data, "--key", site.config.tls.key)
    lost = run("health", "--data", site.data, "--ca", site.data / "lost.pem")

    assert nobody.exit_code == 4
    assert "does not answer: UNAVAILABLE" in nobody.stderr
    assert half.exit_code == 2
    assert lost.exit_code == 2
    assert "lost.pem" in lost.stderr


@pytest.mark.parametrize(
    ("listens", "near"),
    [("0.0.0.0:50151", "127.0.0.1:50151"), ("[::]:1", "127.0.0.1:1"), ("[::1]:1", "[::1]:1"), ("a:1", "a:1")],
)
def test_a_node_that_listens_everywhere_is_asked_here(listens: str, near: str) -> None:
    """Nobody can connect to 0.0.0.0 by rights."""
    assert _near(listens) == near


def test_without_a_local_authority_the_nodes_own_certificate_asks(run: Any, tmp_path: Path) -> None:
    """In production there is no key of an authority; a certificate for servers alone is refused."""
    site = make_site(tmp_path / "data")
    monitor = client_files(site.config, site.spiffe_id("monitor"))
    with serving(site) as server:
        (site.data / "tls" / "ca.key").unlink()
        refused = run("health", server.address, "--data", site.data, "--deadline", "2")
        text = (site.data / "policyd.yaml").read_text("utf-8")
        relative = [path.relative_to(site.data) for path in (monitor.certificate, monitor.key)]
        text = text.replace("tls/server.pem", str(relative[0])).replace("tls/server.key", str(relative[1]))
        (site.data / "policyd.yaml").write_text(text, "utf-8")
        done = run("health", server.address, "--data", site.data)

    assert refused.exit_code == 4
    assert done.exit_code == 0


def test_keys_are_made_once_and_printed_each_time(run: Any, tmp_path: Path) -> None:
    """The entry for the trust document and the log's line are what `policyd dev` writes for the same keys."""
    made = run("keys", "--data", tmp_path / "data", "--node", "node-1", "--trust-domain", "policyd.test")
    again = run("keys", "--data", tmp_path / "data", "--node", "node-1", "--trust-domain", "policyd.test")
    config = set_up(tmp_path / "data", policy=POLICY, address="127.0.0.1:0")
    lines = made.stdout.splitlines()

    assert made.exit_code == again.exit_code == 0
    assert made.stderr.count("made ") == again.stderr.count("kept ") == 4
    assert made.stdout == again.stdout
    assert lines[1] in config.trust_file.read_text("utf-8").splitlines()
    assert lines[3] in (config.data / "logs.tlog-policy").read_text("utf-8").splitlines()
    assert (tmp_path / "data" / "keys" / "node.key").stat().st_mode & 0o077 == 0


def test_keys_of_a_node_without_a_right_name_are_not_made(run: Any, tmp_path: Path) -> None:
    """A name that no configuration could have is usage, and nothing is written."""
    done = run("keys", "--data", tmp_path / "data", "--node", "node 1", "--trust-domain", "policyd.test")

    assert done.exit_code == 2
    assert not (tmp_path / "data").exists()
