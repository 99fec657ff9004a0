"""A node and a witness, each in a process of its own: what callers get while it is there, and while not."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.server import POLICYD, Process, Site, make_site, registry_text, stub
from support.witness import WitnessProcess, make_witness, post
from test_state_changes import health_of, wait_for

from policyd.identity.keys import load_signing_key
from policyd.ledger import note, store
from policyd.ledger.verify import verify
from policyd.witness.protocol import EVIDENCE


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "data")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    make_witness(tmp_path / "witness")
    return tmp_path / "witness"


def log_of(site: Site) -> note.Verifier:
    key = load_signing_key(site.config.keys / "ledger.key")
    return note.Verifier(site.config.origin, key.private.public_key())


def configure(site: Site, url: str, vkey: str, *, required: bool) -> None:
    """Name a witness in `policyd.yaml`, in place of the one that is there."""
    file = site.data / "policyd.yaml"
    kept = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("witness:")]
    kept.append(f'witness: {{url: "{url}", vkey: "{vkey}", required: {str(required).lower()}}}')
    file.write_text("\n".join(kept) + "\n", "utf-8")


@contextmanager
def witnessed(site: Site, directory: Path, *, required: bool = True) -> Iterator[WitnessProcess]:
    """Run a witness of this node's log, and name it in the node's configuration."""
    with WitnessProcess(directory, log_of(site).vkey) as witness:
        configure(site, witness.url, make_witness(directory).vkey, required=required)
        yield witness


def refusal(site: Site, address: str, number: object) -> tuple[grpc.StatusCode, str]:
    with site.channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        stub(channel).Check(site.question(number), timeout=15)
    error: Any = caught.value
    return error.code(), error.details()


def serve_until_it_ends(site: Site) -> subprocess.CompletedProcess[str]:
    command = [*POLICYD, "serve", "--data", str(site.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def held(witness: WitnessProcess, site: Site) -> int:
    """Return how many records of the node's log the witness holds, as its 409 tells."""
    signed = note.sign_checkpoint(
        note.Checkpoint(site.config.origin, 10**9, bytes(32)),
        load_signing_key(site.config.keys / "ledger.key").private,
    )
    status, _, body = post(witness.address, f"old {10**9}\n\n{signed}".encode())
    assert status == 409
    return int(body)


def test_receipts_carry_the_witness_and_it_holds_what_was_answered(site: Site, directory: Path) -> None:
    """Required: each receipt's checkpoint is signed by log and witness; nothing answered is beyond it."""
    witness_key = make_witness(directory)
    with witnessed(site, directory) as witness, Process(site) as node, site.channel(node.address) as channel:
        for number in range(3):
            receipt = stub(channel).Check(site.question(number, want_receipt=True), timeout=10).receipt
            have = note.verify_checkpoint(
                receipt.checkpoint, origin=site.config.origin, verifier=log_of(site), witness=witness_key
            )
            assert have.size > receipt.index
            assert held(witness, site) >= have.size
        assert "no answer leaves without it" in node.output
        assert node.terminate() == 0
        shown = subprocess.run(
            [*POLICYD, "witness", "show", "--data", str(directory)],
            capture_output=True, text=True, timeout=30, check=True,
        ).stdout  # fmt: skip
    checked = verify(site.config.ledger, cosigned=[shown], witness=witness_key.vkey)
    assert checked.passed, str(checked)


def test_while_the_witness_is_away_nobody_is_answered_and_then_all_are(site: Site, directory: Path) -> None:
    """UNAVAILABLE soon, health NOT_SERVING, the log whole; once it is back, answers without a restart."""
    with witnessed(site, directory) as witness, Process(site) as node:
        with site.channel(node.address) as channel:
            stub(channel).Check(site.question("before"), timeout=10)
        listen = witness.address
        witness.kill()

        begin = time.monotonic()
        code, why = refusal(site, node.address, "first")
        again, _ = refusal(site, node.address, "second")
        assert time.monotonic() - begin < 10
        assert (code, again) == (grpc.StatusCode.UNAVAILABLE,) * 2
        assert "no answer without a witness, and it is away" in why
        wait_for(lambda: health_of(site, node.address) == "NOT_SERVING", what="health says so")
        assert not (site.config.ledger / store.MARKER).exists()

        with WitnessProcess(directory, log_of(site).vkey, listen=listen):
            wait_for(lambda: health_of(site, node.address) == "SERVING", what="the witness is back")
            with site.channel(node.address) as channel:
                answer = stub(channel).Check(site.question("after"), timeout=10)
            assert node.terminate() == 0
    decided = [leaf["decision_id"] for leaf in site.leaves() if leaf["kind"] == "decision"]
    assert answer.decision_id == decided[-1]
    assert len(decided) == 3  # before, the one under way, after
    assert verify(site.config.ledger).passed


