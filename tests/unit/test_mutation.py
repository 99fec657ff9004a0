"""Mutants are small, mean something else, and are named so that an argument about one can be found again."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def mutation() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "mutation.py"
    spec = importlib.util.spec_from_file_location("mutation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutation"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("x = a < b", ["x = (a <= b)", "x = (a >= b)"]),
        ("x = a is not b", ["x = (a is b)"]),
        ("x = a  not  in b", ["x = (a in b)"]),
        ("x = a <= b < c", ["x = (a < b < c)", "x = (a > b < c)", "x = (a <= b <= c)", "x = (a <= b >= c)"]),
        (
            "x = a and b or c",
            [
                "x = ((a and b) and (c))",
                "x = ((c))",
                "x = ((a and b))",
                "x = ((a) or (b)) or c",
                "x = ((b)) or c",
                "x = ((a)) or c",
            ],
        ),
        ("x = not a", ["x = (a)"]),
        ("x = a & b", ["x = (a | b)", "x = (a)", "x = (b)"]),
        (
            "x = (a | b) & c",
            [
                "x = ((a | b) | c)",
                "x = (a | b)",
                "x = (c)",
                "x = ((a & b)) & c",
                "x = ((a)) & c",
                "x = ((b)) & c",
            ],
        ),
        ("x = a << b", ["x = (a >> b)"]),
        ("x = 5", ["x = 6", "x = (4)"]),
        ("x = True", ["x = False"]),
        ("x |= a", ["pass", "x = a", "x &= a"]),
        ("x = f(a, b)", ["x = f(b, a)"]),
        ("x = f(a, *b)", []),
        ("x = max(a)", ["x = min(a)"]),
        ("x = a if b else c", ["x = a if not (b) else c"]),
        ("x = [a for a in b if c]", ["x = [a for a in b if not (c)]", "x = [a for a in b if True]"]),
        ("x.y = a", ["pass"]),
        ("f(a)", ["pass"]),
        ("x: Literal[1] = a", []),
        ("x = f'{a < 1}'", []),
        ("x = 'text'", []),
    ],
)
def test_each_operator_makes_its_mutants(line: str, want: list[str], mutation: ModuleType) -> None:
    """What a line becomes, whatever its layout; texts, annotations and f-strings stay as they are."""
    assert [each.after for each in mutation.mutants(f"{line}\n")] == want


def test_a_mutant_is_named_by_its_function_and_its_lines(mutation: ModuleType) -> None:
    """The name has no line number, so that it outlives edits elsewhere; the source is the whole text."""
    head = 'é = "é"\n\n\nclass C:\n    def f(self):\n'
    source = head + "        return (\n            é\n            + 0\n        )\n"

    (plus,) = [each for each in mutation.mutants(source) if "+ 1" in each.after]
    assert (plus.line, plus.where, plus.before, plus.after) == (8, "C.f", "+ 0", "+ 1")
    assert mutation.names([plus]) == ["`C.f`: `+ 0` -> `+ 1`"]
    assert plus.source == source.replace("+ 0", "+ 1")


def test_what_means_the_same_is_no_mutant(mutation: ModuleType) -> None:
    """Decorators, imports, docstrings and statements that already return nothing are left alone."""
    source = (
        '"""Text."""\nfrom a import b\n\n\n@b(slots=True)\nclass C:\n    """Text."""\n\n'
        "    def f(self):\n        return None\n"
    )

    assert mutation.mutants(source) == []
