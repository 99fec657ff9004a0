"""A witness for tests, in this process or another, and small logs to show it."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd import merkle
from policyd.identity.keys import create_signing_key, load_signing_key
from policyd.ledger import note
from policyd.witness.protocol import Witness
from policyd.witness.server import WitnessServer
from policyd.witness.store import WitnessStore

NAME = "witness.test/w1"
KEY_FILE = "witness.key"
POLICYD = (sys.executable, "-c", "from policyd.cli import main; main()")
WAIT_S = 30.0


@dataclass
class TreeLog:
    """A log without records: leaf hashes, and the key that signs its checkpoints."""

    origin: str = "log.test/a"
    key: Ed25519PrivateKey = field(default_factory=lambda: Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
    salt: bytes = b""
    leaves: list[bytes] = field(default_factory=list)

    @property
    def verifier(self) -> note.Verifier:
        return note.Verifier(self.origin, self.key.public_key())

    def grow(self, size: int, salt: bytes = b"") -> TreeLog:
        """Add leaves up to a size; another salt makes another history."""
        while len(self.leaves) < size:
            self.leaves.append(merkle.leaf_hash(salt + str(len(self.leaves)).encode()))
        return self

    def root(self, size: int) -> bytes:
        frontier = merkle.Frontier()
        for each in self.leaves[:size]:
            frontier.push(each)
        return frontier.root()

    def checkpoint(self, size: int) -> str:
        return note.sign_checkpoint(note.Checkpoint(self.origin, size, self.root(size)), self.key)

    def proof(self, old: int, size: int) -> list[bytes]:
        return merkle.consistency_proof(old, size, self._node)

    def request(self, old: int, size: int, *, proof: Sequence[bytes] | None = None) -> bytes:
        """Return the body that asks to move a witness from one size to another."""
        hashes = self.proof(old, size) if proof is None else proof
        lines = [f"old {old}", *(b64encode(each).decode() for each in hashes), "", self.checkpoint(size)]
        return "\n".join(lines).encode()

    def _node(self, level: int, position: int) -> bytes:
        frontier = merkle.Frontier()
        for each in self.leaves[position << level : (position + 1) << level]:
            frontier.push(each)
        return frontier.root()


def make_witness(directory: Path, *, name: str = NAME) -> note.WitnessVerifier:
    """Make the key and the store of a witness, as `policyd witness key` does."""
    directory.mkdir(exist_ok=True)
    if not (directory / KEY_FILE).exists():
        create_signing_key(directory / KEY_FILE)
    WitnessStore(directory, name=name).close()
    return note.WitnessVerifier(name, load_signing_key(directory / KEY_FILE).private.public_key())


@contextmanager
def open_witness(directory: Path, *logs: note.Verifier) -> Iterator[Witness]:
    """Open the witness of a directory, made if there is none."""
    make_witness(directory)
    store = WitnessStore(directory)
    try:
        yield Witness(directory, store, key=load_signing_key(directory / KEY_FILE).private, logs=logs)
    finally:
        store.close()


@contextmanager
def serving_witness(directory: Path, *logs: note.Verifier, port: int = 0) -> Iterator[WitnessServer]:
    """Serve a witness in this process."""
    with open_witness(directory, *logs) as witness:
        server = WitnessServer("127.0.0.1", port, witness=witness)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


def post(address: str, body: bytes, *, path: str = "/add-checkpoint") -> tuple[int, str, bytes]:
    """Post to a witness over a connection of its own; return status, content type and body."""
    connection = http.client.HTTPConnection(address, timeout=WAIT_S)
    try:
        connection.request("POST", path, body=body)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type") or "", response.read()
    finally:
        connection.close()


class WitnessProcess:
    """`policyd witness serve` in a process of its own."""

    def __init__(
        self, directory: Path, *vkeys: str, listen: str = "127.0.0.1:0", prefix: Sequence[str] = ()
    ) -> None:
        logs = [part for vkey in vkeys for part in ("--log", vkey)]
        self.errors = directory / "stderr.txt"
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                [*prefix, *POLICYD, "witness", "serve", "--data", str(directory), "--listen", listen, *logs],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "listens on" not in line:
            self.kill()
            raise AssertionError(f"the witness did not start: {line}{self.errors.read_text()}")
        self.address = line.split("listens on ")[1].strip()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def kill(self) -> None:
        self.process.kill()
        self._end()

    def terminate(self) -> tuple[int, str]:
        """Ask it to stop; return its exit code and what it still said."""
        self.process.terminate()
        said, _ = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, said

    def _end(self) -> None:
        self.process.wait(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __enter__(self) -> WitnessProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._end()
