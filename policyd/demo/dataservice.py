"""The demo data service: asks policyd before each query, and runs only what the decision leaves of it.

It is an ordinary client: it knows policyd through ``policyd_client`` alone. What it cannot work out,
it does not ask; what it cannot do, it withholds.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from policyd_client import (
    Action,
    Decision,
    Obligations,
    Outcome,
    PolicyClient,
    Receipt,
    SealState,
    SealWatch,
    Withheld,
)

from policyd.demo.rewrite import SEAL_FUNCTION, SEALED_TABLE, Guarded, rewrite
from policyd.demo.schema import Schema
from policyd.demo.statement import Kind, Statement, declare, fields_of
from policyd.demo.syntax import Refused
from policyd.demo.transforms import (
    FUNCTION_OF,
    Pseudonymise,
    Value,
    pseudonymiser,
    register,
    round_half_up,
    seal_token,
)

Row = tuple[Value, ...]

MAX_ROWS = 100_000
SEAL_WAIT_S = 2.0
"""How long a query waits for the seals to reach the epoch of its decision."""

_PROGRESS_STEPS = 100_000
_FUNCTIONS = frozenset(
    {
        "count",
        "min",
        "lower",
        "upper",
        "length",
        "substring",
        "coalesce",
        "round",
        "abs",
        "like",
    }
) | {SEAL_FUNCTION, *FUNCTION_OF.values()}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one query.

    ``decision`` is always there: without one there is no answer but an exception. ``withheld`` says in
    one line why there are no rows, empty when the query ran. ``cut`` are labels that were asked for
    and left out, ``terms`` what the recipient has to do with the rows, ``suppressed`` how many groups
    or cells of a count were too small (for the data service, not for the recipient). ``report`` proves
    that what came of the decision is recorded, too; None where the decision permitted nothing.
    """

    statement: Statement
    decision: Decision
    action: Action
    labels: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    cut: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    suppressed: int = 0
    sql: str = ""
    withheld: str = ""
    report: Receipt | None = None


class DataService:
    """Runs guarded queries on one SQLite database; safe to use from several threads."""

    def __init__(
        self,
        client: PolicyClient,
        seals: SealWatch,
        *,
        database: Path,
        schema: Schema,
        setting: str,
        seal_key: bytes,
        pseudonym_key: bytes,
    ) -> None:
        self._client = client
        self._seals = seals
        self._database = database
        self._schema = schema
        self._setting = setting
        self._seal_token = lru_cache(maxsize=None)(lambda reference: seal_token(seal_key, str(reference)))
        self._pseudonym_key = pseudonym_key
        self._result_key = hmac.digest(pseudonym_key, b"digests of results", "sha256")

    def ask(
        self,
        sql: str,
        *,
        requester_token: str,
        agreement: str,
        purposes: Sequence[str],
        years: Sequence[int] = (),
        action: Action | None = None,
    ) -> Answer:
        """Ask policyd about the fields of a query, and run what may run.

        ``years`` are academic years by first calendar year, for columns whose name states none.

        Raises:
            Refused: the statement cannot be worked out, or does more than the declared action.
            Withheld: no decision was made, or it was not one to be used.
        """
        statement = fields_of(sql, self._schema)
        asked = declare(statement.action, action)
        decision = self._client.check(
            agreement=agreement,
            purposes=purposes,
            fields=statement.fields,
            used_fields=statement.used_fields,
            years=years,
            action=asked,
            requester_token=requester_token,
        )
        if decision.outcome is Outcome.WITHHOLD:
            why = decision.unexpected or "the decision is to withhold, so the query did not run"
            return Answer(statement, decision, asked, withheld=why)
        try:
            terms = self._terms(decision.obligations)
            guarded = rewrite(
                statement,
                self._schema,
                verdicts=decision.verdicts,
                obligations=decision.obligations,
                years=years,
            )
            rows = self._run(guarded, decision, pseudonymiser(self._pseudonym_key, agreement))
        except (Refused, Withheld) as error:
            return Answer(
                statement, decision, asked, withheld=str(error), report=self._report_nothing(decision)
            )
        shown, suppressed = protect_counts(rows, guarded, decision.obligations)
        try:
            report = self._client.report_release(
                decision,
                rows=len(shown),
                obligations_met=met_here(decision.obligations),
                result_digest=hmac.digest(self._result_key, repr(shown).encode(), "sha256"),
            )
        except Withheld as error:  # no record of the release, no release
            return Answer(statement, decision, asked, withheld=str(error))
        return Answer(
            statement,
            decision,
            asked,
            labels=tuple(output.label for output in guarded.outputs),
            rows=shown,
            cut=guarded.cut,
            terms=terms,
            suppressed=suppressed,
            sql=guarded.sql,
            report=report,
        )

    def _report_nothing(self, decision: Decision) -> Receipt | None:
        """Say that nothing came of a decision; where that fails it stays open, and nothing was released."""
        try:
            return self._client.report_release(decision, rows=0)
        except Withheld:
            return None

    def _terms(self, obligations: Obligations) -> tuple[str, ...]:
        """Return the obligations that go to the recipient with the rows.

        Raises:
            Refused: the answer is for another setting, so this data service must not run it.
        """
        if obligations.settings - {self._setting}:
            wanted = ", ".join(sorted(obligations.settings))
            raise Refused(f"only for the setting `{wanted}`; this is `{self._setting}`")
        terms = []
        if obligations.retention_days is not None:
            terms.append(f"delete within {obligations.retention_days} days")
        if obligations.output_check:
            terms.append("outputs are checked by a person before they leave")
        if obligations.publish_in_register:
            terms.append("publish in the register of external data shares")
        if obligations.min_cell_count is not None:
            terms.append(f"no count under {obligations.min_cell_count}")
        if obligations.round_to is not None:
            terms.append(f"counts to the nearest {obligations.round_to}")
        return tuple(terms)

    def _run(self, guarded: Guarded, decision: Decision, pseudonymise: Pseudonymise) -> list[Row]:
        """Run a query under its decision and the seals of one epoch.

        Raises:
            Withheld: the decision cannot be used, or the seals are not known or moved meanwhile.
            Refused: the database would not run it, or the result is too large.
        """
        epoch = decision.obligations.exclude_sealed_epoch
        if epoch is None:
            raise Refused("the answer does not say which seals it needs")
        before = self._seals.take(epoch, wait_s=SEAL_WAIT_S)
        with decision.use(), closing(self._open(guarded, before, pseudonymise)) as connection:
            connection.set_progress_handler(lambda: decision.remaining_s <= 0.0, _PROGRESS_STEPS)
            try:
                rows: list[Row] = connection.execute(guarded.sql, guarded.values).fetchmany(MAX_ROWS + 1)
            except sqlite3.Error as error:
                # SECURITY: SQLite's message may quote a value; only its kind goes on
                raise Refused(f"the database refused the query ({error.sqlite_errorname})") from error
        if len(rows) > MAX_ROWS:
            raise Refused(f"over {MAX_ROWS} rows; ask for less")
        after = self._seals.take(before.epoch)
        if after.tokens != before.tokens:
            raise Refused("a record came under seal while the query ran; ask again")
        return rows

    def _open(self, guarded: Guarded, seals: SealState, pseudonymise: Pseudonymise) -> sqlite3.Connection:
        """Open a read-only connection that holds the seals and can read the decided columns alone."""
        connection = sqlite3.connect(
            f"file:{quote(str(self._database))}?mode=ro", uri=True, cached_statements=0
        )
        try:
            connection.execute(f"CREATE TEMP TABLE {SEALED_TABLE} (token BLOB PRIMARY KEY) WITHOUT ROWID")
            connection.executemany(
                f"INSERT INTO {SEALED_TABLE} VALUES (?)",  # noqa: S608  (a constant)
                [(token,) for token in seals.tokens],
            )
            connection.commit()
            register(connection, pseudonymise)
            connection.create_function(SEAL_FUNCTION, 1, self._seal_token, deterministic=True)
            connection.set_authorizer(_Authorizer(guarded.reads))
        except sqlite3.Error:
            connection.close()
            raise
        return connection


