"""Read SQL text as one SELECT of the supported syntax; refuse everything else.

Every kind of syntax node, and every option of it, has to be on the list below: what sqlglot learns to
parse later is refused until someone has thought about it.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

MAX_CHARACTERS = 10_000

_SIGNED_64_BITS = 2**63
_BINARY = ("this", "expression")
_ALLOWED: Mapping[type[exp.Expr], tuple[str, ...]] = {
    exp.Select: ("expressions", "from_", "joins", "where", "group", "order", "limit", "offset", "distinct"),
    exp.Distinct: ("expressions",),
    exp.From: ("this",),
    exp.Join: ("this", "side", "kind", "on"),
    exp.Table: ("this", "alias"),
    exp.TableAlias: ("this",),
    exp.Where: ("this",),
    exp.Group: ("expressions",),
    exp.Order: ("expressions",),
    exp.Ordered: ("this", "desc", "nulls_first"),
    exp.Limit: ("expression",),
    exp.Offset: ("expression",),
    exp.Column: ("this", "table"),
    exp.Identifier: ("this", "quoted"),
    exp.Alias: ("this", "alias"),
    exp.Star: (),
    exp.Literal: ("this", "is_string"),
    exp.Boolean: ("this",),
    exp.Null: (),
    exp.Exists: ("this",),
    exp.And: _BINARY,
    exp.Or: _BINARY,
    exp.Not: ("this",),
    exp.Paren: ("this",),
    exp.Neg: ("this",),
    exp.EQ: _BINARY,
    exp.NEQ: _BINARY,
    exp.GT: _BINARY,
    exp.GTE: _BINARY,
    exp.LT: _BINARY,
    exp.LTE: _BINARY,
    exp.Is: _BINARY,
    exp.Like: _BINARY,
    exp.In: ("this", "expressions"),
    exp.Between: ("this", "low", "high"),
    exp.Count: ("this", "big_int"),
    exp.Lower: ("this",),
    exp.Upper: ("this",),
    exp.Length: ("this",),
    exp.Substring: ("this", "start", "length"),
    exp.Coalesce: ("this", "expressions"),
    exp.Round: ("this", "decimals"),
    exp.Abs: ("this",),
}
_MAY_REST_ON_ONE = (exp.Sum, exp.Avg)


class Refused(Exception):
    """The statement cannot be worked out completely, so nothing was asked and nothing runs."""


def read_select(sql: str) -> exp.Select:
    """Parse one SELECT.

    Raises:
        Refused: it is something else, too long, or of a syntax that is not on the list.
    """
    if len(sql) > MAX_CHARACTERS:
        raise Refused(f"over {MAX_CHARACTERS} characters")
    try:
        statements = sqlglot.parse(sql, dialect="sqlite")
    except (SqlglotError, RecursionError) as error:
        # sqlglot quotes the statement, values and all, so its text goes no further
        raise Refused("not SQL that can be read") from error
    if len(statements) != 1:
        raise Refused(f"{len(statements)} statements; ask for one at a time")
    tree = statements[0]
    if type(tree) is not exp.Select:
        raise Refused("not a SELECT")
    _check_nodes(tree)
    return tree


def _check_nodes(tree: exp.Select) -> None:
    for node in tree.walk():
        if isinstance(node, _MAY_REST_ON_ONE):
            # SECURITY: a sum or an average over many pupils may be the value of one, when the others have
            # nothing or are known (test_an_attack_on_counts_is_refused)
            raise Refused(
                f"`{type(node).__name__.upper()}` may rest on one pupil; ask for COUNT, or for the values"
            )
        options = _ALLOWED.get(type(node))
        if options is None:
            name = node.name if isinstance(node, exp.Anonymous) else type(node).__name__
            raise Refused(f"`{name}` is not supported")
        for option, value in node.args.items():
            if value and option not in options:
                raise Refused(f"`{option.strip('_')}` of `{type(node).__name__}` is not supported")
        if isinstance(node, exp.Join) and (
            node.args.get("on") is None
            or node.side not in {"", "LEFT"}
            or node.kind not in {"", "INNER", "OUTER"}
        ):
            raise Refused("only JOIN ... ON and LEFT JOIN ... ON are supported")
        if isinstance(node, exp.Limit | exp.Offset) and not _is_integer(node.expression):
            raise Refused("LIMIT and OFFSET take a whole number")


def _is_integer(node: exp.Expr | None) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit()


def bind_literals(select: exp.Select) -> dict[str, str | int | float]:
    """Replace every literal by a placeholder and return the values.

    Raises:
        Refused: a number is none that the database can hold.
    """
    values: dict[str, str | int | float] = {}
    for literal in list(select.find_all(exp.Literal)):
        name = f"v{len(values)}"
        values[name] = literal.name if literal.is_string else _number(literal.name)
        literal.replace(exp.Placeholder(this=name))
    return values


def _number(text: str) -> int | float:
    try:
        number = int(text) if text.isdigit() else float(text)
    except ValueError:
        raise Refused("a number that cannot be read") from None
    if isinstance(number, int) and number >= _SIGNED_64_BITS:
        raise Refused("a whole number over 64 bits; the database holds none")
    return number
