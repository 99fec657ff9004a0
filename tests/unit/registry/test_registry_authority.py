"""Who may change what: every attack on the signatures of a change, as vectors, and on the first one."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.administration import (
    APPROVER,
    AT,
    NODE_A,
    NODE_B,
    REGISTRAR,
    SIGNERS,
    STRANGER,
    Key,
    administrator,
    propose,
    trust,
)
from support.tiny_registry import agreement, data_service, registry

from policyd.errors import StateCorrupt
from policyd.model import Registry, Seal, Status
from policyd.registry.change import Change, State, admit, extend
from policyd.registry.draft import Activation, AdminSignature, Content, Lift, Proposal, draft_change, kind_of
from policyd.registry.history import MAX_NAMES, PLAN_WINDOW
from policyd.registry.trust import Role, Trust

VECTORS = Path(__file__).parents[2] / "vectors" / "changes" / "authority.yaml"
CASES: list[dict[str, Any]] = yaml.safe_load(VECTORS.read_text(encoding="utf-8"))

OLD = trust(
    administrator("registrar-2", Role.REGISTRAR),
    administrator("both-1", Role.REGISTRAR, Role.APPROVER),
    administrator("second-key-1", Role.APPROVER, person="person-of-registrar-1"),
    administrator("approver-2", Role.APPROVER, person="person-of-approver-1"),
)
NEW = replace(
    OLD,
    administrators={
        **{id_: each for id_, each in OLD.administrators.items() if id_ not in ("registrar-1", "approver-1")},
        "registrar-9": administrator("registrar-9", Role.REGISTRAR),
        "approver-9": administrator("approver-9", Role.APPROVER),
    },
)
SEALED = Seal("SEAL-1", tokens=(("svc-secure", b"\x01" * 32), ("svc-second", b"\x02" * 32)))
SERVICES = {each.id: each for each in (data_service("svc-third"), data_service("svc-fourth"))}
EVERYWHERE = replace(
    SEALED, tokens=(*SEALED.tokens, ("svc-fourth", b"\x04" * 32), ("svc-third", b"\x03" * 32))
)
ACTIVE, SUSPENDED = agreement("AG-2"), agreement("AG-2", status=Status.SUSPENDED)

CONTENTS: dict[str, Content] = {
    "suspend": Registry(agreements={"AG-2": SUSPENDED}),
    "resume": Registry(agreements={"AG-2": ACTIVE}),
    "shorter": Registry(agreements={"AG-1": agreement(fields=frozenset({"Pupil.Score"}))}),
    "longer": Registry(agreements={"AG-1": agreement(until_at=agreement().until_at + 1)}),
    "agreement": Registry(agreements={"AG-9": agreement("AG-9")}),
    "seal": Registry(seals={"SEAL-9": Seal("SEAL-9", tokens=SEALED.tokens)}),
    "more-tokens": Registry(
        seals={"SEAL-1": replace(SEALED, tokens=(*SEALED.tokens, ("svc-third", b"\x03" * 32)))}
    ),
    "fewer-tokens": Registry(seals={"SEAL-1": replace(SEALED, tokens=SEALED.tokens[:1])}),
    "fewer-tokens-mixed": Registry(
        data_services=SERVICES, seals={"SEAL-1": replace(SEALED, tokens=SEALED.tokens[:1])}
    ),
    "mixed": Registry(
        data_services=SERVICES, seals={name: replace(EVERYWHERE, id=name) for name in ("SEAL-1", "SEAL-9")}
    ),
    "lift": Lift(("SEAL-1",)),
    "lift-unknown": Lift(("SEAL-7",)),
    "activation": Activation(policy_digest="ab" * 32, policy_version=2),
    "trust": NEW,
    "trust-same": trust(*OLD.administrators.values(), nodes=(NODE_A, NODE_B, Key("node-c"))),
}


def grow(state: State, content: Content, *signers: Key, **changes: Any) -> State:
    """Return the state after one more change that is as it should be."""
    proposal = propose(content, state, *(signers or SIGNERS[kind_of(content)]), **changes)
    return extend(state, [admit(proposal, state=state, node=NODE_A.name, signer=NODE_A)])


@functools.cache
def chain() -> dict[str, State]:
    """Return the states that the vectors name: how it was before each step, and the head."""
    states = {"genesis": State()}
    state = grow(State(), OLD, change_id="the-first")
    everybody = registry(data_service("svc-second"), ACTIVE)
    state = grow(state, everybody)
    states["before-agreement"] = state
    state = grow(state, Registry(seals={"SEAL-1": replace(SEALED, id="SEAL-1")}))
    state = grow(state, Activation(policy_digest="cd" * 32, policy_version=1))
    state = grow(state, Registry(agreements={"AG-3": agreement("AG-3")}), change_id="the-agreement")
    states["other-branch"] = grow(state, Registry(agreements={"AG-4": agreement("AG-4")}))
    states["before-suspension"] = state
    state = grow(state, Registry(agreements={"AG-2": replace(SUSPENDED, exemption="none")}))
    return {**states, "head": state}


def keys_of(names: list[str]) -> list[Key]:
    return [Key(name) for name in names]


def ordered(proposal: Proposal, state: State, *, key: Key, name: str) -> Change:
    return admit(proposal, state=state, node=name, signer=key)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["case"]))
def test_a_change_is_applied_only_with_the_signatures_that_it_takes(case: dict[str, Any]) -> None:
    """Each vector is applied, or refused by every node, with the reason; a state is never half changed."""
    states = chain()
    state, content = states["head"], CONTENTS[case["content"]]
    if case["content"] == "suspend":
        # AG-2 is suspended at the head already: take a state in which it was resumed.
        state = grow(state, CONTENTS["resume"]) if case.get("planned_on") is None else state
    signers = keys_of(case["signed_by"])
    planned_on = state if case.get("planned_on") is None else states[case["planned_on"]]
    draft = draft_change(
        content,
        who=case.get("who") or case["signed_by"][0] if case.get("who") or signers else "registrar-1",
        why="for a test",
        at=AT,
        change_id=case.get("change_id", "a-new-one"),
        planned_on=planned_on.chain_hash,
    )
    proposal = Proposal(draft).signed_by(*signers)
    over = case.get("over", "request")
    node = Key(case.get("node", "node-a"))
    if over != "request":
        other = {
            "other-body": replace(draft, body=b"{}").request,
            "other-id": replace(draft, change_id="another").request,
            "order": ordered(proposal, state, key=node, name=node.name).order,
        }[over]
        made = [AdminSignature(key.id, key.sign(other)) for key in signers]
        proposal = Proposal(draft, tuple(made))
    change = ordered(proposal, state, key=node, name=case.get("as_node", node.name))
    registered = replace(state.registry, agreements=dict(state.registry.agreements))

    if case["says"]:
        with pytest.raises(StateCorrupt) as caught:
            extend(state, [change])
        assert case["says"] in str(caught.value)
        assert str(caught.value).startswith(f"change {state.epoch + 1} ")
    else:
        assert extend(state, [change]).epoch == state.epoch + 1
    assert state.registry == registered


def test_vectors_hold_each_content_and_both_outcomes() -> None:
    """Nothing prepared goes unused, and case names are unique."""
    assert {case["content"] for case in CASES} == set(CONTENTS)
    assert len({case["case"] for case in CASES}) == len(CASES) > 70
    assert 15 < sum(not case["says"] for case in CASES) < len(CASES) / 2


# The first change


MINE = trust(nodes=(STRANGER,))
"""The document of somebody who has taken over a node and makes people up."""


@pytest.mark.parametrize(
    ("document", "signers", "says"),
    [
        (OLD, [REGISTRAR], "of the new one, two persons"),
        (OLD, [APPROVER, REGISTRAR], "takes the role registrar"),
        (OLD, [REGISTRAR, Key("second-key-1")], "of the new one, two persons"),
        (OLD, [Key("stranger-1"), Key("stranger-2")], "belongs to no administrator"),
        (OLD, [NODE_A, NODE_B], "belongs to no administrator"),
    ],
    ids=["one", "roles", "one person", "strangers", "nodes"],
)
def test_the_first_change_takes_two_people_of_its_document(
    document: Trust, signers: list[Key], says: str
) -> None:
    """Whoever starts a chain vouches for the trust document that it starts with, two of them."""
    proposal = propose(document, State(), *signers, who=signers[0].name)
    change = admit(proposal, state=State(), node=NODE_A.name, signer=NODE_A)

    with pytest.raises(StateCorrupt, match=says):
        extend(State(), [change])


def test_a_chain_starts_with_a_trust_document() -> None:
    """Nobody's signature counts before one is in force, nor does any node's."""
    proposal = propose(CONTENTS["agreement"], State())
    change = admit(proposal, state=State(), node=NODE_A.name, signer=NODE_A)

    with pytest.raises(StateCorrupt, match="which is not trusted"):
        extend(State(), [change])


def test_a_made_up_history_does_not_end_in_the_real_document() -> None:
    """Who invents a chain with people of their own cannot lead it to the document that nodes anchor on."""
    stranger = Key("stranger-1")
    invented = replace(
        MINE,
        administrators={**MINE.administrators, "stranger-1": administrator("stranger-1", Role.REGISTRAR)},
    )
    first = propose(invented, State(), stranger, APPROVER, who="stranger-1")
    start = extend(State(), [admit(first, state=State(), node=STRANGER.name, signer=STRANGER)])
    last = propose(OLD, start, stranger, APPROVER, who="stranger-1")

    with pytest.raises(StateCorrupt, match="of the new one, two persons"):
        extend(start, [admit(last, state=start, node=STRANGER.name, signer=STRANGER)])


def test_after_a_change_of_people_the_old_ones_count_no_more() -> None:
    """A key that left the document signs nothing from then on, and what it had signed before is void."""
    state = chain()["head"]
    waiting = propose(CONTENTS["agreement"], state, REGISTRAR, APPROVER)
    nine = (REGISTRAR, APPROVER, Key("registrar-9"), Key("approver-9"))
    state = grow(state, NEW, *nine)

    for proposal in (waiting, propose(CONTENTS["agreement"], state, REGISTRAR, APPROVER)):
        with pytest.raises(StateCorrupt, match=r"changed since|belongs to no administrator"):
            extend(state, [admit(proposal, state=state, node=NODE_A.name, signer=NODE_A)])
    grow(state, CONTENTS["agreement"], Key("registrar-9"), Key("approver-9"))


# What a state remembers


def test_a_plan_holds_for_a_bounded_number_of_changes() -> None:
    """Within the window a change may be planned before others; beyond it, it has to be planned again."""
    start = chain()["head"]
    early = propose(CONTENTS["seal"], start)
    late = propose(Registry(seals={"SEAL-8": replace(SEALED, id="SEAL-8")}), start)
    history = start.history
    for number in range(PLAN_WINDOW - 1):
        history = history.after(f"x-{number}", chain_hash=bytes([1]) * 32, names=frozenset())
    state = replace(start, history=history)

    state = extend(state, [admit(early, state=state, node=NODE_A.name, signer=NODE_A)])
    history = state.history.after("x", chain_hash=bytes(32), names=frozenset())
    state = replace(state, history=history)
    with pytest.raises(StateCorrupt, match="too long ago; plan it again"):
        extend(state, [admit(late, state=state, node=NODE_A.name, signer=NODE_A)])
    assert state.history.used("x-0")


def test_after_a_large_change_everything_is_planned_again() -> None:
    """A change that names more than is remembered counts as having changed everything."""
    start = chain()["head"]
    waiting = propose(CONTENTS["seal"], start)
    many = {f"S-{n}": Seal(f"S-{n}", SEALED.tokens) for n in range(MAX_NAMES + 1)}
    state = grow(start, Registry(seals=many))

    with pytest.raises(StateCorrupt, match="the state changed since it was planned"):
        extend(state, [admit(waiting, state=state, node=NODE_A.name, signer=NODE_A)])


def test_history_depends_on_the_changes_alone() -> None:
    """One by one or all at once, the same changes leave the same state."""
    state, changes = State(), []
    for content in (OLD, registry(data_service("svc-second")), CONTENTS["seal"], CONTENTS["activation"]):
        proposal = propose(content, state)
        changes.append(admit(proposal, state=state, node=NODE_A.name, signer=NODE_A))
        state = extend(state, changes[-1:])

    assert extend(State(), changes) == state
    assert all(state.history.used(change.draft.change_id) for change in changes)


def test_no_node_can_order_a_data_service_past_a_seal() -> None:
    """Both are signed for and each was right when it was planned; in this order the seal would not hold."""
    before = chain()["before-agreement"]
    joining = propose(Registry(data_services={"svc-third": data_service("svc-third")}), before)
    sealing = propose(Registry(seals={"SEAL-1": SEALED}), before)
    sealed = extend(before, [ordered(sealing, before, key=NODE_A, name="node-a")])
    joined = extend(before, [ordered(joining, before, key=NODE_A, name="node-a")])

    with pytest.raises(StateCorrupt, match=r"is not to be applied: .*`SEAL-1` has no token for it"):
        extend(sealed, [ordered(joining, sealed, key=NODE_A, name="node-a")])
    with pytest.raises(StateCorrupt, match=r"is not to be applied: .*no token for data service `svc-third`"):
        extend(joined, [ordered(sealing, joined, key=NODE_A, name="node-a")])
