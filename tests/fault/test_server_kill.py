"""Whatever ends the server, every answer that a client received is in the ledger, and the ledger verifies."""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from pbac.v1 import decision_pb2 as pb
from policyd_client.digest import answer_digest, request_digest
from support.server import Process, Site, make_site, stub

from policyd import merkle
from policyd.identity.keys import load_wrapping_key
from policyd.ledger.detail import key_number, unseal
from policyd.ledger.entry import parse_leaf
from policyd.ledger.keystore import read_keys
from policyd.ledger.reader import LedgerReader
from policyd.ledger.verify import verify

CLIENTS = 4
ROUNDS = 5


@dataclass
class Load:
    """Client threads that ask until they are told to stop, and keep every question with its answer."""

    site: Site
    address: str
    label: str
    given: list[tuple[pb.CheckRequest, pb.CheckResponse]] = field(default_factory=list)
    failures: list[grpc.StatusCode] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    running: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __enter__(self) -> Load:
        self._token = self.site.token()
        self._threads = [threading.Thread(target=self._ask, args=(each,)) for each in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            assert self.running.acquire(timeout=30), "a client got no answer at all"
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, client: int) -> None:
        with self.site.channel(self.address) as channel:
            decisions = stub(channel)
            number = 0
            while not self.over.is_set():
                number += 1
                want = number % 3 == 0
                name = f"{self.label}-{client}-{number}"
                one = self.site.question(name, requester_token=self._token, want_receipt=want)
                other = self.site.question(f"{name}b", requester_token=self._token, agreement_id="DS00999")
                try:
                    if number % 2:
                        self.given.append((one, decisions.Check(one, timeout=5)))
                    else:
                        batch = pb.BatchCheckRequest(checks=[one, other])
                        answers = decisions.BatchCheck(batch, timeout=5).answers
                        self.given += [(one, answers[0]), (other, answers[1])]
                except grpc.RpcError as error:
                    call: Any = error
                    self.failures.append(call.code())
                    return
                self.running.release()


def assert_recorded(site: Site, given: list[tuple[pb.CheckRequest, pb.CheckResponse]]) -> None:
    with LedgerReader(site.config.ledger) as reader:
        for question, answer in given:
            record = reader.record(answer.receipt.index)
            assert record is not None, f"{answer.decision_id} was answered and is not in the ledger"
            leaf = parse_leaf(record.leaf)
            assert leaf["decision_id"] == answer.decision_id
            assert leaf["request_digest"] == request_digest(question).hex()
            assert leaf["answer_digest"] == answer_digest(answer).hex()
            if question.want_receipt:
                assert answer.receipt.leaf == record.leaf
                assert record.leaf_hash == merkle.leaf_hash(answer.receipt.leaf)
    indices = [answer.receipt.index for _, answer in given]
    assert len(set(indices)) == len(indices), "two answers name one record"


def assert_none_half_done(site: Site) -> None:
    """Whatever was recorded was recorded whole: its detail opens, under a key that is still there."""
    master = load_wrapping_key(site.config.keys / "detail.key")
    with (
        LedgerReader(site.config.ledger) as reader,
        closing(read_keys(site.config.ledger, master, origin=reader.origin)) as keys,
    ):
        for record in reader.records():
            if record.columns.kind == "decision":
                secret = keys.record_key(key_number(record.detail))
                assert secret is not None, f"record {record.index} has lost its key"
                assert unseal(record.leaf, record.detail, secret, origin=reader.origin)


def test_sigkill_under_load_loses_no_answer(tmp_path: Path) -> None:
    """Killed at random moments again and again, the ledger holds every answer that was ever received."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311  # the seed is in every message
    site = make_site(tmp_path / "data")
    given: list[tuple[pb.CheckRequest, pb.CheckResponse]] = []
    for number in range(ROUNDS):
        with Process(site) as node, Load(site, node.address, f"round{number}") as load:
            # The load goes on meanwhile; waiting is the point here, not a guess at when something is done.
            time.sleep(chance.uniform(0.0, 0.7))
            node.kill()
        assert len(load.given) >= CLIENTS, f"seed {seed}"
        assert set(load.failures) <= {grpc.StatusCode.UNAVAILABLE}, f"seed {seed}: {load.failures}"
        given += load.given
        report = verify(site.config.ledger)
        assert report.passed, f"seed {seed}, round {number}: {report}"
        assert_recorded(site, given)
        assert_none_half_done(site)
    print(f"{len(given)} answers over {ROUNDS} kills, all in a ledger of {site.count()} records")


@pytest.mark.parametrize("grace_s", ["5", "0.001"])
def test_sigterm_under_load_ends_with_0_and_loses_nothing(tmp_path: Path, grace_s: str) -> None:
    """Asked to stop under load, the server finishes or refuses each call and ends with exit code 0."""
    site = make_site(tmp_path / "data")
    with Process(site, "--grace", grace_s) as node, Load(site, node.address, "term") as load:
        code = node.terminate()
    assert code == 0, node.output
    assert "draining" in node.output
    assert "stopped" in node.output
    # gRPC cancels a call that it had accepted and not yet handed over when the server closed: no answer,
    # hence no release. One that was handed over is answered (test_stop_finishes_calls_in_progress).
    assert set(load.failures) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}, load.failures
    assert verify(site.config.ledger).passed
    assert_recorded(site, load.given)
    assert_none_half_done(site)


def test_a_restart_goes_on_in_the_same_log(tmp_path: Path) -> None:
    """After a kill the next record follows the last one, under the same origin and key."""
    site = make_site(tmp_path / "data")
    origins = set()
    last = -1
    for number in range(2):
        with Process(site) as node, site.channel(node.address) as channel:
            answer = stub(channel).Check(site.question(number, want_receipt=True), timeout=10)
            node.kill()
        assert answer.receipt.index > last
        last = answer.receipt.index
        origins.add(answer.receipt.origin)
    assert origins == {site.config.origin}
    assert site.count() == last + 1
