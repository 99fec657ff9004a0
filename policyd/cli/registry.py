"""`policyd registry`: plan, sign and apply changes to who may ask, and list what is registered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import click

from policyd.cli.exits import Commands
from policyd.cli.options import (
    config_of,
    data_option,
    json_option,
    print_json,
    read_text,
    safe,
    state_option,
)
from policyd.cli.registry_intents import intents_command
from policyd.cli.registry_trust import admin_key_command, trust_command
from policyd.cli.signing import (
    Signing,
    approving_options,
    make_change,
    planning_options,
    show,
    show_request,
    sign_and_apply,
    signing_options,
    why_option,
)
from policyd.errors import ConfigError
from policyd.model import Registry, Status
from policyd.policy.reader import nearest
from policyd.registry.document import read_registry
from policyd.registry.draft import read_body
from policyd.registry.entry import SECTIONS, entries, to_dict
from policyd.registry.proposal_file import parse_proposal
from policyd.registry.republish import republish as send_again
from policyd.registry.state import Difference, Effect, plan, render
from policyd.state import fleet_of, open_store

_SUSPENDABLE = {
    section.noun.replace(" ", "-"): section for key, section in SECTIONS.items() if key != "seals"
}


@click.group(cls=Commands)
def registry() -> None:
    """Organisations, requesters, accreditations, data services, agreements and seals."""


registry.add_command(admin_key_command)
registry.add_command(trust_command)
registry.add_command(intents_command)


@registry.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@state_option
@planning_options
@click.option("--why", help="Reason, recorded for good; one line.  [default: applied from FILE]")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
def apply(
    file: Path,
    *,
    data: Path,
    state_url: str | None,
    asker: str | None,
    approvers: tuple[str, ...],
    why: str | None,
    keys: Path | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Add or replace the entries of FILE, as one numbered change.

    What FILE does not name stays as it is. A change that can give anyone more takes two people: without
    the second signature it is written to a file for `policyd registry approve`. A running node takes the
    change up at once.
    """
    config = config_of(data, state_url)
    if asker is None and not dry_run:
        raise click.UsageError("say who signs, with --as, or --dry-run")
    with open_store(config) as store:
        state = store.load()
        wanted = read_registry(file, base=state.registry)
        differences = plan(state.registry, wanted)
        click.echo(render(differences))
        changed = _only(wanted, [each for each in differences if each.effect is not Effect.UNCHANGED])
        if changed == Registry():
            click.echo(f"nothing to change; the state stays at epoch {state.epoch}")
        elif dry_run or asker is None:
            click.echo(f"planned on epoch {state.epoch}; nothing was changed")
        else:
            signing = Signing((asker, *approvers), keys, yes)
            said = f"applied from {file.name}" if why is None else why
            make_change(config, store, changed, state=state, why=said, signing=signing)


@registry.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@state_option
@approving_options
def approve(
    file: Path, *, data: Path, state_url: str | None, asker: str, keys: Path | None, yes: bool
) -> None:
    """Show the change in FILE that somebody else has asked for, sign it too, and apply it.

    What is shown is what would change now. If anything that it names has changed since it was asked for,
    it is refused.
    """
    config = config_of(data, state_url)
    try:
        proposal = parse_proposal(read_text(file))
    except ValueError as error:
        raise click.UsageError(f"`{file}` {error}") from error
    content = read_body(proposal.draft)
    with open_store(config) as store:
        state = store.load()
        show_request(proposal.draft)
        show(state, content)
        signing = Signing((asker,), keys, yes)
        sign_and_apply(config, store, proposal, content=content, state=state, signing=signing, file=file)


@registry.command()
@click.argument("kind", type=click.Choice(sorted(_SUSPENDABLE)))
@click.argument("entry_id", metavar="ID")
@data_option
@state_option
@signing_options
@why_option
def suspend(
    kind: str,
    entry_id: str,
    *,
    data: Path,
    state_url: str | None,
    asker: str,
    approvers: tuple[str, ...],
    why: str,
    keys: Path | None,
    yes: bool,
) -> None:
    """Take one entry out of use at once; one signature is enough. To resume it takes `apply` and two."""
    section, config = _SUSPENDABLE[kind], config_of(data, state_url)
    with open_store(config) as store:
        state = store.load()
        entry = section.of(state.registry).get(entry_id)
        if entry is None:
            near = nearest(entry_id, section.of(state.registry))
            raise click.UsageError(f"no {section.noun} `{entry_id}`{near}")
        stopped = cast("Any", replace)(entry, status=Status.SUSPENDED)
        if stopped == entry:
            click.echo(f"{section.noun} {entry_id} is suspended already")
            return
        change = Registry(**{section.key: {entry_id: stopped}})
        show(state, change)
        signing = Signing((asker, *approvers), keys, yes)
        make_change(config, store, change, state=state, why=why, signing=signing)


@registry.command(name="list")
@data_option
@state_option
@json_option
def list_command(*, data: Path, state_url: str | None, as_json: bool) -> None:
    """List what is registered."""
    with open_store(config_of(data, state_url)) as store:
        state = store.load()
    if as_json:
        print_json({"epoch": state.epoch, "registry": to_dict(state.registry)})
        return
    for section, entry in entries(state.registry):
        status = getattr(entry, "status", None)
        click.echo(f"{section.noun} {entry.id}{f' ({status.value})' if status is not None else ''}")
    click.echo(f"epoch {state.epoch}")


def _only(wanted: Registry, differences: list[Difference]) -> Registry:
    """Return just the entries that differ: what a change does not name, nobody has to plan again for."""
    found: dict[str, dict[str, Any]] = {}
    for each in differences:
        found.setdefault(each.section.key, {})[each.id] = each.section.of(wanted)[each.id]
    return Registry(**found)


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
