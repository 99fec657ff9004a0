"""`policyd audit erase`: make the details of a person or of single decisions unreadable."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from policyd import clock
from policyd.cli.exits import Exit, Failure
from policyd.config import Config, read_config
from policyd.errors import ConfigError
from policyd.identity.keys import WrappingKey, load_mac_key, load_signing_key, load_wrapping_key
from policyd.ledger.detail import key_number
from policyd.ledger.erasure import Erasure, erase, give_up
from policyd.ledger.keystore import KeyStore, open_keys, read_keys
from policyd.ledger.reader import LedgerReader
from policyd.ledger.writer import Ledger
from policyd.registry.store import EmbeddedStore
from policyd.service.person import records_of


@click.command(name="erase")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--requester", help="Id of the person whose questions are made unreadable.")
@click.option("--decision", "decisions", multiple=True, help="Id of one decision; may be given again.")
@click.option("--lost", is_flag=True, help="The keys are lost: begin anew, and put that on record.")
@click.option("--why", required=True, help="Reason, recorded; one line, without the person's id or name.")
@click.option("--who", default="operator", show_default=True, help="Id of the person who erases, recorded.")
@click.option("--backups-until", default="", help="Date on which the last copy of the keys dies, recorded.")
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be erased, and erase nothing.")
def erase_command(
    directory: Path,
    *,
    requester: str | None,
    decisions: tuple[str, ...],
    lost: bool,
    why: str,
    who: str,
    backups_until: str,
    plan_only: bool,
) -> None:
    """Make details in DIRECTORY unreadable by deleting the keys that they are sealed under.

    DIRECTORY is a node's log, such as .policyd/nodes/node-1; the node must be stopped. The records and the
    tree stay as they are, and the log still verifies. Copies of the keys in back-ups are the operator's to
    destroy. With --requester the pseudonym goes, too: the same person would get another.
    """
    if sum((requester is not None, bool(decisions), lost)) != 1:
        raise click.UsageError("give one of --requester, --decision and --lost")
    if lost and plan_only:
        raise click.UsageError("--plan goes with --requester or --decision")
    if backups_until:
        try:
            clock.parse_instant(backups_until)
        except ValueError as error:
            raise click.UsageError(f"--backups-until: {error}") from error
    if requester and requester.casefold() in why.casefold():
        raise click.UsageError("--why names the person: it is recorded for good, so leave the id out")
    config = _config_of(directory)
    master = load_wrapping_key(config.keys / "detail.key")
    if lost:
        _begin_anew(config, master, who=who, why=why, backups_until=backups_until)
        return
    if plan_only:
        with (
            LedgerReader(directory) as reader,
            closing(read_keys(directory, master, origin=config.origin)) as keys,
        ):
            erasure, lines = _choose(config, reader, keys, requester=requester, decisions=decisions)
        for line in (*lines, "planned; nothing was erased"):
            click.echo(line)
        return
    with _log(config) as ledger, closing(open_keys(directory, master, origin=config.origin)) as keys:
        erasure, lines = _choose(config, ledger.reader, keys, requester=requester, decisions=decisions)
        for line in lines:
            click.echo(line)
        if not erasure.numbers and not erasure.finders:
            click.echo("nothing is left to erase")
            return
        try:
            done = erase(ledger, keys, erasure, who=who, why=why, backups_until=backups_until)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        except sqlite3.Error as error:
            raise Failure(f"the keys cannot be deleted now: {error}; erase again", Exit.FAILED) from error
    click.echo(f"made unreadable: {done.records} details, {done.persons} pseudonyms")
    _say_backups(backups_until)
    if not done.emptied:
        raise Failure(
            "another process reads detail.db, so its write-ahead log still holds what was deleted: end that "
            "process, then start and stop the node",
            Exit.FAILED,
        )


def _choose(
    config: Config, reader: LedgerReader, keys: KeyStore, *, requester: str | None, decisions: tuple[str, ...]
) -> tuple[Erasure, list[str]]:
    """Return what to erase, and what to say of it."""
    if requester is None:
        return _single(reader, keys, decisions)
    with EmbeddedStore(config.state, trust=config.trust) as store:
        registry = store.load().registry
    pseudonym_key = load_mac_key(config.keys / "pseudonym.key").secret
    found = records_of(reader, keys, requester, pseudonym_key=pseudonym_key, registry=registry)
    lines = [f"{len(found.numbers)} details of questions that `{requester}` asked"]
    if found.named_by_others:
        lines.append(
            f"{found.named_by_others} details of questions that others asked name `{requester}`, as the "
            "supervisor; they stay readable unless erased one by one with --decision"
        )
    if requester in registry.requesters:
        lines.append("the registry still names the person: it is not part of the ledger")
    return Erasure(found.numbers, frozenset([found.finder] if found.finder else [])), lines


def _single(reader: LedgerReader, keys: KeyStore, decisions: tuple[str, ...]) -> tuple[Erasure, list[str]]:
    numbers = set()
    for each in decisions:
        record = reader.find_decision(each)
        if record is None:
            raise click.UsageError(f"no decision `{each}` in this log")
        number = key_number(record.detail)
        if keys.record_key(number) is not None:
            numbers.add(number)
    return Erasure(frozenset(numbers)), [f"{len(numbers)} details of single decisions"]


def _begin_anew(config: Config, master: WrappingKey, *, who: str, why: str, backups_until: str) -> None:
    with _log(config) as ledger:
        try:
            done = give_up(ledger, master, who=who, why=why, backups_until=backups_until)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    click.echo(f"put on record: the keys of {done.records} details are lost; the node can start again")


def _say_backups(backups_until: str) -> None:
    if backups_until:
        click.echo(f"copies of the keys live until {backups_until}, as recorded: see that they are destroyed")
    else:
        click.echo("back-ups of detail.db may still hold the keys: destroy them, or record --backups-until")


@contextmanager
def _log(config: Config) -> Iterator[Ledger]:
    """Take the log for this process: a running node has it."""
    key = load_signing_key(config.keys / "ledger.key")
    with Ledger.open(config.ledger, origin=config.origin, signing_key=key.private) as ledger:
        yield ledger


def _config_of(directory: Path) -> Config:
    data = directory.absolute().parent.parent
    config = read_config(data)
    if config.ledger.resolve() != directory.resolve():
        raise ConfigError(f"`{directory}` is not the log of the node set up in `{data}`: {config.ledger} is")
    return config
