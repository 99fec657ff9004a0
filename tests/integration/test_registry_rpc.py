"""RegistryService over the wire: plans, signed changes, second persons, pages and the past."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from fleet.harness import two_sites
from pbac.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    seal_pb2,
    seal_pb2_grpc,
)
from pbac.v1 import registry_pb2 as pb
from support.admin import (
    BOTH,
    TIMEOUT_S,
    admin_channel,
    bring,
    everything,
    key_of,
    plan_of,
    registry_stub,
    request_of,
    sent,
    sign,
)
from support.server import Site, make_site, reasons, registry_text, serving, stub
from support.waiting import wait_until

from policyd.model import Action, Agreement, Registry, Status
from policyd.server import MAX_APPLY_BYTES, Server
from policyd.service.change_wire import write_change

DIFFERENCE = pb.DIFFERENCE_KIND_CHANGED


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("registry") / "data")


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Server]:
    with serving(site) as running:
        yield running


@pytest.fixture
def registrar(site: Site, server: Server) -> Iterator[Any]:
    with admin_channel(site, server.address) as channel:
        yield registry_stub(channel)


@pytest.fixture
def approver(site: Site, server: Server) -> Iterator[Any]:
    with admin_channel(site, server.address, "approver-1") as channel:
        yield registry_stub(channel)


def agreement(stub_: Any, **changes: Any) -> Registry:
    """Return a change of the one agreement, from what it is now."""
    now: Agreement = everything(stub_).agreements["DS00101"]
    return Registry(agreements={"DS00101": replace(now, **changes)})


def other_actions(stub_: Any) -> Registry:
    """Return a change that gives the agreement more, or takes that away again."""
    now: Agreement = everything(stub_).agreements["DS00101"]
    return agreement(stub_, actions=now.actions ^ {Action.LINK})


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    """Return the status with which a call ends, and its text."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    failed: Any = caught.value
    return failed.code(), failed.details()


