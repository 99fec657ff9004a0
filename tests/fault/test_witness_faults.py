"""Whatever ends a witness, and whoever asks at once: it remembers what it has signed, and never goes back."""

from __future__ import annotations

import http.client
import itertools
import os
import random
import shutil
import threading
import time
from pathlib import Path

import pytest
from support.witness import TreeLog, WitnessProcess, make_witness, post

from policyd.ledger import note
from policyd.merkle import verify_consistency
from policyd.witness.protocol import EVIDENCE

STRACE = shutil.which("strace")
LOG = TreeLog().grow(400)
ROOTS = {size: LOG.root(size) for size in range(401)}


def size_held(address: str) -> int:
    """Ask for the newest size with a request that cannot succeed: the tree of 400 from itself."""
    status, _, body = post(address, LOG.request(400, 400))
    return 400 if status == 200 else int(body)


def test_of_two_at_once_one_is_cosigned_and_none_rolls_back(tmp_path: Path) -> None:
    """The race of the specification: N and N+K from one old size; one wins, and the size only ever grows."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311  # the seed is printed
    make_witness(tmp_path)
    with WitnessProcess(tmp_path, LOG.verifier.vkey) as witness:
        held = 0
        for _ in range(40):
            sizes = sorted(chance.sample(range(held + 1, held + 9), 4))
            bodies = [LOG.request(held, size) for size in sizes]
            start = threading.Barrier(len(bodies))
            statuses: dict[int, int] = {}

            def ask(
                size: int,
                body: bytes,
                statuses: dict[int, int] = statuses,
                start: threading.Barrier = start,
            ) -> None:
                start.wait()
                statuses[size] = post(witness.address, body)[0]

            threads = [
                threading.Thread(target=ask, args=(size, body))
                for size, body in zip(sizes, bodies, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            won = [size for size, status in statuses.items() if status == 200]
            assert sorted(statuses.values()) == [200, 409, 409, 409], f"seed {seed}"
            held = size_held(witness.address)
            assert [held] == won, f"seed {seed}"


def test_a_killed_witness_remembers_all_that_it_signed(tmp_path: Path) -> None:
    """Killed at random moments under load: no signature that anyone holds is ahead of what it holds then."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311  # the seed is printed
    verifier = make_witness(tmp_path)
    signed: dict[int, str] = {}
    size = 0
    for number in range(4):
        with WitnessProcess(tmp_path, LOG.verifier.vkey) as witness:
            held = size_held(witness.address)
            assert held >= max(signed, default=0), f"seed {seed}"
            size = held
            killer = threading.Timer(chance.uniform(0.05, 0.4), witness.process.kill)
            killer.start()
            try:
                while size < 100 * (number + 1):
                    status, _, body = post(witness.address, LOG.request(size, size + 1))
                    assert status == 200
                    size += 1
                    signed[size] = body.decode()
            except (OSError, http.client.HTTPException):
                pass  # killed
            killer.join()
    assert signed, f"seed {seed}"
    for each, lines in signed.items():
        have = note.verify_checkpoint(
            LOG.checkpoint(each) + lines, origin=LOG.origin, verifier=LOG.verifier, witness=verifier
        )
        assert (have.size, have.root) == (each, ROOTS[each])
    print(f"{len(signed)} cosignatures over 4 kills")


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_killed_between_storing_and_replying_it_has_stored(tmp_path: Path) -> None:
    """The reply is the first thing sent; killed as it sends it, the witness holds what nobody was told."""
    make_witness(tmp_path)
    prefix = [
        str(STRACE), "-f", "-qq", "-o", "/dev/null",
        "-e", "trace=sendto", "-e", "inject=sendto:signal=KILL:when=1",
    ]  # fmt: skip
    with WitnessProcess(tmp_path, LOG.verifier.vkey, prefix=prefix) as witness:
        with pytest.raises((OSError, http.client.HTTPException)):
            post(witness.address, LOG.request(0, 9))
        assert witness.process.wait(30) != 0
    with WitnessProcess(tmp_path, LOG.verifier.vkey) as witness:
        assert post(witness.address, LOG.request(0, 12))[::2] == (409, b"9\n")
        assert post(witness.address, LOG.request(9, 12))[0] == 200


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.parametrize(
    "fault",
    ["fdatasync:error=EIO:when=1", "pwrite64:error=ENOSPC:when=2", "pwrite64:error=EIO:when=3"],
)
def test_what_cannot_be_stored_is_not_signed(tmp_path: Path, fault: str) -> None:
    """A failed write or sync: 500 without a signature, and the process ends by itself with 4."""
    make_witness(tmp_path)
    call = fault.split(":", maxsplit=1)[0]
    prefix = [
        str(STRACE), "-f", "-qq", "-o", "/dev/null", "-P", str(tmp_path / "witness.db-wal"),
        "-e", f"trace={call}", "-e", f"inject={fault}",
    ]  # fmt: skip
    with WitnessProcess(tmp_path, LOG.verifier.vkey, prefix=prefix) as witness:
        status, _, body = post(witness.address, LOG.request(0, 9))
        said, _ = witness.process.communicate(timeout=30)
    assert (status, "\N{EM DASH}".encode() in body) == (500, False)
    assert witness.process.returncode == 4, said
    assert "the witness stopped: the store failed" in witness.errors.read_text()


