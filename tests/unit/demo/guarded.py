"""Run guarded statements on a database, as if policyd had answered, and change copies of one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path

from policyd_client import Effect, Obligations, SealState, Verdict

from policyd.demo.dataservice import DataService, Row, protect_counts
from policyd.demo.rewrite import rewrite
from policyd.demo.statement import fields_of
from policyd.demo.tables import SCHEMA
from policyd.demo.transforms import pseudonymiser, seal_token

SEAL_KEY = b"seal key of the tests"
PSEUDONYM_KEY = b"pseudonym key of the tests"
RELEASE = Verdict(Effect.RELEASE, "NONE", "rule")

Guard = Callable[..., list[Row]]


def run_guarded(
    sql: str,
    database: Path,
    *,
    verdicts: Mapping[str, Verdict] | None = None,
    obligations: Obligations | None = None,
    years: Collection[int] = (2016, 2017, 2018),
    sealed: Collection[str] = (),
) -> list[Row]:
    """Run a statement as if policyd had given these verdicts (default for a name: release)."""
    duties = obligations or Obligations()
    statement = fields_of(sql, SCHEMA)
    names = (*statement.fields, *statement.used_fields)
    given = {name: (verdicts or {}).get(name, RELEASE) for name in names}
    guarded = rewrite(statement, SCHEMA, verdicts=given, obligations=duties, years=years)
    service = DataService(
        None,  # type: ignore[arg-type]  (nothing is asked here)
        None,  # type: ignore[arg-type]
        database=database,
        schema=SCHEMA,
        setting="secure-research",
        seal_key=SEAL_KEY,
        pseudonym_key=PSEUDONYM_KEY,
    )
    tokens = frozenset(seal_token(SEAL_KEY, reference) for reference in sealed)
    state = SealState(live=True, epoch=1, tokens=tokens)
    with closing(service._open(guarded, state, pseudonymiser(PSEUDONYM_KEY, "DS1"))) as connection:
        rows = connection.execute(guarded.sql, guarded.values).fetchall()
    return list(protect_counts(rows, guarded, duties)[0])


def change(database: Path, copy: Path, *statements: str, values: Collection[object] = ()) -> Path:
    """Copy a database and run statements on the copy; all of them take the same values."""
    copy.write_bytes(database.read_bytes())
    with closing(sqlite3.connect(copy)) as connection:
        for statement in statements:
            connection.execute(statement, tuple(values))
        connection.commit()
    return copy
