"""`policyd fields`: list what a requester could have, through the real client."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from policyd_client import Listing

from policyd.cli.asking import Asker, asker_options, asking, asking_options, hint
from policyd.cli.check import ledger_document, obligation_lines, place, verdict_document
from policyd.cli.exits import Exit, Failure
from policyd.cli.options import print_json


@click.command()
@asking_options
@click.option("--table", default="", help="Only fields of this table. Default: all.")
@asker_options
def fields(
    *,
    agreement: str,
    purposes: Sequence[str],
    table: str,
    action: str,
    requester: str,
    token_file: Path | None,
    data_service: str,
    address: str | None,
    deadline_s: float,
    data: Path,
    as_json: bool,
) -> None:
    """List the fields that a requester could have under an agreement, for a purpose.

    Asks as `policyd check` does, and is recorded like it, but names no field; it permits nothing. Ends
    with 0 when something is listed, 3 when nothing is, and 4 when no decision was made.
    """
    asker = Asker(requester, token_file, data_service, address, data)
    with asking(asker) as (client, token):
        listing = client.list_fields(
            agreement=agreement,
            purposes=purposes,
            table=table,
            action=action,
            requester_token=token,
            deadline_s=deadline_s,
        )
    if as_json:
        print_json(as_document(listing))
    else:
        show(listing)
    if listing.unexpected:
        raise Failure(f"no decision: {listing.unexpected}", Exit.NO_DECISION)
    hint(listing.reason, asker, agreement=agreement)
    if not listing.verdicts:
        raise SystemExit(Exit.WITHHELD)


def show(listing: Listing) -> None:
    """Print a listing for people: a heading for each verdict, and its fields below."""
    click.echo(f"{listing.outcome.value.upper()}  decision {listing.decision_id}")
    if listing.reason:
        click.echo(f"  withhold {listing.reason}  ({listing.rule})")
    elif not listing.verdicts:
        click.echo("  nothing could be had")
    groups: dict[str, list[str]] = {}
    for name, verdict in listing.verdicts.items():
        groups.setdefault(f"{verdict}  ({verdict.rule})", []).append(name)
    for heading, names in groups.items():
        click.echo(f"  {heading}: {len(names)}")
        for name in names:
            click.echo(f"    {name}")
    for line in obligation_lines(listing.obligations):
        click.echo(f"  must: {line}")
    click.echo(
        f"  policy version {listing.policy_version} {listing.policy_digest[:16]}, epoch {listing.epoch}, "
        f"trace {listing.trace_id}"
    )
    click.echo(f"  ledger {place(listing)}")


def as_document(listing: Listing) -> dict[str, object]:
    """Return a listing as plain values for JSON."""
    return {
        "outcome": listing.outcome.value,
        "decision_id": listing.decision_id,
        "reason": listing.reason,
        "rule": listing.rule,
        "verdicts": {name: verdict_document(verdict) for name, verdict in listing.verdicts.items()},
        "obligations": obligation_lines(listing.obligations),
        "identification_risk": listing.identification_risk,
        "sensitivity": listing.sensitivity,
        "policy_digest": listing.policy_digest,
        "policy_version": listing.policy_version,
        "epoch": listing.epoch,
        "trace_id": listing.trace_id,
        "ledger": ledger_document(listing),
        "unexpected": listing.unexpected,
    }
