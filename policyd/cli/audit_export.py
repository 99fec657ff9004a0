"""`policyd audit export`: the log as plain files in C2SP tlog-tiles form."""

from __future__ import annotations

from pathlib import Path

import click

from policyd.cli.options import json_option, print_json, show_progress
from policyd.ledger.tile_export import export


@click.command(name="export")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.option("--key", help="Verifier key (vkey) of the log, kept elsewhere. Default: the log's own.")
@json_option
def export_command(directory: Path, target: Path, *, key: str | None, as_json: bool) -> None:
    """Write the log in DIRECTORY to TARGET as C2SP tlog-tiles, up to its newest stored checkpoint.

    Run it again to add what is new: full tiles never change, and the checkpoint comes last. The records
    are written as they are in the tree, with pseudonyms; what they only commit to stays in the log.
    """
    report = export(directory, target, public_key=key, progress=show_progress)
    if as_json:
        print_json(
            {
                "origin": report.origin,
                "size": report.size,
                "added": report.added,
                "files": report.files,
                "target": str(target),
            }
        )
        return
    click.echo(f"log       {report.origin}")
    click.echo(f"records   {report.size}, {report.added} of them new")
    click.echo(f"written   {report.files} files in {target}, and its checkpoint")
