"""An acknowledgement has one form in every store."""

from __future__ import annotations

import pytest

from policyd.registry.lease import Acknowledgement, acknowledgement_bytes, read_acknowledgement

GIVEN = Acknowledgement("node-1", 7, b"\x01" * 32, 123_456, b"\x02" * 64)
WRITTEN = acknowledgement_bytes(GIVEN)


def test_an_acknowledgement_comes_back_as_it_was() -> None:
    """All five members, and nothing else."""
    assert read_acknowledgement(WRITTEN) == GIVEN


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 900,
        WRITTEN + b" ",
        WRITTEN.replace(b'"epoch":7', b'"epoch":"7"'),
        WRITTEN.replace(b'"epoch":7', b'"epoch":true'),
        WRITTEN.replace(b'"epoch":7', b'"epoch":-7'),
        WRITTEN.replace(b"node-1", b"node 1"),
        WRITTEN.replace(b"01", b"0X"),
        WRITTEN.replace(b'"epoch"', b'"epoch":7,"epoch"'),
        WRITTEN[:-1] + b',"zeal":1}',
        WRITTEN.replace(b"node-1", b"n" * 2_000),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    """Whatever policyd would not have written is no acknowledgement."""
    with pytest.raises(ValueError):
        read_acknowledgement(data)
