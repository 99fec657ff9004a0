"""`policyd dev`, `policyd serve` and the command group itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.server import POLICY, POLICYD, Process, make_site, stub

from policyd.config import read_config
from policyd.devsetup import LOGS_FILE
from policyd.identity.keys import load_signing_key
from policyd.ledger.note import Verifier

COMMANDS = {"audit", "catalogue", "check", "demo", "dev", "policy", "registry", "serve"}


def test_dev_makes_what_serve_needs_and_says_what_comes_next(run: Any, tmp_path: Path) -> None:
    """The two commands to go on with are printed."""
    data = tmp_path / "data"

    result = run("dev", "--data", data, "--policy", POLICY, "--address", "127.0.0.1:0")

    assert result.exit_code == 0
    assert f"next: policyd registry apply FILE --data {data}" in result.stdout
    assert f"then: policyd serve --data {data}" in result.stdout
    assert read_config(data).policy == POLICY


def test_dev_again_keeps_what_is_there(run: Any, tmp_path: Path) -> None:
    """Keys and configuration stay; certificates of the server and of administrators are renewed."""
    data = tmp_path / "data"
    run("dev", "--data", data, "--policy", POLICY)
    kept = {path: path.read_bytes() for path in data.rglob("*") if path.suffix in (".key", ".yaml")}
    old = (data / "tls" / "server.pem").read_bytes()

    assert run("dev", "--data", data, "--policy", POLICY).exit_code == 0

    renewed = {data / "tls" / "server.key", *(data / "tls" / "admin").iterdir()}
    assert {path: path.read_bytes() for path in kept if path not in renewed} == {
        path: content for path, content in kept.items() if path not in renewed
    }
    assert (data / "tls" / "server.pem").read_bytes() != old


def test_dev_pins_the_log_that_the_node_will_sign(run: Any, tmp_path: Path) -> None:
    """Clients of this directory find the key of its log; a pin that is there is never replaced."""
    data = tmp_path / "data"
    run("dev", "--data", data, "--policy", POLICY)
    made = (data / LOGS_FILE).read_text("utf-8")
    key = load_signing_key(data / "keys" / "ledger.key").private.public_key()
    (data / LOGS_FILE).write_text("log another\n", "utf-8")
    run("dev", "--data", data, "--policy", POLICY)

    assert made == f"log {Verifier(read_config(data).origin, key).vkey}\nquorum none\n"
    assert (data / LOGS_FILE).read_text("utf-8") == "log another\n"


def test_private_files_are_private(run: Any, tmp_path: Path) -> None:
    """Nobody else may read a key or look into the data directory."""
    data = tmp_path / "data"
    run("dev", "--data", data, "--policy", POLICY)

    for path in [data, *data.rglob("*")]:
        if path.is_dir() or path.suffix == ".key":
            assert path.stat().st_mode & 0o077 == 0, path


def test_dev_without_a_policy_set_makes_no_configuration(run: Any, tmp_path: Path) -> None:
    """A directory that holds no policy set is named, and the next try is not in its way."""
    data = tmp_path / "data"

    result = run("dev", "--data", data, "--policy", tmp_path / "nowhere")

    assert result.exit_code == 2
    assert "no policy set in `" in result.stderr
    assert "--policy" in result.stderr
    assert run("dev", "--data", data, "--policy", POLICY).exit_code == 0


def test_dev_with_a_bad_address_leaves_none_behind(run: Any, tmp_path: Path) -> None:
    """The mistake is said once and does not stay for the next run."""
    data = tmp_path / "data"

    result = run("dev", "--data", data, "--policy", POLICY, "--address", 'here" there')

    assert result.exit_code == 1
    assert "is not an address such as" in result.stderr
    assert run("dev", "--data", data, "--policy", POLICY).exit_code == 0


def test_dev_where_a_file_is_in_the_way(run: Any, tmp_path: Path) -> None:
    """A data directory that is a file, or below one, is wrong usage."""
    file = tmp_path / "file"
    file.write_text("x", "utf-8")

    assert run("dev", "--data", file, "--policy", POLICY).exit_code == 2
    below = run("dev", "--data", file / "data", "--policy", POLICY)
    assert (below.exit_code, "cannot make" in below.stderr) == (2, True)


def test_help_names_every_command_and_the_exit_codes(run: Any) -> None:
    """Whoever types `policyd --help` sees what there is."""
    result = run("--help")

    assert result.exit_code == 0
    listed = {line.split()[0] for line in result.stdout.split("Commands:")[1].splitlines() if line.strip()}
    assert listed >= COMMANDS
    assert "4 no decision was made" in " ".join(result.stdout.split())


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("policy",), ("registry", "nonsense")], ids=str)
def test_no_command_or_an_unknown_one_is_wrong_usage(run: Any, arguments: tuple[str, ...]) -> None:
    """Exit code 2 and the usage."""
    result = run(*arguments)

    assert (result.exit_code, "Usage: " in result.stderr) == (2, True)


def test_serve_reads_the_issuers_keys_again_on_sighup(tmp_path: Path) -> None:
    """SIGHUP with a broken JWKS file keeps the keys in use; with a good one it takes it."""
    site = make_site(tmp_path / "data")
    jwks = site.data / "issuer" / "jwks.json"
    good = jwks.read_text("utf-8")
    with Process(site) as node, site.channel(node.address) as channel:
        jwks.write_text("{}", "utf-8")
        os.kill(node.pid, signal.SIGHUP)
        assert "stay as they are" in node.line_with("keys")
        assert stub(channel).Check(site.question(1), timeout=10).verdicts[0].reason == "NONE"

        document = json.loads(good)
        document["keys"][0]["kid"] = "another"
        jwks.write_text(json.dumps(document), "utf-8")
        os.kill(node.pid, signal.SIGHUP)
        assert "read the issuers' keys again" in node.line_with("keys")
        jwks.write_text(good, "utf-8")  # the test's own issuer reads the file too
        answer = stub(channel).Check(site.question(2), timeout=10)
        assert {group.rule for group in answer.verdicts} == {"gate:2:key"}
        assert node.terminate() == 0


EARLY = """
import os, signal
from policyd.server import Server

