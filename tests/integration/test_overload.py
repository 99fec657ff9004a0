"""A full house is refused at the door, and long-lived streams neither take nor keep anyone's place."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.server import Site, make_site, serving, stub
from test_state_changes import health_of, wait_for, watch


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("overload") / "data")


def _code(call: Any) -> grpc.StatusCode | None:
    try:
        call()
    except grpc.RpcError as error:
        failed: Any = error
        code: grpc.StatusCode = failed.code()
        return code
    return None


def test_calls_beyond_the_limit_are_refused_at_once_and_recorded_nowhere(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two places taken a third call is told to come back; health answers all the same."""
    let_go, inside = threading.Event(), threading.Semaphore(0)
    with serving(site, calls=2) as running, site.channel(running.address) as channel:
        append = running.ledger.append

        def held(*arguments: Any, **named: Any) -> Any:
            inside.release()
            assert let_go.wait(30)
            return append(*arguments, **named)

        monkeypatch.setattr(running.ledger, "append", held)
        before = site.count()
        waiting = [stub(channel).Check.future(site.question(number), timeout=20) for number in range(2)]
        for _ in waiting:
            assert inside.acquire(timeout=10)

        refused = [_code(lambda: stub(channel).Check(site.question("late"), timeout=10)) for _ in range(20)]
        assert set(refused) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert health_of(site, running.address) == "SERVING"
        let_go.set()
        answers = [call.result() for call in waiting]
        assert site.count() == before + len(answers)
        assert _code(lambda: stub(channel).Check(site.question("after"), timeout=10)) is None


def test_a_watch_that_is_given_up_gives_its_place_back(site: Site) -> None:
    """One place for watches: taken while one is open, free soon after it was cancelled."""
    with serving(site, watches=1) as running, site.channel(running.address) as channel:
        first = watch(channel)
        next(first)
        assert _code(lambda: next(watch(channel))) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert _code(lambda: stub(channel).Check(site.question(), timeout=10)) is None
        first.cancel()

        def free() -> bool:
            again = watch(channel)
            code = _code(lambda: next(again))
            again.cancel()
            return code is None

        assert wait_for(free, what="the place of the watch") < 5


def test_stop_does_not_wait_for_watches(site: Site) -> None:
    """Streams that would go on for an hour end when the node drains, long before its grace is over."""
    with serving(site) as running, site.channel(running.address) as channel:
        stream = watch(channel)
        next(stream)
        begin = time.monotonic()
        running.stop(grace_s=30.0)
        took_s = time.monotonic() - begin
        code = _code(lambda: list(stream))

    assert took_s < 5
    assert code is grpc.StatusCode.UNAVAILABLE


def test_a_node_that_refuses_ends_its_watches(site: Site) -> None:
    """Seals are not told any more than decisions are made; the client is then not live."""
    with serving(site) as running, site.channel(running.address) as channel:
        stream = watch(channel)
        next(stream)
        # Not through the follower, whose next round would lift it: the reason is of no matter here.
        ended = threading.Event()

        def keep_refusing() -> None:
            while not ended.wait(0.01):
                running.node.refuse("made for a test")

        thread = threading.Thread(target=keep_refusing)
        thread.start()
        try:
            code = _code(lambda: list(stream))
        finally:
            ended.set()
            thread.join()

    assert code is grpc.StatusCode.UNAVAILABLE


def test_many_clients_that_leave_at_once_leave_nothing_behind(site: Site) -> None:
    """Calls cancelled by the caller: the node goes on, and the ledger verifies with what it holds."""
    from policyd.ledger.verify import verify

    with serving(site) as running, site.channel(running.address) as channel:
        for number in range(200):
            stub(channel).Check.future(site.question(f"gone-{number}"), timeout=10).cancel()
        assert _code(lambda: stub(channel).Check(site.question("after"), timeout=10)) is None

    assert verify(Path(site.config.ledger)).passed
