"""Receipts, reports and proofs, from a real node to the real client; and nodes that lost their past."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from fleet.harness import two_sites
from pbac.v1 import audit_pb2, audit_pb2_grpc
from pbac.v1 import decision_pb2 as pb
from policyd_client import (
    AlreadyReported,
    Decision,
    Expired,
    NotReported,
    Outcome,
    PolicyClient,
    Question,
    Withheld,
)
from support.server import Site, make_site, serving, stub

from policyd import merkle
from policyd.devsetup import client_credentials, trusted_logs
from policyd.identity.keys import load_signing_key
from policyd.ledger.note import Verifier, parse, parse_checkpoint
from policyd.ledger.verify import verify
from policyd.server import Server

FIELDS = ["SC_Pupil.Gender_SPR19", "KS4.KS4_ATT8"]
RESULT = bytes(range(32))
Connect = Callable[..., PolicyClient]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("receipts") / "data")


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Server]:
    with serving(site) as running:
        yield running


@pytest.fixture(scope="module")
def channel(site: Site, server: Server) -> Iterator[grpc.Channel]:
    with site.channel(server.address) as opened:
        yield opened


@contextmanager
def connected(site: Site, *addresses: str, **changes: Any) -> Iterator[PolicyClient]:
    """Connect a client as a data service would; ``changes`` are of its arguments."""
    own = client_credentials(site.config, site.spiffe_id())
    arguments: dict[str, Any] = {
        "ca": site.config.tls.authority,
        "certificate": own.certificate_pem,
        "key": own.key_pem,
        "logs": trusted_logs(site.config),
        "default_deadline_s": 10.0,
    }
    with PolicyClient(addresses, **{**arguments, **changes}) as client:
        yield client


def question(site: Site, **changes: Any) -> dict[str, Any]:
    return {
        "agreement": "DS00101",
        "purposes": ["academic-research"],
        "fields": FIELDS,
        "years": [2018],
        "requester_token": site.token(),
        **changes,
    }


def report(answer: pb.CheckResponse, number: object = 1, **changes: Any) -> pb.ReportReleaseRequest:
    """Return a good report about an answer, changed as asked."""
    parts = {
        "decision_id": answer.decision_id,
        "report_id": f"report-{number}",
        "rows": 3,
        "obligations_met": ["exclude_sealed"],
        "result_digest": RESULT,
    }
    return pb.ReportReleaseRequest(**{**parts, **changes})


def audit(channel: grpc.Channel) -> Any:
    make: Any = audit_pb2_grpc.AuditServiceStub
    return make(channel)


def refused(call: Callable[..., Any], request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10)
    failed: Any = caught.value
    return failed.code(), failed.details()


def forked_copy(site: Site, kept: Path) -> None:
    """Put an older copy of the log in the place of the newer, as an operator's restore would."""
    shutil.rmtree(site.config.ledger)
    shutil.copytree(kept, site.config.ledger)


# --- what a client gets


def test_every_kind_of_answer_comes_with_its_proof(site: Site, server: Server, tmp_path: Path) -> None:
    """Check, a batch, Explain and ListFields: proved, written down, and found by the auditor."""
    with connected(site, server.address, journal=tmp_path / "j.jsonl") as client:
        one = client.check(**question(site))
        batch = client.check_many([Question(**question(site)) for _ in range(5)])
        explained = client.explain(Question(**question(site))).decision
        listing = client.list_fields(
            agreement="DS00101", purposes=["academic-research"], requester_token=site.token()
        )
        for found in (one, *batch, explained, listing):
            assert found.unexpected == ""
            assert found.receipt is not None
            assert found.receipt.index == found.ledger_index
        assert len({each.receipt.checkpoint for each in batch if each.receipt}) == 1

    held = verify(site.config.ledger, receipts=tmp_path)
    assert held.passed, held.faults
    assert held.witnessed >= 8


def test_a_refusal_is_proved_too(site: Site, server: Server) -> None:
    """That the question was asked is recorded whatever came of it, and the client sees that it is."""
    with connected(site, server.address) as client:
        for changes in (
            {"agreement": "DS99999"},
            {"purposes": ["immigration-enforcement"]},
            {"purposes": []},
        ):
            decision = client.check(**question(site, **changes))
            assert (decision.outcome, decision.unexpected) == (Outcome.WITHHOLD, "")
            assert decision.receipt is not None