def changes_in(leaves: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return stage, who and why of each change on record."""
    return [(leaf["stage"], leaf["who"], leaf["why"]) for leaf in leaves if leaf["kind"] == "state-change"]


def test_a_dry_run_says_what_would_differ_and_changes_nothing(
    site: Site, server: Server, registrar: Any
) -> None:
    """The differences come in the order of the request, with the head to plan on; nothing is recorded."""
    change = other_actions(registrar)
    wanted = [*sent(change), *sent(Registry(organisations=everything(registrar).organisations))]
    epoch, records = server.node.current.epoch, site.count()

    plan = registrar.Apply(pb.ApplyRequest(entries=wanted, dry_run=True), timeout=TIMEOUT_S)

    assert plan.state == pb.CHANGE_STATE_PLANNED
    assert (plan.epoch, plan.chain_hash) == (0, server.node.current.state.chain_hash)
    assert plan.needs_two_people
    first, *rest = plan.differences
    assert (first.kind, first.id, first.difference) == (pb.ENTRY_KIND_AGREEMENT, "DS00101", DIFFERENCE)
    assert [(part.part, part.step) for part in first.parts] == [("actions", "+ [link]")]
    assert [each.difference for each in rest] == [pb.DIFFERENCE_KIND_UNCHANGED] * 3
    assert (server.node.current.epoch, site.count()) == (epoch, records)


def test_two_people_bring_a_change_and_it_is_in_force_when_they_are_told_so(
    site: Site, server: Server, registrar: Any
) -> None:
    """A change that gives more is numbered, decided on at once and on record with who and why."""
    change, records = other_actions(registrar), site.count()

    answer = bring(site, registrar, change, why="annex 2 of DS00101")

    assert answer.state == pb.CHANGE_STATE_IN_FORCE
    assert (answer.epoch, list(answer.waiting_for)) == (server.node.current.epoch, [])
    assert answer.chain_hash == server.node.current.state.chain_hash
    assert (
        registrar.Get(pb.GetRequest(kind=pb.ENTRY_KIND_AGREEMENT, id="DS00101"), timeout=TIMEOUT_S).entry
        == sent(change)[0]
    )
    said = ("registrar-1", "annex 2 of DS00101")
    assert sorted(changes_in(site.leaves(records))) == [
        ("applied", *said),
        ("in-force", *said),
        ("intended", *said),
    ]
    assert site.leaves(answer.receipt.index)[0]["chain_hash"] == answer.chain_hash.hex()
    assert answer.receipt.leaf
    assert answer.receipt.checkpoint


def test_one_person_takes_away_and_cannot_give(site: Site, server: Server, registrar: Any) -> None:
    """With one signature a suspension holds at once; to resume waits for a second person and is recorded."""
    suspended = agreement(registrar, status=Status.SUSPENDED)
    assert bring(site, registrar, suspended, ["registrar-1"]).state == pb.CHANGE_STATE_IN_FORCE
    with site.channel(server.address) as channel:
        refused = stub(channel).Check(site.question("suspended"), timeout=10)
    assert set(reasons(refused).values()) == {"AGREEMENT_SUSPENDED"}

    records, epoch = site.count(), server.node.current.epoch
    answer = bring(site, registrar, agreement(registrar, status=Status.ACTIVE), ["registrar-1"])

    assert answer.state == pb.CHANGE_STATE_AWAITING_APPROVAL
    assert (answer.epoch, answer.HasField("receipt")) == (0, False)
    assert changes_in(site.leaves(records)) == [("intended", "registrar-1", "for a test")]
    assert server.node.current.epoch == epoch


def test_a_second_person_signs_the_same_change_later(
    site: Site, server: Server, registrar: Any, approver: Any
) -> None:
    """The approver brings the change with both signatures, though others were made in between."""
    change = agreement(registrar, status=Status.ACTIVE)
    asked = sign(site, change, plan_of(registrar, change).chain_hash, "registrar-1")
    waiting = registrar.Apply(request_of(asked, change), timeout=TIMEOUT_S)
    assert waiting.state == pb.CHANGE_STATE_AWAITING_APPROVAL
    organisations = everything(registrar).organisations
    other = replace(organisations["org-university-2"], status=Status.SUSPENDED)
    assert bring(site, registrar, Registry(organisations={other.id: other}), ["registrar-1"]).epoch

    approved = asked.signed_by(key_of(site, "approver-1"))
    answer = approver.Apply(request_of(approved, change), timeout=TIMEOUT_S)

    assert answer.state == pb.CHANGE_STATE_IN_FORCE
    with site.channel(server.address) as channel:
        released = stub(channel).Check(site.question("resumed", at_least_epoch=answer.epoch), timeout=10)
    assert set(reasons(released).values()) == {"release"}


def test_the_same_change_sent_again_is_one_change(site: Site, server: Server, registrar: Any) -> None:
    """Its number comes back and nothing is made or recorded twice, also when the registry has moved on."""
    change = other_actions(registrar)
    request = request_of(sign(site, change, plan_of(registrar, change).chain_hash, *BOTH), change)
    first = registrar.Apply(request, timeout=TIMEOUT_S)
    assert bring(site, registrar, other_actions(registrar)).epoch == first.epoch + 1
    records = site.count()

    again = registrar.Apply(request, timeout=TIMEOUT_S)

    assert (again.state, again.epoch) == (pb.CHANGE_STATE_IN_FORCE, first.epoch)
    assert (again.chain_hash, again.HasField("receipt")) == (first.chain_hash, False)
    assert (server.node.current.epoch, site.count()) == (first.epoch + 1, records)


def test_an_id_stands_for_one_change_alone(site: Site, registrar: Any) -> None:
    """Another change under a used id is ABORTED, whoever signs it."""
    assert bring(site, registrar, other_actions(registrar), change_id="used-once").epoch

    code, text = refused(lambda: bring(site, registrar, other_actions(registrar), change_id="used-once"))

    assert code is grpc.StatusCode.ABORTED
    assert "`used-once` was used for another change" in text


def test_a_plan_holds_until_what_it_names_has_changed(site: Site, registrar: Any) -> None:
    """A change that was planned before another one touched its entry is ABORTED."""
    change = other_actions(registrar)
    planned = plan_of(registrar, change)
    assert bring(site, registrar, other_actions(registrar)).epoch
    late = replace(change.agreements["DS00101"], setting="elsewhere")
    stale = Registry(agreements={"DS00101": late})

    request = request_of(sign(site, stale, planned.chain_hash, *BOTH), stale)
    code, text = refused(lambda: registrar.Apply(request, timeout=TIMEOUT_S))

    assert code is grpc.StatusCode.ABORTED
    assert "`DS00101` in agreements changed since it was planned" in text


def test_every_mistake_is_told_with_its_place(server: Server, registrar: Any) -> None:
    """Unknown words, absent dates, ids that come twice and entries of no kind: all are named."""
    good = sent(agreement(registrar))[0]
    bad = pb.Entry()
    bad.CopyFrom(good)
    bad.agreement.status = 7  # type: ignore[assignment]  # a value of a later version
    bad.agreement.from_at_ms = 0
    bad.agreement.actions.append(99)  # type: ignore[arg-type]  # as above
    bad.agreement.fields.append("SC_Pupil.*")
    bad.agreement.table_years.add(table="KS4", years=[2018])
    bad.agreement.table_years.add(table="KS4", years=[2017])
    epoch = server.node.current.epoch

    answer = registrar.Apply(
        pb.ApplyRequest(entries=[good, bad, pb.Entry()], dry_run=True), timeout=TIMEOUT_S
    )

    assert answer.state == pb.CHANGE_STATE_REFUSED
    found = {(each.kind, each.id, each.part): each.message for each in answer.problems}
    of = pb.ENTRY_KIND_AGREEMENT, "DS00101"
    assert found.keys() == {
        (*of, ""),
        (*of, "status"),
        (*of, "from"),
        (*of, "actions"),
        (*of, "fields"),
        (*of, "table_years"),
        (pb.ENTRY_KIND_UNSPECIFIED, "", ""),
    }
    assert found[(*of, "")] == "agreement `DS00101` is given twice"
    assert "wildcard" in found[(*of, "fields")]
    assert server.node.current.epoch == epoch


def test_what_contradicts_the_registry_is_told(registrar: Any) -> None:
    """An entry that names an unknown one is refused with the part at fault, and nothing without entries."""
    change = agreement(registrar, organisation="org-universty-1")

    answer = plan_of(registrar, change)
    nothing = registrar.Apply(pb.ApplyRequest(dry_run=True), timeout=TIMEOUT_S)

    assert answer.state == nothing.state == pb.CHANGE_STATE_REFUSED
    (problem,) = answer.problems
    assert (problem.id, problem.part) == ("DS00101", "organisation")
    assert "did you mean `org-university-1`?" in problem.message
    assert [each.message for each in nothing.problems] == ["it holds no entries"]


def test_a_change_of_nothing_is_refused(site: Site, server: Server, registrar: Any) -> None:
    """Entries as they are make no number in the chain."""
    epoch = server.node.current.epoch

    answer = bring(site, registrar, agreement(registrar))

    assert answer.state == pb.CHANGE_STATE_REFUSED
    assert "nothing would change" in answer.problems[0].message
    assert server.node.current.epoch == epoch


def test_suspend_takes_one_signature_and_says_so_again(site: Site, server: Server, registrar: Any) -> None:
    """The entry is out of use; a second time the number of the first comes back."""
    entry = replace(everything(registrar).requesters["researcher-3"], status=Status.SUSPENDED)
    change = Registry(requesters={entry.id: entry})
    proposal = sign(site, change, server.node.current.state.chain_hash, "registrar-1", why="left")
    call = pb.SuspendRequest(change=write_change(proposal), kind=pb.ENTRY_KIND_REQUESTER, id=entry.id)

    first = registrar.Suspend(call, timeout=TIMEOUT_S)
    again = registrar.Suspend(call, timeout=TIMEOUT_S)
    other = sign(site, change, first.chain_hash, "registrar-1")
    another = registrar.Suspend(
        pb.SuspendRequest(change=write_change(other), kind=pb.ENTRY_KIND_REQUESTER, id=entry.id),
        timeout=TIMEOUT_S,
    )

    assert first.state == pb.CHANGE_STATE_IN_FORCE
    assert server.node.current.state.registry.requesters[entry.id].status is Status.SUSPENDED
    assert first.epoch == again.epoch == another.epoch == server.node.current.epoch
    assert first.chain_hash == again.chain_hash == another.chain_hash
    resumed = replace(entry, status=Status.ACTIVE, roles=frozenset({"researcher", "reader"}))
    assert bring(site, registrar, Registry(requesters={entry.id: resumed})).epoch == first.epoch + 1
    late = registrar.Suspend(call, timeout=TIMEOUT_S)
    assert (late.epoch, late.chain_hash) == (first.epoch, first.chain_hash)
    assert server.node.current.state.registry.requesters[entry.id] == resumed
    nobody = pb.SuspendRequest(change=write_change(other), kind=pb.ENTRY_KIND_REQUESTER, id="nobody")
    assert refused(lambda: registrar.Suspend(nobody, timeout=5))[0] is grpc.StatusCode.NOT_FOUND


def test_an_entry_is_read_as_it_was(site: Site, server: Server, registrar: Any) -> None:
    """At an epoch it has the content of then, and says which change gave it that."""
    before = server.node.current.epoch
    old = everything(registrar).agreements["DS00101"]
    answer = bring(site, registrar, other_actions(registrar))
    named: dict[str, Any] = {"kind": pb.ENTRY_KIND_AGREEMENT, "id": "DS00101"}

    now = registrar.Get(pb.GetRequest(**named), timeout=TIMEOUT_S)
    then = registrar.Get(pb.GetRequest(**named, epoch=before), timeout=TIMEOUT_S)

    assert (now.epoch, now.changed_at_epoch) == (answer.epoch, answer.epoch)
    assert then.entry == sent(Registry(agreements={"DS00101": old}))[0] != now.entry
    assert then.epoch == before >= then.changed_at_epoch
    wrong: dict[grpc.StatusCode, tuple[dict[str, Any], ...]] = {
        grpc.StatusCode.NOT_FOUND: (
            {**named, "epoch": 2},
            {**named, "epoch": answer.epoch + 1},
            {**named, "id": "DS99999"},
        ),
        grpc.StatusCode.INVALID_ARGUMENT: ({"id": "DS00101"},),
    }
    for code, questions in wrong.items():
        for parts in questions:
            assert refused(partial(registrar.Get, pb.GetRequest(**parts), timeout=5))[0] is code, parts


def test_a_listing_is_read_at_one_epoch(site: Site, server: Server, registrar: Any) -> None:
    """Pages come in order of id, once each, though the registry changes between them."""
    first = registrar.List(pb.ListRequest(kind=pb.ENTRY_KIND_ORGANISATION, page_size=2), timeout=TIMEOUT_S)
    old = first.epoch
    organisation = everything(registrar).organisations["org-university-1"]
    added = replace(organisation, id="org-university-0")
    assert bring(site, registrar, Registry(organisations={added.id: added})).epoch == old + 1

    second = registrar.List(
        pb.ListRequest(kind=pb.ENTRY_KIND_ORGANISATION, page_size=2, page_token=first.next_page_token),
        timeout=TIMEOUT_S,
    )

    listed = [each.organisation.id for page in (first, second) for each in page.entries]
    assert listed == ["org-department", "org-university-1", "org-university-2"]
    assert (second.epoch, second.next_page_token) == (old, "")
    for wrong in (
        pb.ListRequest(kind=pb.ENTRY_KIND_REQUESTER, page_token=first.next_page_token),
        pb.ListRequest(kind=pb.ENTRY_KIND_ORGANISATION, page_token="1.2.3"),  # noqa: S106  # not a secret
        pb.ListRequest(kind=pb.ENTRY_KIND_ORGANISATION, page_size=1001),
        pb.ListRequest(kind=pb.ENTRY_KIND_ORGANISATION, status=9),  # type: ignore[arg-type]  # unknown
        pb.ListRequest(),
    ):
        code, _ = refused(partial(registrar.List, wrong, timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.INVALID_ARGUMENT, wrong
    gone = first.next_page_token.replace(f".{old}.", ".1.")
    asked = pb.ListRequest(kind=pb.ENTRY_KIND_ORGANISATION, page_size=2, page_token=gone)
    assert refused(lambda: registrar.List(asked, timeout=TIMEOUT_S))[0] is grpc.StatusCode.ABORTED


def test_a_listing_is_narrowed(registrar: Any) -> None:
    """By organisation, by status, and by what is about to end."""
    found = everything(registrar)

    def ids(**parts: Any) -> list[str]:
        page = registrar.List(pb.ListRequest(**parts), timeout=TIMEOUT_S)
        return [getattr(each, each.WhichOneof("entry")).id for each in page.entries]

    university = "org-university-1"
    assert ids(kind=pb.ENTRY_KIND_REQUESTER, organisation=university) == ["researcher-1", "researcher-2"]
    assert ids(kind=pb.ENTRY_KIND_ORGANISATION, organisation=university) == [university]
    closed = ids(kind=pb.ENTRY_KIND_DATA_SERVICE, status=pb.ENTRY_STATUS_SUSPENDED)
    assert closed == ["npd-closed"]
    until = found.accreditations["ACC-1"].until_at
    assert ids(kind=pb.ENTRY_KIND_ACCREDITATION, until_before_ms=until + 1) == ["ACC-1"]
    assert ids(kind=pb.ENTRY_KIND_ACCREDITATION, until_before_ms=until) == []
    assert ids(kind=pb.ENTRY_KIND_ORGANISATION, until_before_ms=until + 1) == []


ADMIN_METHODS: list[tuple[Any, str, Any]] = [
    (seal_pb2_grpc.SealServiceStub, "Seal", seal_pb2.SealRequest),
    (seal_pb2_grpc.SealServiceStub, "Lift", seal_pb2.LiftRequest),
    (policy_pb2_grpc.PolicyServiceStub, "Publish", policy_pb2.PublishRequest),
    (policy_pb2_grpc.PolicyServiceStub, "Approve", policy_pb2.ApproveRequest),
    (policy_pb2_grpc.PolicyServiceStub, "Activate", policy_pb2.ActivateRequest),
    (audit_pb2_grpc.AuditServiceStub, "SearchDecisions", audit_pb2.SearchDecisionsRequest),
    (audit_pb2_grpc.AuditServiceStub, "GetDecision", audit_pb2.GetDecisionRequest),
]


@pytest.mark.parametrize(
    ("method", "allowed"),
    [
        ("Apply", {"registrar-1", "approver-1"}),
        ("Suspend", {"registrar-1"}),
        ("Get", {"registrar-1", "approver-1", "auditor-1", "sealing-officer-1"}),
        ("List", {"registrar-1", "approver-1", "auditor-1", "sealing-officer-1"}),
        ("Seal", {"sealing-officer-1"}),
        ("Lift", {"sealing-officer-1", "approver-1"}),
        ("Publish", {"policy-author-1"}),
        ("Approve", {"approver-1"}),
        ("Activate", {"policy-author-1", "approver-1"}),
        ("SearchDecisions", {"auditor-1"}),
        ("GetDecision", {"auditor-1"}),
    ],
)
def test_an_administrator_has_the_calls_of_their_role_alone(
    site: Site, server: Server, method: str, allowed: set[str]
) -> None:
    """Each of the five roles tries each method, and a data service does: the others are turned away."""
    calls = {name: (make, request) for make, name, request in ADMIN_METHODS}
    requests = {"Apply": pb.ApplyRequest, "Suspend": pb.SuspendRequest, "Get": pb.GetRequest}
    make, request = calls.get(method, (registry_stub, requests.get(method, pb.ListRequest)))
    let_in = set()
    for name in site.config.trust.administrators:
        with admin_channel(site, server.address, name) as channel:
            try:
                getattr(make(channel), method)(request(), timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                failed: Any = error
                if failed.code() is grpc.StatusCode.PERMISSION_DENIED:
                    assert f"`{name}` has" in failed.details()
                    continue
            let_in.add(name)
    with site.channel(server.address) as channel:
        code, text = refused(lambda: getattr(make(channel), method)(request(), timeout=TIMEOUT_S))

    assert let_in == allowed
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "this is for administrators with the role" in text


@pytest.mark.parametrize("name", ["registrar-1", "auditor-1"])
def test_an_administrator_asks_no_questions(site: Site, server: Server, name: str) -> None:
    """Who decides on access gets none by that: no decision, and nothing on record."""
    records = site.count()
    with admin_channel(site, server.address, name) as channel:
        code, _ = refused(lambda: stub(channel).Check(site.question("admin"), timeout=10))

    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert site.count() == records


def test_nobody_approves_a_change_of_their_own(site: Site, server: Server, registrar: Any) -> None:
    """Two signatures of one person are one, over the wire too; what the second role is does not matter."""
    change = other_actions(registrar)
    head = plan_of(registrar, change).chain_hash
    wrong = {
        ("registrar-1", "registrar-1"): "signed it twice",
        ("registrar-1", "sealing-officer-1"): "`sealing-officer-1` signed it, but is no approver",
        ("approver-1", "registrar-1"): "`approver-1` may not ask for a change of kind registry",
    }

    for names, why in wrong.items():
        request = request_of(sign(site, change, head, *names), change)
        code, text = refused(partial(registrar.Apply, request, timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert why in text


def test_a_change_is_brought_by_one_of_its_signers(
    site: Site, server: Server, registrar: Any, approver: Any
) -> None:
    """Who saw a signed change on its way cannot bring it with a certificate of their own."""
    suspended = agreement(registrar, status=Status.SUSPENDED)
    proposal = sign(site, suspended, plan_of(registrar, suspended).chain_hash, "registrar-1")
    epoch = server.node.current.epoch

    request = request_of(proposal, suspended)
    code, _ = refused(lambda: approver.Apply(request, timeout=TIMEOUT_S))

    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert server.node.current.epoch == epoch


def _more_fields(request: pb.ApplyRequest) -> None:
    request.entries[0].agreement.fields.append("SC_Pupil.NCyearActual")


def _other_why(request: pb.ApplyRequest) -> None:
    request.change.why = "something harmless"


def _other_time(request: pb.ApplyRequest) -> None:
    request.change.asked_at_ms += 1


def _other_id(request: pb.ApplyRequest) -> None:
    request.change.change_id = "another-id"


def _other_asker(request: pb.ApplyRequest) -> None:
    request.change.who = "approver-1"


def _other_signature(request: pb.ApplyRequest) -> None:
    request.change.signatures[1].signature = bytes(64)


def _one_more_entry(request: pb.ApplyRequest) -> None:
    entry = request.entries.add()
    entry.organisation.id = "org-invented"
    entry.organisation.kind = "university"
    entry.organisation.legal_name = "Invented"
    entry.organisation.status = pb.ENTRY_STATUS_ACTIVE
    entry.organisation.verified_at_ms = 1_700_000_000_000


@pytest.mark.parametrize(
    "alter",
    [_more_fields, _other_why, _other_time, _other_id, _other_asker, _other_signature, _one_more_entry],
    ids=lambda function: function.__name__.lstrip("_"),
)
def test_a_signed_request_that_was_altered_is_turned_away(
    site: Site, server: Server, registrar: Any, alter: Callable[[pb.ApplyRequest], None]
) -> None:
    """Whatever part of it changes on the way, the signatures no longer hold, and nothing is changed."""
    change = other_actions(registrar)
    request = request_of(sign(site, change, plan_of(registrar, change).chain_hash, *BOTH), change)
    alter(request)
    epoch, records = server.node.current.epoch, site.count()

    code, _ = refused(lambda: registrar.Apply(request, timeout=TIMEOUT_S))

    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert (server.node.current.epoch, site.count()) == (epoch, records)


def test_a_signed_suspension_suspends_what_was_signed_and_nothing_else(
    site: Site, server: Server, registrar: Any
) -> None:
    """A signature over the suspension of one entry does not take another out of use."""
    found = everything(registrar)
    entry = replace(found.organisations["org-university-1"], status=Status.SUSPENDED)
    change = Registry(organisations={entry.id: entry})
    proposal = sign(site, change, server.node.current.state.chain_hash, "registrar-1")

    other = pb.SuspendRequest(
        change=write_change(proposal), kind=pb.ENTRY_KIND_ORGANISATION, id="org-department"
    )
    assert refused(lambda: registrar.Suspend(other, timeout=5))[0] is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "parts",
    [
        {"change_id": ""},
        {"why": ""},
        {"why": "two\nlines"},
        {"why": "x" * 501},
        {"previous_hash": b"short"},
        {"who": ""},
        {"asked_at_ms": 2**62},
        {"signatures": [pb.AdminSignature(key_id="0" * 16, signature=b"short")]},
        {"signatures": [pb.AdminSignature(key_id="x" * 70_000, signature=bytes(64))]},
    ],
    ids=lambda parts: next(iter(parts)),
)
def test_a_change_that_nobody_could_have_signed_is_malformed(
    site: Site, registrar: Any, parts: dict[str, Any]
) -> None:
    """Parts of a form that no signed change has are INVALID_ARGUMENT, with what is wrong."""
    change = other_actions(registrar)
    request = request_of(sign(site, change, plan_of(registrar, change).chain_hash, *BOTH), change)
    for name in parts:
        request.change.ClearField(name)  # type: ignore[arg-type]  # a name of a part
    request.change.MergeFrom(pb.Change(**parts))

    assert refused(lambda: registrar.Apply(request, timeout=5))[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_a_change_over_its_limit_is_turned_away_and_the_node_goes_on(site: Site, tmp_path: Path) -> None:
    """17 MiB do not get through the door, 16 MiB of body not into the chain; other methods take 1 MiB."""
    own = make_site(tmp_path / "data")
    with serving(own) as running, admin_channel(own, running.address) as channel:
        registrar = registry_stub(channel)
        huge = pb.ApplyRequest(dry_run=True)
        huge.entries.add().organisation.legal_name = "x" * MAX_APPLY_BYTES
        too_large = refused(lambda: registrar.Apply(huge, timeout=TIMEOUT_S))
        base = everything(registrar).organisations["org-university-1"]
        # Each sign takes two bytes in JSON, and one on the wire.
        named = [replace(base, id=f"org-{number}", legal_name='"' * 8_400_000) for number in range(2)]
        body = sent(Registry(organisations={each.id: each for each in named}))
        assert sum(len(each.SerializeToString()) for each in body) < MAX_APPLY_BYTES
        small = sign(own, Registry(organisations={base.id: base}), bytes(32), *BOTH)
        long = pb.ApplyRequest(change=write_change(small), entries=body)
        too_long = refused(lambda: registrar.Apply(long, timeout=TIMEOUT_S))
        with own.channel(running.address) as service:
            question = own.question(request_id="x" * (1 << 20))
            over = refused(lambda: stub(service).Check(question, timeout=TIMEOUT_S))
            assert reasons(stub(service).Check(own.question("after"), timeout=10))

    assert too_large[0] is over[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert too_long[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert "apply it in parts" in too_long[1]
    assert "over 1048576 bytes" in over[1]


def test_a_hundred_thousand_entries_are_one_change_or_one_answer(site: Site, tmp_path: Path) -> None:
    """Requesters by the hundred thousand are applied in one call; mistakes end at a thousand."""
    own = make_site(tmp_path / "data")
    options = [("grpc.max_receive_message_length", 64 << 20)]
    with serving(own) as running, admin_channel(own, running.address, options=options) as channel:
        registrar = registry_stub(channel)
        base = everything(registrar).requesters["researcher-1"]
        people = {
            f"r{n}": replace(base, id=f"r{n}", subject=f"s{n}", roles=frozenset()) for n in range(100_000)
        }
        nowhere = {id_: replace(each, organisation="o") for id_, each in list(people.items())[:5_000]}
        lost = Registry(requesters=nowhere)
        refused = registrar.Apply(pb.ApplyRequest(entries=sent(lost), dry_run=True), timeout=120)
        all_of_them = Registry(requesters=people)
        head = running.node.current.state.chain_hash
        answer = registrar.Apply(request_of(sign(own, all_of_them, head, *BOTH), all_of_them), timeout=120)
        # While the node takes it up, it has no lease and lists nothing.
        wait_until(lambda: not running.node.refusing, what="the node to have a lease again")
        assert running.node.current.epoch == answer.epoch
        again = everything_of_kind(registrar, pb.ENTRY_KIND_REQUESTER)

    assert (refused.state, len(refused.problems)) == (pb.CHANGE_STATE_REFUSED, 1000)
    assert answer.state in (pb.CHANGE_STATE_IN_FORCE, pb.CHANGE_STATE_PENDING)
    assert len(answer.differences) == 100_000
    assert again == 100_003


def everything_of_kind(registrar: Any, kind: Any) -> int:
    """Count the entries of one kind over all pages."""
    count, token = 0, ""
    while True:
        page = registrar.List(pb.ListRequest(kind=kind, page_size=1000, page_token=token), timeout=TIMEOUT_S)
        count, token = count + len(page.entries), page.next_page_token
        if not token:
            return count


def test_a_change_through_the_files_and_one_through_the_node_meet(
    site: Site, server: Server, registrar: Any
) -> None:
    """`policyd registry apply --data` and the wire change one state, each after the other."""
    epoch = site.apply(registry_text(status="suspended"))
    change = other_actions_after(registrar, server, epoch)

    answer = bring(site, registrar, change)

    assert answer.epoch == epoch + 1
    assert site.apply(registry_text(status="active")) == epoch + 2


def other_actions_after(registrar: Any, server: Server, epoch: int) -> Registry:
    assert server.node.wait_beyond(epoch - 1, timeout_s=15).epoch >= epoch
    return other_actions(registrar)


def test_a_node_beside_others_does_not_speak_for_them(tmp_path: Path) -> None:
    """A node that has not said that it has a change is named, until its lease is surely over."""
    own, _ = two_sites(tmp_path)
    with serving(own) as running, admin_channel(own, running.address) as channel:
        registrar = registry_stub(channel)
        content = other_actions(registrar)
        proposal = sign(own, content, plan_of(registrar, content).chain_hash, *BOTH)
        soon = registrar.Apply(request_of(proposal, content), timeout=1.0)
        later = registrar.Apply(request_of(proposal, content), timeout=TIMEOUT_S)

    assert (soon.state, list(soon.waiting_for)) == (pb.CHANGE_STATE_PENDING, ["node-2"])
    assert (later.state, list(later.waiting_for)) == (pb.CHANGE_STATE_IN_FORCE, [])
    assert later.epoch == soon.epoch


def test_changes_through_two_nodes_at_once_all_find_their_place(tmp_path: Path) -> None:
    """Each node may lag behind the other; no change is lost, made twice or refused for that."""
    own, other = two_sites(tmp_path)
    answers: list[Any] = []

    def change(address: str, numbers: range) -> None:
        with admin_channel(own, address) as channel:
            registrar = registry_stub(channel)
            base = everything(registrar).organisations["org-university-2"]
            for number in numbers:
                added = replace(base, id=f"org-added-{number}")
                answers.append(bring(own, registrar, Registry(organisations={added.id: added})))

    with serving(own) as first, serving(other) as second:
        before = first.node.current.epoch
        threads = [
            threading.Thread(target=change, args=(server.address, range(start, start + 10)))
            for start, server in ((0, first), (10, second), (20, first), (30, second))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert first.node.current.epoch == before + 40
        registered = first.node.current.state.registry.organisations

    assert sorted(answer.epoch for answer in answers) == list(range(before + 1, before + 41))
    assert {f"org-added-{number}" for number in range(40)} <= registered.keys()
    assert {answer.state for answer in answers} == {pb.CHANGE_STATE_IN_FORCE}
