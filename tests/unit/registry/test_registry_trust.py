"""The trust document is read strictly, has one form, and is named by its digest."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd.errors import SourceError
from policyd.registry.trust import Role, Trust, TrustedNode, key_id, read_trust, trust_of

VECTORS = Path(__file__).parents[2] / "vectors" / "changes"
GOOD = VECTORS / "good_trust.yaml"
MISTAKES: list[dict[str, str]] = yaml.safe_load((VECTORS / "trust_mistakes.yaml").read_text("utf-8"))
DIGEST = "cb4789c004e45999d76fc11d02701d650fbe7ec312b59d94c6b6fd1d0e6ee3a4"


def test_a_document_says_who_counts() -> None:
    """Nodes with their addresses, administrators with person, roles and key."""
    trust = read_trust(GOOD)

    registrar = trust.administrators["registrar-1"]
    assert trust.nodes == {"node-1": TrustedNode("node-1", b"\xaa" * 32, "127.0.0.1:50151")}
    assert (registrar.person, registrar.roles) == ("person-1", frozenset({Role.REGISTRAR}))
    assert trust.administrator(key_id(b"\xbb" * 32)) == registrar
    assert trust.administrator("0" * 16) is None
    assert (trust.node(b"\xaa" * 32), trust.node(b"\xbb" * 32)) == (trust.nodes["node-1"], None)


def test_its_digest_is_that_of_its_canonical_json() -> None:
    """Comments and order of the file make no difference, anything said does."""
    trust = read_trust(GOOD)
    turned = Trust(trust.nodes, dict(reversed(trust.administrators.items())))
    node = replace(trust.nodes["node-1"], address="127.0.0.1:50152")

    assert trust.digest == DIGEST
    assert (turned, turned.digest) == (trust, trust.digest)
    assert Trust({"node-1": node}, trust.administrators).digest != trust.digest


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: f"{case['edit'][:20]} to {case['to'][:24]}")
def test_mistakes_of_a_trust_document_have_their_place(case: dict[str, str], tmp_path: Path) -> None:
    """Each mistake is named, with line and column where it stands."""
    text = GOOD.read_text("utf-8")
    assert case["edit"] in text
    edited = text.replace(case["edit"], case["to"], 1)
    file = tmp_path / "trust.yaml"
    file.write_text(edited, "utf-8")

    with pytest.raises(SourceError) as caught:
        read_trust(file, name="trust.yaml")

    found = [each for each in caught.value.problems if case["says"] in each.message]
    assert found, caught.value
    assert found[0].place.file == "trust.yaml"
    if case["at"] and case["says"] != "is listed twice":
        before = edited[: edited.index(case["at"])]
        assert (found[0].place.line, found[0].place.column) == (
            before.count("\n") + 1,
            len(before) - before.rfind("\n"),
        )


def test_what_a_change_carries_reads_back() -> None:
    """A document as plain values is the same document again."""
    trust = read_trust(GOOD)

    assert trust_of(trust.document) == trust


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.pop("nodes"),
        lambda value: value.update(more={}),
        lambda value: value["nodes"]["node-1"].update(address=""),
        lambda value: value["nodes"]["node-1"].update(key=1),
        lambda value: value["nodes"]["node-1"].update(key="AA" * 32),
        lambda value: value["administrators"].pop("approver-1"),
        lambda value: value["administrators"]["approver-1"].update(roles=["approver", "approver"]),
        lambda value: value["administrators"]["approver-1"].update(roles=["registrar", "approver"]),
        lambda value: value["administrators"]["approver-1"].update(roles="approver"),
        lambda value: value["administrators"].update(x=None),
    ],
)
def test_a_body_in_another_form_is_no_trust_document(damage: Any) -> None:
    """A document has one form, so that its digest has one meaning."""
    value = copy.deepcopy(read_trust(GOOD).document)
    damage(value)

    with pytest.raises(ValueError):
        trust_of(value)