def test_a_change_of_state_waits_for_the_witness(site: Site, directory: Path) -> None:
    """A node that could not record a change while the witness was away applies it afterwards."""
    with witnessed(site, directory) as witness, Process(site) as node:
        listen = witness.address
        witness.kill()
        epoch = site.apply(registry_text(status="suspended"))
        wait_for(lambda: health_of(site, node.address) == "NOT_SERVING", what="health says so")
        with WitnessProcess(directory, log_of(site).vkey, listen=listen):
            wait_for(lambda: health_of(site, node.address) == "SERVING", what="the witness is back")
            with site.channel(node.address) as channel:
                answer = stub(channel).Check(site.question(), timeout=10)
            assert node.terminate() == 0
    assert answer.epoch == epoch


def test_a_node_set_back_to_an_older_copy_does_not_start(site: Site, directory: Path, tmp_path: Path) -> None:
    """The whole data directory restored from a back-up: only the witness knows, and the message says so."""
    with witnessed(site, directory):
        with Process(site) as node:
            assert node.terminate() == 0
        shutil.copytree(site.data, tmp_path / "backup")
        with Process(site) as node, site.channel(node.address) as channel:
            stub(channel).Check(site.question(), timeout=10)
            assert node.terminate() == 0
        shutil.rmtree(site.data)
        shutil.copytree(tmp_path / "backup", site.data)

        ended = serve_until_it_ends(site)

    assert ended.returncode == 1
    assert "the log has gone back" in ended.stderr
    assert "restore the newest copy" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_copy_of_a_node_cannot_run_beside_it(site: Site, directory: Path, tmp_path: Path) -> None:
    """Two logs with one origin: the one that the witness has not seen is stopped, in service or at start."""
    with witnessed(site, directory):
        with Process(site) as one:
            assert one.terminate() == 0
        copy = Site(replace(site.config, data=tmp_path / "copy"))
        shutil.copytree(site.data, copy.data)
        with Process(site) as one, Process(copy) as two:
            with site.channel(one.address) as channel:
                stub(channel).Check(site.question(1), timeout=10)
            code, why = refusal(copy, two.address, 2)
            assert (code, "two logs go by one name" in why) == (grpc.StatusCode.UNAVAILABLE, True)
            wait_for(lambda: health_of(copy, two.address) == "NOT_SERVING", what="the copy is stopped")
            with site.channel(one.address) as channel:
                stub(channel).Check(site.question(3), timeout=10)
            assert one.terminate() == 0
            assert two.terminate() == 4
        assert [file.read_text("utf-8").split("\n")[0] for file in (directory / EVIDENCE).iterdir()] == [
            "two roots over one size"
        ]
        ended = serve_until_it_ends(copy)
    assert ended.returncode == 1
    assert "the log has gone back" in ended.stderr


@pytest.mark.parametrize(
    ("required", "code", "text"),
    [(True, 4, "no answer from `http://127.0.0.1:9/add-checkpoint`"), (False, 0, "")],
)
def test_a_witness_that_is_away_at_start(
    site: Site, directory: Path, *, required: bool, code: int, text: str
) -> None:
    """Required: the node does not start, with exit code 4; else it starts, and says that nobody cosigns."""
    configure(site, "http://127.0.0.1:9", make_witness(directory).vkey, required=required)
    if required:
        ended = serve_until_it_ends(site)
        assert (ended.returncode, text in ended.stderr) == (code, True)
        return
    with Process(site) as node, site.channel(node.address) as channel:
        assert stub(channel).Check(site.question(), timeout=10).decision_id
        assert node.terminate() == code
    assert "checkpoints are not cosigned now" in node.output


def test_a_witness_of_a_key_that_the_node_does_not_know_is_none(
    site: Site, directory: Path, tmp_path: Path
) -> None:
    """The node was given another vkey: what this witness signs counts for nothing."""
    other = make_witness(tmp_path / "stranger")
    with WitnessProcess(directory, log_of(site).vkey) as witness:
        configure(site, witness.url, other.vkey, required=True)
        ended = serve_until_it_ends(site)
    assert ended.returncode == 4
    assert "is its key the one in `witness: vkey`" in ended.stderr


def test_in_the_background_nobody_waits(site: Site, directory: Path) -> None:
    """Not required: answers come while it is away; while it is there the newest checkpoint is cosigned."""
    witness_key = make_witness(directory)
    with witnessed(site, directory, required=False) as witness, Process(site) as node:
        with site.channel(node.address) as channel:
            answer = stub(channel).Check(site.question(), timeout=10)
        kept = site.config.ledger / store.COSIGNED

        def covered() -> bool:
            return (
                kept.exists()
                and note.parse_checkpoint(note.parse(kept.read_text("utf-8")).text).size
                > answer.receipt.index
            )

        wait_for(covered, what="the answer's record is cosigned")
        assert held(witness, site) > answer.receipt.index
        note.verify_checkpoint(
            kept.read_text("utf-8"), origin=site.config.origin, verifier=log_of(site), witness=witness_key
        )
        witness.kill()
        with site.channel(node.address) as channel:
            assert stub(channel).Check(site.question(2), timeout=10).decision_id
        assert node.terminate() == 0


def test_without_a_witness_start_says_what_is_missing(site: Site) -> None:
    """One line: nothing protects the ledger against whoever holds its key."""
    with Process(site) as node:
        node.line_with("no witness: nothing protects this ledger against whoever holds its key")
        assert node.terminate() == 0
