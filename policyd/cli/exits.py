"""Exit codes, and how errors reach the user: one place, so that every command speaks alike."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import click

from policyd import errors


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
    """A group whose commands may raise errors of policyd; they end it with a message and a code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except errors.SourceError as error:
            count = f"{len(error.problems)} mistake{'s' * (len(error.problems) != 1)}"
            raise Failure(f"{error}\n{count}; nothing was loaded", Exit.FAILED) from error
        except errors.PolicydError as error:
            raise Failure(f"policyd: {error}", _CODES.get(type(error), Exit.FAILED)) from error
