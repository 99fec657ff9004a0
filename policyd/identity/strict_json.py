"""JSON that can be read in one way only (RFC 8259 section 4 leaves duplicate names open; this does not)."""

from __future__ import annotations

import json
from typing import NoReturn

MAX_DEPTH = 16
MAX_INTEGER_DIGITS = 16


def read_json(data: bytes) -> object:
    """Parse UTF-8 JSON that has no duplicate names, no fractions and no deep nesting.

    Integers have at most 16 digits; strings hold no lone surrogates. Depth is at most 16.

    Raises:
        ValueError: anything else; the message never quotes the input.
    """
    try:
        value: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_integer,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise ValueError("not JSON") from None
    _check(value, depth=0)
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name is given twice in one object")
    return members


def _refuse_number(_: str) -> NoReturn:
    raise ValueError("numbers are integers here")


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise ValueError(f"an integer has more than {MAX_INTEGER_DIGITS} digits")
    return int(text)


def _check(value: object, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for name, member in value.items():
            _check(name, depth=depth)
            _check(member, depth=depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth=depth + 1)
    elif isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError("a string holds half a surrogate pair")
