"""Write docs/commands.md from the command line's own help, so that the two cannot differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from policyd.cli import main
from policyd.cli.exits import Exit

TARGET = Path(__file__).parents[1] / "docs/commands.md"
_WIDTH = 100
_MEANING = {
    Exit.DONE: "done, or everything was released",
    Exit.FAILED: "a check, a test or a verification failed",
    Exit.USAGE: "wrong usage or configuration; nothing was done",
    Exit.WITHHELD: "something was withheld",
    Exit.NO_DECISION: "no decision was made: nobody there, state too old, or the ledger refused",
}


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command below `policyd` with its full name, groups before their commands."""
    yield from _below(
        main, click.Context(main, info_name="policyd", terminal_width=_WIDTH, **main.context_settings)
    )


def _below(
    command: click.Command, context: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _below(
                    child, click.Context(child, info_name=name, parent=context, terminal_width=_WIDTH)
                )


def render() -> str:
    """Return the page."""
    lines = [
        "# Commands",
        "",
        "Every command, as `--help` prints it.",
        "`make proto` writes this page again, and a test says when it is out of date.",
        "",
        "| exit code | meaning |",
        "|---|---|",
        *(f"| {code.value} | {_MEANING[code]} |" for code in Exit),
        "",
    ]
    for path, _, context in commands():
        lines += [f"{'#' * min(path.count(' ') + 2, 4)} {path}", "", "```text"]
        lines += [line.rstrip() for line in context.get_help().splitlines()]
        lines += ["```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
