"""The compiled evaluator and the reference say the same of every name (docs/adr/0010-two-evaluators.md)."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from reference import replay
from reference.duel import Mismatch, Tally, compare_world, differences, draw_loadable, load, run
from reference.evaluator import attributes_of, evaluate
from reference.generate import worlds
from reference.pyabac import DecisionPoint, without_where
from reference.source import read_directory, read_texts
from reference.worlds import EPOCH, World

from policyd.decision.decide import decide
from policyd.decision.snapshot import build_snapshot
from policyd.errors import SourceError
from policyd.model import Registry, Request, Token, Verified
from policyd.policy.load import load_policy_set
from policyd.policytest.cases import UNKNOWN_REQUESTER, UNVERIFIED_REQUESTER, Case, read_case_files
from policyd.policytest.run import run_cases
from policyd.reasons import Reason

SEED = int(os.environ.get("POLICYD_SEED", "20261124"))
WORLDS = 170
QUESTIONS = 30
NPD = Path(__file__).parents[2] / "policies" / "npd"
RULES_DECIDED = {
    Reason.NONE: True,
    Reason.SUPPRESSED: True,
    Reason.OBLIGATION_CONFLICT: True,
    Reason.DENIED_BY_RULE: False,
    Reason.NO_RULE_ALLOWS: False,
}
"""Reasons that say what the rules came to, and whether at least one allowed and none denied."""


def describe(mismatches: list[Mismatch]) -> str:
    """Return the first mismatch in words; `tools/fuzz.py` writes it as files."""
    first = mismatches[0]
    lines = [f"{len(mismatches)} questions differ with POLICYD_SEED={SEED}; the first:", str(first.request)]
    return "\n".join([*lines, *first.differences])


def test_both_evaluators_agree_on_drawn_worlds() -> None:
    """Names, reasons, transforms, rules, outcome and obligations are the same on over 20,000 names."""
    print(f"seed {SEED}")
    tally = Tally()

    run(SEED, worlds=WORLDS, questions=QUESTIONS, tally=tally)

    print("\n".join(tally.lines()))
    assert not tally.mismatches, describe(tally.mismatches)
    assert tally.decisions >= 20_000
    assert tally.let_go_share >= 0.15
    reached = {verdict.split()[1] for verdict in tally.verdicts}
    assert reached == {reason.value for reason in Reason}


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(worlds(questions=2))
def test_both_evaluators_agree_where_hypothesis_looks(world: World) -> None:
    """No world that Hypothesis finds makes the two differ; it would show the smallest."""
    try:
        policy = load(world.files)
    except SourceError:
        assume(False)
    tally = Tally()

    compare_world(world, policy, tally)

    assert not tally.mismatches, describe(tally.mismatches)


def test_both_evaluators_agree_on_every_case_of_the_npd_policy_set() -> None:
    """Every case that ships with the policy set comes out alike, to the rule and the obligation."""
    source = read_directory(NPD)
    compared = 0
    for result in run_cases(load_policy_set(NPD), read_case_files(NPD)):
        request = request_of(result.file.registry, result.case)
        want = evaluate(source, result.file.registry, request, result.case.now, epoch=1)
        compared += len(want.verdicts)
        assert not [*differences(result.decision, want)], result.case.name
    assert compared >= 160


def request_of(registry: Registry, case: Case) -> Request:
    """Turn a policy case into the question that a data service would have asked."""
    service = registry.data_services.get(case.data_service)
    spiffe_id = service.spiffe_id if service else ""
    if case.requester == UNVERIFIED_REQUESTER:
        return Request(case.claimed, Verified(spiffe_id, None, "signature"))
    person = registry.requesters.get(case.requester)
    issuer, subject = (person.issuer, person.subject) if person else ("case", UNKNOWN_REQUESTER)
    return Request(case.claimed, Verified(spiffe_id, Token(issuer, subject, bytes(32), case.now + 60_000)))


def test_py_abac_agrees_with_the_rules_gate_where_it_is_sound() -> None:
    """Where it may be asked, py-abac's own decision point allows what the rules let pass."""
    print(f"seed {SEED}")
    seen: Counter[bool] = Counter()
    for number in range(100):
        rng = random.Random(f"{SEED}:py-abac:{number}")  # noqa: S311  (cases, not secrets)
        world, _ = draw_loadable(rng, Tally(), questions=25)
        files = without_where(world.files)
        source, snapshot = read_texts(files), build_snapshot(load(files), world.registry, epoch=EPOCH)
        point = DecisionPoint(source)
        for request, now in world.questions:
            if len(request.claimed.purposes) != 1 or request.claimed.used_fields:
                continue
            for group in decide(snapshot, request, now).groups:
                if group.reason not in RULES_DECIDED:
                    continue
                for name in group.names:
                    attributes = attributes_of(source, world.registry, request, now, name=name)
                    assert attributes is not None, f"{name} was decided by rules"
                    if not point.is_sound(attributes):
                        continue
                    want = RULES_DECIDED[group.reason]
                    assert point.allows(attributes) == want, f"{number} {name} {group} {attributes}"
                    seen[want] += 1
    assert min(seen[True], seen[False]) >= 50, seen


def test_a_failing_question_survives_being_written_and_read(tmp_path: Path) -> None:
    """What the fuzzer saves is the same policy set, registry, question and instant when read again."""
    world, _ = draw_loadable(random.Random(SEED), Tally(), questions=5)  # noqa: S311  (cases, not secrets)
    for number, (request, now) in enumerate(world.questions):
        have = Mismatch(World(world.files, world.registry, ()), request, now, ("made for this test",))

        replay.save(have, tmp_path / str(number))

        assert replay.read(tmp_path / str(number)) == have
        assert replay.again(have) == []


def test_a_wrong_answer_is_noticed() -> None:
    """The comparison is no rubber stamp: any change of a reference answer shows up as a difference."""
    world, policy = draw_loadable(random.Random(SEED), Tally(), questions=20)  # noqa: S311  (cases, not secrets)
    snapshot, source = build_snapshot(policy, world.registry, epoch=EPOCH), read_texts(world.files)
    for request, now in world.questions:
        want = evaluate(source, world.registry, request, now, epoch=EPOCH)
        other = evaluate(source, world.registry, request, now, epoch=EPOCH + 1)
        have = decide(snapshot, request, now)
        assert [*differences(have, want)] == []
        assert bool([*differences(have, other)]) == (want.outcome != "withhold")
