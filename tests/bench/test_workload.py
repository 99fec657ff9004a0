"""The bench compares like with like: every engine gives policyd's answers to the bench's questions."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PEERS = ("casbin", "cedarpy", "py-abac", "vakt")
RULES, AGREEMENTS, SEED = 60, 60, 20261124


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """The bench's entry, which stands outside the installed packages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "bench"))
        yield importlib.import_module("engine")


@pytest.fixture(scope="module")
def workload(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small workload over the shipped catalogue."""
    print(f"seed {SEED}")
    made = importlib.import_module("peers.workload")
    directory = tmp_path_factory.mktemp("workload") / "npd"
    made.write_policy(ROOT / "policies" / "npd", directory, csv=None)
    return made.build_workload(directory, rules=RULES, seed=SEED, agreements=AGREEMENTS)


@pytest.fixture(scope="module")
def questions(workload: Any) -> list[Any]:
    """Questions of several sizes."""
    return [
        *workload.questions(1, count=20),
        *workload.questions(20, count=8),
        *workload.questions(60, count=3),
    ]


def test_questions_let_some_fields_leave_and_withhold_others(workload: Any, questions: list[Any]) -> None:
    """A workload whose answers are all alike would compare nothing."""
    ours = importlib.import_module("peers.ours")
    system = ours.Cold(workload)
    answers = [each for question in questions for each in system.allowed(question, system.answer(question))]
    assert 0.1 < sum(answers) / len(answers) < 0.9


def test_rules_let_fields_leave_that_gates_allow_and_withhold_others(
    workload: Any, questions: list[Any]
) -> None:
    """Allow rules and deny rules both decide somewhere; else peers would be timed on their gates alone."""
    ours = importlib.import_module("peers.ours")
    deciding = {group.rule for question in questions for group in ours.Cold(workload).answer(question).groups}
    effects = {rule.allow for rule in workload.rules if rule.uid in deciding}
    assert effects == {True, False}


@pytest.mark.parametrize("distribution", PEERS)
def test_a_peer_gives_the_answers_of_policyd(
    bench: ModuleType, workload: Any, questions: list[Any], distribution: str
) -> None:
    """Translation changes no answer: what is timed is the same work."""
    module, name = bench.PEERS[distribution]
    try:
        peer = getattr(importlib.import_module(module), name)(workload)
    except ModuleNotFoundError as error:
        pytest.skip(f"{distribution} is not installed ({error.name}); see requirements/bench.txt")
    reference = importlib.import_module("peers.ours").Cold(workload)
    for question in questions:
        wanted = reference.allowed(question, reference.answer(question))
        assert peer.allowed(question, peer.answer(question)) == wanted, question.agreement


@pytest.mark.parametrize("way", ["Warm", "Masks"])
def test_every_way_of_asking_policyd_gives_one_answer(workload: Any, questions: list[Any], way: str) -> None:
    """Kept entitlements and masks alone say what a decision from nothing says."""
    ours = importlib.import_module("peers.ours")
    reference, system = ours.Cold(workload), getattr(ours, way)(workload)
    for question in questions:
        if way == "Masks":
            system.prepare(question)
        wanted = reference.allowed(question, reference.answer(question))
        for _ in range(2):
            fresh = question.fresh()
            assert system.allowed(fresh, system.answer(fresh)) == wanted


def test_the_comparison_refuses_an_engine_that_answers_otherwise(
    bench: ModuleType, workload: Any, questions: list[Any]
) -> None:
    """Nothing is timed when one field differs."""
    ours = importlib.import_module("peers.ours")

    class Wrong(ours.Cold):  # type: ignore[name-defined, misc]
        name = "wrong"

        def allowed(self, question: Any, answer: Any) -> list[bool]:
            right: list[bool] = ours.allowed(question, answer)
            return [not right[0], *right[1:]]

    with pytest.raises(SystemExit, match="wrong answers otherwise"):
        bench.compare([ours.Cold(workload), Wrong(workload)], questions[:1])


def test_generated_rules_are_distinct_and_the_same_for_the_same_seed(bench: ModuleType) -> None:
    """A run can be repeated, and no rule is counted twice."""
    rules = importlib.import_module("peers.rules")
    made = [
        rules.generate_rules(500, purposes=["a", "b"], tables=["T", "U", "V"], seed=SEED) for _ in range(2)
    ]
    assert made[0] == made[1]
    assert len({repr(rule).split(",", 1)[1] for rule in made[0]}) == 500
