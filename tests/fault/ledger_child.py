"""Appends from many threads until told to stop or refused; prints every index it was given, at once.

Usage: ledger_child.py DIRECTORY THREADS APPENDS_EACH [FILE_LIMIT_BYTES]. Ends with 0, or with 3 when
the ledger closed itself and then refused, as it must.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd import clock, ids
from policyd.errors import LedgerClosed
from policyd.ledger import writer
from policyd.ledger.decision_record import decision_record
from policyd.ledger.entry import Entry
from policyd.model import Action, Decision, Effect, Obligations, Outcome, VerdictGroup
from policyd.reasons import Reason

ORIGIN = "policyd.test/node-1"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)


def make_entry(*, decision_id: str = "", key: bytes = bytes(32), detail: bytes = b"") -> Entry:
    decision = Decision(
        outcome=Outcome.WITHHOLD,
        groups=(VerdictGroup(Effect.WITHHOLD, Reason.AGREEMENT_UNKNOWN, "gate:3:agreement", (), ("A.b",)),),
        obligations=Obligations(),
        identification_risk=0,
        sensitivity="",
        requester="researcher-1",
        organisation="org-university-1",
        data_service="npd-secure",
        setting="secure-research",
        agreement="",
        gateway="",
        purposes=(),
        action=Action.RELEASE,
        policy_digest="ab" * 32,
        policy_version=1,
        epoch=1,
        at=clock.now(),
    )
    return decision_record(
        decision,
        decision_id=decision_id or ids.decision_id(),
        trace_id=ids.trace_id(),
        span_id=ids.span_id(),
        request_digest=os.urandom(32),
        answer_digest=os.urandom(32),
        spiffe_id="spiffe://policyd.test/data-service/npd-secure",
        valid_for_ms=60_000,
        key=key,
        requester="9f" * 32,
        detail=detail or bytes(8) + os.urandom(600),
    )


def main() -> int:
    directory, threads, appends = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    writer._MOVE_AFTER_BYTES = 100_000  # so that the database file is written in a short run, too
    ledger = writer.Ledger.open(directory, origin=ORIGIN, signing_key=KEY)
    if len(sys.argv) > 4:
        limit_bytes = int(sys.argv[4])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    closed = threading.Event()

    def run() -> None:
        for _ in range(appends):
            entry = make_entry()
            try:
                receipts = ledger.append([entry])
            except LedgerClosed:
                closed.set()
                return
            line = f"{receipts.first_index} {entry.columns.decision_id} {receipts.leaf_hashes[0].hex()}\n"
            os.write(1, line.encode("ascii"))

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if not closed.is_set():
        ledger.close()
        return 0
    for act in (lambda: ledger.append([make_entry()]), ledger.close):
        try:
            act()
        except LedgerClosed:
            continue
        return 4
    return 3


if __name__ == "__main__":
    sys.exit(main())
