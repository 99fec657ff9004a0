"""`policyd audit trace`: from a trace to everything that was decided in it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from policyd.cli.exits import Exit, Failure
from policyd.cli.options import json_option, print_json, print_json_line
from policyd.ledger.entry import parse_leaf
from policyd.ledger.reader import LedgerReader, StoredRecord
from policyd.ledger.traces import find_trace
from policyd.telemetry.adl import log_record

_TRACE_ID = re.compile(r"(?:[0-9a-f]{2}-)?(?!0{32})([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?", re.ASCII)


@click.command(name="trace")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("trace_id")
@click.option("--scan", is_flag=True, help="Look at every record instead of the index beside the log.")
@click.option("--adl", is_flag=True, help="Print Authorization Decision Log records, one JSON object a line.")
@json_option
def trace(directory: Path, trace_id: str, *, scan: bool, adl: bool, as_json: bool) -> None:
    """Show every decision of the log in DIRECTORY that belongs to TRACE_ID, in order.

    TRACE_ID has 32 hex digits; a whole traceparent will do. The answer to a question carries it as
    trace_id, and so does its span. Ends with 1 when there is none. Each node has a log of its own: ask
    each. The index is kept beside the log and is not proved by it; --scan does without.
    """
    match = _TRACE_ID.fullmatch(trace_id.lower())
    if match is None:
        raise click.UsageError(f"`{trace_id}` is no trace id: give 32 hex digits, not all zero")
    with LedgerReader(directory) as reader:
        origin = reader.origin
    found = find_trace(directory, match[1], scan=scan)
    if not found:
        raise Failure(f"no record of trace `{match[1]}` in the log of {origin}", Exit.FAILED)
    if adl:
        for record in found:
            if (each := log_record(record, origin=origin)) is not None:
                print_json_line(each)
    elif as_json:
        print_json(
            {"origin": origin, "trace_id": match[1], "decisions": [_document(record) for record in found]}
        )
    else:
        click.echo(f"trace {match[1]} in the log of {origin}")
        for record in found:
            _show(record)


def _document(record: StoredRecord) -> dict[str, Any]:
    leaf = parse_leaf(record.leaf)
    names = (
        "decision_id",
        "at",
        "span_id",
        "parent_span_id",
        "rpc",
        "outcome",
        "action",
        "data_service",
        "agreement",
        "requester",
        "purposes",
        "policy_digest",
        "policy_version",
        "epoch",
    )
    return {
        "index": record.index,
        "leaf_hash": record.leaf_hash.hex(),
        "kind": record.columns.kind,
        **{name: leaf[name] for name in names if name in leaf},
    }


def _show(record: StoredRecord) -> None:
    columns = record.columns
    at = datetime.fromtimestamp(columns.at / 1000, tz=UTC).isoformat(timespec="milliseconds")
    leaf = parse_leaf(record.leaf)
    click.echo(
        f"record {record.index}  {at}  {leaf.get('rpc', columns.kind)} {columns.action}: {columns.outcome}"
    )
    click.echo(f"  decision    {columns.decision_id}")
    click.echo(f"  asked by    {columns.data_service} for requester {columns.requester[:16] or 'unknown'}")
    click.echo(f"  agreement   {columns.agreement}, for {columns.purposes or 'no known purpose'}")
    click.echo(f"  span        {leaf.get('span_id', '')} below {leaf.get('parent_span_id') or 'nothing'}")
    click.echo(f"  leaf hash   {record.leaf_hash.hex()}")
