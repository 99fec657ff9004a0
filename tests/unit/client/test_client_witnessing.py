"""The client holds a log to its past: one that forks, shrinks or proves nothing is not trusted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from policyd_client import NoDecision
from policyd_client.expect import Unexpected
from policyd_client.journal import Journal
from policyd_client.witnessing import PROVED_WITHIN_S, SAMPLE, Witnessing
from support.made_log import ORIGIN, MadeLog, pins

DEADLINE_S = 2.0
Start = Callable[..., Witnessing]


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Keeper:
    """Answers for a log, and keeps what it was asked."""

    def __init__(self, log: MadeLog) -> None:
        self.log = log
        self.away = False
        self.asked: list[tuple[int, int]] = []
        self.lie: Callable[[list[bytes]], Sequence[bytes]] = list

    def __call__(self, origin: str, old_size: int, new_size: int) -> Sequence[bytes]:
        assert origin == ORIGIN
        self.asked.append((old_size, new_size))
        if self.away:
            raise NoDecision("no decision: UNAVAILABLE: away", code="UNAVAILABLE")
        return self.lie(self.log.consistency(old_size, new_size))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> MadeLog:
    return MadeLog()


@pytest.fixture
def keeper(log: MadeLog) -> Keeper:
    return Keeper(log)


@pytest.fixture
def start(clock: Clock, keeper: Keeper) -> Iterator[Start]:
    """Start witnesses; those that a test leaves running are stopped after it."""
    started = []

    def begin(journal: Path | None = None) -> Witnessing:
        made = Witnessing(
            pins(), journal=Journal(journal, pins()), fetch=keeper, deadline_s=DEADLINE_S, clock=clock
        )
        started.append(made)
        return made

    yield begin
    for made in started:
        made.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_log_that_only_grows_is_proved(start: Start, log: MadeLog, keeper: Keeper) -> None:
    """The first checkpoint is believed; the newest is proved against it, and then is the one believed."""
    witness = start()
    for size in (3, 4, 9):
        witness.saw(log.receipt(size), "d")
    witness.prove()
    witness.saw(log.receipt(20), "d")
    witness.prove()

    assert keeper.asked[0] == (3, 9)
    assert keeper.asked[-1] == (9, 20)
    assert witness.trouble(ORIGIN) == ""
    assert witness.newest() == [log.checkpoint(20).note]


def test_answers_out_of_order_are_proved_too(start: Start, log: MadeLog, keeper: Keeper) -> None:
    """A checkpoint that is older than the proved one has to lie on the way to it."""
    witness = start()
    witness.saw(log.receipt(9), "d")
    witness.saw(log.receipt(5), "d")
    witness.prove()

    assert keeper.asked == [(5, 9)]
    assert witness.newest() == [log.checkpoint(9).note]


def test_two_roots_of_one_size_are_a_fork(
    start: Start, log: MadeLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At once and for good, loudly, with both notes in the journal."""
    witness = start(tmp_path / "j.jsonl")
    other = MadeLog(branch="other", fork_at=4)
    witness.saw(log.receipt(5), "d")
    with pytest.raises(Unexpected, match="signed two roots of one size"):
        witness.saw(other.receipt(5), "d")

    with pytest.raises(Unexpected, match="it was rewritten"):
        witness.saw(log.receipt(6), "d")
    assert "signed two roots" in witness.trouble(ORIGIN)
    assert "ALARM" in caplog.text
    (fork,) = [line for line in lines(tmp_path / "j.jsonl") if line["kind"] == "fork"]
    assert fork["notes"] == [log.checkpoint(5).note, other.checkpoint(5).note]


