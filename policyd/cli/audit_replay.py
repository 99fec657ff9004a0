"""`policyd audit replay`: decide again, from files alone, what a log says was decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import click

from policyd import clock
from policyd.cli.exits import Exit, Failure
from policyd.cli.options import json_option, print_json
from policyd.identity.keys import load_wrapping_key
from policyd.ledger.erasure import erased_on_record
from policyd.ledger.keystore import read_keys
from policyd.ledger.reader import LedgerReader, StoredRecord
from policyd.service.replay import Outcome, Replayed, Replayer


@click.command(name="replay")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("decisions", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Replay every decision of the log.")
@click.option("--since", help="With --all: only decisions from this instant on, such as 2026-02-05.")
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Detail key of the log. Default: ../../keys/detail.key from DIRECTORY.",
)
@click.option(
    "--policies",
    type=click.Path(path_type=Path, file_okay=False),
    help="Policy sets that were in force, by digest. Default: ../../policy from DIRECTORY.",
)
@json_option
def replay(
    directory: Path,
    decisions: tuple[str, ...],
    *,
    everything: bool,
    since: str | None,
    key: Path | None,
    policies: Path | None,
    as_json: bool,
) -> None:
    """Decide again what the log in DIRECTORY says was decided, and compare byte for byte.

    From the record, its detail and the policy set of that time; no node is asked, and one may be running.
    Prints each difference and ends with 1 when there is one. A detail that was erased is counted and is
    no difference; one that is missing without an erasure on record is.
    """
    if bool(decisions) == everything:
        raise click.UsageError("give the ids of decisions, or --all")
    if since is not None and not everything:
        raise click.UsageError("--since goes with --all")
    data = directory.absolute().parent.parent
    master = load_wrapping_key(key or data / "keys" / "detail.key")
    with (
        LedgerReader(directory) as reader,
        closing(read_keys(directory, master, origin=reader.origin)) as keys,
    ):
        missing = [each for each in decisions if reader.find_decision(each) is None]
        replayer = Replayer(keys, policies or data / "policy", origin=reader.origin)
        counts: Counter[Outcome] = Counter()
        bad = []
        for record in _chosen(reader, decisions, since=_instant(since)):
            replayed = replayer.replay(record)
            counts[replayed.outcome] += 1
            if replayed.outcome in (Outcome.DIFFERENT, Outcome.UNREADABLE):
                bad.append(replayed)
                if not as_json:
                    _print(replayed)
        on_record = erased_on_record(reader) if counts[Outcome.ERASED] else 0
        unaccounted = max(0, counts[Outcome.ERASED] - on_record)
        if as_json:
            print_json(
                {
                    "origin": reader.origin,
                    "replayed": counts.total(),
                    **{outcome.value: counts[outcome] for outcome in Outcome},
                    "missing_without_erasure": unaccounted,
                    "not_found": missing,
                    "differences": [
                        {
                            "index": each.index,
                            "decision_id": each.decision_id,
                            "outcome": each.outcome.value,
                            "lines": list(each.differences),
                        }
                        for each in bad
                    ],
                }
            )
        else:
            told = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome)
            click.echo(f"{reader.origin}: {counts.total()} replayed: {told}")
    for each in missing:
        click.echo(f"no decision `{each}` in this log", err=True)
    if unaccounted:
        click.echo(
            f"{unaccounted} details are missing and no erasure is on record for them: restore detail.db",
            err=True,
        )
    if bad or missing or unaccounted:
        raise Failure("the log did not replay", Exit.FAILED)


def _chosen(reader: LedgerReader, decisions: tuple[str, ...], *, since: int | None) -> Iterable[StoredRecord]:
    if decisions:
        found = (reader.find_decision(each) for each in decisions)
        return (record for record in found if record is not None)
    return (
        record
        for record in reader.records()
        if record.columns.kind == "decision" and (since is None or record.columns.at >= since)
    )


def _instant(since: str | None) -> int | None:
    try:
        return None if since is None else clock.parse_instant(since)
    except ValueError as error:
        raise click.UsageError(f"--since: {error}") from error


def _print(replayed: Replayed) -> None:
    click.echo(f"{replayed.outcome.value.upper()} record {replayed.index}, decision {replayed.decision_id}")
    for line in replayed.differences:
        click.echo(f"    {line}")
