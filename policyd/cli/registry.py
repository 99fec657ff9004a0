"""`policyd registry`: plan and apply changes to who may ask, and list what is registered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from policyd import clock
from policyd.cli.exits import Commands
from policyd.cli.options import config_of, data_option, json_option, print_json, safe, state_option
from policyd.errors import ConfigError
from policyd.identity.keys import load_signing_key
from policyd.registry.change import draft_registry
from policyd.registry.document import read_registry
from policyd.registry.entry import entries, to_dict
from policyd.registry.republish import republish as send_again
from policyd.registry.state import Effect, plan, render
from policyd.registry.store import StateStore
from policyd.state import fleet_of, open_store


@click.group(cls=Commands)
def registry() -> None:
    """Organisations, requesters, accreditations, data services, agreements and seals."""


@registry.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@state_option
@click.option("--who", default="registrar", show_default=True, help="Id of the person who asks.")
@click.option("--why", default="applied from a file", show_default=True, help="Reason, recorded.")
@click.option("--plan", "plan_only", is_flag=True, help="Say what would change, and change nothing.")
def apply(file: Path, *, data: Path, state_url: str | None, who: str, why: str, plan_only: bool) -> None:
    """Add or replace the entries of FILE, as one numbered change.

    What FILE does not name stays as it is. A running node takes the change up at once.
    """
    with _store(data, state_url) as store:
        state = store.load()
        entries_of_file = read_registry(file, base=state.registry)
        differences = plan(state.registry, entries_of_file)
        click.echo(render(differences))
        changed = [each for each in differences if each.effect is not Effect.UNCHANGED]
        if not changed:
            click.echo(f"nothing to change; the state stays at epoch {state.epoch}")
        elif plan_only:
            click.echo(f"planned on epoch {state.epoch}; nothing was changed")
        else:
            try:
                draft = draft_registry(entries_of_file, who=who, why=why, at=clock.now())
            except ValueError as error:
                raise click.UsageError(str(error)) from error
            click.echo(f"applied as epoch {store.append(draft, state.epoch)}")


@registry.command(name="list")
@data_option
@state_option
@json_option
def list_command(*, data: Path, state_url: str | None, as_json: bool) -> None:
    """List what is registered."""
    with _store(data, state_url) as store:
        state = store.load()
    if as_json:
        print_json({"epoch": state.epoch, "registry": to_dict(state.registry)})
        return
    for section, entry in entries(state.registry):
        status = getattr(entry, "status", None)
        click.echo(f"{section.noun} {entry.id}{f' ({status.value})' if status is not None else ''}")
    click.echo(f"epoch {state.epoch}")


@registry.command()
@data_option
@state_option
def republish(*, data: Path, state_url: str | None) -> None:
    """Send Redis the changes that it has lost, from this node's own copy.

    Run it on the node with the highest epoch. Only the signed originals are sent, each onto the change
    before it; where Redis holds another change under one of the numbers, nothing is sent and both are shown.
    """
    config = config_of(data, state_url)
    if config.redis is None:
        raise ConfigError("the state of this node is embedded, so there is no Redis to send it to")
    done = send_again(fleet_of(config, config.redis))
    click.echo(f"{config.redis} was at epoch {done.before}; this node's own copy is at epoch {done.own}")
    for change in done.sent:
        click.echo(f"sent change {change.epoch}: {change.draft.kind.value} ({safe(change.draft.why)})")
    click.echo("nothing to send" if not done.sent else f"now at epoch {done.own}")


@contextmanager
def _store(data: Path, state_url: str | None) -> Iterator[StateStore]:
    config = config_of(data, state_url)
    signer = load_signing_key(config.keys / "node.key")
    with closing(open_store(config, signer=signer)) as store:
        yield store
