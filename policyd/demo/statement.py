"""Work out from SQL text which fields a query touches; refuse what cannot be worked out completely.

One SELECT over catalogue tables, joined with ON, or ``SELECT EXISTS (SELECT 1 ...)``, in the syntax that
syntax.py admits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from policyd_client.model import Action
from sqlglot import exp

from policyd.demo.schema import Schema, Table
from policyd.demo.syntax import Refused, bind_literals, read_select

STRENGTH: Mapping[Action, int] = {
    Action.COUNT: 0,
    Action.VERIFY: 1,
    Action.RELEASE: 2,
    Action.MATCH: 2,
    Action.LINK: 2,
}
"""How much an action lets out; a caller may declare what the statement is, or something stronger."""


class Kind(StrEnum):
    """What one output column of a query is."""

    VALUE = "value"
    KEY = "key"
    AGGREGATE = "aggregate"


@dataclass(frozen=True, slots=True)
class Output:
    """One output column: its label, and the fields that it is made of."""

    label: str
    kind: Kind
    fields: frozenset[str]


@dataclass(frozen=True, slots=True)
class Statement:
    """A query, worked out.

    ``tree`` names every column by table alias, in the schema's spelling, and holds placeholders for
    all literals, whose values are in ``values``; treat it as read-only. For ``verify`` it is the
    query inside EXISTS. ``fields`` leave, ``used_fields`` are filtered, joined, grouped or sorted on;
    a name may be in both. ``wildcard``: ``fields`` holds ``Table.*`` and the query cannot run.
    """

    tree: exp.Select
    values: Mapping[str, str | int | float]
    tables: Mapping[str, Table]
    outputs: tuple[Output, ...]
    fields: tuple[str, ...]
    used_fields: tuple[str, ...]
    action: Action
    wildcard: bool


def fields_of(sql: str, schema: Schema) -> Statement:
    """Work out what a query touches.

    Raises:
        Refused: it is not one SELECT of the supported form, or names something unknown.
    """
    tree = read_select(sql)
    inner = _peel_exists(tree)
    select = tree if inner is None else inner
    if sum(1 for _ in select.find_all(exp.Select, exp.Exists)) > 1:
        raise Refused("a query inside the query; write it as a join")
    tables = _read_tables(select, schema)
    labels = {projection.alias.casefold() for projection in select.expressions if projection.alias}
    for column in list(select.find_all(exp.Column)):
        _resolve(column, tables, labels)
    outputs, wildcards = _read_outputs(select, tables)
    used = _used_fields(select, tables, outputs)
    leaving = [field for output in outputs for field in sorted(output.fields)]
    if inner is not None:
        _check_verify(select)
        action, leaving, outputs = Action.VERIFY, [], ()
    elif outputs and any(output.kind is Kind.AGGREGATE for output in outputs):
        _check_count(select, outputs)
        _check_count_joins(select, tables)
        action = Action.COUNT
    else:
        if select.args.get("group"):
            raise Refused("GROUP BY without an aggregate; write SELECT DISTINCT")
        action = Action.RELEASE
    used.extend(_unnamed(select, tables, wildcards))
    return Statement(
        tree=select,
        values=bind_literals(select),
        tables=tables,
        outputs=outputs,
        fields=tuple(dict.fromkeys((*wildcards, *leaving))),
        used_fields=tuple(dict.fromkeys(used)),
        action=action,
        wildcard=bool(wildcards),
    )


def declare(derived: Action, declared: Action | None) -> Action:
    """Return the action to ask for: the declared one unless the statement lets out more than it says.

    Raises:
        Refused: the declared action is weaker than what the statement does.
    """
    if declared is None:
        return derived
    if STRENGTH[declared] < STRENGTH[derived]:
        raise Refused(f"declared as `{declared}`, but the statement is a `{derived}`")
    return declared


def _peel_exists(tree: exp.Select) -> exp.Select | None:
    """Return the query inside ``SELECT EXISTS (...)``, None for any other statement."""
    if tree.args.get("from_") is not None or len(tree.expressions) != 1:
        return None
    only = tree.expressions[0].unalias()
    inner = only.this if isinstance(only, exp.Exists) else None
    return inner if isinstance(inner, exp.Select) else None


def _read_tables(select: exp.Select, schema: Schema) -> dict[str, Table]:
    source = select.args.get("from_")
    if source is None:
        raise Refused("no FROM")
    tables: dict[str, Table] = {}
    for node in [source.this, *(join.this for join in select.args.get("joins") or ())]:
        table = schema.table(node.name) if isinstance(node, exp.Table) else None
        if table is None:
            raise Refused(f"`{node.name}` is not a table of this database")
        alias = node.alias or table.name
        if alias.casefold() in {other.casefold() for other in tables}:
            raise Refused(f"`{alias}` names two tables; give each its own alias")
        tables[alias] = table
    return tables


def _resolve(column: exp.Column, tables: Mapping[str, Table], labels: set[str]) -> None:
    """Name a column by table alias, in the schema's spelling; labels of outputs may be sorted on."""
    if isinstance(column.this, exp.Star):
        if column.table and _alias(column.table, tables) is None:
            raise Refused(f"`{column.table}` is not a table of this query")
        return
    wanted, name = column.table, column.name
    if wanted and _alias(wanted, tables) is None:
        raise Refused(f"`{wanted}` is not a table of this query")
    found = [
        (alias, spelled)
        for alias, table in tables.items()
        if not wanted or alias.casefold() == wanted.casefold()
        if (spelled := table.column(name)) is not None
    ]
    sorts = column.find_ancestor(exp.Order) is not None
    if not wanted and sorts and name.casefold() in labels:
        if found:
            raise Refused(f"`{name}` is both a column and a label; write the table's name before it")
        return
    if len(found) != 1:
        raise Refused(f"`{name}` is {'in more than one table' if found else 'not a column of these tables'}")
    alias, spelled = found[0]
    column.set("this", exp.to_identifier(spelled, quoted=True))
    column.set("table", exp.to_identifier(alias, quoted=True))


