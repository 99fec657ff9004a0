"""`policyd witness` and the options of `policyd audit verify` that take what a witness says."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.server import Site, make_site, serving, stub
from support.witness import TreeLog, WitnessProcess, open_witness

from policyd.identity.keys import load_signing_key
from policyd.ledger import note
from policyd.ledger.reader import LedgerReader
from policyd.ledger.writer import Ledger

LOG = TreeLog().grow(20)


def test_a_key_is_made_once_and_shown_again(run: Any, tmp_path: Path) -> None:
    """The first time it is made, for its owner alone; afterwards the same vkey is printed."""
    directory = tmp_path / "w"
    made = run("witness", "key", "--data", directory, "--name", "witness.test/w9")
    again = run("witness", "key", "--data", directory, "--name", "witness.test/w9")
    shown = run("witness", "key", "--data", directory)

    assert note.WitnessVerifier.from_vkey(made.stdout.strip()).name == "witness.test/w9"
    assert made.stdout == again.stdout == shown.stdout
    assert {file.stat().st_mode & 0o777 for file in directory.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("key", "--name", "two words"), 2, "no key name"),
        (("key",), 2, "cannot read"),
        (("serve", "--log", "garbage"), 2, "`garbage` is no vkey"),
        (("serve", "--log", "WITNESS"), 2, "is no vkey of an Ed25519 key"),
        (("serve",), 2, "--log"),
        (("serve", "--log", "LOG", "--listen", "nowhere"), 2, "is not an address such as"),
        (("serve", "--log", "LOG", "--listen", "127.0.0.1:99999"), 2, "is not an address such as"),
        (("show",), 2, "cannot read"),
    ],
)
def test_wrong_usage_is_said(run: Any, tmp_path: Path, arguments: Any, code: int, text: str) -> None:
    """A key that is none, an address that is none, a directory without a witness."""
    witness = note.WitnessVerifier("w", LOG.key.public_key()).vkey
    words = {"LOG": LOG.verifier.vkey, "WITNESS": witness}
    result = run("witness", *(words.get(each, each) for each in arguments), "--data", tmp_path / "w")

    assert (result.exit_code, text in result.stderr) == (code, True), result.stderr


def test_another_name_for_a_witness_is_refused(run: Any, tmp_path: Path) -> None:
    """Its name is in every cosignature: it cannot change."""
    run("witness", "key", "--data", tmp_path / "w", "--name", "witness.test/w9")

    result = run("witness", "key", "--data", tmp_path / "w", "--name", "witness.test/w8")

    assert (result.exit_code, "is `witness.test/w9`, not `witness.test/w8`" in result.stderr) == (2, True)


def test_an_address_in_use_is_said(run: Any, tmp_path: Path) -> None:
    """The address is in the message."""
    run("witness", "key", "--data", tmp_path / "w", "--name", "witness.test/w9")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run(
            "witness", "serve", "--data", tmp_path / "w", "--log", LOG.verifier.vkey, "--listen", address
        )

    assert (result.exit_code, f"cannot listen on {address}" in result.stderr) == (2, True)


def test_a_witness_shows_the_newest_of_a_log(run: Any, tmp_path: Path) -> None:
    """A note that log and witness have signed; asked for while it serves, and for one log of several."""
    other = TreeLog(origin="log.test/b").grow(3)
    directory = tmp_path / "w"
    with open_witness(directory, LOG.verifier, other.verifier) as witness:
        nothing = run("witness", "show", "--data", directory)
        witness.add_checkpoint(LOG.request(0, 12))
        alone = run("witness", "show", "--data", directory)
        witness.add_checkpoint(other.request(0, 3))
    with WitnessProcess(directory, LOG.verifier.vkey):
        unnamed = run("witness", "show", "--data", directory)
        shown = run("witness", "show", "--data", directory, LOG.origin).stdout

    assert (nothing.exit_code, "none yet" in nothing.stderr) == (1, True)
    assert (alone.exit_code, alone.stdout.split("\n")[0]) == (0, LOG.origin)
    assert (unnamed.exit_code, "`log.test/a`, `log.test/b`" in unnamed.stderr) == (1, True)
    have = note.verify_checkpoint(shown, origin=LOG.origin, verifier=LOG.verifier, witness=witness.verifier)
    assert have.size == 12


def test_a_witness_is_not_a_node() -> None:
    """What it runs on imports neither the server nor gRPC nor a policy set."""
    code = (
        "import sys, policyd.witness.server\n"
        "bad = ('grpc', 'pbac', 'policyd.server', 'policyd.service', 'policyd.policy', 'policyd.registry')\n"
        "print([name for name in sys.modules if name.startswith(bad)])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout == "[]\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A log of a few decisions, closed."""
    site = make_site(tmp_path_factory.mktemp("witness") / "data")
    with serving(site) as running, site.channel(running.address) as channel:
        for number in range(3):
            stub(channel).Check(site.question(number), timeout=10)
    return site


def test_verify_demands_what_the_witness_has_seen(run: Any, written: Site, tmp_path: Path) -> None:
    """A log that begins with the cosigned checkpoint passes; an older copy of it names the lost record."""
    log = Path(shutil.copytree(written.config.ledger, tmp_path / "log"))
    with LedgerReader(log) as reader:
        origin, vkey, size, signed = reader.origin, reader.vkey, reader.count(), reader.stored_checkpoint()
    verifier = note.Verifier.from_vkey(vkey)
    with open_witness(tmp_path / "w", verifier) as witness:
        answer = witness.add_checkpoint(b"old 0\n\n" + signed.encode())
        assert answer.status == 200
        witness_key = witness.verifier.vkey
    file = tmp_path / "cosigned"
    file.write_text(signed + answer.body, "utf-8")
    plain = tmp_path / "plain"
    plain.write_text(signed, "utf-8")
    given = ("--cosigned", file, "--witness", witness_key, "--json")

    good = run("audit", "verify", log, *given)
    since = run("audit", "verify", log, "--since", file, "--witness", witness_key)
    uncosigned = run("audit", "verify", log, "--cosigned", plain, "--witness", witness_key)
    alone = run("audit", "verify", log, "--witness", witness_key)
    bad_key = run("audit", "verify", log, "--cosigned", file, "--witness", vkey)

    assert (good.exit_code, json.loads(good.stdout)["records"]) == (0, size)
    assert since.exit_code == 0
    assert (uncosigned.exit_code, "does not hold" in uncosigned.stdout) == (1, True)
    assert (alone.exit_code, "--cosigned" in alone.stderr) == (2, True)
    assert (bad_key.exit_code, "no vkey of a witness" in bad_key.stderr) == (2, True)
    assert origin in signed

    shorter = _log_of(tmp_path / "older", written)
    older = run("audit", "verify", shorter, *given)
    assert older.exit_code == 1
    assert [fault["index"] for fault in json.loads(older.stdout)["faults"]] == [0]


def _log_of(directory: Path, site: Site) -> Path:
    """Return an empty log of the same origin and key: the copy that went furthest back."""
    key = load_signing_key(site.config.keys / "ledger.key").private
    Ledger.open(directory, origin=site.config.origin, signing_key=key).close()
    return directory
