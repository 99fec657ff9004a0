"""Rewrite a decided query so that it sees nothing but what was decided.

Every table becomes a sub-query that holds only the decided columns, in their decided form, of only the
admitted rows: whatever the rest of the statement does with them, it works on that. The statement is
changed as a syntax tree and every value is bound; nothing is pasted into SQL text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from policyd_client.model import Effect, Obligations, StepKind, Verdict
from sqlglot import exp

from policyd.demo.schema import Schema, Table
from policyd.demo.statement import Kind, Output, Statement
from policyd.demo.syntax import Refused
from policyd.demo.transforms import FUNCTION_OF, knows

SEALED_TABLE = "sealed_token"
SEAL_FUNCTION = "pbac_seal_token"
_PUPIL = "pbac pupil"  # no column of the schema has a space, so no statement can name it


@dataclass(frozen=True, slots=True)
class Guarded:
    """A query that may run: its text and values, and what each column of its result is.

    ``outputs`` are the columns to hand on; behind them the result has one hidden number for the group
    and one for each aggregate: how many pupils it is about (``hidden`` in all). ``grouped``: a row is a
    group, and without enough pupils it is not there. ``cut`` are the labels of the outputs that were
    left out. ``reads`` are the base columns that it needs.
    """

    sql: str
    values: Mapping[str, str | int | float]
    outputs: tuple[Output, ...]
    cut: tuple[str, ...]
    hidden: int
    grouped: bool
    reads: frozenset[tuple[str, str]]


class _Values:
    """Values to bind, by placeholder."""

    def __init__(self, values: Mapping[str, str | int | float]) -> None:
        self.all = dict(values)

    def bind(self, value: str | int | float) -> exp.Placeholder:
        name = f"v{len(self.all)}"
        self.all[name] = value
        return exp.Placeholder(this=name)


def rewrite(
    statement: Statement,
    schema: Schema,
    *,
    verdicts: Mapping[str, Verdict],
    obligations: Obligations,
    years: Collection[int],
) -> Guarded:
    """Return the query that the decision leaves of a statement.

    ``years`` are those of the question; rows of others were not asked for. Field names missing from
    ``verdicts`` count as withheld.

    Raises:
        Refused: nothing is left, of the whole or of one table, a used field is withheld, a step is not
            known, or the order would show what rounding hides.
    """
    if statement.wildcard:
        raise Refused("a `*` cannot run; name the columns")
    withheld = {
        name for name in (*statement.fields, *statement.used_fields) if not _may_be_read(verdicts.get(name))
    }
    if used := withheld.intersection(statement.used_fields):
        raise Refused(f"`{min(used)}` is withheld, and the query filters, joins, groups or sorts on it")
    kept = [not output.fields & withheld for output in statement.outputs]
    outputs = tuple(output for output, keep in zip(statement.outputs, kept, strict=True) if keep)
    if statement.outputs and not any(output.kind is not Kind.KEY for output in outputs):
        raise Refused("every column that was asked for is withheld")
    tree = statement.tree.copy()
    values = _Values(statement.values)
    if statement.outputs:
        projections = [node for node, keep in zip(tree.expressions, kept, strict=True) if keep]
        tree.set(
            "expressions",
            [_label(node.unalias(), output.label) for node, output in zip(projections, outputs, strict=True)],
        )
    if obligations.round_to is not None:
        _check_order(tree, outputs)
    columns = {
        alias: {column.name for column in tree.find_all(exp.Column) if column.table == alias}
        for alias in statement.tables
    }
    for alias, table in statement.tables.items():
        if not columns[alias] and f"{table.name}.{table.pupil}" not in statement.used_fields:
            # SECURITY: its rows would still decide how many come out
            # (test_a_table_with_nothing_left_is_not_joined)
            raise Refused(f"every column of `{alias}` that was asked for is withheld")
    hidden = _add_pupil_counts(tree, statement, outputs)
    reads: set[tuple[str, str]] = set()
    for node in list(tree.find_all(exp.Table)):
        alias = node.alias or node.name
        alias = next(known for known in statement.tables if known.casefold() == alias.casefold())
        view = _Narrow(
            schema=schema,
            table=statement.tables[alias],
            verdicts=verdicts,
            obligations=obligations,
            years=years,
            values=values,
            reads=reads,
        )
        node.replace(view.of(sorted(columns[alias])).subquery(exp.to_identifier(alias, quoted=True)))
    if not statement.outputs:
        tree = exp.select(exp.Exists(this=tree))
    return Guarded(
        sql=tree.sql(dialect="sqlite", comments=False),
        values=values.all,
        outputs=outputs or (Output("exists", Kind.VALUE, frozenset(statement.used_fields)),),
        cut=tuple(out.label for out, keep in zip(statement.outputs, kept, strict=True) if not keep),
        hidden=hidden,
        grouped=tree.args.get("group") is not None,
        reads=frozenset(reads),
    )


def _may_be_read(verdict: Verdict | None) -> bool:
    if verdict is None or verdict.effect is Effect.WITHHOLD:
        return False
    return verdict.effect is Effect.RELEASE or (bool(verdict.steps) and all(map(knows, verdict.steps)))


def _label(node: exp.Expr, label: str) -> exp.Expr:
    return exp.alias_(node.copy(), label, quoted=True)


def _add_pupil_counts(tree: exp.Select, statement: Statement, outputs: tuple[Output, ...]) -> int:
    """Count pupils, each once, and add behind the columns how many the group and each count are about.

    SECURITY: a count of rows would weigh a pupil by the rows there are of them, which rounding and the
    minimum know nothing of (test_a_count_counts_each_pupil_once).
    """
    if not any(output.kind is Kind.AGGREGATE for output in outputs):
        return 0
    first = next(iter(statement.tables))
    counts = [_fewest([_distinct(_pupil(alias)) for alias in statement.tables])]
    shown: list[exp.Expr] = []
    for node, output in zip(tree.expressions, outputs, strict=True):
        count = node.unalias()
        if output.kind is Kind.AGGREGATE:
            column = count.find(exp.Column)
            # every row of a join has a row of the first table
            whose = _pupil(first) if column is None else _where_present(_pupil(column.table), column.copy())
            counts.append(_distinct(whose))
            if not isinstance(count.this, exp.Distinct):
                count = _distinct(whose.copy())
        shown.append(_label(count, output.label))
    tree.set("expressions", [*shown, *counts])
    return len(counts)


def _check_order(tree: exp.Select, outputs: tuple[Output, ...]) -> None:
    counts = {output.label.casefold() for output in outputs if output.kind is Kind.AGGREGATE}
    order = tree.args.get("order")
    for sort in order.expressions if order else ():
        if not sort.this.table and sort.this.name.casefold() in counts:
            raise Refused(f"sorting on `{sort.this.name}`, which is rounded; sort the rows that come out")


def _pupil(alias: str) -> exp.Column:
    return exp.column(_PUPIL, table=alias, quoted=True)


def _distinct(node: exp.Expr) -> exp.Expr:
    return exp.Count(this=exp.Distinct(expressions=[node]))


def _where_present(pupil: exp.Column, column: exp.Expr) -> exp.Expr:
    return exp.Case(ifs=[exp.If(this=exp.Not(this=exp.Is(this=column, expression=exp.Null())), true=pupil)])


def _fewest(counts: list[exp.Expr]) -> exp.Expr:
    return counts[0] if len(counts) == 1 else exp.Anonymous(this="MIN", expressions=counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Narrow:
    """Builds the sub-query that stands in for one table."""

    schema: Schema
    table: Table
    verdicts: Mapping[str, Verdict]
    obligations: Obligations
    years: Collection[int]
    values: _Values
    reads: set[tuple[str, str]]

    def of(self, columns: list[str]) -> exp.Select:
        """Select the columns in their decided form, and the pupil, from the admitted rows.

        SECURITY: LIMIT -1 (no limit) keeps SQLite from merging this into the statement around it, so
        that no condition of the caller is ever tried on a row or a value that is not admitted. It also
        has each value transformed once, and not at every comparison of a join.
        """
        table = self.table
        pupil = self._column(table, table.pupil)
        projections = [_label(self._decided(column), column) for column in columns]
        rows = [
            exp.Not(this=exp.Is(this=pupil.copy(), expression=exp.Null())),
            exp.Not(this=self._sealed(pupil)),
        ]
        return (
            exp.select(*projections, _label(pupil, _PUPIL))
            .from_(_base(table))
            .where(*rows, *self._in_years(), *self._in_authorities(pupil))
            .limit(-1)
        )

    def _column(self, table: Table, name: str) -> exp.Column:
        self.reads.add((table.name, name))
        return exp.column(name, table=table.name, quoted=True)

    def _decided(self, name: str) -> exp.Expr:
        verdict = self.verdicts[f"{self.table.name}.{name}"]
        value: exp.Expr = self._column(self.table, name)
        for step in verdict.steps if verdict.effect is Effect.TRANSFORM else ():
            arguments = [value]
            if step.kind is not StepKind.PSEUDONYMISE:
                arguments.append(self.values.bind(step.to or step.amount))
            value = exp.Anonymous(this=FUNCTION_OF[step.kind], expressions=arguments)
        return value

    def _sealed(self, pupil: exp.Column) -> exp.Expr:
        token = exp.Anonymous(this=SEAL_FUNCTION, expressions=[pupil.copy()])
        sealed = exp.table_(SEALED_TABLE, db="temp")
        return exp.In(this=token, query=exp.select("token").from_(sealed).subquery())

    def _in_years(self) -> list[exp.Expr]:
        admitted = self.obligations.row_years
        table = self.table
        if table.year:
            # the question's years are for columns that name none; a census column names its own
            return [] if admitted is None or table.year in admitted else [exp.false()]
        wanted = frozenset(self.years) if admitted is None else admitted.intersection(self.years)
        year = exp.Substring(
            this=self._column(table, table.year_column),
            start=self.values.bind(1),
            length=self.values.bind(4),
        )
        return [self._one_of(exp.cast(year, "INTEGER"), wanted)]

    def _in_authorities(self, pupil: exp.Column) -> list[exp.Expr]:
        admitted = self.obligations.row_local_authorities
        if admitted is None:
            return []
        if self.table.local_authority:
            return [self._one_of(self._column(self.table, self.table.local_authority), admitted)]
        census = self.schema.table(self.schema.census)
        if census is None or not census.local_authority:
            return [exp.false()]
        pupils = (
            exp.select(self._column(census, census.pupil))
            .from_(_base(census))
            .where(self._one_of(self._column(census, census.local_authority), admitted))
        )
        return [exp.In(this=pupil.copy(), query=pupils.subquery())]

    def _one_of(self, node: exp.Expr, admitted: Collection[str | int]) -> exp.Expr:
        if not admitted:
            return exp.false()
        return exp.In(this=node, expressions=[self.values.bind(value) for value in sorted(admitted, key=str)])


def _base(table: Table) -> exp.Table:
    return exp.Table(
        this=exp.to_identifier(table.name, quoted=True), db=exp.to_identifier("main", quoted=True)
    )
