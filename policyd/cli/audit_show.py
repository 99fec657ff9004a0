"""`policyd audit show`: what the ledger holds about one decision, where, and whether it is proved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from policyd.canonical import decode_mask
from policyd.cli.audit_prove import find
from policyd.cli.exits import Exit, Failure
from policyd.cli.options import json_option, print_json, safe
from policyd.clock import format_instant
from policyd.errors import LedgerCorrupt
from policyd.ledger.entry import PrivatePart, open_private, parse_leaf
from policyd.ledger.proving import Place, place_of
from policyd.ledger.reader import LedgerReader, StoredRecord

_MAX_VERDICTS = 16
_TEXTS = (
    ("rpc", "rpc"),
    ("caller", "spiffe_id"),
    ("service", "data_service"),
    ("setting", "setting"),
    ("requester", "requester"),
    ("of", "organisation"),
    ("agreement", "agreement"),
    ("gateway", "gateway"),
    ("action", "action"),
    ("trace", "trace_id"),
    ("question", "request_digest"),
    ("answer", "answer_digest"),
)


@click.command(name="show")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("decision_id")
@click.option("--key", help="Verifier key (vkey) of the log, kept elsewhere. Default: the log's own.")
@json_option
def show_command(directory: Path, decision_id: str, *, key: str | None, as_json: bool) -> None:
    """Show what the log in DIRECTORY holds about a decision, on one screen.

    Its record, with the exact reasons that the caller was not told; where it is; and whether the proof
    under the newest stored checkpoint holds. Ends with 1 when it does not.
    """
    with LedgerReader(directory) as reader:
        record = find(reader, decision_id)
        others = [each for each in reader.about(decision_id) if each.index != record.index]
        place = place_of(directory, record, reader=reader, public_key=key)
    try:
        document, private = parse_leaf(record.leaf), open_private(record.leaf, record.private)
        lines = _lines(document, private)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise LedgerCorrupt(f"record {record.index} cannot be shown: {error!r}") from error
    if as_json:
        print_json(
            {
                "origin": place.origin,
                "index": record.index,
                "record": document,
                "not_told": {
                    "agreement": private.agreement,
                    "reasons": [reason.value for reason in private.reasons],
                    "verdicts": list(private.verdicts),
                },
                "proof": {
                    "status": place.status.value,
                    "size": place.size,
                    "key_pinned": key is not None,
                    "fault": place.fault,
                },
                "others": [{"index": each.index, "record": parse_leaf(each.leaf)} for each in others],
            }
        )
    else:
        click.echo(f"decision   {safe(decision_id)}  {safe(document['outcome']).upper()}")
        click.echo(f"record     {record.index} of {place.origin}")
        click.echo(f"proof      {_proof(place, pinned=key is not None)}")
        for line in lines:
            click.echo(line)
        for each in others:
            click.echo(_other(each))
    if place.fault:
        raise Failure(f"policyd: {place.fault}", Exit.FAILED)


def _lines(document: dict[str, Any], private: PrivatePart) -> list[str]:
    shown = {**document, "agreement": document["agreement"] or private.agreement}
    lines = [f"at         {format_instant(document['at'])}"]
    lines += [f"{label:<10} {safe(shown[name])}" for label, name in _TEXTS if shown[name]]
    lines.append(f"purposes   {safe(', '.join(document['purposes']))}")
    digest, version, epoch = document["policy_digest"], document["policy_version"], document["epoch"]
    lines.append(f"policy     version {version} {safe(digest)}, epoch {epoch}")
    for name, value in sorted(document["obligations"].items()):
        lines.append(f"must       {name}: {safe(value)}")
    if document["unknown"]["count"]:
        lines.append(f"unknown    {document['unknown']['count']} names that are no field")
    verdicts = private.verdicts or document["verdicts"]
    for number, verdict in enumerate(verdicts[:_MAX_VERDICTS]):
        exact = private.reasons[number].value if private.reasons else verdict["reason"]
        told = "" if exact == verdict["reason"] else f" (told: {verdict['reason']})"
        steps = "".join(f" {step}" for step in verdict["transform"])
        lines.append(
            f"{safe(verdict['effect']):<10} {verdict['names']} names,"
            f" released {_count(verdict['released'])}, used {_count(verdict['used'])}:"
            f" {safe(exact)}{told} by {safe(verdict['rule'])}{safe(steps)}".replace(" NONE by", " by")
        )
    if len(verdicts) > _MAX_VERDICTS:
        lines.append(f"and {len(verdicts) - _MAX_VERDICTS} more groups of names: see --json")
    return lines


def _count(sets: list[list[Any]]) -> int:
    return sum(decode_mask(mask).bit_count() for _, _, mask in sets)


def _other(record: StoredRecord) -> str:
    columns = record.columns
    return f"{safe(columns.kind):<10} record {record.index} at {format_instant(columns.at)}"


def _proof(place: Place, *, pinned: bool) -> str:
    if place.fault:
        return f"FAULT: {place.fault}"
    if not place.size:
        return "none yet: no stored checkpoint covers the record; try again in a second"
    key = "the key given" if pinned else "the log's own key: not pinned"
    return f"holds, under the root of {place.size} records signed with {key}"
