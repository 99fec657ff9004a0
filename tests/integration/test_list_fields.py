"""ListFields over gRPC: listed is what Check would give, recorded, and bound to its question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from pbac.v1 import decision_pb2 as pb
from policyd_client import Effect, Outcome, PolicyClient
from policyd_client import digest as client_digest
from support.server import Site, make_site, reasons, serving, stub

from policyd.devsetup import client_credentials, trusted_logs
from policyd.ledger.entry import open_private
from policyd.ledger.reader import LedgerReader
from policyd.reasons import Reason
from policyd.server import Server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("listing") / "data")


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Server]:
    with serving(site) as running:
        yield running


@pytest.fixture(scope="module")
def channel(site: Site, server: Server) -> Iterator[grpc.Channel]:
    with site.channel(server.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(site: Site, server: Server) -> Iterator[PolicyClient]:
    own = client_credentials(site.config, site.spiffe_id())
    authority = site.config.tls.authority
    with PolicyClient(
        server.address,
        ca=authority,
        certificate=own.certificate_pem,
        key=own.key_pem,
        logs=trusted_logs(site.config),
    ) as made:
        yield made


def listing(site: Site, **changes: Any) -> pb.ListFieldsRequest:
    """Return a good question, changed as asked."""
    parts = {
        "request_id": "listing-1",
        "requester_token": site.token(),
        "agreement_id": "DS00101",
        "purposes": ["academic-research"],
        "action": pb.ACTION_RELEASE,
    }
    return pb.ListFieldsRequest(**{**parts, **changes})


def test_what_is_listed_can_be_had(site: Site, channel: grpc.Channel) -> None:
    """Check gives each listed field the verdict that the listing has."""
    answer = stub(channel).ListFields(listing(site), timeout=10)

    listed = {name: (g.effect, g.rule) for g in answer.verdicts for name in g.fields}
    question = site.question("had", fields=list(listed))
    checked = stub(channel).Check(question, timeout=10)
    assert listed
    assert {name: (g.effect, g.rule) for g in checked.verdicts for name in g.fields} == listed
    assert (answer.epoch, answer.policy_digest) == (checked.epoch, checked.policy_digest)
    assert answer.outcome == pb.OUTCOME_PARTIAL


def test_a_listing_is_recorded_and_bound_by_both_digests(site: Site, channel: grpc.Channel) -> None:
    """Its record says ListFields and valid for nothing, and both sides compute its digests."""
    question = listing(site, table="KS4")

    answer = stub(channel).ListFields(question, timeout=10)

    leaf = site.leaves(answer.receipt.index)[0]
    assert (leaf["rpc"], leaf["valid_for_ms"]) == ("ListFields", 0)
    assert leaf["decision_id"] == answer.decision_id
    assert leaf["trace_id"] == answer.trace_id
    assert leaf["request_digest"] == client_digest.listing_digest(question).hex()
    assert leaf["answer_digest"] == client_digest.answer_digest(answer).hex()
    other = listing(site, table="KS2", requester_token=question.requester_token)
    assert client_digest.listing_digest(other) != client_digest.listing_digest(question)


def test_someone_elses_agreement_is_told_as_one_that_does_not_exist(
    site: Site, channel: grpc.Channel
) -> None:
    """The answers differ in nothing that the caller sees; the exact reason is in the private part."""
    kept = []
    for agreement, requester in (("DS99999", "researcher-1"), ("DS00101", "researcher-3")):
        question = listing(site, agreement_id=agreement, requester_token=site.token(requester))
        answer = stub(channel).ListFields(question, timeout=10)
        (group,) = answer.verdicts
        kept.append((group.reason, group.rule, list(group.fields), answer.outcome))
        with LedgerReader(site.config.ledger) as reader:
            record = reader.record(answer.receipt.index)
        assert record is not None
        exact = open_private(record.leaf, record.private).reasons
        assert exact == (
            (Reason.AGREEMENT_UNKNOWN if agreement == "DS99999" else Reason.AGREEMENT_NOT_YOURS),
        )

    assert kept[0] == kept[1] == ("AGREEMENT_NOT_YOURS", "gate:3:agreement", [], pb.OUTCOME_WITHHOLD)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"request_id": ""}, "request_id must be"),
        ({"agreement_id": "a b"}, "agreement_id must be"),
        ({"action": 0}, "action must be one of"),
        ({"purposes": ["x"] * 2}, "names something twice"),
        ({"table": "KS4.*"}, "table must be 1 to 64"),
        ({"table": "x" * 65}, "table must be 1 to 64"),
    ],
    ids=str,
)
def test_a_malformed_question_is_not_decided(
    site: Site, channel: grpc.Channel, changes: dict[str, Any], text: str
) -> None:
    """INVALID_ARGUMENT names the part, and nothing is recorded."""
    before = site.count()

    with pytest.raises(grpc.RpcError) as caught:
        stub(channel).ListFields(listing(site, **changes), timeout=10)

    failed: Any = caught.value
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert text in failed.details()
    assert site.count() == before


def test_a_part_from_a_later_version_is_refused(site: Site, channel: grpc.Channel) -> None:
    """It could be a restriction."""
    raw = listing(site).SerializeToString() + bytes([0xF8, 0x06, 0x01])  # field 111, varint 1
    call = channel.unary_unary("/pbac.v1.DecisionService/ListFields")

    with pytest.raises(grpc.RpcError) as caught:
        call(raw, timeout=10)

    failed: Any = caught.value
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_node_below_the_epoch_does_not_list(site: Site, server: Server, channel: grpc.Channel) -> None:
    """UNAVAILABLE, as for Check."""
    question = listing(site, at_least_epoch=server.node.current.epoch + 1)

    with pytest.raises(grpc.RpcError) as caught:
        stub(channel).ListFields(question, timeout=10)

    failed: Any = caught.value
    assert failed.code() is grpc.StatusCode.UNAVAILABLE


def test_without_a_good_token_nothing_is_listed(site: Site, channel: grpc.Channel) -> None:
    """The same authentication as for Check: the reason is its gate's."""
    answer = stub(channel).ListFields(listing(site, requester_token="x.y.z"), timeout=10)  # noqa: S106

    checked = stub(channel).Check(site.question("bad", requester_token="x.y.z"), timeout=10)  # noqa: S106
    assert [group.reason for group in answer.verdicts] == ["REQUESTER_UNVERIFIED"]
    assert set(reasons(checked).values()) == {"REQUESTER_UNVERIFIED"}


def test_the_client_reads_a_listing(client: PolicyClient, site: Site) -> None:
    """Verdicts by field id, obligations, and the place in the ledger; a refusal has a reason."""
    listed = client.list_fields(
        agreement="DS00101", purposes=["academic-research"], requester_token=site.token(), table="ks4"
    )
    refused = client.list_fields(agreement="DS00101", purposes=[], requester_token=site.token())

    assert listed.unexpected == ""
    assert listed.outcome is Outcome.PARTIAL
    assert "KS4.KS4_ATT8" in listed.verdicts
    assert all(name.startswith("KS4.") for name in listed.verdicts)
    assert all(verdict.effect is not Effect.WITHHOLD for verdict in listed.verdicts.values())
    assert listed.obligations.exclude_sealed_epoch == listed.epoch == client.epoch
    assert site.leaves(listed.ledger_index)[0]["decision_id"] == listed.decision_id
    assert (refused.reason, refused.rule, dict(refused.verdicts)) == ("PURPOSE_MISSING", "gate:4:purpose", {})