def _alias(name: str, tables: Mapping[str, Table]) -> str | None:
    return next((alias for alias in tables if alias.casefold() == name.casefold()), None)


def _field(column: exp.Column, tables: Mapping[str, Table]) -> str:
    return f"{tables[column.table].name}.{column.name}"


def _read_outputs(
    select: exp.Select, tables: Mapping[str, Table]
) -> tuple[tuple[Output, ...], tuple[str, ...]]:
    """Return the outputs, and ``Table.*`` for each table of which everything is wanted."""
    group = select.args.get("group")
    keys = {column.sql() for column in group.expressions} if group else set()
    outputs: list[Output] = []
    wildcards: list[str] = []
    for projection in select.expressions:
        node = projection.unalias()
        star = node if isinstance(node, exp.Star) else node.find(exp.Star)
        if star is not None and not isinstance(star.parent, exp.Count):
            wanted = node.table if isinstance(node, exp.Column) else ""
            chosen = [_alias(wanted, tables)] if wanted else list(tables)
            wildcards.extend(f"{tables[alias].name}.*" for alias in chosen if alias is not None)
            continue
        kind = Kind.AGGREGATE if node.find(exp.Count) else Kind.KEY if node.sql() in keys else Kind.VALUE
        fields = frozenset(_field(column, tables) for column in node.find_all(exp.Column))
        label = projection.alias or (
            node.name if isinstance(node, exp.Column) else f"column{len(outputs) + 1}"
        )
        if label.casefold() in {other.label.casefold() for other in outputs}:
            raise Refused(f"two columns called `{label}`; give each its own label")
        outputs.append(Output(label, kind, fields))
    return tuple(outputs), tuple(dict.fromkeys(wildcards))


def _used_fields(select: exp.Select, tables: Mapping[str, Table], outputs: tuple[Output, ...]) -> list[str]:
    """Return what is filtered, joined, grouped or sorted on; sorting on a label uses what it is made of."""
    made_of = {output.label.casefold(): sorted(output.fields) for output in outputs}
    parts = (select.args.get(part) for part in ("where", "group", "order"))
    used: list[str] = []
    for place in (*(select.args.get("joins") or ()), *(part for part in parts if part is not None)):
        if place.find(exp.Count):
            raise Refused("an aggregate outside the SELECT list")
        for column in place.find_all(exp.Column):
            used.extend([_field(column, tables)] if column.table else made_of[column.name.casefold()])
        if isinstance(place, exp.Order) and any(
            not isinstance(sort.this, exp.Column) for sort in place.expressions
        ):
            raise Refused("ORDER BY takes columns and labels")
    return used


