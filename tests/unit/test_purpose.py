"""The purpose algebra holds its vectors: closures, levels, compliance and refused graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd.purpose import (
    Compliance,
    Level,
    Permitted,
    Purpose,
    PurposeError,
    PurposeGraph,
    combine,
    complies,
)

VECTORS = yaml.safe_load((Path(__file__).parents[1] / "vectors" / "purpose.yaml").read_text("utf-8"))
SHARED = Path(__file__).parents[3] / "shared" / "facts" / "purpose_vectors.json"


def build(purposes: dict[str, list[str]], root: str) -> PurposeGraph:
    return PurposeGraph((Purpose(name, name, tuple(up)) for name, up in purposes.items()), root)


GRAPHS = {name: build(graph["purposes"], graph["root"]) for name, graph in VECTORS["graphs"].items()}


def level(graph: PurposeGraph, stated: dict[str, list[str]]) -> Level:
    return Level(
        graph.mask(stated.get("allowed", [])),
        graph.mask(stated.get("conditional", [])),
        graph.mask(stated.get("prohibited", [])),
        states="allowed" in stated or "conditional" in stated,
    )


def answer(graph: PurposeGraph, declared: list[str], levels: list[dict[str, list[str]]]) -> str:
    try:
        permitted = combine(graph, [level(graph, stated) for stated in levels])
    except PurposeError:
        return "load-error"
    try:
        return complies(permitted, graph.mask(declared)).value
    except PurposeError:
        return "unknown-declared"


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_declared_purposes_comply_as_the_vectors_say(vector: dict[str, Any]) -> None:
    """Each vector's declared purposes get exactly the verdict that it states."""
    have = answer(GRAPHS[vector["graph"]], vector["declared"], vector["levels"])

    assert have == vector["want"]


def test_there_are_at_least_sixty_vectors_with_distinct_names() -> None:
    """The corpus is as large as promised, and a failure names one vector only."""
    names = [vector["name"] for vector in VECTORS["vectors"]]

    assert len(names) >= 60
    assert len(set(names)) == len(names)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/facts/purpose_vectors.json")
def test_the_nineteen_shared_vectors_hold() -> None:
    """The facts' own vectors get PERMIT, DENY or ERROR as they state."""
    shared = json.loads(SHARED.read_text("utf-8"))
    verdicts = {"full": "PERMIT", "conditional": "PERMIT", "load-error": "ERROR"}
    wrong = []
    for kind, root in (("tree", "General-Purpose"), ("dag", "Purpose")):
        graph = build(shared[kind], root)
        for vector in shared[f"{kind}_vectors"]:
            stated = {key: vector[key] for key in ("allowed", "conditional", "prohibited")}
            have = verdicts.get(answer(graph, vector["access_purposes"], [stated]), "DENY")
            if have != vector["expect"]:
                wrong.append((vector["name"], have))

    assert len(shared["tree_vectors"]) + len(shared["dag_vectors"]) == 19
    assert wrong == []


@pytest.mark.parametrize("case", VECTORS["closures"], ids=lambda case: "+".join(case["of"]) or "nothing")
def test_down_is_descendants_and_up_is_ancestors_with_the_purpose_itself(case: dict[str, Any]) -> None:
    """Closures of a set are the union of those of its members, named in the graph's order."""
    graph = GRAPHS[case["graph"]]
    mask = graph.mask(case["of"])

    assert graph.names(graph.down(mask)) == tuple(case["down"])
    assert graph.names(graph.up(mask)) == tuple(case["up"])


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_a_graph_that_is_no_rooted_dag_is_refused_by_name(case: dict[str, Any]) -> None:
    """The error says which purpose is at fault, in its text and as an attribute."""
    purposes = [Purpose(name, name, tuple(parents)) for name, parents in case["purposes"]]

    with pytest.raises(PurposeError) as caught:
        PurposeGraph(purposes, case["root"])

    assert caught.value.purpose == case["at"]
    assert f"`{case['at']}`" in str(caught.value)
    assert case["says"] in str(caught.value)


def test_requestable_is_the_set_of_purposes_that_may_be_declared() -> None:
    """Grouping purposes are left out of the mask of requestable ones."""
    graph = PurposeGraph([Purpose("r", "Root", requestable=False), Purpose("a", "A", ("r",))], "r")

    assert graph.names(graph.requestable) == ("a",)
    assert graph.names(graph.all) == ("r", "a")


def test_a_purpose_that_the_graph_lacks_has_no_bit() -> None:
    """An unknown purpose is an error that names it, never an empty set."""
    with pytest.raises(PurposeError) as caught:
        GRAPHS["npd"].bit("reserch")

    assert caught.value.purpose == "reserch"
    assert str(caught.value) == "purpose `reserch` is not in the purpose graph"


def test_a_graph_knows_its_root() -> None:
    """The root is the one purpose that everything is at or below."""
    for graph in GRAPHS.values():
        assert graph.down(graph.bit(graph.root)) == graph.all


def test_a_level_that_permits_something_must_say_that_it_states() -> None:
    """A level whose purposes would be ignored cannot be made."""
    for purposes in ({"allowed": 1}, {"conditional": 1}):
        with pytest.raises(ValueError, match="states"):
            Level(**purposes, states=False)


def test_a_level_gives_nothing_that_it_is_not_given() -> None:
    """What is left out of a level is the empty set, whether it states or not."""
    assert Level(states=True) == Level(0, 0, 0, states=True)
    assert Level(states=False) == Level(0, 0, 0, states=False)


def test_no_purpose_is_both_permitted_and_prohibited() -> None:
    """The three sets of a combination share no purpose."""
    graph = GRAPHS["npd"]
    have = combine(
        graph,
        [level(graph, {"allowed": ["research"], "conditional": ["npd"], "prohibited": ["commercial"]})],
    )

    assert (
        have.full & have.conditional == have.full & have.prohibited == have.conditional & have.prohibited == 0
    )
    assert complies(have, graph.bit("evaluation")) is Compliance.FULL
    assert complies(Permitted(0, 0, 0), graph.bit("evaluation")) is Compliance.NOT_ALLOWED
