"""A list of a million tokens leaves in parts, each made only when it is wanted."""

from __future__ import annotations

from hashlib import sha256

import pytest
from pbac.v1 import seal_pb2 as pb

from policyd.errors import NotServing
from policyd.persistent import TokenSet
from policyd.service import seal_service


def tokens(count: int) -> TokenSet:
    return TokenSet(sha256(b"%d" % number).digest() for number in range(count))


def test_a_long_list_comes_in_parts_of_which_the_last_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token once, no part over the limit, and none after the complete one; an empty list too."""
    monkeypatch.setattr(seal_service, "PART", 10)
    for count, want in ((0, [0]), (9, [9]), (10, [10]), (11, [10, 1]), (30, [10, 10, 10])):
        parts = [message.snapshot for message in seal_service._snapshot(7, tokens(count))]

        assert [len(part.tokens) for part in parts] == want
        assert [part.complete for part in parts] == [False] * (len(want) - 1) + [True]
        assert {part.epoch for part in parts} == {7}
        assert [token for part in parts for token in part.tokens] == list(tokens(count))


def test_no_part_is_made_before_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream holds two parts at the most, whatever the number of tokens."""
    monkeypatch.setattr(seal_service, "PART", 10)
    made = 0

    class Counted(TokenSet):
        def __iter__(self):  # type: ignore[no-untyped-def]
            nonlocal made
            for token in super().__iter__():
                made += 1
                yield token

    stream = seal_service._snapshot(7, Counted(tokens(100)))
    made = 0
    next(stream)

    assert made == 20


def test_a_full_part_fits_into_a_message() -> None:
    """20,000 tokens and what is around them stay below the limit of 1 MiB."""
    (first, last) = seal_service._snapshot(2**40, tokens(seal_service.PART + 1))

    assert len(first.snapshot.tokens) == seal_service.PART
    assert len(last.snapshot.tokens) == 1
    assert isinstance(first, pb.WatchSealsResponse)
    assert first.ByteSize() < 1 << 20


def test_more_changes_than_a_message_holds_end_the_stream() -> None:
    """The client then takes the list anew, in parts."""
    many = list(tokens(seal_service.PART + 1))

    for added, removed in ((many, []), ([], many)):
        with pytest.raises(NotServing, match="take a snapshot again"):
            next(seal_service._changes(7, added, removed))
