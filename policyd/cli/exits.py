"""Exit codes, and how errors reach the user: one place, so that every command speaks alike."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from enum import IntEnum
from importlib import import_module
from types import MappingProxyType
from typing import Any

import click

from policyd import errors

NONE: Mapping[str, str] = MappingProxyType({})


class Exit(IntEnum):
    """Exit codes of DESIGN.md section 6."""

    DONE = 0
    """Done, or released in full."""
    FAILED = 1
    """A check, a test or a verification failed."""
    USAGE = 2
    """Wrong usage or configuration."""
    WITHHELD = 3
    """Something was withheld."""
    NO_DECISION = 4
    """No decision: unreachable, stale, or refused to log."""


_CODES: dict[type[errors.PolicydError], Exit] = {
    errors.ConfigError: Exit.USAGE,
    errors.NotServing: Exit.NO_DECISION,
    errors.StateUnfit: Exit.NO_DECISION,
    errors.LedgerClosed: Exit.NO_DECISION,
    errors.LedgerBusy: Exit.NO_DECISION,
}


class Failure(click.ClickException):
    """Ends the command with a message and a code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # click declares it on the class

    def show(self, file: Any = None) -> None:
        """Print the message to stderr, one mistake a line."""
        click.echo(self.message, err=True)


class Commands(click.Group):
    """A group whose commands may raise errors of policyd; they end it with a message and a code.

    ``lazy`` says where commands are, as `module:name`, by what users call them. They are loaded when they
    are wanted: an auditor's verifier then runs in a process without the server, and a witness without
    either.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, str] = NONE, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loading it; None when there is none of that name."""
        if cmd_name in self._lazy and cmd_name not in self.commands:
            module, _, name = self._lazy[cmd_name].partition(":")
            command: click.Command = getattr(import_module(module), name)
            self.add_command(command, cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant; where there is none, name the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            raise click.UsageError(
                error.message + (f" Did you mean `{near[0]}`?" if near else ""), ctx
            ) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except errors.SourceError as error:
            count = f"{len(error.problems)} mistake{'s' * (len(error.problems) != 1)}"
            raise Failure(f"{error}\n{count}; nothing was loaded", Exit.FAILED) from error
        except errors.PolicydError as error:
            raise Failure(f"policyd: {error}", _CODES.get(type(error), Exit.FAILED)) from error