class _Authorizer:
    """Lets SQLite read what the rewritten query needs and nothing else.

    A second look, not a second lock: SQLite does not report the columns of NATURAL and USING joins, and
    knows columns where decisions also speak of transforms and rows (AMENDMENTS.md item 1). Statements
    with such joins are refused before anything is asked.
    """

    def __init__(self, reads: Collection[tuple[str, str]]) -> None:
        self._reads = {(table.casefold(), column.casefold()) for table, column in reads}
        self._tables = {table for table, _ in self._reads}

    def __call__(
        self, code: int, first: str | None, second: str | None, base: str | None, _: str | None
    ) -> int:
        first, second = (first or "").casefold(), (second or "").casefold()
        if code == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        if code == sqlite3.SQLITE_FUNCTION and second in _FUNCTIONS:
            return sqlite3.SQLITE_OK
        if code == sqlite3.SQLITE_READ:
            if first == SEALED_TABLE and base == "temp":
                return sqlite3.SQLITE_OK
            if (first, second) in self._reads or (second == "" and first in self._tables):
                return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY


def met_here(obligations: Obligations) -> list[str]:
    """Return the obligations that this data service meets itself; the others go to the recipient as terms."""
    owed = {
        "exclude_sealed": obligations.exclude_sealed_epoch is not None,
        "rows": obligations.row_years is not None or obligations.row_local_authorities is not None,
        "min_cell_count": obligations.min_cell_count is not None,
        "round_to": obligations.round_to is not None,
        "setting": bool(obligations.settings),
    }
    return [name for name, asked in owed.items() if asked]


def protect_counts(
    rows: Sequence[Row], guarded: Guarded, obligations: Obligations
) -> tuple[tuple[Row, ...], int]:
    """Leave out groups, and blank cells, about fewer pupils than the minimum; round the rest.

    A number of different values is blank under the minimum too: no number shown is under it.
    Returns the rows to hand on, without their hidden numbers, and how many groups and cells were too
    small. A count without groups always has its one row, blank when there are too few pupils.
    """
    if not guarded.hidden:
        return tuple(rows), 0
    least = obligations.min_cell_count or 1
    width = len(guarded.outputs)
    shown: list[Row] = []
    suppressed = 0
    for row in rows:
        everyone, *each = row[width:]
        if _fewer(everyone, least) and guarded.grouped:
            suppressed += 1
            continue
        pupils = iter(each)
        cells: list[Value] = []
        for output, value in zip(guarded.outputs, row[:width], strict=True):
            if output.kind is not Kind.AGGREGATE:
                cells.append(value)
            elif any(_fewer(number, least) for number in (everyone, next(pupils), value)):
                cells.append(None)
                suppressed += 1
            else:
                cells.append(_rounded(value, obligations.round_to))
        shown.append(tuple(cells))
    return tuple(shown), suppressed


def _fewer(pupils: Value, least: int) -> bool:
    return not isinstance(pupils, int) or pupils < least


def _rounded(value: Value, base: int | None) -> Value:
    if base is None:
        return value
    return round_half_up(value, base)
