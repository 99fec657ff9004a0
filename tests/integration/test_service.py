"""What a data service sees of a running node, over gRPC with mutual TLS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from pbac.v1 import audit_pb2, policy_pb2, registry_pb2, seal_pb2
from pbac.v1 import decision_pb2 as pb
from policyd_client import digest as client_digest
from support.admin import admin_channel
from support.server import Site, make_site, plain, reasons, serving, stub

from policyd import canonical, merkle
from policyd.decision.decide import decide
from policyd.ledger.entry import parse_leaf
from policyd.ledger.note import Verifier, verify_checkpoint
from policyd.ledger.reader import LedgerReader
from policyd.model import Action, Claimed, Decision, Request, Token, Verified
from policyd.server import SERVICES, Server
from policyd.service.roles import ROLES

THREADS = 8
CHECKS = 150


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("service") / "data")


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Server]:
    with serving(site) as running:
        yield running


@pytest.fixture(scope="module")
def channel(site: Site, server: Server) -> Iterator[grpc.Channel]:
    with site.channel(server.address) as opened:
        yield opened


def test_reflection_lists_the_five_services_and_health(channel: grpc.Channel) -> None:
    """A tool that knows nothing of policyd finds out what it serves."""
    have = set(ProtoReflectionDescriptorDatabase(channel).get_services())

    assert len(SERVICES) == 5
    assert set(SERVICES) | {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} == have


def test_a_call_built_from_reflection_alone_is_answered(site: Site, channel: grpc.Channel) -> None:
    """As grpcurl does: descriptors from the server, JSON in, JSON out, no generated code."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName("pbac.v1.DecisionService").FindMethodByName("Check")
    ask, reply = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    document = {
        "request_id": "from-json",
        "requester_token": site.token(),
        "agreement_id": "DS00101",
        "purposes": ["academic-research"],
        "action": "ACTION_RELEASE",
        "fields": ["KS4.KS4_ATT8"],
        "years": [2018],
    }

    call = channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=ask.SerializeToString,
        response_deserializer=reply.FromString,
    )
    answer = MessageToDict(call(ParseDict(document, ask()), timeout=10))

    assert (answer["requestId"], answer["outcome"]) == ("from-json", "OUTCOME_RELEASE")


def _unbuilt() -> list[tuple[str, Any]]:
    """Return every method of the five services with its descriptor, but for those that are built."""
    files = (pb, policy_pb2, registry_pb2, seal_pb2, audit_pb2)
    return [
        (f"/{service.full_name}/{method.name}", method)
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


@pytest.mark.parametrize(("path", "method"), _unbuilt(), ids=[path for path, _ in _unbuilt()])
def test_a_method_is_built_or_says_plainly_that_it_is_not(
    site: Site, server: Server, path: str, method: Any
) -> None:
    """Asked with an empty message by somebody it is for, a method answers, refuses it or is not built."""
    with _channel_for(site, server, path) as channel:
        _ask_with_nothing(channel, path, method)


def _channel_for(site: Site, server: Server, path: str) -> grpc.Channel:
    if path not in ROLES:
        return site.channel(server.address)
    admins = site.config.trust.administrators.values()
    return admin_channel(site, server.address, next(each.id for each in admins if each.roles & ROLES[path]))


def _ask_with_nothing(channel: grpc.Channel, path: str, method: Any) -> None:
    shape = (
        "stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming)
    )
    call = getattr(channel, "_".join(shape))(path)
    message = iter([b""]) if method.client_streaming else b""

    try:
        reply = call(message, timeout=10)
        if method.server_streaming:
            next(iter(reply))
            reply.cancel()
    except grpc.RpcError as error:
        failed: Any = error
        refusals = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED)
        assert failed.code() in (grpc.StatusCode.UNIMPLEMENTED, *refusals)
        if failed.code() is grpc.StatusCode.UNIMPLEMENTED:
            assert failed.details() == f"{path} is not built yet; no decision was made"
    else:
        assert path in (
            "/pbac.v1.SealService/WatchSeals",
            "/pbac.v1.AuditService/GetCheckpoint",
            "/pbac.v1.RegistryService/Apply",
        )


