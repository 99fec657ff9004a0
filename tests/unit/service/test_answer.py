"""Every value of a decision has its place on the wire, and the digest of both sides is one."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from pbac.v1 import decision_pb2 as pb
from policyd_client import digest as client_digest

from policyd import canonical
from policyd.model import (
    Action,
    Decision,
    Effect,
    Obligations,
    Outcome,
    Step,
    TransformKind,
    VerdictGroup,
)
from policyd.reasons import Reason
from policyd.service.answer import write_answer

STEPS = {
    TransformKind.PSEUDONYMISE: Step(TransformKind.PSEUDONYMISE),
    TransformKind.GENERALISE: Step(TransformKind.GENERALISE, to="month"),
    TransformKind.BAND: Step(TransformKind.BAND, amount=5),
    TransformKind.ROUND: Step(TransformKind.ROUND, amount=10),
    TransformKind.TOP_CODE: Step(TransformKind.TOP_CODE, amount=60),
}
OBLIGATIONS = Obligations(
    row_years=frozenset({2019, 2015}),
    row_local_authorities=frozenset({"302", "301"}),
    min_cell_count=10,
    round_to=5,
    retention_days=30,
    output_check=True,
    publish_in_register=True,
    setting=frozenset({"secure-research", "authority"}),
    exclude_sealed_epoch=7,
)


def decision(*groups: VerdictGroup, **changes: object) -> Decision:
    base = Decision(
        outcome=Outcome.RELEASE,
        groups=groups or (group(Effect.RELEASE, Reason.NONE),),
        obligations=Obligations(),
        identification_risk=3,
        sensitivity="BE",
        requester="researcher-1",
        organisation="org-1",
        data_service="npd-secure",
        setting="secure-research",
        agreement="DS00101",
        gateway="DEA2017-64",
        purposes=("academic-research",),
        action=Action.RELEASE,
        policy_digest="ab" * 32,
        policy_version=3,
        epoch=7,
        at=1_770_000_000_000,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # names of its own fields


def group(effect: Effect, reason: Reason, *steps: Step) -> VerdictGroup:
    return VerdictGroup(effect, reason, "a-rule", steps, ("SC_Pupil.UPN", "KS4.KS4_ATT8"))


def answer(each: Decision) -> pb.CheckResponse:
    return write_answer(
        each,
        request_id="r-1",
        decision_id="0" * 26,
        trace_id=bytes(range(16)),
        valid_for_ms=60_000,
        receipt=pb.Receipt(origin="o", index=4),
    )


def assert_one_digest(each: Decision) -> pb.CheckResponse:
    written = answer(each)
    mine = canonical.answer_digest(each, request_id="r-1", decision_id="0" * 26, valid_for_ms=60_000)
    assert mine == client_digest.answer_digest(written)
    return written


@pytest.mark.parametrize("kind", [kind for kind in TransformKind if kind is not TransformKind.SUPPRESS])
def test_every_transform_has_its_step(kind: TransformKind) -> None:
    """A transform kind without a step on the wire would fail here, not in production."""
    each = decision(group(Effect.TRANSFORM, Reason.NONE, STEPS[kind]))

    (step,) = assert_one_digest(each).verdicts[0].transform

    assert step.WhichOneof("kind") == kind.value


def test_a_suppressed_field_is_never_written_as_transformed() -> None:
    """Suppress means withhold; a step for it would be a release of nothing that looks like something."""
    each = decision(group(Effect.TRANSFORM, Reason.NONE, Step(TransformKind.SUPPRESS)))

    with pytest.raises(AssertionError):
        answer(each)


def test_every_obligation_is_written() -> None:
    """Each member of `Obligations` comes out, sets in order."""
    written = assert_one_digest(decision(obligations=OBLIGATIONS))

    kinds = [each.WhichOneof("kind") for each in written.obligations]
    assert kinds == [
        "exclude_sealed",
        "rows",
        "min_cell_count",
        "round_to",
        "retention_days",
        "output_check",
        "publish_in_register",
        "setting",
        "setting",
    ]
    # rows holds two members
    assert len(set(kinds)) + 1 == len(fields(Obligations))
    rows = written.obligations[1].rows
    assert (list(rows.years), list(rows.local_authorities)) == ([2015, 2019], ["301", "302"])
    assert [each.setting for each in written.obligations[-2:]] == ["authority", "secure-research"]


@pytest.mark.parametrize("name", [each.name for each in fields(Obligations)])
def test_each_obligation_alone_changes_the_answer(name: str) -> None:
    """None is lost, whatever the others are."""
    alone = replace(Obligations(), **{name: getattr(OBLIGATIONS, name)})

    assert len(assert_one_digest(decision(obligations=alone)).obligations) in (1, 2)


def test_no_local_authority_is_not_every_local_authority() -> None:
    """An empty set admits no row, and says so."""
    written = assert_one_digest(
        decision(obligations=replace(Obligations(), row_local_authorities=frozenset()))
    )

    assert written.obligations[0].rows.by_local_authority is True


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_told_as_callers_may_know_it(reason: Reason) -> None:
    """The word of the reason; only an unknown agreement is told as another's."""
    written = assert_one_digest(decision(group(Effect.WITHHOLD, reason), outcome=Outcome.WITHHOLD))

    want = "AGREEMENT_NOT_YOURS" if reason is Reason.AGREEMENT_UNKNOWN else reason.value
    assert written.verdicts[0].reason == want


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_its_number(outcome: Outcome) -> None:
    """None is written as unspecified."""
    assert pb.Outcome.Name(answer(decision(outcome=outcome)).outcome) == f"OUTCOME_{outcome.name}"