def test_asked_to_stop_under_load_it_ends_with_0(tmp_path: Path) -> None:
    """SIGTERM: each request is answered or refused, and what was answered is held at the next start."""
    make_witness(tmp_path)
    newest = 0
    with WitnessProcess(tmp_path, LOG.verifier.vkey) as witness:
        moving = threading.Event()

        def load() -> None:
            nonlocal newest
            try:
                for size in range(1, 400):
                    if post(witness.address, LOG.request(size - 1, size))[0] == 200:
                        newest = size
                    moving.set()
            except (OSError, http.client.HTTPException):
                moving.set()

        thread = threading.Thread(target=load)
        thread.start()
        assert moving.wait(30)
        begin_s = time.monotonic()
        code, said = witness.terminate()
        thread.join()
        assert time.monotonic() - begin_s < 10
    assert (code, said.splitlines()[-1]) == (0, "stopped")
    assert newest > 0
    with WitnessProcess(tmp_path, LOG.verifier.vkey) as witness:
        held = size_held(witness.address)
    assert held in (newest, newest + 1)  # the last one may have been cut off after it was stored


def test_two_processes_on_one_store_are_one_witness(tmp_path: Path) -> None:
    """Check and store are atomic across processes, too: no size is cosigned from two beginnings."""
    make_witness(tmp_path)
    fork = TreeLog().grow(400, salt=b"other")
    with (
        WitnessProcess(tmp_path, LOG.verifier.vkey) as one,
        WitnessProcess(tmp_path, LOG.verifier.vkey) as two,
    ):
        given: list[tuple[TreeLog, int]] = []
        start = threading.Barrier(2)

        def ask(address: str, log: TreeLog) -> None:
            size = 0
            start.wait()
            for target in range(1, 60):
                status, _, body = post(address, log.request(size, target))
                if status == 200:
                    given.append((log, target))
                    size = target
                elif status == 409:
                    size = min(int(body), target)

        threads = [
            threading.Thread(target=ask, args=(one.address, LOG)),
            threading.Thread(target=ask, args=(two.address, fork)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(log) for log, _ in given}) == 1
        winner, held = given[0][0], given[-1][1]
        loser = fork if winner is LOG else LOG
        assert post(one.address, loser.request(held, held))[0] == 409
    for (_, old), (_, new) in itertools.pairwise(given):
        assert verify_consistency(
            old, winner.root(old), size=new, root=winner.root(new), proof=winner.proof(old, new)
        )
    assert list((tmp_path / EVIDENCE).iterdir()), "the other history left no trace"
