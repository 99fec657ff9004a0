"""Which small faults a source file can be given: one changed operator, constant, argument or statement each.

A mutant is a change of the text, so that it can be shown as one; nothing inside an f-string is changed
(Python 3.11 does not say where its parts stand), nor annotations, imports, decorators and docstrings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_COMPARE: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: (r"is\s+not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: (r"not\s+in", ("in",)),
}
_BINARY: dict[type[ast.operator], tuple[str, str]] = {
    ast.BitAnd: ("&", "|"),
    ast.BitOr: (r"\|", "&"),
    ast.BitXor: (r"\^", "|"),
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
_DROPS = (ast.BitAnd, ast.BitOr, ast.BitXor)
"""Operators of sets, of which either side alone is a mutant too."""
_OTHER_NAME = {"min": "max", "max": "min", "any": "all", "all": "any"}

Change = tuple[ast.AST, str]
"""A node, and the text to write in its place."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: ``source`` is the whole changed text, ``line`` where it stands in the original.

    ``before`` and ``after`` are the changed lines without indentation, joined by spaces; with ``where``
    (the function or class around) they name the mutant as long as its lines are not edited.
    """

    line: int
    last_line: int
    where: str
    before: str
    after: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of ``source`` in order of place, without those that mean the same."""
    text = _Text(source)
    tree = ast.parse(source)
    seen, found = {ast.dump(tree)}, []
    for where, node, change in _walk(text, tree, ""):
        made = text.replaced(node, change)
        try:
            meaning = ast.dump(ast.parse(made))
        except SyntaxError:  # a statement that only stands where it stood
            continue
        if meaning not in seen:
            seen.add(meaning)
            found.append(text.mutant(where, node, change, made))
    return sorted(found, key=lambda each: each.line)


