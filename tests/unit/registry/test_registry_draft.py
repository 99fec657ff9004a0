"""The bytes that administrators and nodes sign, and the file in which a proposal travels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.administration import APPROVER, AT, NODE_A, REGISTRAR, TRUST, propose

from policyd.model import Organisation, Registry, Seal, Status
from policyd.registry.change import State, admit
from policyd.registry.draft import Activation, ChangeKind, Draft, Lift, Proposal, draft_change, read_body
from policyd.registry.proposal_file import parse_proposal, write_proposal

VECTORS = Path(__file__).parents[2] / "vectors" / "changes" / "encoding.json"
ENTRY = Organisation("org-1", "school", False, Status.ACTIVE, "Schöol 1", AT)
SEAL = Seal("SEAL-1", tokens=(("npd", b"\x07" * 32),))
CONTENTS = {
    "registry": Registry(organisations={"org-1": ENTRY}),
    "seal": Registry(seals={"SEAL-1": SEAL}),
    "lift": Lift(("SEAL-1", "SEAL-2")),
    "activation": Activation(policy_digest="ab" * 32, policy_version=3),
    "trust": TRUST,
}


def made(kind: str) -> Proposal:
    return propose(CONTENTS[kind], State(), REGISTRAR, APPROVER, change_id=f"change-of-{kind}")


@pytest.mark.parametrize("kind", CONTENTS)
def test_what_is_signed_is_as_documented(kind: str) -> None:
    """Body, request, order and chain hash are those of the vectors, byte for byte."""
    want = json.loads(VECTORS.read_text("utf-8"))[kind]
    proposal = made(kind)

    change = admit(proposal, state=State(), node="node-a", signer=NODE_A)

    assert proposal.draft.kind.value == kind
    assert {
        "body": proposal.draft.body.decode(),
        "request": proposal.draft.request.decode(),
        "signatures": [[each.key_id, each.signature.hex()] for each in proposal.signatures],
        "order": change.order.decode(),
        "node_signature": change.signature.hex(),
        "chain_hash": change.chain_hash.hex(),
    } == want


@pytest.mark.parametrize("kind", CONTENTS)
def test_what_was_drafted_reads_back(kind: str) -> None:
    """The content of a change comes back as it was."""
    assert read_body(made(kind).draft) == CONTENTS[kind]


def test_seals_beside_other_entries_are_a_change_of_the_registry() -> None:
    """Only seals alone are what a sealing officer asks for."""
    both = Registry(organisations={"org-1": ENTRY}, seals={"SEAL-1": SEAL})

    assert propose(both, State(), REGISTRAR).draft.kind is ChangeKind.REGISTRY


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"body": b'{"seals":["B","A"]}'}, "not sorted"),
        ({"body": b'{"seals":["A","A"]}'}, "not sorted, or one is named twice"),
        ({"body": b'{"seals":[]}'}, "names no seals"),
        ({"body": b'{"seals":[1]}'}, "names no seals"),
        ({"body": b'["A"]'}, "names no seals"),
        ({"body": b'{"seals": ["A"]}'}, "not canonical JSON"),
        ({"body": b"{"}, "is not JSON"),
        ({"change_id": ""}, "`change_id`"),
        ({"change_id": "../x"}, "`change_id`"),
        ({"change_id": "x" * 65}, "`change_id`"),
        ({"planned_on": b""}, "`planned_on`"),
        ({"planned_on": bytes(31)}, "`planned_on`"),
        ({"who": "two words"}, "`who`"),
        ({"why": "two\nlines"}, "`why`"),
        ({"why": " "}, "`why`"),
        ({"at": 10**17}, "`at`"),
        ({"kind": ChangeKind.TRUST}, "key `administrators` is missing"),
        ({"body": b'{"seals":' + b"[" * 600 + b"]" * 600 + b"}"}, "it is not|names no seals"),
        ({"kind": ChangeKind.ACTIVATION}, "not an activation"),
    ],
)
def test_a_draft_in_another_form_is_refused(change: dict[str, Any], says: str) -> None:
    """What could be read in two ways, or not at all, is nothing to sign."""
    good: Draft = made("lift").draft

    with pytest.raises(ValueError, match=says):
        read_body(replace(good, **change))


def test_an_empty_change_is_none() -> None:
    """There is nothing to sign in it."""
    with pytest.raises(ValueError, match="holds no entries"):
        draft_change(Registry(), who="a", why="b", at=AT, change_id="c", planned_on=bytes(32))


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_proposal_travels_as_a_file(kind: str) -> None:
    """Written and read, it is the same, down to the bytes that were signed."""
    assert parse_proposal(write_proposal(made(kind))) == made(kind)


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.update(format="another"),
        lambda value: value.update(more=1),
        lambda value: value.pop("why"),
        lambda value: value.update(kind="other"),
        lambda value: value.update(at="2026"),
        lambda value: value.update(at=True),
        lambda value: value.update(planned_on="AB" * 32),
        lambda value: value.update(planned_on="ab"),
        lambda value: value.update(signatures={}),
        lambda value: value.update(signatures=[{}] * 9),
        lambda value: value.update(signatures=[{"key_id": 1, "signature": "00"}]),
        lambda value: value.update(signatures=[{"key_id": "x"}]),
        lambda value: value.update(body={"organisations": {"org-1": {}}}),
        lambda value: value.update(body=1.5),
        lambda value: value.update(why="two\nlines"),
    ],
)
def test_a_damaged_proposal_is_refused(damage: Any) -> None:
    """A file in any other form is no proposal."""
    value = json.loads(write_proposal(made("registry")))
    damage(value)

    with pytest.raises(ValueError):
        parse_proposal(json.dumps(value))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000])
def test_what_is_no_proposal_is_refused(text: str) -> None:
    """Any other text is none."""
    with pytest.raises(ValueError):
        parse_proposal(text)
