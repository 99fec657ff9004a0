"""An evidence file proves one record to whoever has the log's key, and no corrupted file proves anything."""

from __future__ import annotations

import base64
import json
import random
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_cases import ORIGIN, OpenLedger, make_entry

from policyd import merkle
from policyd.errors import ConfigError, LedgerCorrupt
from policyd.ledger import note, store
from policyd.ledger.entry import MAX_LEAF_BYTES
from policyd.ledger.evidence import MAX_BYTES, Evidence, read_evidence, verify_evidence, write_evidence
from policyd.ledger.proving import NotCovered, Standing, place_of, prove
from policyd.ledger.reader import LedgerReader

ROOT = Path(__file__).parents[3]
VECTORS = {
    path.stem: json.loads(path.read_text("utf-8"))["cases"]
    for path in sorted((ROOT / "tests/vectors/evidence").glob("*.json"))
}
CASES = [pytest.param(case, id=f"{name}: {case['name']}") for name in VECTORS for case in VECTORS[name]]
GO = shutil.which("go")


def bytes_of(case: dict[str, Any]) -> bytes:
    if "file" in case:
        return str(case["file"]).encode("utf-8")
    return base64.b64decode(case["file_base64"])


def check(case: dict[str, Any]) -> None:
    """Verify the file of a case as a user would: with the vkey as text."""
    try:
        verifier = note.Verifier.from_vkey(case["vkey"])
    except ValueError as error:
        raise LedgerCorrupt(str(error)) from error
    proved = verify_evidence(bytes_of(case), verifier=verifier)
    if case["valid"]:
        checkpoint = proved.checkpoint
        assert (checkpoint.origin, checkpoint.size, proved.index) == (
            case["origin"],
            case["size"],
            case["index"],
        )
        assert (checkpoint.root.hex(), proved.leaf.hex()) == (case["root"], case["leaf"])


@pytest.mark.parametrize("case", CASES)
def test_evidence_vector(case: dict[str, Any]) -> None:
    """A file proves what its vector says; a corrupted one is refused, whatever was done to it."""
    if case["valid"]:
        check(case)
    else:
        with pytest.raises(LedgerCorrupt):
            check(case)


def test_vectors_have_every_class() -> None:
    """Each part of a file has vectors in which it, and only it, is wrong."""
    assert set(VECTORS) == {
        "valid",
        *("proof", "leaf", "index", "size", "root", "origin", "key", "signature"),
        *("note-framing", "file-framing", "trailing-garbage", "extra-lines"),
    }
    assert all(case["valid"] is (name == "valid") for name in VECTORS for case in VECTORS[name])
    assert min(len(cases) for cases in VECTORS.values()) >= 7


@pytest.fixture(scope="module")
def go_verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The verifier of clients/go, built."""
    if GO is None:
        pytest.skip("no `go` here: the Go verifier of evidence files was not built or run")
    target = tmp_path_factory.mktemp("go") / "evidence"
    built = subprocess.run(
        [GO, "build", "-o", target, "."], cwd=ROOT / "clients/go", capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return target


@pytest.mark.parametrize("name", VECTORS)
def test_go_verifier_agrees(name: str, go_verifier: Path, tmp_path: Path) -> None:
    """The verifier in Go, which shares no code with policyd, accepts and refuses the same files."""
    for number, case in enumerate(VECTORS[name]):
        file = tmp_path / f"{number}.tlog-proof"
        file.write_bytes(bytes_of(case))
        ran = subprocess.run(
            [go_verifier, f"-key={case['vkey']}", file], capture_output=True, text=True, check=False
        )
        if case["valid"]:
            want = f"{file}: proved: record {case['index']} of {case['size']} in {case['origin']}, "
            assert (ran.returncode, ran.stdout.startswith(want)) == (0, True), (case["name"], ran)
        else:
            usage = not case["vkey"]
            assert ran.returncode == (2 if usage else 1), (case["name"], ran)
            assert usage or ran.stdout.startswith(f"{file}: REFUSED: "), (case["name"], ran)


def test_go_verifier_agrees_on_random_damage(go_verifier: Path, tmp_path: Path) -> None:
    """Bytes changed, lost or added and lines moved anywhere are judged alike by both verifiers."""
    seed = 20261124
    chance = random.Random(seed)  # noqa: S311  # seeded test data
    vkey = VECTORS["valid"][0]["vkey"]
    verifier = note.Verifier.from_vkey(vkey)
    files, want = [], []
    for number in range(600):
        data = bytearray(bytes_of(chance.choice(VECTORS[chance.choice(["valid", "valid", *VECTORS])])))
        for _ in range(chance.randint(0, 2)):
            at = chance.randrange(len(data) + 1)
            lines = bytes(data).split(b"\n")
            moved = lines.pop(chance.randrange(len(lines)))
            kind = chance.randrange(4)
            if kind == 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            elif kind == 1:
                data[at:at] = chance.choice((b"\n", b" ", b"=", b"0", b"\r", b"\xe2"))
            elif kind == 2:
                del data[at : at + 1]
            else:
                lines.insert(chance.randrange(len(lines) + 1), moved)
                data[:] = b"\n".join(lines)
        files.append(tmp_path / f"{number}")
        files[-1].write_bytes(data)
        try:
            verify_evidence(bytes(data), verifier=verifier)
            want.append("proved")
        except LedgerCorrupt:
            want.append("REFUSED")
    ran = subprocess.run([go_verifier, f"-key={vkey}", *files], capture_output=True, text=True, check=False)
    have = [line.split(": ")[1] for line in ran.stdout.splitlines()]

    assert want.count("proved") > 20
    assert have == want, f"seed {seed}"


def test_go_verifier_is_small_and_stands_alone() -> None:
    """It can be read in one sitting: under 200 lines, with nothing but Go's standard library."""
    lines = (ROOT / "clients/go/main.go").read_text("utf-8").splitlines()
    imports = lines[lines.index("import (") + 1 : lines.index(")")]

    assert len(lines) < 200
    assert all("." not in line for line in imports)
    assert "require" not in (ROOT / "clients/go/go.mod").read_text("utf-8")