class _Text:
    """The text of a file, addressed as ``ast`` does: lines from 1, columns in bytes of UTF-8."""

    def __init__(self, source: str) -> None:
        self._raw = source.encode()
        self._starts = [0, *(match.end() for match in re.finditer(b"\n", self._raw))]

    def span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.expr | ast.stmt)  # noqa: S101  (nothing else is changed)
        assert node.end_lineno is not None and node.end_col_offset is not None  # noqa: S101, PT018
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def of(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self._raw[start:end].decode()

    def between(self, left: ast.AST, right: ast.AST) -> str:
        return self._raw[self.span(left)[1] : self.span(right)[0]].decode()

    def replaced(self, node: ast.AST, change: str) -> str:
        start, end = self.span(node)
        return (self._raw[:start] + change.encode() + self._raw[end:]).decode()

    def mutant(self, where: str, node: ast.AST, change: str, made: str) -> Mutant:
        start, end = self.span(node)
        first = self._raw.rfind(b"\n", 0, start) + 1
        after_last = self._raw.find(b"\n", end)
        last = len(self._raw) if after_last < 0 else after_last
        whole = (self._raw[first:start] + change.encode() + self._raw[end:last]).decode()
        line = self._raw.count(b"\n", 0, start) + 1
        last_line = line + self._raw.count(b"\n", start, end)
        before = self._raw[first:last].decode()
        return Mutant(line, last_line, where, " ".join(before.split()), " ".join(whole.split()), made)


def _walk(text: _Text, node: ast.AST, where: str) -> Iterator[tuple[str, ast.AST, str]]:
    for node_, change in _changes(text, node):
        yield where, node_, change
    for child in _children(node):
        named = isinstance(child, ast.FunctionDef | ast.ClassDef)
        yield from _walk(text, child, f"{where}.{child.name}".lstrip(".") if named else where)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    skipped: list[ast.AST | None] = []
    match node:
        case ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return
        case ast.AnnAssign():
            skipped = [node.annotation]
        case ast.FunctionDef():
            skipped = [*node.decorator_list, node.returns]
        case ast.ClassDef():
            skipped = [*node.decorator_list]
        case ast.arg():
            skipped = [node.annotation]
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        if not any(child is each for each in skipped):
            yield child


def _changes(text: _Text, node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare():
            yield from _comparisons(text, node)
        case ast.BoolOp():
            yield from _booleans(text, node)
        case ast.BinOp():
            yield from _binaries(text, node)
        case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub()):
            yield node, f"({text.of(node.operand)})"
        case ast.Constant(value=bool()):
            yield node, str(not node.value)
        case ast.Constant(value=int()):
            yield node, str(node.value + 1)
            yield node, f"({node.value - 1})"
        case ast.Call():
            yield from _calls(text, node)
        case ast.IfExp() | ast.If() | ast.While():
            yield from _negated(text, node.test)
        case ast.comprehension():
            for test in node.ifs:
                yield from _negated(text, test)
                yield test, "True"
        case _:
            yield from _statements(text, node)


def _negated(text: _Text, test: ast.expr) -> Iterator[Change]:
    # A comparison with one operator, or a `not`, has its opposite among its own changes.
    if not isinstance(test, ast.UnaryOp) and not (isinstance(test, ast.Compare) and len(test.ops) == 1):
        yield test, f"not ({text.of(test)})"


def _comparisons(text: _Text, node: ast.Compare) -> Iterator[Change]:
    operands = [node.left, *node.comparators]
    for (left, right), op in zip(pairwise(operands), node.ops, strict=True):
        pattern, others = _COMPARE[type(op)]
        for other in others:
            yield _between(text, node, (left, right), (pattern, other))


def _booleans(text: _Text, node: ast.BoolOp) -> Iterator[Change]:
    old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    others = f" {new} ".join(f"({text.of(each)})" for each in node.values)
    yield node, f"({others})"
    for dropped in node.values:
        left = f" {old} ".join(f"({text.of(each)})" for each in node.values if each is not dropped)
        yield node, f"({left})"


def _binaries(text: _Text, node: ast.BinOp) -> Iterator[Change]:
    if type(node.op) not in _BINARY:
        return
    yield _between(text, node, (node.left, node.right), _BINARY[type(node.op)])
    if isinstance(node.op, _DROPS):
        yield node, f"({text.of(node.left)})"
        yield node, f"({text.of(node.right)})"


def _between(text: _Text, node: ast.expr, sides: tuple[ast.expr, ast.expr], to: tuple[str, str]) -> Change:
    """Change the operator between two operands, keeping what else stands there."""
    left, right = sides
    gap = re.sub(*to, text.between(left, right), count=1)
    whole, start = text.of(node), text.span(node)[0]
    raw = whole.encode()
    before, after = raw[: text.span(left)[1] - start], raw[text.span(right)[0] - start :]
    # Operands may stand in parentheses of their own, and `a | b` binds less than `a & b` did.
    return node, f"({(before + gap.encode() + after).decode()})"


def _calls(text: _Text, node: ast.Call) -> Iterator[Change]:
    if isinstance(node.func, ast.Name) and node.func.id in _OTHER_NAME:
        yield node.func, _OTHER_NAME[node.func.id]
    plain = [each for each in node.args if not isinstance(each, ast.Starred)]
    if len(plain) == len(node.args) and len(plain) >= 2:
        for left, right in pairwise(plain):
            start = text.span(node)[0]
            raw = text.of(node).encode()
            (a, b), (c, d) = ((x - start, y - start) for x, y in (text.span(left), text.span(right)))
            swapped = raw[:a] + raw[c:d] + raw[b:c] + raw[a:b] + raw[d:]
            yield node, swapped.decode()


def _statements(text: _Text, node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Return(value=ast.expr()) if not _says_no(node.value):
            yield node, "return None"
        case ast.Expr(value=ast.Constant()) | ast.Expr(value=ast.Yield() | ast.YieldFrom()):
            pass  # a docstring; without its yield a function is another kind of thing
        case ast.Expr(value=ast.Call(func=ast.Name(id="assert_never"))):
            pass  # never runs
        case ast.Expr() | ast.Raise() | ast.Continue() | ast.Break():
            yield node, "pass"
        case ast.AugAssign():
            yield node, "pass"
            yield node, f"{text.of(node.target)} = {text.of(node.value)}"
            if type(node.op) in _BINARY:
                pattern, other = _BINARY[type(node.op)]
                sign = re.sub(pattern, other, text.between(node.target, node.value), count=1)
                yield node, f"{text.of(node.target)}{sign}{text.of(node.value)}"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "pass"
        case _:
            pass


def _says_no(value: ast.expr | None) -> bool:
    # False and None differ for mypy alone, and True has become False already.
    return isinstance(value, ast.Constant) and (value.value is None or isinstance(value.value, bool))


def names(found: Sequence[Mutant]) -> list[str]:
    """Return how each mutant is written down: where it is, and its lines before and after."""
    return [f"`{each.where or 'module'}`: `{each.before}` -> `{each.after}`" for each in found]