def test_the_proved_root_is_never_forgotten(
    start: Start, log: MadeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many checkpoints came since, another root of the proved size is a fork."""
    monkeypatch.setattr("policyd_client.witnessing._ROOTS", 4)
    witness = start()
    for size in range(5, 25):
        witness.saw(log.receipt(size), "d")

    with pytest.raises(Unexpected, match="signed two roots of one size"):
        witness.saw(MadeLog(branch="other", fork_at=4).receipt(5), "d")


@pytest.mark.parametrize("newer", [6, 20])
def test_a_fork_of_another_size_is_found_when_it_is_proved(
    newer: int, start: Start, log: MadeLog, keeper: Keeper
) -> None:
    """The keeper of a fork has no proof that leads from the one to the other."""
    witness = start()
    witness.saw(log.receipt(5), "d")
    keeper.log = MadeLog(branch="other", fork_at=2)
    witness.saw(keeper.log.receipt(newer), "d")
    witness.prove()

    assert "could not prove that it only grew" in witness.trouble(ORIGIN)


LIES: dict[str, Callable[[list[bytes]], Sequence[bytes]]] = {
    "no proof": lambda proof: [],
    "cut short": lambda proof: proof[:-1],
    "too long": lambda proof: [*proof, bytes(32)],
    "a bit changed": lambda proof: [bytes([proof[0][0] ^ 1]) + proof[0][1:], *proof[1:]],
    "turned round": lambda proof: proof[::-1],
    "hashes of other lengths": lambda proof: [b"", *proof[1:]],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_proof_that_fails_is_a_fork(lie: str, start: Start, log: MadeLog, keeper: Keeper) -> None:
    """A node that answers, but not with the proof, is not given another chance."""
    keeper.lie = LIES[lie]
    witness = start()
    witness.saw(log.receipt(5), "d")
    witness.saw(log.receipt(21), "d")
    witness.prove()
    keeper.lie = list
    witness.prove()

    assert "could not prove" in witness.trouble(ORIGIN)


def test_without_a_proof_decisions_are_used_for_a_while_only(
    start: Start, log: MadeLog, keeper: Keeper, clock: Clock
) -> None:
    """Ten seconds and one deadline after the first checkpoint that is not proved."""
    keeper.away = True
    witness = start()
    witness.saw(log.receipt(5), "d")
    clock.now_s += 3600
    assert witness.trouble(ORIGIN) == ""  # nothing new to prove
    witness.saw(log.receipt(6), "d")
    clock.now_s += PROVED_WITHIN_S + DEADLINE_S
    assert witness.trouble(ORIGIN) == ""
    clock.now_s += 0.1
    witness.prove()

    assert "not proved to have only grown for 12 s: no decision: UNAVAILABLE: away" in witness.trouble(ORIGIN)
    keeper.away = False
    witness.prove()
    assert witness.trouble(ORIGIN) == ""


def test_the_thread_proves_by_itself(start: Start, log: MadeLog, keeper: Keeper, clock: Clock) -> None:
    """A new checkpoint is proved soon, though nobody asks for it."""
    proved = threading.Event()
    keeper.lie = lambda proof: (proved.set(), proof)[1]
    witness = start()
    witness.saw(log.receipt(5), "d")
    witness.saw(log.receipt(6), "d")
    clock.now_s += PROVED_WITHIN_S

    assert proved.wait(10)
    assert keeper.asked == [(5, 6)]


def test_of_many_checkpoints_the_newest_and_some_others_are_proved(
    start: Start, log: MadeLog, keeper: Keeper
) -> None:
    """A busy node is not asked for a proof of each; which ones it cannot foresee."""
    witness = start()
    for size in range(1, 201):
        witness.saw(log.receipt(size), "d")
    witness.prove()

    assert len(keeper.asked) == 1 + SAMPLE
    assert keeper.asked[0] == (1, 200)
    assert all(newer == 200 for _, newer in keeper.asked)


def test_after_a_restart_the_log_has_to_be_that_of_before(
    start: Start, log: MadeLog, keeper: Keeper, tmp_path: Path
) -> None:
    """Before the first release, not some time later: the old checkpoint has to lead to the new one."""
    first = start(tmp_path / "j.jsonl")
    first.saw(log.receipt(5), "d")
    first.close()
    again = start(tmp_path / "j.jsonl")
    keeper.away = True
    again.saw(log.receipt(8), "d")
    with pytest.raises(Unexpected, match="not yet proved to be the one of before: no decision: UNAVAILABLE"):
        again.confirm(ORIGIN)
    keeper.away = False
    again.confirm(ORIGIN)

    assert keeper.asked[-1] == (5, 8)
    assert [line["kind"] for line in lines(tmp_path / "j.jsonl")][-1] == "proved"


def test_a_log_that_was_rewritten_meanwhile_is_found(
    start: Start, log: MadeLog, keeper: Keeper, tmp_path: Path
) -> None:
    """The journal outlives the client, and the log cannot know what is in it; a restart does not heal it."""
    first = start(tmp_path / "j.jsonl")
    first.saw(log.receipt(5), "d")
    first.close()
    keeper.log = MadeLog(branch="rewritten", fork_at=2)
    again = start(tmp_path / "j.jsonl")
    again.saw(keeper.log.receipt(8), "d")
    with pytest.raises(Unexpected, match="could not prove that it only grew"):
        again.confirm(ORIGIN)
    again.close()

    third = start(tmp_path / "j.jsonl")
    assert "could not prove" in third.trouble(ORIGIN)
    with pytest.raises(Unexpected, match="could not prove"):
        third.saw(log.receipt(9), "d")


def test_what_was_seen_and_not_proved_is_proved_after_a_restart(
    start: Start, log: MadeLog, keeper: Keeper, tmp_path: Path
) -> None:
    """A node that goes away before the proof and comes back with another log is found all the same."""
    keeper.away = True
    first = start(tmp_path / "j.jsonl")
    first.saw(log.receipt(5), "d")
    first.saw(log.receipt(7), "d")
    first.close()
    keeper.away = False
    keeper.log = MadeLog(branch="rewritten", fork_at=6)
    again = start(tmp_path / "j.jsonl")

    def take() -> None:
        again.saw(keeper.log.receipt(9), "d")  # the thread may have found it already
        again.confirm(ORIGIN)

    with pytest.raises(Unexpected, match="could not prove that it only grew"):
        take()


def test_many_threads_see_one_log(start: Start, log: MadeLog, keeper: Keeper, tmp_path: Path) -> None:
    """Receipts that arrive at once are each written down, and the log is proved to the newest of them."""
    witness = start(tmp_path / "j.jsonl")
    log.grow(400)
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for size in range(first, 401, 8):
                witness.saw(log.receipt(size), f"d{size}")
                witness.confirm(ORIGIN)
                if size % 5 == 0:
                    witness.prove()
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=work, args=(first,)) for first in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    witness.prove()

    assert failures == []
    assert witness.trouble(ORIGIN) == ""
    assert witness.newest() == [log.checkpoint(400).note]
    seen = [line["index"] for line in lines(tmp_path / "j.jsonl") if line["kind"] == "leaf"]
    assert sorted(seen) == list(range(400))
