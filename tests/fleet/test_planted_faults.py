"""A node with a fault in it breaks the promise of Seal, and the judge finds that out in a real history."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.harness import Fleet
from fleet.history import History
from fleet.judge import judge
from fleet.planted import FAULTS, RIGHT
from fleet.sealing import Sealed
from fleet.test_wrong_clocks import QUESTIONS, TOKENS, ask


@pytest.mark.parametrize("fault", [*RIGHT, *FAULTS])
def test_a_fault_of_a_node_is_found_out(tmp_path: Path, fault: str) -> None:
    """The node is stopped while a record is sealed through the other, and asked as it goes on."""
    with Fleet(tmp_path, history=History(), nodes=2, planted=("", fault)) as fleet:
        fleet.start()
        _, node = fleet.nodes
        with fleet.site.channel(node.proxy.address) as channel:
            assert ask(fleet, channel, "before", count=1)[0].result().epoch
            node.pause()
            if fault == "epoch-ignored":
                node.resume()  # it says that it has the seal, so nobody waits for it
            Sealed().seal(fleet, name="SEAL-0", record="p1", tokens=TOKENS)
            late = ask(fleet, channel, "late", count=QUESTIONS)
            if fault != "epoch-ignored":
                node.resume()
            for call in late:
                call.exception()
        fleet.settle()

    verdict = judge(fleet.history.events)

    assert verdict.counts["seals in_force"] == 1
    assert {each.rule for each in verdict.faults} == ({"decision"} if fault in FAULTS else set()), str(
        verdict
    )
    assert verdict.counts["answered"] + verdict.counts["refused"] == QUESTIONS + 1
