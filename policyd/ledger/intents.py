"""Finds changes of state that a log has as intended, and of which it does not say what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from policyd.errors import LedgerCorrupt
from policyd.ledger.change_record import Stage
from policyd.ledger.entry import parse_leaf
from policyd.ledger.reader import StoredRecord
from policyd.model import Instant

_KINDS = frozenset({"state-change", "activation"})


@dataclass(frozen=True, slots=True)
class Intent:
    """A change that was about to be made: its record, its content by digest, and who asked for it why."""

    index: int
    change: str
    body_digest: str
    who: str
    why: str
    at: Instant


def open_intents(records: Iterable[StoredRecord]) -> list[Intent]:
    """Return the intents without an outcome, oldest first; linear in the log.

    A change is known by the digest of its content. Asked for several times, it stands here once.

    Raises:
        LedgerCorrupt: a record cannot be read.
    """
    found: dict[str, Intent] = {}
    for record in records:
        if record.columns.kind not in _KINDS:
            continue
        leaf = parse_leaf(record.leaf)
        try:
            digest = leaf["body_digest"]
            if leaf["stage"] != Stage.INTENDED.value:
                found.pop(digest, None)
            elif digest not in found:
                found[digest] = Intent(
                    record.index, leaf["change"], digest, leaf["who"], leaf["why"], leaf["at"]
                )
        except KeyError as error:
            raise LedgerCorrupt(f"record {record.index} lacks {error}") from None
    return list(found.values())
