"""`policyd registry intents`: changes that were asked for, and of which this node does not know the end."""

from __future__ import annotations

from pathlib import Path

import click

from policyd.cli.options import data_option, json_option, print_json, safe
from policyd.clock import format_instant
from policyd.config import read_config
from policyd.ledger.intents import open_intents
from policyd.ledger.reader import LedgerReader


@click.command(name="intents")
@data_option
@json_option
def intents_command(*, data: Path, as_json: bool) -> None:
    """List changes on record as intended, and neither as in force nor as applied.

    A change that awaits its second signature is among them, and one whose answer was lost. It leaves the
    list when this node applies it, as it does each change that was made through any node.
    """
    with LedgerReader(read_config(data).ledger) as reader:
        found = open_intents(reader.records())
    if as_json:
        print_json(
            [
                {
                    "index": each.index,
                    "change": each.change,
                    "body_sha256": each.body_digest,
                    "who": each.who,
                    "why": each.why,
                    "at": format_instant(each.at),
                }
                for each in found
            ]
        )
        return
    for each in found:
        click.echo(
            f"record {each.index}: {each.change} {each.body_digest[:16]}, asked for by {safe(each.who)}"
            f" at {format_instant(each.at)}: {safe(each.why)}"
        )
    click.echo(f"{len(found)} without an outcome")
