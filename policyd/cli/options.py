"""Options that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_DATA = Path(".policyd")
DEFAULT_POLICY = Path("policies/npd")

Command = TypeVar("Command", bound=Callable[..., Any])

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DATA,
    show_default=True,
    help="Data directory of the node.",
)
policy_option = click.option(
    "--policy",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_POLICY,
    show_default=True,
    help="Directory of the policy set.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def read_text(path: Path) -> str:
    """Return what a file named on the command line holds.

    Raises:
        click.UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"`{path}` cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"`{path}` is not UTF-8 text; is it the right file?") from error


def print_json(value: object) -> None:
    """Print a value as JSON, keys in the order given."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: object) -> None:
    """Print a value as one line of JSON, for files of such lines."""
    click.echo(json.dumps(value, ensure_ascii=False))


def show_progress(done: int, total: int) -> None:
    """Say on a terminal how far a long command is; elsewhere nothing."""
    if sys.stderr.isatty():
        click.echo(f"\r{done:,} of {total:,} records", nl=done == total, err=True)


def safe(value: object) -> str:
    """Return text that cannot steer a terminal."""
    text = str(value)
    return text if text.isprintable() else ascii(text)
