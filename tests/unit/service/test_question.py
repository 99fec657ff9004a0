"""Questions are read strictly and nothing in them is repaired; tests/vectors/bad_input.yaml has the rest."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pbac.v1 import decision_pb2 as pb

from policyd.errors import InvalidRequest
from policyd.model import Action, Claimed
from policyd.service.question import MAX_NAMES, read_batch, read_question


def question(**changes: Any) -> pb.CheckRequest:
    parts: dict[str, Any] = {
        "request_id": "r-1",
        "agreement_id": "DS00101",
        "purposes": ["academic-research"],
        "action": pb.ACTION_RELEASE,
        "fields": ["KS4.KS4_ATT8"],
    }
    return pb.CheckRequest(**{**parts, **changes})


def test_every_part_is_taken_over_as_it_was_written() -> None:
    """Order, spelling and case stay: the answer and the digests speak of the same names."""
    asked = question(
        fields=["sc_pupil.UPN_spr19", "Exclusions.Reason 1/2"],
        used_fields=["KS4.KS4_ATT8"],
        purposes=["b-purpose", "a-purpose"],
        years=[2019, 2015],
        action=pb.ACTION_COUNT,
    )

    assert read_question(asked) == Claimed(
        request_id="r-1",
        agreement="DS00101",
        purposes=("b-purpose", "a-purpose"),
        action=Action.COUNT,
        fields=("sc_pupil.UPN_spr19", "Exclusions.Reason 1/2"),
        used_fields=("KS4.KS4_ATT8",),
        years=(2019, 2015),
    )


@pytest.mark.parametrize("number", [each.number for each in pb.Action.DESCRIPTOR.values if each.number])
def test_every_action_of_the_protocol_has_one_here(number: int) -> None:
    """An action added to the proto without one here would be refused, and fails this test."""
    name = pb.Action.Name(number).removeprefix("ACTION_").lower()

    assert read_question(question(action=number)).action is Action(name)


@given(st.text(min_size=1, max_size=30))
def test_a_name_is_taken_whole_or_refused_whole(name: str) -> None:
    """Whatever is sent, the name is never changed, and what is taken is ASCII without control characters."""
    try:
        claimed = read_question(question(fields=[name]))
    except InvalidRequest:
        return
    assert claimed.fields == (name,)
    assert name.isascii()
    assert name.isprintable()


@given(st.binary(max_size=200))
def test_bytes_never_do_more_than_refuse(data: bytes) -> None:
    """Random bytes either are no message, or a question that is read or refused."""
    from google.protobuf.message import DecodeError

    try:
        claimed = read_question(pb.CheckRequest.FromString(data))
    except (DecodeError, InvalidRequest):
        return
    assert claimed.fields or claimed.used_fields


@given(st.integers(min_value=12, max_value=2**29 - 1).filter(lambda number: not 19000 <= number < 20000))
def test_no_unknown_part_gets_through(number: int) -> None:
    """A part with any number that this version does not have is refused by its number."""
    tag = number << 3
    encoded = b""
    while tag > 127:
        encoded += bytes([tag & 127 | 128])
        tag >>= 7
    data = question().SerializeToString() + encoded + bytes([tag]) + b"\x01"

    with pytest.raises(InvalidRequest, match=f"part {number} of the question is not known here"):
        read_question(pb.CheckRequest.FromString(data))


def test_a_batch_names_the_position_of_the_first_bad_question() -> None:
    """Counting from 0, as the client numbers its list."""
    good = [question(request_id=f"r-{number}") for number in range(5)]
    bad = random.Random(7).randrange(5)  # noqa: S311  # any position will do
    good[bad].fields[:] = []

    with pytest.raises(InvalidRequest, match=rf"^checks\[{bad}\]: fields is empty"):
        read_batch(pb.BatchCheckRequest(checks=good), limit=100)


def test_the_limit_on_names_counts_both_lists() -> None:
    """5,000 are taken, one more is not."""
    names = [f"A.f{number}" for number in range(MAX_NAMES)]

    assert len(read_question(question(fields=names)).fields) == MAX_NAMES
    with pytest.raises(InvalidRequest, match="at most 5000"):
        read_question(question(fields=names, used_fields=["A.g"]))


@pytest.mark.parametrize("years", [[1900], [2200], list(range(2000, 2040))])
def test_years_at_the_edges_are_taken(years: list[int]) -> None:
    """1900 to 2200, 40 of them."""
    assert read_question(question(years=years)).years == tuple(years)
