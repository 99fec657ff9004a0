"""Explain over gRPC: the same answer as Check, recorded, and nothing in it that is not the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from pbac.v1 import decision_pb2 as pb
from policyd_client import Explanation, PolicyClient, Question
from policyd_client import digest as client_digest
from support.server import Site, make_site, plain, serving, stub

from policyd.devsetup import client_credentials, trusted_logs
from policyd.server import Server

FIELDS = ["KS4.KS4_ATT8", "SC_Pupil.UPN_SPR19", "SC_Pupil.SENprovision_SPR19", "SC_Pupil.NoSuch"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("explain") / "data")


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Server]:
    with serving(site) as running:
        yield running


@pytest.fixture(scope="module")
def channel(site: Site, server: Server) -> Iterator[grpc.Channel]:
    with site.channel(server.address) as opened:
        yield opened


def explained(channel: grpc.Channel, question: pb.CheckRequest) -> Any:
    return stub(channel).Explain(pb.ExplainRequest(check=question), timeout=10)


def first_reason(answer: Any, number: int) -> tuple[str, str]:
    """Return reason and name of the first check that withholds, of the question and then of the group."""
    steps = [*answer.steps, *answer.groups[number].steps]
    return next(((step.reason, step.check) for step in steps if step.reason != "NONE"), ("NONE", ""))


@pytest.mark.parametrize(
    "changes",
    [
        {"fields": FIELDS},
        {"fields": FIELDS[:1], "used_fields": FIELDS[1:2]},
        {"fields": FIELDS, "years": []},
        {"fields": ["SC_Pupil.*"]},
        {"purposes": ["no-such-purpose"]},
        {"action": pb.ACTION_MATCH},
        {"requester_token": "x.y.z"},
    ],
    ids=str,
)
def test_it_answers_as_check_does_and_names_what_decided(
    site: Site, channel: grpc.Channel, changes: dict[str, Any]
) -> None:
    """Answer for answer the same; each group's first check with a reason is the one that decided."""
    question = site.question("explain", **changes)

    answer = explained(channel, question)

    assert plain(answer.answer) == plain(stub(channel).Check(question, timeout=10))
    assert len(answer.groups) == len(answer.answer.verdicts)
    for number, verdict in enumerate(answer.answer.verdicts):
        reason, check = first_reason(answer, number)
        assert reason == verdict.reason
        assert check == ("" if reason == "NONE" else verdict.rule)


def test_it_is_recorded_as_explain_and_bound_by_both_digests(site: Site, channel: grpc.Channel) -> None:
    """One record, whose question is the one explained, and whose receipt proves it when asked for."""
    question = site.question("recorded", want_receipt=True)

    answer = explained(channel, question).answer

    leaf = site.leaves(answer.receipt.index)[0]
    assert (leaf["rpc"], leaf["decision_id"]) == ("Explain", answer.decision_id)
    assert leaf["request_digest"] == client_digest.request_digest(question).hex()
    assert leaf["answer_digest"] == client_digest.answer_digest(answer).hex()
    assert answer.receipt.leaf


def test_conditions_show_the_value_its_source_and_where_the_rule_stands(
    site: Site, channel: grpc.Channel
) -> None:
    """Every rule has its place in the policy set and its reason; every condition what it saw."""
    answer = explained(channel, site.question("conditions"))

    rules = [step for group in answer.groups for step in group.steps if step.place]
    assert rules
    for step in rules:
        file, line = step.place.rsplit(":", 1)
        assert file.startswith("rules/")
        assert int(line) > 0
        assert step.why
        for each in step.conditions:
            assert each.source in ("token", "registry", "catalogue", "request", "clock", "policy")
            assert each.result in ("true", "false", "error")
    assert any(
        (each.attribute, each.value, each.result) == ("purpose", "academic-research", "true")
        or (each.attribute, each.value) == ("accreditation.status", "valid")
        for step in rules
        for each in step.conditions
    )


def test_anothers_agreement_is_explained_like_one_that_does_not_exist(
    site: Site, channel: grpc.Channel
) -> None:
    """Gates 1 to 3 in order, the last of which refuses; nothing later, and nothing to tell them apart."""
    shown = []
    for agreement, requester in (("DS99999", "researcher-1"), ("DS00101", "researcher-3")):
        question = site.question("hidden", agreement_id=agreement, requester_token=site.token(requester))
        answer = explained(channel, question)
        shown.append([step.SerializeToString() for step in answer.steps])
        assert [step.check for step in answer.steps][-1] == "gate:3:agreement"
        assert all(not group.steps for group in answer.groups)

    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"fields": FIELDS},
        {"purposes": ["evaluation"]},
        {"action": pb.ACTION_MATCH},
        {"agreement_id": "DS99999"},
        {"years": []},
    ],
    ids=str,
)
def test_a_data_service_is_told_no_counterfactual(
    site: Site, channel: grpc.Channel, changes: dict[str, Any]
) -> None:
    """Something is withheld, and nothing says what else would do; the client has no place for it either."""
    answer = explained(channel, site.question("shopping", **changes))

    assert answer.answer.outcome != pb.OUTCOME_RELEASE
    assert list(answer.counterfactuals) == []
    assert not [name for name in Explanation.__dataclass_fields__ if "counterfactual" in name]


def test_no_token_text_and_no_secret_is_in_an_explanation(site: Site, channel: grpc.Channel) -> None:
    """Not the token, not its signature, not the issuer's key id."""
    question = site.question("token")

    raw = explained(channel, question).SerializeToString()

    for part in question.requester_token.split("."):
        assert part.encode() not in raw


@pytest.mark.parametrize("request_", [pb.ExplainRequest(), pb.ExplainRequest(check=pb.CheckRequest())])
def test_without_a_question_there_is_nothing_to_explain(channel: grpc.Channel, request_: Any) -> None:
    """INVALID_ARGUMENT, as for Check."""
    with pytest.raises(grpc.RpcError) as caught:
        stub(channel).Explain(request_, timeout=10)

    failed: Any = caught.value
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_client_reads_an_explanation(site: Site, server: Server) -> None:
    """The decision may be used like any other; the checks come by group with their names."""
    own = client_credentials(site.config, site.spiffe_id())
    with PolicyClient(
        server.address,
        ca=site.config.tls.authority,
        certificate=own.certificate_pem,
        key=own.key_pem,
        logs=trusted_logs(site.config),
    ) as client:
        explanation = client.explain(
            Question(
                agreement="DS00101",
                purposes=["academic-research"],
                fields=FIELDS,
                years=[2018],
                requester_token=site.token(),
            )
        )

    assert explanation.decision.unexpected == ""
    assert sorted(name for group in explanation.groups for name in group.names) == sorted(FIELDS)
    assert [check.check for check in explanation.question][:3] == [
        "gate:1:data-service",
        "gate:1:operator",
        "gate:2:token",
    ]
    for group in explanation.groups:
        reason = explanation.decision.withheld.get(group.names[0], "NONE")
        assert reason in {check.reason for check in group.checks}
