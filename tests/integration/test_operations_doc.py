"""docs/operations.md quotes what policyd says, and tells the reader to type what it understands."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from policyd.cli import main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/operations.md"
SEPARATOR = "\0"
"""Stands in a literal where a value goes."""
PLACE = re.compile(r"%\w|\{\w*\}")


def quotes(text: str) -> list[str]:
    """Return the messages that a page quotes: its block quotes, and code in the first column of tables."""
    blocks = re.findall(r"^ *> (.+)$", text, re.MULTILINE)
    cells = re.findall(r"^\| `([^|]*)` \|", text.partition("### A node does not start")[2], re.MULTILINE)
    return [*blocks, *cells]


def literals(root: Path) -> str:
    """Return every text in the sources, with a separator for each value and between texts."""
    found = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    each.value
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                    else SEPARATOR
                    for each in node.values
                ]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(PLACE.sub(SEPARATOR, node.value))
    return SEPARATOR.join(found)


def unsaid(text: str, sources: str) -> Iterator[str]:
    """Yield each part of a quoted message that no source has; `…` stands for what differs."""
    for quote in quotes(text):
        for piece in quote.split("…"):
            bare = piece.strip(" `:;(),")
            if len(bare) > 3 and not any(part in sources for part in (piece, piece.strip(), bare)):
                yield piece


def typed(text: str) -> Iterator[list[str]]:
    """Yield the words of every `policyd` command in a block to copy from."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in re.findall(r"^\$ (?:until )?policyd (.+?)(?:;.*)?$", block, re.MULTILINE):
            yield shlex.split(line)


def misread(words: list[str]) -> str:
    """Return why the command line would not take these words; empty if it would."""
    command: click.Command = main
    context = click.Context(main, info_name="policyd")
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        if found is None:
            return f"no command `{words[0]}`"
        command, words = found, words[1:]
    options = {name: each for each in command.params for name in each.opts if isinstance(each, click.Option)}
    given = [word for word in words if word.startswith("--")]
    unknown = [word for word in given if word not in options]
    missing = [each.name for each in command.params if each.required and not {*each.opts} & {*given}]
    missing = [name for name in missing if any(name == each.name for each in options.values())]
    return f"unknown: {unknown}, missing: {missing}" if unknown or missing else ""


def test_every_message_on_the_page_is_one_that_policyd_has() -> None:
    """What an operator searches for is what the code says, word for word between the values."""
    text = PAGE.read_text("utf-8")

    assert len(quotes(text)) > 15
    assert list(unsaid(text, literals(ROOT / "policyd"))) == []


def test_every_command_on_the_page_can_be_typed() -> None:
    """Commands and options exist, and none that is required is missing."""
    commands = list(typed(PAGE.read_text("utf-8")))

    assert len(commands) > 10
    assert [(words, why) for words in commands if (why := misread(words))] == []


def test_the_table_of_files_names_each_that_a_node_has() -> None:
    """The paths on the page are those of the example configuration and of the code."""
    text = PAGE.read_text("utf-8")

    for name in (
        "policyd.yaml",
        "trust.yaml",
        "deny.yaml",
        "keys/",
        "tls/",
        "nodes/<id>/",
        "state.db",
        "policy/",
    ):
        assert f"| `{name}`" in text, name


def test_what_is_not_so_is_found() -> None:
    """A message that nobody gives, a command that is not there, and an option left out."""
    page = "> the moon is … today, so wait\n> is at epoch …\n"

    assert list(unsaid(page, literals(ROOT / "policyd"))) == ["the moon is ", " today, so wait"]
    assert misread(["fly"]) == "no command `fly`"
    assert "missing: ['why']" in misread(["registry", "trust", "--as", "x"])
    assert "unknown: ['--lost']" in misread(["serve", "--lost"])
    assert misread(["serve"]) == ""
