"""Seals and records from many threads until it is killed; prints each decision that it was answered for.

Usage: vault_child.py DIRECTORY THREADS [APPENDS_EACH]. Without a number it goes on until it is killed.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from ledger_child import KEY, ORIGIN, make_entry

from policyd import ids
from policyd.ledger.detail import seal
from policyd.ledger.vault import Vault
from policyd.ledger.writer import Ledger


@dataclass(frozen=True)
class Master:
    """A master key as `policyd.identity.keys` makes one."""

    id: str = "aa"
    secret: bytes = b"\x07" * 32


POOL = 256


def main() -> None:
    directory, threads = Path(sys.argv[1]), int(sys.argv[2])
    appends = int(sys.argv[3]) if len(sys.argv) > 3 else sys.maxsize
    ledger = Ledger.open(directory, origin=ORIGIN, signing_key=KEY)
    vault = Vault.open(ledger, master=Master(), pseudonym_key=bytes(32), pool=POOL)

    def run() -> None:
        for _ in range(appends):
            key, decision_id = vault.take(timeout_s=60.0), ids.decision_id()
            detail = seal(decision_id.encode(), key, origin=ORIGIN, decision_id=decision_id)
            ledger.append([make_entry(decision_id=decision_id, key=key.secret, detail=detail)])
            os.write(1, f"{decision_id} {key.number} {key.secret.hex()}\n".encode("ascii"))

    workers = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    vault.close()
    ledger.close()


if __name__ == "__main__":
    main()
