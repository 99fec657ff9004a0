"""The facts of a record are those of its own question, also where they were worked out for another before."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import accreditation, ask, bringing, requester, visa

from policyd.model import AccreditationLevel
from policyd.service.facts import facts_of
from policyd.service.recording import Recorder


def test_facts_are_kept_apart_by_who_supervises(tmp_path: Path) -> None:
    """Two visas of one person name two supervisors; each record holds the one that its decision read."""
    people = [
        entry
        for number in (8, 9)
        for entry in (
            requester(f"researcher-{number}"),
            accreditation(f"ACC-{number}", requester=f"researcher-{number}"),
        )
    ]
    snapshot = tiny.snapshot(load_tiny(tmp_path), *people)
    asked = ask("Pupil.Fsm")
    requests = [asked] + [
        bringing(
            asked, visa(level=AccreditationLevel.PROVISIONAL, supervisor=("issuer-1", f"researcher-{n}"))
        )
        for n in (8, 9)
    ]
    nothing = cast("Any", None)  # facts are read from the snapshot alone
    recorder = Recorder(nothing, nothing)

    have = [recorder._facts(snapshot, request) for request in [*requests, *reversed(requests)]]

    want = [facts_of(snapshot, request) for request in requests]
    assert len(set(want)) == 3
    assert have == [*want, *reversed(want)]