def test_a_client_without_a_pinned_log_is_told_what_to_do(site: Site, server: Server) -> None:
    """Going without proof has to be said; it is never what is left when nothing is."""
    with pytest.raises(ValueError, match=r'give `logs`.*or say `receipts="off"`'), ExitStack() as stack:
        stack.enter_context(connected(site, server.address, logs=None))
    with connected(site, server.address, logs=None, receipts="off") as client:
        decision = client.check(**question(site))

    assert (decision.receipt, decision.unexpected) == (None, "")


def test_a_client_without_a_journal_says_so(
    site: Site, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is not kept over a restart is not left for the operator to find out."""
    with caplog.at_level(logging.WARNING, logger="policyd_client"):
        with connected(site, server.address, journal=tmp_path / "j.jsonl"):
            assert caplog.text == ""
        with connected(site, server.address):
            assert "no `journal` is named" in caplog.text


def test_another_key_or_another_log_releases_nothing(site: Site, server: Server, tmp_path: Path) -> None:
    """Neither a node with a key of its own, nor one with a name of its own, is believed."""
    own = load_signing_key(site.config.keys / "node.key").private.public_key()
    log = load_signing_key(site.config.keys / "ledger.key").private.public_key()
    for key, origin, says in (
        (own, site.config.origin, "is not signed by the pinned key"),
        (log, "policyd.test/policyd/node-9", "which is not pinned"),
    ):
        with connected(site, server.address, logs={origin: Verifier(origin, key).vkey}) as client:
            decision = client.check(**question(site))

        assert says in decision.unexpected
        with pytest.raises(Withheld):
            decision.use()


def test_life_is_counted_on_the_clients_clock(site: Site, server: Server) -> None:
    """A proved decision is too old after its life, whatever the clocks of the servers say."""
    now_s = [0.0]
    with connected(site, server.address, clock=lambda: now_s[0]) as client:
        decision = client.check(**question(site))
        assert decision.unexpected == ""
        now_s[0] = 60.0
        with pytest.raises(Expired):
            decision.use()


def test_threads_share_one_client(site: Site, server: Server, tmp_path: Path) -> None:
    """Many at once: each decision proved, used and reported, the log proved meanwhile."""
    asked = question(site)
    with connected(site, server.address, journal=tmp_path / "j.jsonl") as client:
        unexpected: list[str] = []

        def work() -> None:
            for _ in range(10):
                decision = client.check(**asked)
                unexpected.append(decision.unexpected)
                decision.use()
                client.report_release(decision, rows=1, result_digest=RESULT)
                client.prove_logs()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert unexpected == [""] * 80
    assert verify(site.config.ledger, receipts=tmp_path).passed


# --- reports


def test_a_release_is_recorded_beside_its_decision(site: Site, server: Server) -> None:
    """Rows, obligations, digest and the client's checkpoints; and the client holds the proof of that."""
    with connected(site, server.address) as client:
        decision = client.check(**question(site))
        with decision.use():
            receipt = client.report_release(
                decision, rows=7, obligations_met=["rows", "exclude_sealed"], result_digest=RESULT
            )
        with pytest.raises(AlreadyReported):
            client.report_release(decision, rows=7, result_digest=RESULT)

    assert receipt is not None
    (leaf,) = site.leaves(receipt.index)[:1]
    assert (leaf["kind"], leaf["decision_id"], leaf["rows"]) == ("release", decision.decision_id, 7)
    assert leaf["obligations_met"] == ["exclude_sealed", "rows"]
    assert (leaf["spiffe_id"], leaf["data_service"]) == (site.spiffe_id(), "npd-secure")
    assert leaf["result_digest"] == RESULT.hex()
    assert decision.receipt is not None
    assert leaf["checkpoints"] == [decision.receipt.checkpoint.note]


def test_a_query_that_was_given_up_is_reported_without_use(site: Site, server: Server) -> None:
    """No rows need no use; afterwards the decision is spent all the same."""
    with connected(site, server.address) as client:
        decision = client.check(**question(site))
        with pytest.raises(ValueError, match="was not used"):
            client.report_release(decision, rows=1, result_digest=RESULT)
        assert client.report_release(decision, rows=0) is not None
        with pytest.raises(Withheld):
            decision.use()


def test_a_second_report_is_refused_and_alarmed(
    site: Site, channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    """By the node, not only by the client; the same report sent again gets the record that there is."""
    answer = stub(channel).Check(site.question(), timeout=10)
    first = stub(channel).ReportRelease(report(answer), timeout=10).receipt
    records = site.count()
    again = stub(channel).ReportRelease(report(answer), timeout=10).receipt
    assert refused(stub(channel).ReportRelease, report(answer, 2))[0] is grpc.StatusCode.ALREADY_EXISTS

    assert (again.index, again.leaf) == (first.index, first.leaf)
    checkpoint = parse_checkpoint(parse(again.checkpoint).text)
    assert merkle.verify_inclusion(
        merkle.leaf_hash(again.leaf),
        again.index,
        size=checkpoint.size,
        proof=list(again.proof),
        root=checkpoint.root,
    )
    assert site.count() == records
    assert f"ALARM: a second report: decision {answer.decision_id}" in caplog.text


def test_reports_that_race_leave_one_record(site: Site, server: Server, channel: grpc.Channel) -> None:
    """One of many reports at once is recorded, the others are refused, and the ledger stays open."""
    answer = stub(channel).Check(site.question(), timeout=10)
    calls = [stub(channel).ReportRelease.future(report(answer, n), timeout=10) for n in range(16)]
    codes = [call.code() for call in calls if call.exception() is not None]

    assert codes == [grpc.StatusCode.ALREADY_EXISTS] * 15
    assert server.ledger.failure == ""
    of_it = [leaf for leaf in site.leaves() if leaf.get("decision_id") == answer.decision_id]
    assert [leaf["kind"] for leaf in of_it] == ["decision", "release"]


def test_only_the_data_service_that_asked_reports(
    site: Site, server: Server, channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one is refused, and that is an alarm."""
    answer = stub(channel).Check(site.question(), timeout=10)
    with site.channel(server.address, service="npd-second") as other:
        code, _ = refused(stub(other).ReportRelease, report(answer))

    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert f"ALARM: a report by another data service: decision {answer.decision_id}" in caplog.text


def test_a_decision_that_permits_nothing_has_no_report(site: Site, channel: grpc.Channel) -> None:
    """Withheld questions and listings release nothing, so a report about one is a mistake or worse."""
    withheld = stub(channel).Check(site.question(agreement_id="DS99999"), timeout=10)
    listing = pb.ListFieldsRequest(
        request_id="listing",
        requester_token=site.token(),
        agreement_id="DS00101",
        purposes=["academic-research"],
        action=pb.ACTION_RELEASE,
    )
    for answer in (withheld, stub(channel).ListFields(listing, timeout=10)):
        code, details = refused(stub(channel).ReportRelease, report(answer))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "permits no release" in details


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"decision_id": ""}, "decision_id"),
        ({"report_id": ""}, "report_id"),
        ({"report_id": "a b"}, "report_id"),
        ({"rows": 2**53}, "rows must be at most"),
        ({"obligations_met": ["rows", "rows"]}, "obligations_met"),
        ({"obligations_met": ["everything"]}, "obligations_met"),
        ({"result_digest": b"short"}, "result_digest must be 32 bytes"),
        ({"result_digest": b""}, "result_digest is absent, but rows were released"),
        ({"checkpoints": ["no note"]}, "the note has no blank line"),
        ({"checkpoints": ["x"] * 17}, "checkpoints are at most 16"),
        ({"checkpoints": ["x" * 4097]}, "checkpoints are at most 16"),
    ],
)
def test_a_malformed_report_records_nothing(
    changes: dict[str, Any], says: str, site: Site, channel: grpc.Channel
) -> None:
    """INVALID_ARGUMENT says which part is wrong, and the right report is still possible."""
    answer = stub(channel).Check(site.question(), timeout=10)
    code, details = refused(stub(channel).ReportRelease, report(answer, **changes))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert says in details
    assert stub(channel).ReportRelease(report(answer), timeout=10).receipt.leaf


def test_a_checkpoint_that_claims_to_be_of_this_log_must_be_signed_by_it(
    site: Site, server: Server, channel: grpc.Channel
) -> None:
    """Otherwise anybody could make the log fail its verification."""
    answer = stub(channel).Check(site.question(), timeout=10)
    note = server.ledger.checkpoint
    forged = note.replace(f"\n{server.ledger.size}\n", f"\n{server.ledger.size + 1}\n")
    code, details = refused(stub(channel).ReportRelease, report(answer, checkpoints=[forged]))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "does not fit the note" in details


# --- several nodes


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Site, Server, Server, dict[str, str]]]:
    """Two nodes on one state, each with a log of its own, and the pins of both."""
    site, other = two_sites(tmp_path)
    with serving(site) as one, serving(other) as two:
        yield site, one, two, {each.ledger.origin: each.ledger.vkey for each in (one, two)}


def test_a_report_finds_the_node_that_decided(pair: tuple[Site, Server, Server, dict[str, str]]) -> None:
    """A node that does not have the decision says so, and the client asks the next."""
    site, one, two, logs = pair
    with connected(site, two.address, logs=logs) as client:
        decision = client.check(**question(site))
        decision.use()
    with connected(site, one.address, logs=logs) as client, pytest.raises(NotReported, match="NOT_FOUND"):
        client.report_release(decision, rows=1, result_digest=RESULT)
    with connected(site, one.address, two.address, logs=logs) as client:
        receipt = client.report_release(decision, rows=1, result_digest=RESULT)

    assert receipt is not None
    assert receipt.origin == two.ledger.origin


def test_each_log_is_proved_by_its_own_node(pair: tuple[Site, Server, Server, dict[str, str]]) -> None:
    """The proof is asked of the node that keeps the log, whichever answered last."""
    site, one, two, logs = pair
    with connected(site, one.address, two.address, logs=logs) as client:
        for _ in range(2):
            assert client.check(**question(site)).ledger_origin == one.ledger.origin
        one.node.refuse("for the test")
        for _ in range(2):
            assert client.check(**question(site)).ledger_origin == two.ledger.origin
        one.node.refuse("")
        client.prove_logs()
        last = client.check(**question(site))
        last.use()
        receipt = client.report_release(last, rows=1, result_digest=RESULT)

    assert receipt is not None
    record = two.ledger.reader.record(receipt.index)
    assert record is not None
    leaf = json.loads(record.leaf)
    assert {note.partition("\n")[0] for note in leaf["checkpoints"]} == set(logs)


def test_a_node_that_stops_under_load_is_passed_over(
    pair: tuple[Site, Server, Server, dict[str, str]],
) -> None:
    """Calls that a graceful stop ends are asked again at the other node; none is lost, none is unproved."""
    site, one, two, logs = pair
    asked = question(site)
    with connected(site, one.address, two.address, logs=logs) as client:
        begun, enough = threading.Barrier(5), threading.Event()
        found: list[Decision] = []

        def work() -> None:
            begun.wait()
            while not enough.is_set():
                found.append(client.check(**asked))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        begun.wait()
        while len(found) < 8:
            threads[0].join(0.01)
        one.stop(grace_s=0.0)
        seen = len(found)
        while len(found) < seen + 8:
            threads[0].join(0.01)
        enough.set()
        for thread in threads:
            thread.join()

    assert [decision.unexpected for decision in found] == [""] * len(found)
    assert {decision.ledger_origin for decision in found} == set(logs)


# --- a node that lost its past


def test_a_log_restored_from_an_older_copy_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The client that was there before releases nothing any more, and what it holds convicts the log."""
    site = make_site(tmp_path / "data")
    journal = tmp_path / "receipts" / "npd-secure.jsonl"
    journal.parent.mkdir()
    with serving(site):
        pass
    shutil.copytree(site.config.ledger, tmp_path / "kept")
    with serving(site) as server, connected(site, server.address, journal=journal) as client:
        for _ in range(3):
            assert client.check(**question(site)).unexpected == ""
    assert verify(site.config.ledger, receipts=journal.parent).passed

    forked_copy(site, tmp_path / "kept")
    with serving(site) as server:
        with connected(site, server.address, journal=journal) as client:
            have = [client.check(**question(site)).unexpected for _ in range(3)]
        with connected(site, server.address) as newcomer:  # who has seen nothing of before
            assert newcomer.check(**question(site)).unexpected == ""

    assert all("signed two roots of one size" in why for why in have)
    assert "ALARM" in caplog.text
    held = verify(site.config.ledger, receipts=journal.parent)
    assert not held.passed
    assert verify(site.config.ledger).passed


def test_a_node_that_lies_about_its_past_is_not_trusted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof fails: decisions already handed out are not used, and no later answer helps."""
    site = make_site(tmp_path / "data")
    with serving(site) as server, connected(site, server.address) as client:
        client.check(**question(site))
        decision = client.check(**question(site))
        monkeypatch.setattr(server.ledger.reader, "consistency_proof", lambda *_: [bytes(32)] * 2)
        client.prove_logs()
        monkeypatch.undo()

        assert decision.unexpected == ""
        with pytest.raises(Withheld, match="could not prove that it only grew"):
            decision.use()
        client.prove_logs()
        assert "could not prove that it only grew" in client.check(**question(site)).unexpected
        with pytest.raises(NotReported, match="could not prove"):
            client.report_release(decision, rows=0)


def test_a_fork_that_another_client_reports_fails_the_verification(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A report carries what its client was shown: a signed root that this log never had is evidence."""
    site = make_site(tmp_path / "data")
    with serving(site):
        pass
    shutil.copytree(site.config.ledger, tmp_path / "kept")
    with serving(site) as server, site.channel(server.address) as channel:
        stub(channel).Check(site.question(), timeout=10)
        shown = server.ledger.checkpoint
    forked_copy(site, tmp_path / "kept")
    with serving(site) as server, site.channel(server.address) as channel, caplog.at_level(logging.ERROR):
        answer = stub(channel).Check(site.question(), timeout=10)
        stub(channel).ReportRelease(report(answer, checkpoints=[shown]), timeout=10)

    assert "holds a signed checkpoint" in caplog.text
    (fault,) = verify(site.config.ledger).faults
    assert "do not give the root that it signed" in fault.message


# --- proofs on request


def test_a_data_service_may_ask_for_checkpoints_and_proofs(
    site: Site, server: Server, channel: grpc.Channel
) -> None:
    """The newest checkpoint, the way from an older one, and its own records under it."""
    answer = stub(channel).Check(site.question(want_receipt=True), timeout=10)
    old = parse_checkpoint(parse(answer.receipt.checkpoint).text)
    stub(channel).Check(site.question(2), timeout=10)
    new = audit(channel).GetCheckpoint(audit_pb2.GetCheckpointRequest(), timeout=10)
    root = parse_checkpoint(parse(new.checkpoint).text).root
    way = audit(channel).GetConsistencyProof(
        audit_pb2.GetConsistencyProofRequest(old_size=old.size, new_size=new.size), timeout=10
    )
    assert merkle.verify_consistency(old.size, old.root, size=new.size, root=root, proof=list(way.proof))
    for by in ({"decision_id": answer.decision_id}, {"index": answer.receipt.index}):
        request = audit_pb2.GetInclusionProofRequest(size=new.size, **by)
        proof = audit(channel).GetInclusionProof(request, timeout=10)
        assert proof.leaf == answer.receipt.leaf
        assert merkle.verify_inclusion(
            merkle.leaf_hash(proof.leaf), proof.index, size=new.size, proof=list(proof.proof), root=root
        )


def test_a_record_of_another_is_not_found(site: Site, server: Server, channel: grpc.Channel) -> None:
    """Records of other data services, of the state, and none at all look the same."""
    answer = stub(channel).Check(site.question(), timeout=10)
    with site.channel(server.address, service="npd-second") as other:
        for by in ({"decision_id": answer.decision_id}, {"index": answer.receipt.index}, {"index": 0}):
            request = audit_pb2.GetInclusionProofRequest(**by)
            assert refused(audit(other).GetInclusionProof, request)[0] is grpc.StatusCode.NOT_FOUND
    beyond = audit_pb2.GetInclusionProofRequest(index=10**9)
    assert refused(audit(channel).GetInclusionProof, beyond)[0] is grpc.StatusCode.NOT_FOUND


def test_proofs_are_told_to_registered_data_services_only(site: Site, server: Server) -> None:
    """A certificate alone is not enough."""
    with site.channel(server.address, service="nobody") as channel:
        for call, request in (
            (audit(channel).GetCheckpoint, audit_pb2.GetCheckpointRequest()),
            (audit(channel).GetConsistencyProof, audit_pb2.GetConsistencyProofRequest(old_size=1)),
            (audit(channel).GetInclusionProof, audit_pb2.GetInclusionProofRequest(index=1)),
        ):
            assert refused(call, request)[0] is grpc.StatusCode.PERMISSION_DENIED


def test_what_a_log_cannot_prove_it_says(site: Site, server: Server, channel: grpc.Channel) -> None:
    """Another log is NOT_FOUND, a size that there never was is INVALID_ARGUMENT."""
    other = audit_pb2.GetCheckpointRequest(origin="policyd.test/policyd/node-9")
    assert refused(audit(channel).GetCheckpoint, other)[0] is grpc.StatusCode.NOT_FOUND
    for sizes in ({"old_size": 0}, {"old_size": 10**9}, {"old_size": 1, "new_size": 10**9}):
        request = audit_pb2.GetConsistencyProofRequest(**sizes)
        assert refused(audit(channel).GetConsistencyProof, request)[0] is grpc.StatusCode.INVALID_ARGUMENT
    for what in ({}, {"index": 2**63}, {"index": 0, "size": 10**9}):
        request = audit_pb2.GetInclusionProofRequest(**what)
        assert refused(audit(channel).GetInclusionProof, request)[0] is grpc.StatusCode.INVALID_ARGUMENT
