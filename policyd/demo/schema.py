"""What the demo data service knows about its own tables: columns, whose row it is, where and when."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """One table of pupils.

    ``pupil`` is the column with the pupil's reference, ``local_authority`` the one with a three-digit
    code (empty: look the pupil up in the census). Rows are all of the academic year ``year``, or of the
    one in ``year_column`` (text such as ``2018/2019``); years are named by their first calendar year.
    """

    name: str
    columns: tuple[str, ...]
    pupil: str
    local_authority: str = ""
    year: int = 0
    year_column: str = ""

    def column(self, name: str) -> str | None:
        """Return the column's own spelling; case is ignored, as SQL does. None: no such column."""
        folded = name.casefold()
        return next((column for column in self.columns if column.casefold() == folded), None)


@dataclass(frozen=True, slots=True)
class Schema:
    """All tables; ``census`` names the one that says where a pupil goes to school."""

    tables: tuple[Table, ...]
    census: str

    def table(self, name: str) -> Table | None:
        """Return the table of that name, ignoring case. None: no such table."""
        folded = name.casefold()
        return next((table for table in self.tables if table.name.casefold() == folded), None)
