"""Seal and Lift over the wire: who may bring what, what is on record, and what is said of where it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from fleet.harness import introduced, join
from pbac.v1 import registry_pb2
from pbac.v1 import seal_pb2 as pb
from support.sealing import APPROVER, OFFICER, lift_request, officer_channel, seal_request, seal_stub
from support.server import POLICY, Site, make_site, registry_text, serving
from support.waiting import wait_until

from policyd.devsetup import put_in_force, set_up
from policyd.errors import ConfigError
from policyd.ledger.entry import parse_leaf
from policyd.server import Server
from policyd.service.in_force import ANSWERS_MS
from policyd.service.lease import OUTLASTED_S

TOKENS = {name: name.encode().ljust(32, b"!") for name in ("npd-secure", "npd-second", "npd-closed")}
DEADLINE_S = 10.0


@dataclass
class Bench:
    """One node, and what sealing officers do with it."""

    site: Site
    server: Server

    @property
    def head(self) -> bytes:
        return self.server.node.applied.state.chain_hash

    @property
    def sealed(self) -> set[str]:
        return set(self.server.node.applied.state.registry.seals)

    def call(self, method: str, request: Any, *, name: str = OFFICER, timeout_s: float = DEADLINE_S) -> Any:
        with officer_channel(self.site, self.server.address, name) as channel:
            return getattr(seal_stub(channel), method)(request, timeout=timeout_s)

    def seal(self, name: str = "SEAL-1", **changes: Any) -> Any:
        return self.call("Seal", seal_request(self.site, name, TOKENS, self.head, **changes))

    def refused(self, method: str, request: Any, *, name: str = OFFICER) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, request, name=name)
        error: Any = caught.value
        return error.code(), error.details()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    site = make_site(tmp_path_factory.mktemp("sealing") / "data")
    with serving(site) as server:
        yield Bench(site, server)


def _stages(site: Site, start: int) -> list[tuple[str, str, int, str]]:
    return [
        (leaf["change"], leaf["stage"], leaf["epoch"], leaf["who"])
        for leaf in site.leaves(start)
        if leaf["kind"] == "state-change"
    ]


def test_a_seal_is_in_force_when_it_returns(bench: Bench) -> None:
    """One signature, one call: on record as intended before and in force after, and every node has it."""
    before = bench.site.count()
    answer = bench.seal("SEAL-FIRST")

    assert answer.state == registry_pb2.CHANGE_STATE_IN_FORCE
    assert answer.epoch == bench.server.node.current.epoch
    assert answer.in_force_for_answers_at_ms == answer.in_force_at_ms + ANSWERS_MS
    assert not answer.waiting_for
    assert "SEAL-FIRST" in bench.sealed
    wait_until(lambda: len(_stages(bench.site, before)) == 3, what="the record that it was applied")
    stages = _stages(bench.site, before)
    assert stages[0] == ("seal", "intended", answer.epoch, OFFICER)
    assert set(stages[1:]) == {
        ("seal", "in-force", answer.epoch, OFFICER),
        ("seal", "applied", answer.epoch, OFFICER),
    }
    assert parse_leaf(answer.receipt.leaf)["stage"] == "in-force"


def test_the_same_call_again_changes_nothing(bench: Bench) -> None:
    """Whoever did not hear the answer sends it again, and hears what became of it."""
    request = seal_request(bench.site, "SEAL-AGAIN", TOKENS, bench.head, change_id="again")
    first, second = bench.call("Seal", request), bench.call("Seal", request)

    assert first.epoch == second.epoch == bench.server.node.current.epoch
    assert second.state == registry_pb2.CHANGE_STATE_IN_FORCE


def test_a_change_id_is_good_for_one_change(bench: Bench) -> None:
    """A second seal under the id of a first is none."""
    bench.call("Seal", seal_request(bench.site, "SEAL-ONE", TOKENS, bench.head, change_id="used"))
    other = seal_request(bench.site, "SEAL-TWO", TOKENS, bench.head, change_id="used")
    code, said = bench.refused("Seal", other)

    assert code is grpc.StatusCode.ABORTED
    assert "used" in said
    assert "SEAL-TWO" not in bench.sealed


def test_a_seal_id_is_good_for_one_seal(bench: Bench) -> None:
    """A seal that stands is not changed by a new one of its name."""
    bench.seal("SEAL-TWICE")
    code, said = bench.refused("Seal", seal_request(bench.site, "SEAL-TWICE", TOKENS, bench.head))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "there is a seal of this id" in said


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ({**TOKENS, "npd-closed": b"short"}, "32 bytes"),
        ({name: token for name, token in TOKENS.items() if name != "npd-second"}, "npd-second"),
        ({**TOKENS, "npd-unknown": bytes(32)}, "npd-unknown"),
        ({}, "tokens"),
    ],
    ids=["short", "missing", "unknown", "none"],
)
def test_a_seal_holds_at_every_data_service_or_is_none(
    bench: Bench, tokens: dict[str, bytes], says: str
) -> None:
    """A token for each, of the right length, and for nobody else."""
    good = {name: token.ljust(32, b"!") for name, token in tokens.items()}
    request = seal_request(bench.site, "SEAL-PART", good, bench.head)
    del request.tokens[:]
    request.tokens.extend(pb.SealToken(data_service=name, token=token) for name, token in tokens.items())
    code, said = bench.refused("Seal", request)

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert says in said
    assert "SEAL-PART" not in bench.sealed


def test_a_seal_altered_on_its_way_is_refused(bench: Bench) -> None:
    """The signature is over the tokens, too."""
    request = seal_request(bench.site, "SEAL-ALTERED", TOKENS, bench.head)
    request.tokens[0].token = bytes(32)
    code, said = bench.refused("Seal", request)

    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "is not over this change" in said
    assert "SEAL-ALTERED" not in bench.sealed


@pytest.mark.parametrize("name", ["registrar-1", "approver-1", "policy-author-1", "auditor-1"])
def test_only_a_sealing_officer_seals(bench: Bench, name: str) -> None:
    """Neither with their own signature nor with the officer's does anybody else bring a seal."""
    for signer in (name, OFFICER):
        request = seal_request(bench.site, "SEAL-OTHERS", TOKENS, bench.head, signer)
        code, _ = bench.refused("Seal", request, name=name)
        assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "SEAL-OTHERS" not in bench.sealed


