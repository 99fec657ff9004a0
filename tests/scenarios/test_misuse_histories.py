"""What has happened to pupil data once, tried again: each history through real clients and a real node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any

import pytest
from pbac.v1 import registry_pb2 as pb
from policyd_client import AdminClient, Decision, Outcome, PolicyClient
from support.admin import BOTH, request_of, sent, sign
from support.server import Site, make_site, serving

from policyd import clock
from policyd.devsetup import client_files, trusted_logs
from policyd.ledger.entry import parse_leaf
from policyd.model import Action, Agreement, Registry, Status
from policyd.server import Server
from policyd.service.change_wire import write_change
from policyd.service.registry_wire import read_entries

WORLD = Path(__file__).parents[1] / "support" / "histories.yaml"
RESULT, BIRTH = "KS4.KS4_L2BASICS_94", "KS4.KS4_DOB"
KINDS = {
    "organisations": pb.ENTRY_KIND_ORGANISATION,
    "requesters": pb.ENTRY_KIND_REQUESTER,
    "accreditations": pb.ENTRY_KIND_ACCREDITATION,
    "agreements": pb.ENTRY_KIND_AGREEMENT,
}


@dataclass(frozen=True)
class World:
    """A node, and everybody who takes part in a history."""

    site: Site
    server: Server

    def ask(self, requester: str, agreement: str, fields: list[str], **changes: Any) -> Decision:
        """Ask as the data service of the agreement, for what a requester was approved for or says it was."""
        service = changes.pop("service", "npd-lookup")
        files = client_files(self.site.config, self.site.spiffe_id(service))
        with PolicyClient(
            self.server.address,
            ca=files.authority,
            certificate=files.certificate,
            key=files.key,
            logs=trusted_logs(self.site.config),
        ) as client:
            return client.check(
                agreement=agreement,
                fields=fields,
                years=[2018],
                requester_token=self.site.token(requester, service=service),
                **{"purposes": ["attainment-records"], "action": "verify", **changes},
            )

    def admin(self, name: str) -> AdminClient:
        """Connect as an administrator."""
        folder = self.site.data / "tls" / "admin"
        return AdminClient(
            self.server.address,
            ca=self.site.config.tls.authority,
            certificate=folder / f"{name}.pem",
            key=folder / f"{name}.key",
        )

    def registered(self, section: str, id_: str) -> Any:
        """Return an entry as an administrator reads it."""
        with self.admin("registrar-1") as admin:
            answer = admin.get(pb.GetRequest(kind=KINDS[section], id=id_))
        found, _ = read_entries([answer.entry], base=None)
        return getattr(found, section)[id_]

    def change(self, change: Registry, *names: str, why: str) -> pb.ApplyResponse:
        """Have these administrators make a change of the registry, and return what came of it."""
        with self.admin("registrar-1") as admin:
            planned = admin.apply(pb.ApplyRequest(entries=sent(change), dry_run=True))
            assert planned.state == pb.CHANGE_STATE_PLANNED, list(planned.problems)
            proposal = sign(self.site, change, planned.chain_hash, *names, why=why)
            return admin.apply(request_of(proposal, change))

    def recorded(self, answer: pb.ApplyResponse | pb.SuspendResponse) -> tuple[str, str, str]:
        """Return stage, who and why of a change, as the ledger has it."""
        (leaf,) = [parse_leaf(answer.receipt.leaf)]
        assert self.site.leaves(answer.receipt.index)[0] == leaf
        return leaf["stage"], leaf["who"], leaf["why"]

    def on_record(self, decision: Decision) -> set[str]:
        """Return the reasons of a decision, as the ledger has it."""
        (leaf,) = [each for each in self.site.leaves() if each.get("decision_id") == decision.decision_id]
        return {group["reason"] for group in leaf["verdicts"]}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    today = datetime.fromtimestamp(clock.now() / 1000, tz=UTC).date()
    dates = {"ago": today - timedelta(days=365), "ahead": today + timedelta(days=365)}
    text = Template(WORLD.read_text("utf-8")).substitute(dates)
    site = make_site(tmp_path / "data", registry=text)
    with serving(site) as server:
        yield World(site, server)


def test_a_new_trading_name_keeps_nothing(world: World) -> None:
    """2018: a firm said it was the new trading name of one with access. A grant is to a legal entity."""
    assert world.ask("trainer-1", "DS00401", [RESULT]).outcome is Outcome.RELEASE
    firm = world.registered("organisations", "org-training-1")

    renamed = replace(firm, changed_at=clock.now())
    change = world.change(
        Registry(organisations={firm.id: renamed}), "registrar-1", why="trades under a new name since today"
    )
    after = world.ask("trainer-1", "DS00401", [RESULT])
    successor = replace(firm, id="org-training-2", legal_name="Trading Name 2", changed_at=None)
    person = replace(
        world.registered("requesters", "trainer-1"),
        id="trainer-2",
        subject="trainer-2",
        organisation=successor.id,
    )
    added = world.change(
        Registry(organisations={successor.id: successor}, requesters={person.id: person}),
        *BOTH,
        why="the company behind the new name",
    )
    its = world.ask("trainer-2", "DS00401", [RESULT])

    assert (change.state, change.needs_two_people) == (pb.CHANGE_STATE_IN_FORCE, False)
    assert after.withheld == {RESULT: "ORGANISATION_SUSPENDED"}
    assert world.on_record(after) == {"ORGANISATION_SUSPENDED"}
    assert world.recorded(change) == ("in-force", "registrar-1", "trades under a new name since today")
    assert world.recorded(added) == ("in-force", "registrar-1", "the company behind the new name")
    assert its.withheld == {RESULT: "AGREEMENT_NOT_YOURS"}
    verified = replace(renamed, verified_at=clock.now() + 1)
    alone = world.change(Registry(organisations={firm.id: verified}), "registrar-1", why="verified again")
    assert alone.state == pb.CHANGE_STATE_AWAITING_APPROVAL
    assert world.ask("trainer-1", "DS00401", [RESULT]).withheld == {RESULT: "ORGANISATION_SUSPENDED"}
    assert world.change(Registry(organisations={firm.id: verified}), *BOTH, why="verified again").epoch
    assert world.ask("trainer-1", "DS00401", [RESULT]).outcome is Outcome.RELEASE


def test_who_never_provided_training_is_out_at_once(world: World) -> None:
    """2018 to 2020: it never trained anybody. One person ends all it has; one alone cannot bring it back."""
    firm = world.registered("organisations", "org-training-1")
    assert world.ask("trainer-1", "DS00401", [RESULT]).outcome is Outcome.RELEASE
    stopped = Registry(organisations={firm.id: replace(firm, status=Status.SUSPENDED)})

    with world.admin("registrar-1") as admin:
        head = admin.apply(pb.ApplyRequest(entries=sent(stopped), dry_run=True)).chain_hash
        proposal = sign(world.site, stopped, head, "registrar-1", why="no funded training in any year")
        call = pb.SuspendRequest(change=write_change(proposal), kind=pb.ENTRY_KIND_ORGANISATION, id=firm.id)
        suspended = admin.suspend(call)
    refused = world.ask("trainer-1", "DS00401", [RESULT])
    back = world.change(Registry(organisations={firm.id: firm}), "registrar-1", why="they called")

    assert suspended.state == pb.CHANGE_STATE_IN_FORCE
    assert refused.withheld == {RESULT: "ORGANISATION_SUSPENDED"}
    assert world.on_record(refused) == {"ORGANISATION_SUSPENDED"}
    assert world.recorded(suspended) == ("in-force", "registrar-1", "no funded training in any year")
    assert back.state == pb.CHANGE_STATE_AWAITING_APPROVAL
    assert world.ask("trainer-1", "DS00401", [RESULT]).withheld == {RESULT: "ORGANISATION_SUSPENDED"}


def test_a_yes_or_no_about_an_age_is_a_release(world: World) -> None:
    """22,000 learners were looked up for betting companies: neither purpose nor field is to be had."""
    asked = world.ask("trainer-1", "DS00401", [BIRTH], purposes=["age-verification"])
    training = world.ask("trainer-1", "DS00401", [BIRTH])
    matched = world.ask("trainer-1", "DS00401", [BIRTH], action="match")
    given: Agreement = world.registered("agreements", "DS00401")
    mistaken = replace(
        given,
        id="DS00402",
        purposes=frozenset({"age-verification"}),
        fields=frozenset({BIRTH}),
        actions=frozenset({Action.VERIFY}),
    )
    change = world.change(
        Registry(agreements={mistaken.id: mistaken}), *BOTH, why="an application like others"
    )
    approved = world.ask("trainer-1", "DS00402", [BIRTH], purposes=["age-verification"])

    assert asked.withheld == {BIRTH: "PURPOSE_NOT_IN_AGREEMENT"}
    assert training.withheld == matched.withheld == {BIRTH: "DENIED_BY_RULE"}
    assert {verdict.rule for verdict in training.verdicts.values()} == {"training-providers-check-no-ages"}
    assert world.recorded(change) == ("in-force", "registrar-1", "an application like others")
    assert approved.withheld == {BIRTH: "PURPOSE_PROHIBITED"}
    assert world.on_record(approved) == {"PURPOSE_PROHIBITED"}


def test_a_supervisor_who_lapses_takes_the_supervised_along(world: World) -> None:
    """A provisional researcher works under an accredited colleague; when that ends, so does all the work."""
    fields = ["KS4.KS4_ATT8"]
    how = {"service": "npd-secure", "purposes": ["academic-research"], "action": "release"}
    assert world.ask("researcher-8", "DS00101", fields, **how).outcome is Outcome.RELEASE
    held = world.registered("accreditations", "ACC-9")

    ended = replace(held, until_at=clock.now() - 1000)
    change = world.change(Registry(accreditations={held.id: ended}), "registrar-1", why="it lapsed")
    refused = world.ask("researcher-8", "DS00101", fields, **how)

    assert (change.state, change.needs_two_people) == (pb.CHANGE_STATE_IN_FORCE, False)
    assert world.recorded(change) == ("in-force", "registrar-1", "it lapsed")
    assert refused.outcome is Outcome.WITHHOLD
    assert world.on_record(refused) == set(refused.withheld.values())
    assert refused.withheld == {"KS4.KS4_ATT8": "GATEWAY_PRECONDITION"}


def test_no_agreement_opens_the_census_to_immigration_enforcement(world: World) -> None:
    """2015: nationality was to go to the interior department. Two people may sign that; nothing comes out."""
    names = ["SC_Pupil.Nationality", "SC_Pupil.Ethnicity", "SC_Pupil.Surname"]
    given: Agreement = world.registered("agreements", "DS00401")
    memorandum = replace(
        given,
        id="DS00501",
        organisation="org-interior-1",
        requesters=frozenset({"caseworker-1"}),
        purposes=frozenset({"immigration-enforcement"}),
        fields=frozenset(names),
        actions=frozenset({Action.MATCH}),
        gateway="CRIME",
        exemption="statutory-request",
    )

    change = world.change(Registry(agreements={memorandum.id: memorandum}), *BOTH, why="a memorandum")
    refused = world.ask(
        "caseworker-1", "DS00501", names, purposes=["immigration-enforcement"], action="match"
    )

    assert world.recorded(change) == ("in-force", "registrar-1", "a memorandum")
    assert refused.outcome is Outcome.WITHHOLD
    assert refused.withheld == {
        "SC_Pupil.Nationality": "FIELD_WITHDRAWN",
        "SC_Pupil.Ethnicity": "PURPOSE_PROHIBITED",
        "SC_Pupil.Surname": "DENIED_BY_RULE",
    }
    assert world.on_record(refused) == set(refused.withheld.values())


def test_access_that_nobody_looks_after_ends_and_is_found(world: World) -> None:
    """Over 12,000 organisations had access: what ends is found in time, and then it does end."""
    given: Agreement = world.registered("agreements", "DS00401")
    old = replace(given, id="DS00403")
    assert world.change(Registry(agreements={old.id: old}), *BOTH, why="one of many").epoch
    assert world.ask("trainer-1", "DS00403", [RESULT]).outcome is Outcome.RELEASE
    soon = replace(old, until_at=clock.now() + 86_400_000)
    assert world.change(Registry(agreements={old.id: soon}), "registrar-1", why="is not used").epoch

    with world.admin("auditor-1") as admin:
        request = pb.ListRequest(kind=pb.ENTRY_KIND_AGREEMENT, until_before_ms=clock.now() + 7 * 86_400_000)
        ending = [each.agreement.id for page in admin.list(request) for each in page.entries]
    ended = replace(old, until_at=clock.now() - 1000)
    change = world.change(Registry(agreements={old.id: ended}), "registrar-1", why="is not used")
    refused = world.ask("trainer-1", "DS00403", [RESULT])

    assert ending == ["DS00403"]
    assert world.recorded(change) == ("in-force", "registrar-1", "is not used")
    assert refused.withheld == {RESULT: "AGREEMENT_EXPIRED"}
    assert world.on_record(refused) == {"AGREEMENT_EXPIRED"}
