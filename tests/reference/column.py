"""Names of fields and columns: which field is meant, and of which academic year (DESIGN.md section 3.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reference.source import Field


@dataclass(frozen=True)
class Named:
    """A name that means one field; the year is None when the name carries none."""

    field: Field
    year: int | None


def resolve(fields: dict[str, Field], name: str) -> Named | None:
    """Return the one field that a name means, by id or by column, ignoring case; None when there is none."""
    if not name.isascii():
        return None
    found: list[Named] = []
    table = name.split(".", maxsplit=1)[0].lower()
    for field in fields.values():
        if field.table.lower() != table:
            continue
        if name.lower() == field.id.lower():
            found.append(Named(field, None))
        for column in field.text.get("columns", [field.text["name"]]):
            match = re.fullmatch(_expression(f"{field.table}.{column}"), name, re.IGNORECASE | re.ASCII)
            if match:
                found.append(Named(field, _year(match)))
    if len({each.field.id for each in found}) != 1:
        return None
    # A field may list a former name of one year beside a pattern that covers it.
    return max(found, key=lambda each: each.year or 0)


def _expression(column: str) -> str:
    text = re.escape(column)
    for written, meant in (
        (r"\[term\]", "(AUT|SPR|SUM)"),
        (r"\[n\]", "([1-9]|[123][0-9]|40)"),
        (r"\[yy\]", "(?P<yy>[0-9][0-9])"),
    ):
        text = text.replace(written, meant)
    return text


def _year(match: re.Match[str]) -> int | None:
    """AUT19 starts in 2019; SPR19, SUM19, ``_ab19`` and ``_ex19`` end in 2019 and so start in 2018."""
    if "yy" not in match.re.groupindex:
        return None
    digits = match["yy"]
    calendar = int(("19" if digits >= "90" else "20") + digits)  # the database begins in 1995/96
    term = match[0][: match.start("yy") - match.start()][-3:].upper()
    return calendar if term == "AUT" else calendar - 1