def test_the_officers_certificate_does_not_make_a_signature(bench: Bench) -> None:
    """Who has the certificate and not the key cannot have somebody else's change done."""
    for signer in ("registrar-1", "approver-1"):
        request = seal_request(bench.site, "SEAL-UNSIGNED", TOKENS, bench.head, signer)
        code, _ = bench.refused("Seal", request)
        assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "SEAL-UNSIGNED" not in bench.sealed


def test_a_data_service_seals_nothing(bench: Bench) -> None:
    """Its certificate is for asking."""
    with bench.site.channel(bench.server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        seal_stub(channel).Seal(seal_request(bench.site, "SEAL-DS", TOKENS, bench.head), timeout=DEADLINE_S)
    error: Any = caught.value

    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_lift_takes_two_people(bench: Bench) -> None:
    """The first signature is recorded as intended and lifts nothing; with the second it is done."""
    bench.seal("SEAL-LIFTED")
    before = bench.site.count()
    asked = lift_request(
        bench.site, "SEAL-LIFTED", bench.head, OFFICER, change_id="lift", at=1_700_000_000_000
    )
    answer = bench.call("Lift", asked)

    assert answer.state == registry_pb2.CHANGE_STATE_AWAITING_APPROVAL
    assert not answer.epoch
    assert "SEAL-LIFTED" in bench.sealed
    assert [stage for _, stage, _, _ in _stages(bench.site, before)] == ["intended"]

    signed = lift_request(
        bench.site, "SEAL-LIFTED", bench.head, OFFICER, APPROVER, change_id="lift", at=1_700_000_000_000
    )
    for name in (OFFICER, APPROVER):
        answer = bench.call("Lift", signed, name=name)
        assert answer.state == registry_pb2.CHANGE_STATE_IN_FORCE
        assert answer.epoch == bench.server.node.current.epoch
    assert "SEAL-LIFTED" not in bench.sealed


def test_a_seal_is_brought_by_one_of_its_signers(bench: Bench) -> None:
    """An approver who sees a lift on its way cannot bring it before having signed it."""
    bench.seal("SEAL-KEPT")
    code, said = bench.refused(
        "Lift", lift_request(bench.site, "SEAL-KEPT", bench.head, OFFICER), name=APPROVER
    )

    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "none of those who signed" in said
    assert "SEAL-KEPT" in bench.sealed


def test_nobody_approves_their_own_lift(bench: Bench) -> None:
    """Neither the same key twice, nor an approver who asks."""
    bench.seal("SEAL-OWN")
    for signers in ((OFFICER, OFFICER), (APPROVER, OFFICER)):
        code, _ = bench.refused("Lift", lift_request(bench.site, "SEAL-OWN", bench.head, *signers))
        assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "SEAL-OWN" in bench.sealed


def test_what_is_not_there_is_not_lifted(bench: Bench) -> None:
    """A slip in the id says so."""
    code, said = bench.refused("Lift", lift_request(bench.site, "SEAL-NONE", bench.head, OFFICER, APPROVER))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "SEAL-NONE" in said


def test_a_node_that_may_not_decide_seals_nothing(bench: Bench) -> None:
    """The caller goes to another node."""
    bench.server.node.refuse("for the test")
    try:
        code, _ = bench.refused("Seal", seal_request(bench.site, "SEAL-LATE", TOKENS, bench.head))
    finally:
        bench.server.node.refuse("")
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "SEAL-LATE" not in bench.sealed


# --- several nodes


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Site, Site]:
    """Two nodes on one state, none of which runs."""
    first = Site(set_up(tmp_path / "node-1", policy=POLICY, address="127.0.0.1:0"))
    site, other = introduced([first, join(first, tmp_path / "node-2")])
    put_in_force(site.config)
    site.apply(registry_text())
    other.config.state.symlink_to(site.config.state)
    return site, other