def test_every_record_of_a_log_can_be_proved(log: Path, signing_key: Ed25519PrivateKey) -> None:
    """What `prove` finds, written and read again, verifies with the log's key alone."""
    verifier = note.Verifier(ORIGIN, signing_key.public_key())
    with LedgerReader(log) as reader:
        for record in reader.records():
            evidence = prove(log, record, reader=reader, public_key=verifier.vkey)
            data = write_evidence(evidence).encode("utf-8")
            assert read_evidence(data) == evidence
            proved = verify_evidence(data, verifier=verifier)
            assert (proved.leaf, proved.index, proved.checkpoint.size) == (record.leaf, record.index, 21)


def test_no_flipped_bit_of_a_file_is_accepted(log: Path, signing_key: Ed25519PrivateKey) -> None:
    """Whatever bit of an evidence file is flipped, it proves nothing."""
    verifier = note.Verifier(ORIGIN, signing_key.public_key())
    with LedgerReader(log) as reader:
        record = reader.record(20)
        assert record is not None
        data = write_evidence(prove(log, record, reader=reader)).encode("utf-8")
    assert verify_evidence(data, verifier=verifier).index == 20
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << (position % 8)
        with pytest.raises(LedgerCorrupt):
            verify_evidence(bytes(changed), verifier=verifier)


def test_the_largest_record_and_a_large_file_are_told_apart(signing_key: Ed25519PrivateKey) -> None:
    """A record of the greatest size has evidence, and a reader is not made to read more than that."""
    leaf = b'{"v":1,"x":"' + b"x" * (MAX_LEAF_BYTES - 14) + b'"}'
    root = merkle.leaf_hash(leaf)
    signed = note.sign_checkpoint(note.Checkpoint(ORIGIN, 1, root), signing_key)
    data = write_evidence(Evidence(leaf=leaf, index=0, proof=(), checkpoint=signed)).encode("utf-8")
    verifier = note.Verifier(ORIGIN, signing_key.public_key())

    assert len(leaf) == MAX_LEAF_BYTES
    assert verify_evidence(data, verifier=verifier).leaf == leaf
    with pytest.raises(LedgerCorrupt, match="more than"):
        verify_evidence(data + bytes(MAX_BYTES), verifier=verifier)


def test_a_record_without_a_stored_checkpoint_is_pending(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """A record of the last commit has no stored signature yet; that is said, and is no fault."""
    ledger = open_ledger()
    ledger.append([make_entry(0)])
    log = tmp_path / "log"
    with LedgerReader(log) as reader:
        record = reader.record(0)
        assert record is not None
        (log / store.ANCHOR).write_text(reader.stored_checkpoint(), "utf-8")
        with pytest.raises(NotCovered, match="try again in a second"):
            prove(log, record, reader=reader)
        assert place_of(log, record, reader=reader).status is Standing.PENDING
    ledger.close()
    with LedgerReader(log) as reader:
        assert place_of(log, record, reader=reader).status is Standing.PROVED


@pytest.mark.parametrize("part", ["leaf", "nodes", "checkpoint", "database checkpoint", "no checkpoint"])
def test_no_evidence_is_made_of_what_does_not_hold(log: Path, part: str) -> None:
    """A changed record, tree or checkpoint gives a fault, not a file that proves nothing."""
    with sqlite3.connect(log / store.DATABASE) as connection:
        if part == "leaf":
            connection.execute("UPDATE record SET leaf = x'7b7d' WHERE idx = 7")
        elif part == "nodes":
            connection.execute("UPDATE record SET nodes = zeroblob(32) WHERE idx = 6")
        elif part == "checkpoint":
            text = (log / store.ANCHOR).read_text("utf-8")
            (log / store.ANCHOR).write_text(text.replace("\n21\n", "\n20\n"), "utf-8")
        elif part == "database checkpoint":
            connection.execute("UPDATE checkpoint SET note = replace(note, char(10) || '21', '22')")
        else:
            connection.execute("DELETE FROM checkpoint")
            (log / store.ANCHOR).unlink()
    connection.close()
    with LedgerReader(log) as reader:
        record = reader.record(7)
        assert record is not None
        with pytest.raises(LedgerCorrupt):
            prove(log, record, reader=reader)
        assert place_of(log, record, reader=reader).status is Standing.FAULT


def test_evidence_is_made_under_the_key_that_is_named(log: Path) -> None:
    """A pinned key that is not the log's gives no evidence; a text that is no key is wrong usage."""
    other = note.Verifier(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"\x05" * 32).public_key())
    with LedgerReader(log) as reader:
        record = reader.record(0)
        assert record is not None
        with pytest.raises(LedgerCorrupt, match="it is"):
            prove(log, record, reader=reader, public_key=other.vkey)
        with pytest.raises(ConfigError, match="malformed"):
            prove(log, record, reader=reader, public_key="x")
