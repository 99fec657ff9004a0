"""The fast reading of index columns says what the slow one says, or nothing."""

from __future__ import annotations

import json
import random
from dataclasses import astuple, replace
from typing import Any

import pytest
from ledger_cases import DECISION, DETAIL, make_change, make_entry

from policyd.errors import LedgerCorrupt
from policyd.ledger.columns import index_values, instant_of
from policyd.ledger.entry import Entry, columns_of
from policyd.ledger.store import COLUMNS
from policyd.model import Effect, VerdictGroup
from policyd.reasons import Reason

HIDDEN = make_entry(
    1,
    replace(
        DECISION, groups=(VerdictGroup(Effect.WITHHOLD, Reason.AGREEMENT_NOT_YOURS, "gate:3", (), ("A.b",)),)
    ),
)
ENTRIES = {"decision": make_entry(0), "state change": make_change(3), "decision with a private part": HIDDEN}


def agrees(leaf: bytes, private: bytes, detail: bytes = b"") -> bool:
    """Whether the fast reading answered; what it answers is what the slow one says."""
    have = index_values(leaf, private, detail=detail)
    if have is None:
        return False
    assert have == astuple(columns_of(leaf, private, detail=detail))
    assert instant_of(leaf) == have[2]
    return True


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_what_the_writer_makes_is_read_fast(entry: Entry) -> None:
    """Each kind of record that a node writes is read without the slow way, with the same columns."""
    assert index_values(entry.leaf, entry.private, detail=entry.detail) == astuple(entry.columns)
    assert agrees(entry.leaf, entry.private, entry.detail)


def test_another_private_part_is_not_read() -> None:
    """What stands beside the leaf is read only if the leaf commits to it."""
    assert index_values(HIDDEN.leaf, b"", detail=DETAIL) is None
    assert index_values(HIDDEN.leaf, HIDDEN.private + b" ", detail=DETAIL) is None
    assert index_values(make_entry(0).leaf, b"{}", detail=DETAIL) is None


def test_another_detail_is_not_read() -> None:
    """Where a leaf commits to a sealed detail, it is read only with that one, and never without one."""
    leaf = make_entry(0).leaf

    assert index_values(leaf, detail=DETAIL) == astuple(make_entry(0).columns)
    assert index_values(leaf) is None
    assert index_values(leaf, detail=b"other") is None
    assert index_values(make_change(3).leaf, detail=DETAIL) is None


def test_reports_and_activations_have_their_columns() -> None:
    """A report of a release is found by its decision, an activation by its policy set, and both by time."""
    release = {"v": 1, "kind": "release", "decision_id": "d1", "at": 5, "data_service": "npd", "rows": 3}
    activation = {
        "v": 1,
        "kind": "activation",
        "at": 6,
        "who": "node-1",
        "why": "",
        "change": "policy",
        "stage": "applied",
        "epoch": 2,
        "policy_digest": "ab",
    }

    def read(document: dict[str, Any]) -> dict[str, object]:
        values = index_values(json.dumps(document).encode())
        assert values is not None
        return {name: value for name, value in zip(COLUMNS, values, strict=True) if value}

    assert read(release) == {"kind": "release", "decision_id": "d1", "at": 5, "data_service": "npd"}
    assert read(activation) == {
        "kind": "activation",
        "at": 6,
        "requester": "node-1",
        "action": "policy",
        "outcome": "applied",
        "epoch": 2,
        "policy_digest": "ab",
    }


def odd(**other: Any) -> bytes:
    return json.dumps({**json.loads(make_entry(0).leaf), **other}).encode()


@pytest.mark.parametrize(
    "leaf",
    [
        odd(v=2),
        odd(v=True),
        odd(v=1.0),
        odd(kind="release"),
        odd(kind=1),
        odd(at=1.0),
        odd(at=True),
        odd(at="1"),
        odd(at=None),
        odd(epoch=2**70),
        odd(epoch=-1),
        odd(purposes="abc"),
        odd(purposes=["a", 1]),
        odd(purposes={"a": "b"}),
        odd(private=None),
        odd(private=""),
        odd(detail=None),
        odd(detail=[]),
        odd(rpc="\ud800"),
        odd(outcome="\ud800"),
        odd(rpc=float("nan")),
        odd(rpc=10**400),
        make_entry(0).leaf.replace(b'"rpc":"Check"', b'"rpc":"Ch\xffck"'),
        make_entry(0).leaf.replace(b'"rpc":"Check"', b'"rpc":"Ch\x01ck"'),
        make_entry(0).leaf.replace(b'"rpc":"Check"', b'"rpc":01'),
        make_entry(0).leaf.replace(b'"rpc":"Check"', b'"rpc":nul'),
        make_entry(0).leaf.replace(b'"rpc":"Check"', b'"rpc":' + b"[" * 9_000 + b"]" * 9_000),
        make_entry(0).leaf.replace(b'"rpc":"Check"', b'"outcome":"release"'),
        make_entry(0).leaf.replace(b'"rpc":"Check"', b'"kind":"state-change"'),
        make_entry(0).leaf + b" x",
        b"\xef\xbb\xbf" + make_entry(0).leaf,
        make_entry(0).leaf.decode().encode("utf-16"),
        b"",
        b"[]",
        b"null",
    ],
    ids=range(35),
)
def test_odd_records_are_read_alike_or_not_at_all(leaf: bytes) -> None:
    """Wrong types, spellings of a number, repeated keys and broken text are never read otherwise."""
    fast = agrees(leaf, b"", DETAIL)
    try:
        columns_of(leaf)
        slow = True
    except LedgerCorrupt:
        slow = False

    assert slow or not fast


def test_random_damage_is_read_alike_or_not_at_all() -> None:
    """Whatever byte is changed, lost or doubled, the fast reading never says more than the slow."""
    seed = 20261124
    chance = random.Random(seed)  # noqa: S311  # seeded test data
    answered = 0
    for entry in ENTRIES.values():
        for _ in range(4_000):
            leaf = bytearray(entry.leaf)
            for _ in range(chance.randint(1, 3)):
                at = chance.randrange(len(leaf))
                what = chance.randrange(3)
                if what == 0:
                    leaf[at] = chance.choice(b'"{}[],:0123e.+-tn \\\xff\x00a')
                elif what == 1:
                    del leaf[at]
                else:
                    leaf.insert(at, leaf[at])
            answered += agrees(bytes(leaf), entry.private, entry.detail)

    assert answered > 1_000, f"seed {seed}"
