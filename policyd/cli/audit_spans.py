"""`policyd audit spans`: how far the export of spans is, what a collector lost, and sending it again."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path

import click

from policyd.cli.exits import Exit, Failure
from policyd.cli.options import json_option, print_json
from policyd.ledger.reader import LedgerReader
from policyd.telemetry.delivery import Outbox, make_senders
from policyd.telemetry.losses import Resent, read_losses, send_again, settle
from policyd.telemetry.projector import read_cursor
from policyd.telemetry.settings import make_resource, read_settings

_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})", re.ASCII)


@click.command(name="spans")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--resend",
    metavar="FROM..TO|lost",
    help="Send the spans of these records again, or of every range with losses.",
)
@json_option
def spans(directory: Path, *, resend: str | None, as_json: bool) -> None:
    """Show how many records of the log in DIRECTORY wait to be exported, and what the collector lost.

    --resend sends spans again, by the same OTEL_* settings as the node; records are counted from 0, both
    ends included. Spans have the same ids each time, so a collector that goes by ids keeps one of each.
    The node may be running. Ends with 1 when something was not taken.
    """
    with LedgerReader(directory) as reader:
        if resend is not None:
            _resend(reader, directory, resend, as_json=as_json)
            return
        size = reader.count()
        following = read_cursor(directory, origin=reader.origin, size=size)
        losses = read_losses(directory, origin=reader.origin)
        lost = sum(loss.spans for loss in losses)
        if as_json:
            print_json(
                {
                    "origin": reader.origin,
                    "records": size,
                    "next": following,
                    "waiting": size - following,
                    "lost": lost,
                    "losses": [asdict(loss) for loss in losses],
                }
            )
            return
        click.echo(f"log       {reader.origin}")
        click.echo(f"records   {size}, of which {size - following} wait to be exported")
        click.echo(f"lost      {lost} spans")
        for loss in losses:
            click.echo(f"  {loss.spans} of records {loss.first}..{loss.last}: {loss.why}")


def _resend(reader: LedgerReader, directory: Path, wanted: str, *, as_json: bool) -> None:
    ranges = _ranges(reader, directory, wanted)
    settings = read_settings(os.environ)
    senders, faults = make_senders(settings)
    for line in faults:
        click.echo(line, err=True)
    if not senders:
        raise click.UsageError(
            "no exporter to send to: set OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_TRACES_EXPORTER=console"
        )
    outbox = Outbox(reader, senders, make_resource(reader.origin))
    done: list[Resent] = []
    try:
        for first, last in ranges:
            done.append(again := send_again(outbox, first, last))
            settle(directory, first, again, origin=reader.origin)
            if again.next_index <= last:
                raise Failure(
                    f"stopped at record {again.next_index} ({again.why}): go on with "
                    f"--resend {again.next_index}..{last}",
                    Exit.FAILED,
                )
    finally:
        outbox.close_senders()
        sent = sum(each.sent_spans for each in done)
        lost = sum(loss.spans for each in done for loss in each.losses)
        if as_json:
            print_json({"origin": reader.origin, "sent": sent, "lost": lost})
        else:
            # stderr: the console exporter has stdout
            click.echo(f"{sent} spans sent, {lost} lost again", err=True)
    if lost:
        raise Failure("the collector did not keep everything", Exit.FAILED)


def _ranges(reader: LedgerReader, directory: Path, wanted: str) -> list[tuple[int, int]]:
    if wanted == "lost":
        return sorted({(loss.first, loss.last) for loss in read_losses(directory, origin=reader.origin)})
    match = _RANGE.fullmatch(wanted)
    size = reader.count()
    if match is None or not int(match[1]) <= int(match[2]) < size:
        raise click.UsageError(f"`{wanted}` is no range of records: give FROM..TO within 0..{size - 1}")
    return [(int(match[1]), int(match[2]))]