def _unnamed(select: exp.Select, tables: Mapping[str, Table], wildcards: tuple[str, ...]) -> list[str]:
    """Return the pupil column of each table of which the statement names no column.

    SECURITY: its rows still decide how many rows come out, so reading it has to be asked and recorded
    (test_fields_and_action_follow_from_the_statement).
    """
    named = {column.table for column in select.find_all(exp.Column)}
    return [
        f"{table.name}.{table.pupil}"
        for alias, table in tables.items()
        if alias not in named and f"{table.name}.*" not in wildcards
    ]


def _check_verify(select: exp.Select) -> None:
    if any(select.args.get(part) for part in ("group", "order", "limit", "offset", "distinct")):
        raise Refused("EXISTS takes only FROM, JOIN and WHERE")
    if any(not isinstance(projection, exp.Literal) for projection in select.expressions):
        raise Refused("write SELECT EXISTS (SELECT 1 FROM ...)")


def _check_count(select: exp.Select, outputs: tuple[Output, ...]) -> None:
    """Admit plain counts, and group keys that are shown.

    Arithmetic on a count would undo its rounding, and LIMIT would show where small groups were, as would
    groups without their key. Sorting on a value sorts groups by the value of one pupil of each.
    """
    if any(select.args.get(part) for part in ("distinct", "limit", "offset")):
        raise Refused("a count takes no DISTINCT, LIMIT or OFFSET")
    if any(output.kind is Kind.VALUE for output in outputs):
        raise Refused("a column that is neither counted nor grouped by")
    group = select.args.get("group")
    keys = group.expressions if group else []
    if not all(isinstance(key, exp.Column) for key in keys):
        raise Refused("GROUP BY takes columns")
    if missing := {key.sql() for key in keys} - {node.unalias().sql() for node in select.expressions}:
        raise Refused(f"{min(missing)} is grouped by and not in the SELECT list")
    for projection in select.expressions:
        node = projection.unalias()
        if isinstance(node, exp.Count):
            argument = node.this
            if isinstance(argument, exp.Distinct) and len(argument.expressions) == 1:
                argument = argument.expressions[0]
            if _is_column(argument) or type(node.this) is exp.Star:
                continue
        elif _is_column(node):
            continue
        raise Refused("aggregates are COUNT(*) and COUNT of one column, with nothing around them")
    _check_count_order(select, outputs)


def _is_column(node: exp.Expr) -> bool:
    return isinstance(node, exp.Column) and not isinstance(node.this, exp.Star)


def _check_count_order(select: exp.Select, outputs: tuple[Output, ...]) -> None:
    order = select.args.get("order")
    if order is None:
        return
    shown = {
        output.label.casefold(): (output.kind, node.unalias())
        for output, node in zip(outputs, select.expressions, strict=True)
    }
    keys = {node.sql() for kind, node in shown.values() if kind is Kind.KEY}
    for sort in order.expressions:
        column = sort.this
        if column.table:
            if column.sql() not in keys:
                raise Refused("a count is sorted on what it is grouped by, or on a label")
            continue
        kind, node = shown[column.name.casefold()]
        if kind is Kind.AGGREGATE and not isinstance(node.this, exp.Star):
            # a cell that is too small comes out blank, and its place in the order would fill it in
            raise Refused(f"sorting on `{column.name}`; of counts, only COUNT(*) may be sorted on")


def _check_count_joins(select: exp.Select, tables: Mapping[str, Table]) -> None:
    """Admit only joins that put together rows of the same pupil.

    SECURITY: any other join weighs the pupils counted, or counts on a condition about other pupils
    (test_an_attack_on_counts_is_refused).
    """
    if len({table.name for table in tables.values()}) < len(tables):
        raise Refused("a count takes each table once")
    aliases = list(tables)
    for place, join in enumerate(select.args.get("joins") or (), start=1):
        on = join.args["on"].unnest()
        pairs = [
            {(part.this.table, part.this.name), (part.expression.table, part.expression.name)}
            for part in (on.flatten() if isinstance(on, exp.And) else [on])
            if isinstance(part, exp.EQ)
            and isinstance(part.this, exp.Column)
            and isinstance(part.expression, exp.Column)
        ]
        joined = (aliases[place], tables[aliases[place]].pupil)
        same_pupil = [{joined, (alias, tables[alias].pupil)} for alias in aliases[:place]]
        conditions = 1 + sum(1 for _ in on.find_all(exp.And))
        if len(pairs) != conditions or not any(pair in same_pupil for pair in pairs):
            raise Refused(
                "in a count, JOIN takes column = column (AND ...), and the pupil's reference has to be one"
            )
