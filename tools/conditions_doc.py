"""Write the table of docs/conditions.md from the vectors that the tests run, so that they cannot differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/conditions.md"
VECTORS = ROOT / "tests/vectors/conditions/table.yaml"
TABLE = re.compile(r"(?<=\|---\|\n)(\|.*\n)*", re.MULTILINE)
"""The rows below the head of the table."""


def answers(written: str) -> str:
    """Return the cell of four answers."""
    return written if written == "refused" else " ".join(written)


def spell(value: object) -> str:
    """Write a value or a condition as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...").replace("|", "\\|")


def row(case: dict[str, Any]) -> str:
    """Return the row of one vector."""
    other = f", `$.other` is `{spell(case['other'])}`" if "other" in case else ""
    missing = "both missing" if case.get("both_missing") else "missing"
    cells = [
        f"`{spell(case['condition'])}`{other}",
        *(f"`{spell(case[column])}`" for column in ("true", "false")),
        missing,
        f"`{spell(case['wrong'])}`",
        answers(case["py_abac"]) if "py_abac" in case else "none",
        answers(case["ours"]),
        case["why"],
    ]
    return f"| {' | '.join(cells)} |"


def rows() -> Iterator[dict[str, Any]]:
    """Yield the vectors."""
    yield from yaml.safe_load(VECTORS.read_text(encoding="utf-8"))


def render(page: str) -> str:
    """Return the page with the rows of its table written anew."""
    made = "".join(f"{row(case)}\n" for case in rows())
    return TABLE.sub(lambda _: made, page, count=1)


if __name__ == "__main__":
    TARGET.write_text(render(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
