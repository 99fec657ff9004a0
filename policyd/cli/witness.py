"""`policyd witness`: a small process that cosigns the checkpoints of other people's logs."""

from __future__ import annotations

import re
import signal
import sqlite3
import threading
from pathlib import Path
from types import FrameType

import click

from policyd.cli.exits import Commands, Exit, Failure
from policyd.cli.signals import wait_for_signal
from policyd.errors import ConfigError
from policyd.identity.keys import create_signing_key, load_signing_key
from policyd.ledger import note
from policyd.witness.protocol import Witness
from policyd.witness.server import WitnessServer
from policyd.witness.store import WitnessStore

KEY = "witness.key"
DEFAULT_ADDRESS = "127.0.0.1:50190"
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})", re.ASCII)

_data = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory of the witness: its key and what it remembers.",
)


@click.group(cls=Commands)
def witness() -> None:
    """Cosign checkpoints of logs that only ever grow."""


@witness.command()
@_data
@click.option("--name", default="", help="Name of a new witness, such as witness.example/w1.")
def key(*, data: Path, name: str) -> None:
    """Print the verifier key (vkey) of the witness; with --name, make its key where there is none."""
    if name:
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {error.filename}: {error.strerror}") from None
        if not note.is_name(name):
            raise click.UsageError(f"`{name}` is no key name: not empty, no space, no `+`")
        if not (data / KEY).exists():
            create_signing_key(data / KEY)
        WitnessStore(data, name=name).close()
    store, held = _open(data, ())
    store.close()
    click.echo(held.verifier.vkey)


@witness.command()
@_data
@click.option("--listen", default=DEFAULT_ADDRESS, show_default=True, help="Address to listen on.")
@click.option("--log", "logs", multiple=True, required=True, help="Verifier key (vkey) of a log. Repeatable.")
def serve(*, data: Path, listen: str, logs: tuple[str, ...]) -> None:
    """Cosign checkpoints of the logs named, until SIGTERM or SIGINT.

    POST /add-checkpoint as C2SP tlog-witness gives it, over plain HTTP: put TLS before it where the
    network is not trusted.
    """
    host, port = _address(listen)
    try:
        verifiers = [note.Verifier.from_vkey(each) for each in logs]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    store, held = _open(data, verifiers)
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    try:
        try:
            server = WitnessServer(host, port, witness=held, on_failure=stop.set)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"cannot listen on {listen}: {error}") from None
        thread = threading.Thread(target=server.serve_forever, name="accept", daemon=True)
        thread.start()
        click.echo(f"witness {held.verifier.name} listens on {server.address}")
        click.echo(f"vkey {held.verifier.vkey}")
        for each in verifiers:
            click.echo(f"log {each.vkey}")
        wait_for_signal(stop)
        failed = held.failure
        click.echo("draining")
        server.stop()
        thread.join()
    finally:
        store.close()
    if failed:
        raise Failure(f"the witness stopped: {failed}", Exit.NO_DECISION)
    click.echo("stopped")


@witness.command()
@_data
@click.argument("origin", default="")
def show(*, data: Path, origin: str) -> None:
    """Print the newest checkpoint of the log ORIGIN, cosigned now: for `policyd audit verify --cosigned`.

    ORIGIN may be left out where the witness has cosigned one log only.
    """
    store, held = _open(data, ())
    try:
        newest = held.newest()
        if not origin and len(newest) == 1:
            (origin,) = newest
        if origin not in newest:
            known = ", ".join(f"`{each}`" for each in newest) or "none yet"
            raise Failure(f"policyd: name a log that this witness has cosigned: {known}", Exit.FAILED)
        click.echo(newest[origin], nl=False)
    except sqlite3.Error as error:
        raise Failure(f"policyd: `{data}` cannot be read: {error}", Exit.FAILED) from error
    finally:
        store.close()


def _open(data: Path, logs: tuple[note.Verifier, ...] | list[note.Verifier]) -> tuple[WitnessStore, Witness]:
    signing = load_signing_key(data / KEY)
    store = WitnessStore(data)
    return store, Witness(data, store, key=signing.private, logs=logs)


def _address(text: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[2]) > 65_535:
        raise click.UsageError(f"`{text}` is not an address such as {DEFAULT_ADDRESS}")
    return match[1].strip("[]"), int(match[2])
