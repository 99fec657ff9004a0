"""JSON that can be read in two ways is not read at all."""

from __future__ import annotations

import pytest

from policyd.identity.strict_json import read_json


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (b'{"a":1,"b":[true,false,null,"x"]}', {"a": 1, "b": [True, False, None, "x"]}),
        (b' {"a" : -9007199254740991} ', {"a": -9007199254740991}),
        ('"ü"'.encode(), "ü"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (b"[" * 16 + b"]" * 16, None),
    ],
    ids=str,
)
def test_plain_json_is_read(text: bytes, want: object) -> None:
    """Objects, lists, text, booleans, null and integers up to 16 digits come through."""
    have = read_json(text)

    assert want is None or have == want


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'{"a":1,"a":1}',
        b'[{"b":{"a":1,"a":2}}]',
        rb'{"a":1,"\u0061":2}',
        b"1.0",
        b"1e3",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"12345678901234567",
        b"1" * 5000,
        b"[" * 18 + b"]" * 18,
        b"[" * 100_000,
        rb'"\ud800"',
        rb'{"\udc00":1}',
        b"'a'",
        b"[1,]",
        b'"\x00"',
    ],
    ids=lambda text: repr(text[:24]),
)
def test_json_with_two_meanings_is_refused(text: bytes) -> None:
    """Duplicate names, fractions, huge numbers, deep nesting, half characters and non-JSON are refused."""
    with pytest.raises(ValueError, match=r"JSON|twice|integer|nested|surrogate"):
        read_json(text)