def test_health_is_serving_for_the_node_and_each_service(channel: grpc.Channel) -> None:
    """Health answers SERVING for the whole and for every service of the API."""
    make: Any = health_pb2_grpc.HealthStub
    for service in ("", *SERVICES):
        have = make(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert have.status == health_pb2.HealthCheckResponse.SERVING


def test_a_batch_answers_as_single_questions_do(site: Site, channel: grpc.Channel) -> None:
    """The same questions, in one batch and one by one, get the same verdicts, obligations and classes."""
    questions = [
        site.question(0),
        site.question(1, fields=["SC_Pupil.UPN_SPR19", "SC_Pupil.DOB_SPR19", "SC_Pupil.NoSuch"]),
        site.question(2, agreement_id="DS99999"),
        site.question(3, action=pb.ACTION_COUNT, fields=["SC_Pupil.EthnicGroupMajor_SPR19"]),
        site.question(4, purposes=[]),
        site.question(5, requester_token="x.y.z"),  # noqa: S106  # not a secret
        site.question(6, fields=["SC_Pupil.*"]),
    ]

    batch = stub(channel).BatchCheck(pb.BatchCheckRequest(checks=questions), timeout=10).answers
    single = [stub(channel).Check(question, timeout=10) for question in questions]

    assert [plain(answer) for answer in batch] == [plain(answer) for answer in single]
    assert [answer.request_id for answer in batch] == [question.request_id for question in questions]
    first = batch[0].receipt.index
    assert [answer.receipt.index for answer in batch] == list(range(first, first + len(questions)))


def test_every_answer_under_load_is_the_one_recorded(site: Site, server: Server) -> None:
    """From eight threads at once: each answer is in the ledger, bound to its question by both digests."""
    kept: list[tuple[pb.CheckRequest, pb.CheckResponse]] = []
    signed = site.token()
    names = [
        "SC_Pupil.Gender_SPR19",
        "KS4.KS4_ATT8",
        "SC_Pupil.UPN_SPR19",
        "SC_Pupil.Surname_SPR19",
        "No.Field",
    ]

    def ask(thread: int) -> None:
        with site.channel(server.address) as own:
            for number in range(CHECKS):
                question = site.question(
                    f"load-{thread}-{number}",
                    requester_token=signed,
                    fields=names[number % len(names) :],
                    agreement_id="DS99999" if number % 7 == 0 else "DS00101",
                    want_receipt=number % 5 == 0,
                )
                kept.append((question, stub(own).Check(question, timeout=30)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(kept) == len({answer.receipt.index for _, answer in kept}) == THREADS * CHECKS
    assert len({answer.decision_id for _, answer in kept}) == len(kept)
    with LedgerReader(site.config.ledger) as reader:
        for question, answer in kept:
            assert answer.request_id == question.request_id
            record = reader.record(answer.receipt.index)
            assert record is not None
            leaf = parse_leaf(record.leaf)
            assert leaf["decision_id"] == answer.decision_id
            assert leaf["request_digest"] == client_digest.request_digest(question).hex()
            assert leaf["answer_digest"] == client_digest.answer_digest(answer).hex()
            if question.want_receipt:
                assert answer.receipt.leaf == record.leaf


def test_both_sides_compute_one_digest(site: Site, server: Server, channel: grpc.Channel) -> None:
    """The server's digest from its own objects equals the client's from the wire, and the leaf's."""
    question = site.question("digest", fields=["SC_Pupil.UPN_SPR19", "SC_Pupil.DOB_SPR19"], want_receipt=True)

    answer = stub(channel).Check(question, timeout=10)

    leaf = parse_leaf(answer.receipt.leaf)
    claimed = Claimed(
        request_id="request-digest",
        agreement="DS00101",
        purposes=("academic-research",),
        action=Action.RELEASE,
        fields=tuple(question.fields),
        years=(2018,),
    )
    digest = canonical.token_digest(question.requester_token)
    mine = canonical.request_digest(claimed, digest, record_tokens=(), want_receipt=True, at_least_epoch=0)
    assert mine == client_digest.request_digest(question)
    assert mine.hex() == leaf["request_digest"]
    decision = _decide_again(server, site, claimed, digest, at=leaf["at"])
    mine = canonical.answer_digest(
        decision,
        request_id=answer.request_id,
        decision_id=answer.decision_id,
        valid_for_ms=answer.valid_for_ms,
    )
    assert mine == client_digest.answer_digest(answer)
    assert mine.hex() == leaf["answer_digest"]


def _decide_again(server: Server, site: Site, claimed: Claimed, digest: bytes, *, at: int) -> Decision:
    token = Token("policyd-dev", "researcher-1", digest=digest, expires_at=at + 600_000)
    request = Request(claimed, Verified(site.spiffe_id(), token))
    return decide(server.node.current.decider.snapshot, request, at)


def test_a_receipt_verifies_offline(site: Site, server: Server, channel: grpc.Channel) -> None:
    """Leaf, index, proof and signed checkpoint prove the record with nothing but the log's public key."""
    verifier = Verifier.from_vkey(server.ledger.vkey)
    questions = [site.question(f"receipt-{number}", want_receipt=True) for number in range(3)]
    batch = stub(channel).BatchCheck(pb.BatchCheckRequest(checks=questions), timeout=10)
    one = stub(channel).Check(site.question("receipt-3", want_receipt=True), timeout=10)
    (shared,) = batch.checkpoints
    assert [each.receipt.checkpoint_number for each in batch.answers] == [0, 0, 0]

    for answer in (*batch.answers, one):
        receipt = answer.receipt
        note = shared if receipt.HasField("checkpoint_number") else receipt.checkpoint
        checkpoint = verify_checkpoint(note, origin=receipt.origin, verifier=verifier)
        leaf_hash = merkle.leaf_hash(receipt.leaf)
        proof = list(receipt.proof)
        assert merkle.verify_inclusion(
            leaf_hash, receipt.index, size=checkpoint.size, proof=proof, root=checkpoint.root
        )
        assert not merkle.verify_inclusion(
            merkle.leaf_hash(receipt.leaf + b" "),
            receipt.index,
            size=checkpoint.size,
            proof=proof,
            root=checkpoint.root,
        )


def test_without_want_receipt_only_the_place_comes_back(site: Site, channel: grpc.Channel) -> None:
    """Origin and index always; leaf, proof and checkpoint only when asked for."""
    receipt = stub(channel).Check(site.question("place"), timeout=10).receipt

    assert receipt.origin == site.config.origin
    assert not receipt.leaf
    assert not receipt.proof
    assert not receipt.checkpoint


def test_the_receipt_tells_nobody_whether_an_agreement_exists(site: Site, channel: grpc.Channel) -> None:
    """For another's agreement and for one that does not exist, answer and leaf show the same."""
    shown = []
    for agreement, requester in (("DS99999", "researcher-1"), ("DS00101", "researcher-3")):
        question = site.question(
            "hidden",
            agreement_id=agreement,
            requester_token=site.token(requester),
            want_receipt=True,
        )
        answer = stub(channel).Check(question, timeout=10)
        leaf = parse_leaf(answer.receipt.leaf)
        assert set(reasons(answer).values()) == {"AGREEMENT_NOT_YOURS"}
        assert agreement.encode() not in answer.receipt.leaf
        shown.append((leaf["agreement"], leaf["verdicts"], leaf["gateway"]))

    assert shown[0] == shown[1]


def test_an_answer_lives_no_longer_than_its_token(site: Site, channel: grpc.Channel) -> None:
    """60 s at most, and less when the requester's token ends before that."""
    long = stub(channel).Check(site.question("long"), timeout=10)
    short = stub(channel).Check(site.question("short", requester_token=site.token(lifetime_s=20)), timeout=10)

    assert long.valid_for_ms == 60_000
    assert 0 < short.valid_for_ms <= 20_000


def test_the_data_service_is_the_certificate_and_not_what_is_said(site: Site, server: Server) -> None:
    """A token given to one data service is of no use to another, whatever else is sent along."""
    question = site.question("stolen", requester_token=site.token(service="npd-secure"))

    with site.channel(server.address, service="npd-second") as other:
        metadata = [("x-forwarded-client-cert", f"URI={site.spiffe_id('npd-secure')}")]
        answer = stub(other).Check(question, timeout=10, metadata=metadata)

    assert set(reasons(answer).values()) == {"REQUESTER_UNVERIFIED"}
    leaf = site.leaves(answer.receipt.index)[0]
    assert leaf["spiffe_id"] == site.spiffe_id("npd-second")


def test_the_shipped_policy_is_the_one_in_the_answer(
    server: Server, site: Site, channel: grpc.Channel
) -> None:
    """Digest, version and epoch of an answer are those of the snapshot that gave it."""
    answer = stub(channel).Check(site.question("policy"), timeout=10)

    assert (answer.policy_digest, answer.policy_version) == (server.policy.digest, server.policy.version)
    assert answer.epoch == server.node.current.epoch
    assert Path(site.config.policy).name == "npd"
