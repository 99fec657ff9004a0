"""`policyd audit verify`: rebuilds a log, or an export of one, and compares all that is stored."""

from __future__ import annotations

from pathlib import Path

import click

from policyd.cli.exits import Exit, Failure
from policyd.cli.options import json_option, print_json, read_text, show_progress
from policyd.ledger.tile_verify import verify_tiles
from policyd.ledger.verify import verify


@click.command(name="verify")
@click.argument(
    "directory", type=click.Path(path_type=Path, file_okay=False, exists=True), required=False, default=None
)
@click.option(
    "--tiles",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Verify this export (of `policyd audit export`) from its files alone, instead of a log.",
)
@click.option("--key", help="Verifier key (vkey) of the log, kept elsewhere. Default: the log's own.")
@click.option(
    "--since",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A checkpoint kept elsewhere, which the log must still contain.",
)
@click.option(
    "--cosigned",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    help="Another such checkpoint, beside a whole verification. Repeatable.",
)
@click.option(
    "--receipts",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Directory of clients' journals, or another node's log, whose receipts must be of this log.",
)
@click.option("--witness", help="Verifier key (vkey) of the witness that must have cosigned those given.")
@json_option
def verify_command(
    directory: Path | None,
    *,
    tiles: Path | None,
    key: str | None,
    since: Path | None,
    cosigned: tuple[Path, ...],
    witness: str | None,
    receipts: Path | None,
    as_json: bool,
) -> None:
    """Rebuild the log in DIRECTORY from its records and compare everything that is stored.

    DIRECTORY is a node's log, such as .policyd/nodes/node-1. Ends with 1 when anything is wrong, naming
    the first record at fault. Clears the mark that a failed log leaves, when everything is right.

    An export has no key of its own: without --key everything but its signature is checked.
    """
    if witness is not None and since is None and not cosigned:
        raise click.UsageError("--witness is about checkpoints: give them with --cosigned or --since")
    if tiles is not None and (cosigned or witness):
        raise click.UsageError("--cosigned and --witness are for the log itself; with --tiles give --since")
    start = None if since is None else read_text(since)
    if directory is not None and tiles is None:
        report = verify(
            directory,
            public_key=key,
            since=start,
            cosigned=[read_text(file) for file in cosigned],
            witness=witness,
            receipts=receipts,
            progress=show_progress,
        )
    elif tiles is not None and directory is None:
        report = verify_tiles(tiles, public_key=key, since=start, receipts=receipts, progress=show_progress)
    else:
        raise click.UsageError("name the directory of a log, or an export with --tiles, and not both")
    if as_json:
        print_json(
            {
                "origin": report.origin,
                "passed": report.passed,
                "records": report.records,
                "root": report.root.hex(),
                "key_pinned": report.key_pinned,
                "witnessed": report.witnessed,
                "records_per_s": round(report.records_per_s),
                "of_bare_sha256": round(report.of_bare_sha256, 3),
                "faults": [{"index": fault.index, "message": fault.message} for fault in report.faults],
            }
        )
    else:
        click.echo(str(report))
    if not report.passed:
        raise Failure("the ledger did not verify", Exit.FAILED)
