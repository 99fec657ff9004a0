"""`policyd audit prove` and `verify-proof`: evidence of one record, made with the log, checked without it."""

from __future__ import annotations

from pathlib import Path

import click

from policyd.cli.exits import Exit, Failure
from policyd.cli.options import json_option, print_json, safe
from policyd.errors import ConfigError, LedgerCorrupt
from policyd.ledger import note, store
from policyd.ledger.evidence import MAX_BYTES, SUFFIX, verify_evidence, write_evidence
from policyd.ledger.proving import prove
from policyd.ledger.reader import LedgerReader, StoredRecord


@click.command(name="prove")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("decision_id", required=False, default=None)
@click.option("--index", type=click.IntRange(min=0), help="Which record, instead of a decision.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File to write.  [default: DECISION_ID{SUFFIX} or record-INDEX{SUFFIX}]",
)
@click.option("--key", help="Verifier key (vkey) of the log, kept elsewhere. Default: the log's own.")
def prove_command(
    directory: Path, decision_id: str | None, *, index: int | None, output: Path | None, key: str | None
) -> None:
    """Write the evidence that a decision is in the log in DIRECTORY: its record, proof and checkpoint.

    The file is C2SP tlog-proof. Whoever has the log's vkey can check it with `policyd audit
    verify-proof`, or with the verifier in clients/go, and needs nothing else.
    """
    if (decision_id is None) == (index is None):
        raise click.UsageError("name a decision, or a record with --index, and not both")
    with LedgerReader(directory) as reader:
        record = find(reader, decision_id, index=index)
        evidence = prove(directory, record, reader=reader, public_key=key)
    path = output or Path(f"record-{record.index}{SUFFIX}" if decision_id is None else decision_id + SUFFIX)
    try:
        store.replace_file(path, write_evidence(evidence))
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be written: {error.strerror}") from error
    click.echo(f"wrote {path}: record {evidence.index} of {reader.origin}")


def find(reader: LedgerReader, decision_id: str | None, *, index: int | None = None) -> StoredRecord:
    """Return the record that a command names.

    Raises:
        Failure: there is none.
    """
    if decision_id is not None:
        record, what = reader.find_decision(decision_id), f"decision `{decision_id[:120]}`"
    else:
        record, what = reader.record(index or 0), f"record {index}"
    if record is None:
        raise Failure(f"policyd: no {what} in the log of {reader.origin}", Exit.FAILED)
    return record


@click.command(name="verify-proof")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--key", required=True, help="Verifier key (vkey) of the log, kept elsewhere.")
@json_option
def verify_proof_command(file: Path, *, key: str, as_json: bool) -> None:
    """Check an evidence FILE against the key of the log that it must be of, and print its record.

    Needs neither the log nor a network. Ends with 1 when anything in the file does not hold.
    """
    try:
        verifier = note.Verifier.from_vkey(key)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"`{file}` cannot be read: {error.strerror}") from error
    try:
        proved = verify_evidence(data, verifier=verifier)
    except LedgerCorrupt as error:
        raise Failure(f"policyd: `{file}` proves nothing: {error}", Exit.FAILED) from error
    record, checkpoint = proved.document, proved.checkpoint
    if as_json:
        print_json(
            {
                "origin": checkpoint.origin,
                "index": proved.index,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "record": record,
            }
        )
        return
    click.echo(f"log       {checkpoint.origin}")
    click.echo(f"record    {proved.index} of {checkpoint.size}")
    click.echo(f"root      {checkpoint.root.hex()}")
    for name in ("kind", "decision_id", "outcome"):
        if isinstance(value := record.get(name), str):
            click.echo(f"{name.replace('_id', ''):<10}{safe(value)}")
    click.echo("proved")
