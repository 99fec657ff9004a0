"""Callers wake one another, and none is left asleep, whatever becomes of the others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from ledger_cases import OpenLedger, make_entry

from policyd.ledger import store
from policyd.ledger.group import Group, Ticket, Wakeups

WAIT_S = 20.0


def test_each_woken_caller_wakes_the_next() -> None:
    """One caller is woken by the writer, every other by the one before it; the last one says so."""
    wakeups = Wakeups()
    group = Group(tickets=[Ticket(()) for _ in range(3)])
    wakeups.add(group)
    woken = [[ticket.wait(0) for ticket in group.tickets]]
    last = []
    while not all(woken[-1]):
        last.append(wakeups.next())
        woken.append([ticket.wait(0) for ticket in group.tickets])
    assert woken == [[True, False, False], [True, True, False], [True, True, True]]
    assert last == [False, True]
    assert not wakeups.next()
    assert not wakeups


def test_callers_after_an_interrupted_one_are_woken(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that wakes nobody, as one that was interrupted, keeps nobody else waiting."""
    ledger = open_ledger()
    monkeypatch.setattr(Wakeups, "next", _wakes_only_first(Wakeups.next))
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ledger.append, [make_entry(number)]) for number in range(8)]
        assert sorted(each.result(WAIT_S).first_index for each in asked) == list(range(8))


@pytest.mark.parametrize("count", [1, 2, 8, 9, 63, 64, 65, 200])
def test_a_record_missing_from_the_index_is_named(open_ledger: OpenLedger, count: int) -> None:
    """Of any number of records looked up at once, those that the index does not hold are told apart."""
    ledger = open_ledger()
    ledger.append([make_entry(number) for number in range(count)])
    with_reader = store.open_for_reading(ledger.directory)
    try:
        rows = with_reader.execute(f"{store.SELECT} ORDER BY idx").fetchall()
        assert store.not_found(with_reader, rows) == []
        decision = store.ROW.index("decision_id")
        other = (*rows[-1][:decision], "another", *rows[-1][decision + 1 :])
        moved = (count + 7, *rows[0][1:])
        assert store.not_found(with_reader, [*rows[:-1], other]) == [count - 1]
        assert store.not_found(with_reader, [moved, *rows[1:]]) == [count + 7]
        assert store.not_found(with_reader, [other]) == [count - 1]
    finally:
        with_reader.close()


@pytest.mark.parametrize("count", store.FOUND_AT_ONCE)
def test_the_look_up_of_many_goes_through_the_index(open_ledger: OpenLedger, count: int) -> None:
    """It reads the pages of the index, which is what it is to check, and no more of them than it must."""
    connection = store.open_for_reading(open_ledger().directory)
    try:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {store.FIND_MANY[count]}", [""] * count).fetchall()
    finally:
        connection.close()
    assert [step[3] for step in plan] == [
        "SEARCH record USING COVERING INDEX record_decision (decision_id=?)"
    ]


def _wakes_only_first(real: object) -> object:
    """Wrap `Wakeups.next` so that only the writer's own thread wakes anyone."""

    def wake(self: Wakeups) -> bool:
        if threading.current_thread().name == "ledger-writer":
            return bool(real(self))  # type: ignore[operator]
        return False

    return wake
