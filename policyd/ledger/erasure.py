"""Makes details unreadable for good by deleting their keys, and records that (docs/ledger.md)."""

from __future__ import annotations

from dataclasses import dataclass

from policyd import clock
from policyd.errors import LedgerCorrupt
from policyd.ledger import keystore
from policyd.ledger.change_record import ERASURE, Stage, erasure_record
from policyd.ledger.entry import parse_leaf
from policyd.ledger.keystore import KeyStore
from policyd.ledger.reader import LedgerReader
from policyd.ledger.writer import Ledger


@dataclass(frozen=True, slots=True)
class Erasure:
    """What is to be made unreadable: keys of records by number, and keys of persons by what finds them."""

    numbers: frozenset[int]
    finders: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Erased:
    """What was made unreadable; ``emptied`` is false where a reader kept the write-ahead log from that."""

    records: int
    persons: int
    emptied: bool


def erase(
    ledger: Ledger, keys: KeyStore, erasure: Erasure, *, who: str, why: str, backups_until: str
) -> Erased:
    """Delete the keys, recording the intent before and the outcome after. No node runs meanwhile.

    An intent without an outcome says that it stopped half-way; erasing again does what is left.

    Raises:
        ValueError: ``who`` or ``why`` is too long or not one line.
        LedgerClosed, LedgerBusy: it cannot be recorded, so nothing is deleted.
        sqlite3.Error: the keys cannot be deleted now.
    """
    counts = (len(erasure.numbers), len(erasure.finders))
    _record(ledger, Stage.INTENDED, counts, lost=False, who=who, why=why, backups_until=backups_until)
    emptied = keys.erase(erasure.numbers, finders=erasure.finders)
    _record(ledger, Stage.IN_FORCE, counts, lost=False, who=who, why=why, backups_until=backups_until)
    return Erased(*counts, emptied)


def give_up(ledger: Ledger, master: keystore.MasterKey, *, who: str, why: str, backups_until: str) -> Erased:
    """Begin a new file of keys where the old one is lost, and record that no detail can be read any more.

    Raises:
        LedgerCorrupt: the keys are not lost.
        ValueError, LedgerClosed, LedgerBusy: as `erase`.
    """
    path = ledger.directory / keystore.DATABASE
    if path.exists():
        raise LedgerCorrupt(f"`{path}` is there: move it away first if it is beyond repair")
    counts = (sum(1 for record in ledger.reader.records() if record.detail), 0)
    _record(ledger, Stage.INTENDED, counts, lost=True, who=who, why=why, backups_until=backups_until)
    keystore.open_keys(ledger.directory, master, origin=ledger.origin).close()
    _record(ledger, Stage.IN_FORCE, counts, lost=True, who=who, why=why, backups_until=backups_until)
    return Erased(*counts, emptied=True)


def erased_on_record(reader: LedgerReader) -> int:
    """Return for how many records the log says that their keys were erased or lost; linear in the log.

    Counted from intents: a key may be gone although the outcome was never written.
    """
    total = 0
    for record in reader.records():
        columns = record.columns
        if (columns.kind, columns.action, columns.outcome) == ("state-change", ERASURE, Stage.INTENDED):
            total += int(parse_leaf(record.leaf)["records"])
    return total


def _record(
    ledger: Ledger,
    stage: Stage,
    counts: tuple[int, int],
    *,
    lost: bool,
    who: str,
    why: str,
    backups_until: str,
) -> None:
    entry = erasure_record(
        stage=stage,
        epoch=ledger.reader.highest_epoch(),
        records=counts[0],
        persons=counts[1],
        lost=lost,
        backups_until=backups_until,
        who=who,
        why=why,
        at=clock.now(),
    )
    ledger.append([entry])
