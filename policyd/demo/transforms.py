"""Make values less revealing, as functions that SQLite calls; what does not fit becomes NULL.

The steps are those of ``TransformStep`` in proto/pbac/v1/decision.proto.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import sqlite3
from collections.abc import Callable

from policyd_client.model import Step, StepKind

Value = str | int | float | bytes | None
Pseudonymise = Callable[[Value], str | None]

_DATE = re.compile(r"(\d{4})-(0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?", re.ASCII)
_POSTCODE = re.compile(r"(([A-Z]{1,2})\d[A-Z\d]?) ?\d[A-Z]{2}", re.ASCII)
_PSEUDONYM_BYTES = 16

FUNCTION_OF: dict[StepKind, str] = {
    StepKind.PSEUDONYMISE: "pbac_pseudonymise",
    StepKind.GENERALISE: "pbac_generalise",
    StepKind.BAND: "pbac_band",
    StepKind.ROUND: "pbac_round",
    StepKind.TOP_CODE: "pbac_top_code",
}
"""The SQL function of each kind of step; statements of callers cannot name them."""

UNITS = frozenset({"month", "year", "academic-year", "outward-postcode", "postcode-area"})
"""The units of ``generalise`` that this data service knows."""


def knows(step: Step) -> bool:
    """Return whether this data service can do the step; if not, the field is withheld."""
    if step.kind is StepKind.GENERALISE:
        return step.to in UNITS
    if step.kind is StepKind.PSEUDONYMISE:
        return True
    return step.kind in FUNCTION_OF and step.amount >= (1 if step.kind is StepKind.TOP_CODE else 2)


def generalise(value: Value, to: str) -> str | None:
    """Return the unit that a date (``2009-03-01``) or postcode lies in; academic years start in September."""
    if not isinstance(value, str):
        return None
    if date := _DATE.fullmatch(value):
        year, month = int(date[1]), int(date[2])
        starts = year if month >= 9 else year - 1
        dated = {"month": f"{date[1]}-{date[2]}", "year": date[1], "academic-year": f"{starts}/{starts + 1}"}
        return dated.get(to)
    if postcode := _POSTCODE.fullmatch(value.strip().upper()):
        return {"outward-postcode": postcode[1], "postcode-area": postcode[2]}.get(to)
    return None


def band(value: Value, width: int) -> int | None:
    """Return the lower bound of the value's band, bands counted from 0."""
    number = _number(value)
    return None if number is None else int(number // width) * width


def round_half_up(value: Value, base: int) -> int | None:
    """Return the nearest multiple of ``base``, halves up."""
    number = _number(value)
    return None if number is None else int((number + base / 2) // base) * base


def top_code(value: Value, cap: int) -> int | float | None:
    """Return the value, or the cap when it is above."""
    number = _number(value)
    return None if number is None else min(number, cap)


def _number(value: Value) -> int | float | None:
    """Return a number; text that is one counts, as columns of codes hold such text."""
    if isinstance(value, str):
        try:
            value = float(value) if "." in value else int(value)
        except ValueError:
            return None
    if isinstance(value, bytes) or value is None or not abs(value) <= 2**53:
        return None  # also not-a-number, which compares false
    return value


def pseudonymiser(secret: bytes, agreement: str) -> Pseudonymise:
    """Return a function that gives one pupil the same pseudonym within an agreement, another elsewhere."""
    key = hmac.digest(secret, b"pseudonym\0" + agreement.encode(), hashlib.sha256)

    def pseudonymise(value: Value) -> str | None:
        if value is None or isinstance(value, bytes):
            return None
        return hmac.digest(key, str(value).encode(), hashlib.sha256)[:_PSEUDONYM_BYTES].hex()

    return pseudonymise


def seal_token(secret: bytes, reference: str) -> bytes:
    """Return the token under which a seal names this pupil to this data service (docs/registry.md)."""
    return hmac.digest(secret, reference.encode(), hashlib.sha256)


def register(connection: sqlite3.Connection, pseudonymise: Pseudonymise) -> None:
    """Make the functions known to one connection."""
    functions: dict[StepKind, tuple[int, Callable[..., Value]]] = {
        StepKind.PSEUDONYMISE: (1, pseudonymise),
        StepKind.GENERALISE: (2, generalise),
        StepKind.BAND: (2, band),
        StepKind.ROUND: (2, round_half_up),
        StepKind.TOP_CODE: (2, top_code),
    }
    for kind, (arguments, function) in functions.items():
        connection.create_function(FUNCTION_OF[kind], arguments, function, deterministic=True)
