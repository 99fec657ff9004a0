"""Decide again what a record says was decided, and compare byte for byte; nothing but files is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from policyd.decision.decide import decide
from policyd.decision.entitlement import entitle
from policyd.decision.listing import list_fields
from policyd.decision.snapshot import Snapshot
from policyd.errors import LedgerCorrupt
from policyd.ledger.detail import key_number, unseal
from policyd.ledger.entry import Entry, parse_leaf
from policyd.ledger.keystore import KeyStore
from policyd.ledger.reader import StoredRecord
from policyd.policy.archive import find
from policyd.policy.policyset import PolicySet
from policyd.service.facts import LISTING, Detail, read_detail, snapshot_of
from policyd.service.recording import Marks, valid_for_ms, write_record

_SNAPSHOTS_KEPT = 256
_MAX_SHOWN = 160


class Outcome(StrEnum):
    """What came of one replay."""

    SAME = "same"
    DIFFERENT = "different"
    ERASED = "erased"
    """The key of the record is gone, so nobody can tell any more what it was decided from."""
    UNREADABLE = "unreadable"
    """Detail, key or policy set are not what the record commits to, or are missing."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One record decided again; ``differences`` are lines for people, empty where it came out the same."""

    index: int
    decision_id: str
    outcome: Outcome
    differences: tuple[str, ...] = ()


class Replayer:
    """Replays records of one log. Not for several threads."""

    def __init__(self, keys: KeyStore, policies: Path, *, origin: str) -> None:
        """``policies`` is the directory of the policy sets that were in force, by digest."""
        self._keys = keys
        self._policies = policies
        self._origin = origin
        self._sets: dict[str, PolicySet] = {}
        self._snapshots: dict[bytes, Snapshot] = {}

    def replay(self, record: StoredRecord) -> Replayed:
        """Decide the question of a decision's record again, and make its record anew."""
        told = record.index, record.columns.decision_id
        try:
            secret = self._keys.record_key(key_number(record.detail))
            if secret is None:
                return Replayed(*told, Outcome.ERASED)
            plain = unseal(record.leaf, record.detail, secret, origin=self._origin)
            again = self._again(record, read_detail(plain), secret)
        except (LedgerCorrupt, ValueError) as error:
            return Replayed(*told, Outcome.UNREADABLE, (str(error),))
        if (again.leaf, again.private) == (record.leaf, record.private):
            return Replayed(*told, Outcome.SAME)
        return Replayed(*told, Outcome.DIFFERENT, tuple(_differences(record, again)))

    def _again(self, record: StoredRecord, detail: Detail, secret: bytes) -> Entry:
        question, now = detail.question, detail.at
        snapshot = self._snapshot(detail)
        entitlement = entitle(snapshot, question.request, now=now)
        if question.rpc == LISTING:
            decision = list_fields(
                snapshot, question.request, now, table=question.table, entitlement=entitlement
            )
        else:
            decision = decide(snapshot, question.request, now, entitlement=entitlement)
        told = parse_leaf(record.leaf)
        return write_record(
            question,
            decision,
            # None of these decides anything, and none could be made again.
            marks=Marks(
                decision_id=str(told["decision_id"]),
                trace_id=bytes.fromhex(told["trace_id"]),
                span_id=bytes.fromhex(told["span_id"]),
                parent_span_id=bytes.fromhex(told["parent_span_id"]),
            ),
            valid_for_ms=valid_for_ms(question, until=entitlement.valid_until, now=now),
            requester=str(told["requester"]),
            key=secret,
            detail=record.detail,
        )

    def _snapshot(self, detail: Detail) -> Snapshot:
        snapshot = self._snapshots.get(detail.facts)
        if snapshot is None:
            digest = detail.policy_digest
            if digest not in self._sets:
                self._sets[digest] = find(self._policies, digest)
            snapshot = snapshot_of(detail.facts, self._sets[digest])
            if len(self._snapshots) >= _SNAPSHOTS_KEPT:
                self._snapshots.clear()
            self._snapshots[detail.facts] = snapshot
        return snapshot


def _differences(record: StoredRecord, again: Entry) -> Iterator[str]:
    """Yield each part that came out otherwise."""
    for where, have, want in (
        ("", again.leaf, record.leaf),
        ("private.", again.private, record.private),
    ):
        now, then = (_parts(part) for part in (have, want))
        for name in sorted(now.keys() | then.keys()):
            # The commitment differs whenever what it commits to does, which is named part by part.
            if now.get(name) != then.get(name) and (where, name) != ("", "private"):
                yield f"{where}{name}: recorded {_shown(then.get(name))}, replayed {_shown(now.get(name))}"


def _parts(document: bytes) -> dict[str, Any]:
    return dict(json.loads(document)) if document else {}


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
