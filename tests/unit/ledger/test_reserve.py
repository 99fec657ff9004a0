"""Below the reserve nothing new is decided, and what protects or has happened may use half of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ledger_cases import OpenLedger, make_change, make_entry

from policyd.errors import LedgerBusy
from policyd.ledger.reserve import DiskReserve


def free_bytes(directory: Path) -> int:
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def test_a_decision_stops_at_the_reserve_and_a_change_at_half_of_it(
    open_ledger: OpenLedger, tmp_path: Path
) -> None:
    """A seal must be possible when decisions no longer are; neither closes the log."""
    ledger = open_ledger(reserve_bytes=int(free_bytes(tmp_path) * 1.5))
    with pytest.raises(LedgerBusy, match=r"disk reserve reached: .* nothing was recorded"):
        ledger.append([make_entry(0)])
    with pytest.raises(LedgerBusy, match="disk reserve reached"):
        ledger.room.demand()
    assert ledger.append([make_change()]).first_index == 0
    assert ledger.failure == ""
    ledger.close()

    ledger = open_ledger(reserve_bytes=free_bytes(tmp_path) * 3)
    with pytest.raises(LedgerBusy, match="disk reserve reached"):
        ledger.append([make_change()])
    assert ledger.size == 1


def test_what_waits_counts_as_written(tmp_path: Path) -> None:
    """A queue of records that each would fit does not overrun the reserve together."""
    entry = make_entry(0, detail=bytes(2**26))
    # Half of what the records take: less than that may come and go while the test runs.
    room = DiskReserve(tmp_path, reserve_bytes=free_bytes(tmp_path) - 3 * 2**25)
    room.demand()
    with room.hold([entry]), pytest.raises(LedgerBusy, match="disk reserve reached"):
        room.demand()
    room.demand()


def test_without_a_reserve_nothing_is_refused(open_ledger: OpenLedger) -> None:
    """0 keeps nothing free; a node's configuration does not offer that."""
    assert open_ledger(reserve_bytes=0).append([make_entry(0)]).first_index == 0