def test_a_dead_node_is_waited_for_until_its_lease_is_outlasted(pair: tuple[Site, Site]) -> None:
    """Until then the seal is pending and names it; asked again, it is in force when it can be."""
    site, _ = pair
    with serving(site) as server:
        bench = Bench(site, server)
        request = seal_request(site, "SEAL-1", TOKENS, bench.head)
        first = bench.call("Seal", request, timeout_s=1.0)
        second = bench.call("Seal", request, timeout_s=3 * OUTLASTED_S)

    assert first.state == registry_pb2.CHANGE_STATE_PENDING
    assert list(first.waiting_for) == ["node-2"]
    assert not first.HasField("in_force_at_ms")
    assert not first.HasField("in_force_for_answers_at_ms")
    assert second.state == registry_pb2.CHANGE_STATE_IN_FORCE
    assert second.epoch == first.epoch


def test_a_live_node_is_not_waited_for(pair: tuple[Site, Site]) -> None:
    """Its word comes as soon as it has the seal."""
    site, other = pair
    with serving(site) as server, serving(other) as second:
        bench = Bench(site, server)
        wait_until(lambda: not second.node.refusing, what="the second node's lease")
        answer = bench.call("Seal", seal_request(site, "SEAL-1", TOKENS, bench.head), timeout_s=OUTLASTED_S)
        assert answer.state == registry_pb2.CHANGE_STATE_IN_FORCE
        assert "SEAL-1" in second.node.current.state.registry.seals


def test_an_unlisted_node_does_not_serve(pair: tuple[Site, Site]) -> None:
    """Nobody waits for a node that the trust document does not name, so it must not decide."""
    site, other = pair
    trust = site.config.trust
    alone = replace(trust, nodes={"node-1": trust.nodes["node-1"]})
    with pytest.raises(ConfigError, match="not among the nodes of the trust document"):
        Server(replace(other.config, trust=alone)).start()
