"""Waits at one stage of a log's life for a tracer to be attached, goes on, and says what it was answered.

Usage: stage_child.py DIRECTORY STAGE [FILE_LIMIT_BYTES]. It says `ready` at the stage and goes on when it is
sent a line; from there on no file grows beyond the limit. Ends with 0; with 3 when the log closed itself and
then refused, as it must; with 5 when it was not opened.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from ledger_child import KEY, ORIGIN, make_entry

from policyd.errors import LedgerClosed, LedgerCorrupt
from policyd.ledger import recovery, writer

STAGES = ("open", "commit", "finish", "release")
"""Opening and recovery; commits, with what follows each; the last ones; closing the files."""
COMMITS = 3
_ANY_TRACER = 0x59616D61, ctypes.c_long(-1)  # PR_SET_PTRACER: a sibling may attach where that is restricted


def main() -> int:
    directory, stage = Path(sys.argv[1]), sys.argv[2]
    limit_bytes = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    writer._MOVE_AFTER_BYTES = 0  # every commit writes the database file
    writer._ANCHOR_EVERY_S = 0.0  # and the checkpoint beside it
    release = recovery.State.release

    def wait(at: str) -> None:
        if at == stage:
            os.write(1, b"ready\n")
            os.read(0, 1)
            if limit_bytes:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    def released(state: recovery.State, *, failed: bool = False) -> None:
        wait("release")
        release(state, failed=failed)

    recovery.State.release = released  # type: ignore[method-assign]
    ctypes.CDLL(None).prctl(*_ANY_TRACER, 0, 0, 0)
    wait("open")
    try:
        ledger = writer.Ledger.open(directory, origin=ORIGIN, signing_key=KEY)
    except (LedgerClosed, LedgerCorrupt) as error:
        print(error, file=sys.stderr)
        return 5
    entries = [make_entry() for _ in range(2 * COMMITS)]
    wait("commit")
    try:
        for first, second in zip(entries[::2], entries[1::2], strict=True):
            receipts = ledger.append([first, second])
            told = enumerate(zip((first, second), receipts.leaf_hashes, strict=True), receipts.first_index)
            for index, (entry, leaf_hash) in told:
                os.write(1, f"{index} {entry.columns.decision_id} {leaf_hash.hex()}\n".encode("ascii"))
        wait("finish")
        ledger.close()
    except LedgerClosed:
        return 3 if refuses(lambda: ledger.append([make_entry()])) and refuses(ledger.close) else 4
    return 0


def refuses(act: Callable[[], object]) -> bool:
    try:
        act()
    except LedgerClosed:
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
