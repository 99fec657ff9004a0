"""`policyd audit`: what auditors do with the ledger."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from policyd.cli.audit_erase import erase_command
from policyd.cli.audit_replay import replay
from policyd.cli.exits import Commands, Exit, Failure
from policyd.cli.options import json_option, print_json, read_text
from policyd.ledger.verify import verify


@click.group(cls=Commands)
def audit() -> None:
    """Prove what is in the ledger."""


@audit.command(name="verify")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--key", help="Verifier key (vkey) of the log, kept elsewhere. Default: the log's own.")
@click.option(
    "--since",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A checkpoint kept elsewhere, which the log must still contain.",
)
@json_option
def verify_command(directory: Path, *, key: str | None, since: Path | None, as_json: bool) -> None:
    """Rebuild the log in DIRECTORY from its records and compare everything that is stored.

    DIRECTORY is a node's log, such as .policyd/nodes/node-1. Ends with 1 when anything is wrong, naming
    the first record at fault. Clears the mark that a failed log leaves, when everything is right.
    """
    report = verify(
        directory,
        public_key=key,
        since=None if since is None else read_text(since),
        progress=_progress,
    )
    if as_json:
        print_json(
            {
                "origin": report.origin,
                "passed": report.passed,
                "records": report.records,
                "root": report.root.hex(),
                "key_pinned": report.key_pinned,
                "records_per_s": round(report.records_per_s),
                "faults": [{"index": fault.index, "message": fault.message} for fault in report.faults],
            }
        )
    else:
        click.echo(str(report))
    if not report.passed:
        raise Failure("the ledger did not verify", Exit.FAILED)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done:,} of {total:,} records", nl=done == total, err=True)


audit.add_command(erase_command)
audit.add_command(replay)
