"""A node whose clock stands still goes on past its time, and the judge finds that out in a real history."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.server import seals_text, stub

from fleet import skewed
from fleet.harness import Fleet, Skew
from fleet.history import Answered, Asked, History, Refused, SealAsked, SealReturned, now
from fleet.judge import judge
from policyd import clock
from policyd.service.lease import OUTLASTED_S

QUESTIONS = 40
TOKENS = {name: name.encode().ljust(32, b"!") for name in ("npd-secure", "npd-second", "npd-closed")}


def ask(fleet: Fleet, channel: grpc.Channel, label: str, *, count: int) -> list[Any]:
    """Put questions, each by a client of its own, which hears of the answer as it comes."""
    token = fleet.site.token()
    decisions, history = stub(channel), fleet.history
    calls = []
    for number in range(count):
        name = f"{label}-{number}"
        question = fleet.site.question(name, requester_token=token)
        history.add(Asked(now(), name, name))
        call = decisions.Check.future(question, timeout=20)
        call.add_done_callback(lambda done, name=name: note(history, name, done))
        calls.append(call)
    return calls


def note(history: History, name: str, call: Any) -> None:
    """Tell the history what came of a question."""
    at = now()
    if call.exception() is not None:
        history.add(Refused(at, name, name, call.code().name))
        return
    answer = call.result()
    node = answer.receipt.origin.rsplit("/", 1)[1]
    history.add(Answered(at, name, name, node, answer.decision_id, answer.epoch, answer.epoch))


@pytest.mark.parametrize("pace", [0.001, 1.0], ids=["stands still", "right"])
def test_a_node_that_does_not_notice_its_time_is_over_is_found_out(tmp_path: Path, pace: float) -> None:
    """Stopped past its time, a node with a right clock refuses or knows of the seal; the judge sees which."""
    with Fleet(tmp_path, history=History(), nodes=1, skews=[Skew(pace=pace)]) as fleet:
        fleet.start()
        (node,) = fleet.nodes
        with fleet.site.channel(node.proxy.address) as channel:
            assert ask(fleet, channel, "before", count=1)[0].result().epoch
            node.pause()
            fleet.history.add(SealAsked(now(), "SEAL-1", "p1"))
            epoch = fleet.site.apply(seals_text({"SEAL-1": TOKENS}))
            threading.Event().wait(OUTLASTED_S)  # its time has to pass; there is no event of that
            # The only node is stopped, so nobody can say it; a second one would by now.
            fleet.history.add(SealReturned(now(), "SEAL-1", "in_force", epoch))
            late = ask(fleet, channel, "late", count=QUESTIONS)
            node.resume()
            for call in late:
                call.exception()
        fleet.settle()

    verdict = judge(fleet.history.events)

    assert {fault.rule for fault in verdict.faults} == ({"decision"} if pace < 1.0 else set()), str(verdict)
    assert verdict.counts["answered"] + verdict.counts["refused"] == QUESTIONS + 1


def test_a_skewed_process_reads_wrong_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each clock is wrong as asked: the wall by an offset, the others by their pace, one by an offset too."""
    read = {"now": 1_000_000, "monotonic": 50.0, "boot_seconds": 70.0}
    for name in ("now", "monotonic", "boot_seconds"):
        monkeypatch.setattr(clock, name, lambda name=name: read[name])

    skewed.skew(wall_offset_ms=-900, boot_offset_s=400.0, pace=0.5)
    assert (clock.now(), clock.monotonic(), clock.boot_seconds()) == (999_100, 50.0, 470.0)

    read.update(now=1_010_000, monotonic=60.0, boot_seconds=80.0)
    assert (clock.now(), clock.monotonic(), clock.boot_seconds()) == (1_009_100, 55.0, 475.0)
