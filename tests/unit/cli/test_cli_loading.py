"""A command loads what it needs: who checks the server's work does not run the server's code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.decisions import KEY, ORIGIN, make_entry

from policyd.ledger.writer import Ledger

SERVER = (
    "policyd.server",
    "policyd.service",
    "policyd.ledger.writer",
    "policyd.decision",
    "policyd.registry",
)
HEAVY = ("grpc", "opentelemetry.sdk", "py_abac", "redis", "policyd_client")
RUN = """
import sys
from policyd.cli import main
try:
    main()
except SystemExit as end:
    code = end.code
print(code, *sorted(sys.modules), file=sys.stderr)
"""


def loaded(*arguments: object) -> tuple[str, set[str]]:
    """Run a command in a process of its own; return its exit code and the modules loaded at its end."""
    done = subprocess.run(  # our own interpreter
        [sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    code, *modules = done.stderr.splitlines()[-1].split(" ")
    return code, set(modules)


def test_verification_loads_no_server_code(tmp_path: Path) -> None:
    """An auditor need not trust, or even start, what is being audited."""
    with Ledger.open(tmp_path / "log", origin=ORIGIN, signing_key=KEY) as ledger:
        ledger.append([make_entry(1)])
    code, modules = loaded("audit", "verify", tmp_path / "log")

    assert code == "0"
    assert sorted(modules & {*SERVER, *HEAVY}) == []


@pytest.mark.parametrize("arguments", [("witness", "key", "--data", "none"), ("--version",)])
def test_small_commands_load_little(arguments: tuple[str, ...]) -> None:
    """A witness, or a question about the version, waits for no library of the server."""
    _, modules = loaded(*arguments)

    assert sorted(modules & {*SERVER, *HEAVY}) == []


def test_a_command_that_is_nearly_right_is_named(run: Any) -> None:
    """At each level; what is near nothing gets no advice."""
    assert "Did you mean `audit`?" in run("audti").stderr
    assert "Did you mean `verify`?" in run("audit", "vrify").stderr
    assert "Did you mean" not in run("zzz").stderr