start = Server.start

def early(self):
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
    start(self)

Server.start = early
from policyd.cli import main
main()
"""


def test_signals_that_come_during_the_start_do_no_harm(tmp_path: Path) -> None:
    """SIGHUP before there are keys to read again changes nothing; SIGTERM ends the server once it is up."""
    site = make_site(tmp_path / "data")

    done = subprocess.run(
        [POLICYD[0], "-c", EARLY, "serve", "--data", str(site.data)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert done.stdout.endswith("draining\nstopped\n")


def test_serve_says_what_runs_and_that_recording_cannot_be_switched_off(tmp_path: Path) -> None:
    """Address, policy set, epoch and ledger; and that spans go nowhere where OTEL_* says so."""
    site = make_site(tmp_path / "data")
    with Process(site, environment={"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"}) as node:
        with site.channel(node.address) as channel:
            answer = stub(channel).Check(site.question(), timeout=10)
        code = node.terminate()

    assert code == 0
    assert "policy set npd version" in node.output
    assert "state at epoch 3" in node.output
    assert "decisions are recorded all the same" in node.output
    assert site.leaves(answer.receipt.index)[0]["decision_id"] == answer.decision_id


def test_serve_of_a_broken_configuration_names_the_place(tmp_path: Path) -> None:
    """A mistake in `policyd.yaml` is said with file, line and column."""
    site = make_site(tmp_path / "data")
    file = site.data / "policyd.yaml"
    file.write_text(file.read_text("utf-8").replace("node: node-1", "node: node 1\nnonsense: 1"), "utf-8")

    done = subprocess.run(
        [*POLICYD, "serve", "--data", str(site.data)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "policyd.yaml:2:" in done.stderr
    assert "`nonsense`" in done.stderr
    assert "Traceback" not in done.stderr
