"""A node starts whole or not at all, and stops without losing what it has begun."""

from __future__ import annotations

import ctypes
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.server import (
    POLICY,
    POLICYD,
    START_S,
    Process,
    Site,
    make_site,
    reasons,
    registry_text,
    serving,
    stub,
)
from test_state_changes import health_of, wait_for

from policyd.errors import ConfigError, LedgerClosed, SourceError
from policyd.ledger.verify import verify
from policyd.server import Server


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "data")


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_start_to_serving_is_quick_and_small(site: Site) -> None:
    """From the command to the first answer in seconds; the figures are printed."""
    begin = time.monotonic()
    with Process(site) as node:
        serving_s = time.monotonic() - begin
        with site.channel(node.address) as channel:
            stub(channel).Check(site.question(), timeout=10)
        answered_s = time.monotonic() - begin
        status = Path(f"/proc/{node.pid}/status").read_text("utf-8")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        code = node.terminate()

    assert found is not None
    rss_mib = int(found[1]) / 1024
    print(f"serving after {serving_s:.2f} s, answered after {answered_s:.2f} s, {rss_mib:.0f} MiB resident")
    # The aim is 3 s; this machine may be busy with other things.
    assert serving_s < 10
    assert rss_mib < 200
    assert code == 0


def test_a_ledger_in_use_refuses_a_second_server(site: Site) -> None:
    """The second process ends with 4, says who is in the way, and leaves the first alone."""
    with Process(site) as node, site.channel(node.address) as channel:
        command = [*POLICYD, "serve", "--data", str(site.data)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        answer = stub(channel).Check(site.question(), timeout=10)

    assert second.returncode == 4
    assert "another process has the log in" in second.stderr
    assert "Traceback" not in second.stderr
    assert set(reasons(answer).values()) == {"release"}


def test_a_port_in_use_is_said_plainly_and_leaves_nothing_running(site: Site) -> None:
    """Start fails with the address in the text; ledger, store and threads are given back."""
    before = _threads()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = Server(replace(site.config, address=address))

        with pytest.raises(ConfigError, match=f"cannot listen on {address}"):
            server.start()

    assert _threads() <= before
    with serving(site) as again, site.channel(again.address) as channel:
        assert stub(channel).Check(site.question(), timeout=10).decision_id


def test_a_certificate_of_another_key_does_not_start(site: Site) -> None:
    """A server whose certificate and key do not fit together fails to start."""
    shutil.copy(site.data / "tls" / "ca.key", site.data / "tls" / "server.key")

    with pytest.raises(ConfigError, match="the certificate does not fit its key"):
        Server(site.config).start()


def test_a_policy_set_with_mistakes_does_not_start_and_names_them_all(tmp_path: Path) -> None:
    """Every mistake at once, none of it in force, and the state as it was."""
    policy = Path(shutil.copytree(POLICY, tmp_path / "npd"))
    site = make_site(tmp_path / "data", policy=policy)
    with serving(site) as running:
        epoch = running.node.current.epoch
    (policy / "rules" / "zz-first.yaml").write_text("- uid: only-a-uid\n", "utf-8")
    (policy / "rules" / "zz-second.yaml").write_text("- uid: another\n  effect: perhaps\n", "utf-8")

    with pytest.raises(SourceError) as caught:
        Server(site.config).start()

    files = {Path(problem.place.file).name for problem in caught.value.problems}
    assert files == {"zz-first.yaml", "zz-second.yaml"}
    for name in files:
        (policy / "rules" / name).unlink()
    with serving(site) as running:
        assert running.node.current.epoch == epoch


def test_a_node_serves_under_the_name_of_its_key_alone(site: Site) -> None:
    """Else one acknowledgement could stand for two processes, and a third node serve that nobody lists."""
    with pytest.raises(ConfigError, match="key of node `node-2` is that of node `node-1`"):
        Server(replace(site.config, node="node-2")).start()
    with serving(site) as running:
        assert not running.node.refusing


def test_a_running_node_keeps_its_policy_set_while_another_fails_to_start(tmp_path: Path) -> None:
    """A broken policy directory stops a new node and not the one that serves."""
    policy = Path(shutil.copytree(POLICY, tmp_path / "npd"))
    site = make_site(tmp_path / "data", policy=policy)
    with serving(site) as running, site.channel(running.address) as channel:
        (policy / "purposes.yaml").write_text("root: nothing\n", "utf-8")
        with pytest.raises(SourceError):
            Server(replace(site.config, node="node-2")).start()
        epoch = site.apply(registry_text(status="suspended"))
        wait_for(lambda: running.node.current.epoch >= epoch, what="the change in force")
        answer = stub(channel).Check(site.question(), timeout=10)

    assert set(reasons(answer).values()) == {"AGREEMENT_SUSPENDED"}


def test_stop_finishes_calls_in_progress_and_refuses_new_ones(site: Site, monkeypatch: Any) -> None:
    """A call that waits for its commit is answered; one that comes later is told to go elsewhere."""
    entered, let_go = threading.Event(), threading.Event()
    with serving(site) as running:
        append = running.ledger.append

        def held(*arguments: Any, **named: Any) -> Any:
            entered.set()
            assert let_go.wait(30)
            return append(*arguments, **named)

        monkeypatch.setattr(running.ledger, "append", held)
        with site.channel(running.address) as channel, site.channel(running.address) as late:
            # Both are connected before the node drains.
            grpc.channel_ready_future(late).result(timeout=10)
            call = stub(channel).Check.future(site.question("in-progress"), timeout=20)
            assert entered.wait(10)
            stopping = threading.Thread(target=running.stop, kwargs={"grace_s": 20.0})
            stopping.start()
            wait_for(running._stopping.is_set, what="the node stopping")
            wait_for(lambda: _is_refused(site, late), what="a new call refused")
            let_go.set()
            answer = call.result()
            stopping.join()

    leaf = site.leaves(answer.receipt.index)[0]
    assert leaf["decision_id"] == answer.decision_id
    assert verify(site.config.ledger).passed


def _is_refused(site: Site, channel: grpc.Channel) -> bool:
    """Return whether a new call is refused; one that slipped in before the end would wait for its commit."""
    try:
        stub(channel).Check(site.question("late"), timeout=0.3)
    except grpc.RpcError as error:
        failed: Any = error
        return failed.code() is grpc.StatusCode.UNAVAILABLE
    return False


def test_a_ledger_that_fails_stops_every_answer_until_it_is_verified(site: Site) -> None:
    """No answer, NOT_SERVING, a start that refuses; after `audit verify` has passed it serves again."""
    server = Server(site.config)
    server.start()
    try:
        with site.channel(server.address) as channel:
            first = stub(channel).Check(site.question("good"), timeout=10)
            server.ledger._state.connection.close()  # as when the disk goes away under it
            for _ in range(2):
                with pytest.raises(grpc.RpcError) as caught:
                    stub(channel).Check(site.question("failing"), timeout=10)
                failed: Any = caught.value
                assert failed.code() is grpc.StatusCode.UNAVAILABLE
                assert "audit verify" in failed.details()
        wait_for(lambda: health_of(site, server.address) == "NOT_SERVING", what="health NOT_SERVING")
    finally:
        with pytest.raises(LedgerClosed):
            server.stop()
    assert server.wait(0), "a stop that raised still counts as stopped"

    with pytest.raises(LedgerClosed, match="audit verify"):
        Server(site.config).start()
    assert verify(site.config.ledger).passed
    with serving(site) as again, site.channel(again.address) as channel:
        assert stub(channel).Check(site.question("again"), timeout=10).receipt.index > first.receipt.index


def test_a_signal_that_another_thread_gets_is_heard(site: Site) -> None:
    """The system may hand SIGTERM to any thread of the process; the server stops all the same."""
    with Process(site) as node:
        node.line_with("spans")  # the last line before the main thread waits
        with site.channel(node.address) as channel:
            stub(channel).Check(site.question(), timeout=10)
        threads = [int(path.name) for path in Path(f"/proc/{node.pid}/task").iterdir()]
        other = next(thread for thread in threads if thread != node.pid)
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.tgkill(node.pid, other, signal.SIGTERM) == 0

        assert node.process.wait(START_S) == 0


def test_a_second_stop_waits_for_the_first(site: Site) -> None:
    """`stop` may be called twice, from two threads; both return when everything is closed."""
    with serving(site) as running:
        threads = [threading.Thread(target=running.stop) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert running.wait(0)
        assert not any(thread.is_alive() for thread in threads)
