"""A killed node loses no key that a record needs, and never gives out a key of before."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from ledger_child import KEY, ORIGIN
from sweeps import quick_directory, some
from vault_child import POOL, Master

from policyd.ledger import keystore
from policyd.ledger.detail import key_number, unseal
from policyd.ledger.keystore import read_keys
from policyd.ledger.reader import LedgerReader
from policyd.ledger.vault import Vault
from policyd.ledger.verify import verify
from policyd.ledger.writer import Ledger

CHILD = Path(__file__).with_name("vault_child.py")
STRACE = shutil.which("strace")
ROUNDS = 5
THREADS = 8


def test_sigkill_loses_no_key_and_brings_none_back(tmp_path: Path) -> None:
    """Killed at random moments: every recorded detail opens, and no number or secret ever comes twice."""
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)  # noqa: S311  # the seed is in every message
    log = tmp_path / "log"
    given: list[tuple[str, int, str]] = []
    for number in range(ROUNDS):
        command = [sys.executable, str(CHILD), str(log), str(THREADS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            output = b"".join(process.stdout.readline() for _ in range(chance.randrange(1, 600)))
            process.kill()
            output += process.stdout.read()
        assert process.returncode == -9, f"seed {seed}, round {number}"
        for line in output.split(b"\n")[:-1]:
            decision_id, key, secret = line.decode().split(" ")
            given.append((decision_id, int(key), secret))
        with Ledger.open(log, origin=ORIGIN, signing_key=KEY) as ledger:
            Vault.open(ledger, master=Master(), pseudonym_key=bytes(32), pool=POOL).close()
        with LedgerReader(log) as reader, closing(read_keys(log, Master(), origin=ORIGIN)) as keys:
            used = []
            for record in reader.records():
                used.append(key_number(record.detail))
                secret_kept = keys.record_key(used[-1])
                assert secret_kept is not None, f"seed {seed}: record {record.index} lost its key"
                plain = unseal(record.leaf, record.detail, secret_kept, origin=ORIGIN)
                assert plain.decode() == record.columns.decision_id
            assert len({*used}) == len(used), f"seed {seed}: a key sealed two details"
            # What nobody used is gone. Left over may be keys of records that were under way.
            assert len(keys.numbers_from(0)) <= len(used) + THREADS * (number + 1)
    assert len({secret for _, _, secret in given}) == len(given) > ROUNDS, f"seed {seed}"
    assert verify(log).passed


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_a_decision_costs_one_sync(tmp_path: Path) -> None:
    """Keys are made ahead: a thousand records more take a thousand syncs more, and a few for new pools."""

    def syncs(appends: int) -> int:
        trace, log = tmp_path / f"trace-{appends}", tmp_path / f"log-{appends}"
        command = [str(STRACE), "-f", "-e", "trace=fdatasync", "-o", str(trace)]
        command += [sys.executable, str(CHILD), str(log), "1", str(appends)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        return len(re.findall(r"fdatasync\(", trace.read_text("utf-8")))

    few, many = syncs(200), syncs(1_200)
    print(f"{few} syncs for 200 records, {many} for 1,200")

    pools = 1_000 // (POOL // 2) + 2
    # A filling is synced when it is committed, and twice when the write-ahead log is moved and emptied.
    assert 1_000 <= many - few <= 1_000 + 3 * pools + 20


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_no_failing_call_on_the_keys_loses_one() -> None:
    """Each write and sync of `detail.db` killed or failed: what is recorded opens, and a start goes on."""
    faults = ("signal=KILL", "error=EIO", "error=ENOSPC")
    numbers = {"pwrite64": range(1, 25), "fdatasync": range(1, 9)}
    cases = [
        (name, call, number, fault)
        for name in (keystore.DATABASE, f"{keystore.DATABASE}-wal")
        for call in numbers
        for number in numbers[call]
        for fault in faults
    ]
    codes: Counter[tuple[str, int]] = Counter()
    for name, call, number, fault in some(cases, 8):
        with quick_directory() as directory:
            log = directory / "log"
            what = f"{name}: {call} {number}, {fault}"
            command = [str(STRACE), "-f", "-qq", "-o", "/dev/null", "-P", str(log / name)]
            command += ["-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}"]
            command += [sys.executable, str(CHILD), str(log), "4", "250"]
            ended = subprocess.run(command, capture_output=True, check=False, timeout=300)
            codes[fault, ended.returncode] += 1
            given = {line.split(b" ")[0].decode() for line in ended.stdout.split(b"\n")[:-1]}
            with Ledger.open(log, origin=ORIGIN, signing_key=KEY) as ledger:
                Vault.open(ledger, master=Master(), pseudonym_key=bytes(32), pool=POOL).close()
            with LedgerReader(log) as reader, closing(read_keys(log, Master(), origin=ORIGIN)) as keys:
                used = set()
                for record in reader.records():
                    key = key_number(record.detail)
                    assert key not in used, f"{what}: a key sealed two details"
                    used.add(key)
                    secret = keys.record_key(key)
                    assert secret is not None, f"{what}: record {record.index} lost its key"
                    assert unseal(record.leaf, record.detail, secret, origin=ORIGIN)
                    given.discard(record.columns.decision_id)
            assert not given, f"{what}: answered and not recorded"
            assert verify(log).passed, what
    print(dict(codes))
