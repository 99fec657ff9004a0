"""`policyd catalogue`: turn published data tables into catalogue files."""

from __future__ import annotations

from pathlib import Path

import click

from policyd.cli.exits import Commands
from policyd.policy.importer import import_catalogue, write_catalogue


@click.group(cls=Commands)
def catalogue() -> None:
    """Work with the catalogue of tables and fields."""


@catalogue.command(name="import")
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory to write one YAML file a table to. Without it nothing is written.",
)
def import_command(source: Path, *, out: Path | None) -> None:
    """Read the department's data tables from the CSV file SOURCE.

    Rows of one table and name merge into one field: lowest risk, all sensitivities.
    """
    result = import_catalogue(source)
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(
        f"{result.rows_read} rows read, {result.fields_written} fields in {len(result.tables)} tables, "
        f"{result.duplicates_merged} duplicates merged"
    )
    if out is not None:
        for path in write_catalogue(result, out):
            click.echo(f"wrote {path}")
