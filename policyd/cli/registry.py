"""`policyd registry`: plan, sign and apply changes to who may ask, and list what is registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from policyd.cli import registry_remote
from policyd.cli.administering import READING_S, administering, reading_options, remote_of, server_options
from policyd.cli.exits import Commands, Exit, Failure
from policyd.cli.options import data_option, json_option, print_json, read_text, safe
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
from policyd.cli.state_place import config_of, state_option
from policyd.errors import ConfigError
from policyd.model import Registry
from policyd.policy.reader import nearest
from policyd.registry.document import read_registry
from policyd.registry.draft import read_body
from policyd.registry.entry import SECTIONS, Section, entries, to_dict
from policyd.registry.proposal_file import parse_proposal
from policyd.registry.republish import republish as send_again
from policyd.registry.state import Difference, Effect, plan, render
from policyd.service.registry_past import entry_at
from policyd.service.registry_service import suspension
from policyd.state import fleet_of, open_store

_SUSPENDABLE = {
    section.noun.replace(" ", "-"): section for key, section in SECTIONS.items() if key != "seals"
}
_WHO_ASKS = "say with --as who asks the node"


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
@server_options
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
    **options: Any,
) -> None:
    """Add or replace the entries of FILE, as one numbered change.

    What FILE does not name stays as it is. A change that can give anyone more takes two people: without
    the second signature it is written to a file for `policyd registry approve`. A running node takes the
    change up at once.
    """
    remote = remote_of(options, data)
    said = f"applied from {file.name}" if why is None else why
    if remote is not None:
        signing = Signing((_named(asker), *approvers), keys, yes)
        registry_remote.apply(remote, file, why=said, signing=signing, dry_run=dry_run)
        return
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
            make_change(config, store, changed, state=state, why=said, signing=signing)


@registry.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@state_option
@server_options
@approving_options
def approve(
    file: Path,
    *,
    data: Path,
    state_url: str | None,
    asker: str,
    keys: Path | None,
    yes: bool,
    **options: Any,
) -> None:
    """Show the change in FILE that somebody else has asked for, sign it too, and apply it.

    What is shown is what would change now. If anything that it names has changed since it was asked for,
    it is refused.
    """
    remote = remote_of(options, data)
    try:
        proposal = parse_proposal(read_text(file))
    except ValueError as error:
        raise click.UsageError(f"`{file}` {error}") from error
    signing = Signing((asker,), keys, yes)
    if remote is not None:
        registry_remote.approve(remote, file, proposal, signing=signing)
        return
    config = config_of(data, state_url)
    content = read_body(proposal.draft)
    with open_store(config) as store:
        state = store.load()
        show_request(proposal.draft)
        show(state, content)
        sign_and_apply(config, store, proposal, content=content, state=state, signing=signing, file=file)


@registry.command()
@click.argument("kind", type=click.Choice(sorted(_SUSPENDABLE)))
@click.argument("entry_id", metavar="ID")
@data_option
@state_option
@server_options
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
    **options: Any,
) -> None:
    """Take one entry out of use at once; one signature is enough. To resume it takes `apply` and two."""
    section, remote = _SUSPENDABLE[kind], remote_of(options, data)
    signing = Signing((asker, *approvers), keys, yes)
    if remote is not None:
        registry_remote.suspend(remote, section, entry_id, why=why, signing=signing)
        return
    config = config_of(data, state_url)
    with open_store(config) as store:
        state = store.load()
        entry = section.of(state.registry).get(entry_id)
        if entry is None:
            near = nearest(entry_id, section.of(state.registry))
            raise click.UsageError(f"no {section.noun} `{entry_id}`{near}")
        change = suspension(section, entry)
        if section.of(change)[entry_id] == entry:
            click.echo(f"{section.noun} {entry_id} is suspended already")
            return
        show(state, change)
        make_change(config, store, change, state=state, why=why, signing=signing)


@registry.command(name="list")
@data_option
@state_option
@reading_options
@json_option
def list_command(*, data: Path, state_url: str | None, me: str | None, as_json: bool, **options: Any) -> None:
    """List what is registered; through a node, all but the seals."""
    remote = remote_of(options, data)
    if remote is not None:
        with administering(remote, _named(me), deadline_s=READING_S) as client:
            epoch, found = registry_remote.read_all(client)
    else:
        with open_store(config_of(data, state_url)) as store:
            state = store.load()
        epoch, found = state.epoch, state.registry
    if as_json:
        print_json({"epoch": epoch, "registry": to_dict(found)})
        return
    for section, entry in entries(found):
        status = getattr(entry, "status", None)
        click.echo(f"{section.noun} {entry.id}{f' ({status.value})' if status is not None else ''}")
    click.echo(f"epoch {epoch}")


@registry.command()
@click.argument("kind", type=click.Choice(sorted(_SUSPENDABLE)))
@click.argument("entry_id", metavar="ID")
@click.option("--epoch", type=click.IntRange(min=1), help="As it was at this epoch.  [default: as it is]")
@data_option
@state_option
@reading_options
@json_option
def get(
    kind: str,
    entry_id: str,
    *,
    epoch: int | None,
    data: Path,
    state_url: str | None,
    me: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show one entry, and which change made it what it is."""
    section, remote = _SUSPENDABLE[kind], remote_of(options, data)
    if remote is not None:
        with administering(remote, _named(me), deadline_s=READING_S) as client:
            entry, answer = registry_remote.get(client, section, entry_id, epoch=epoch or 0)
        at, changed_at = answer.epoch, answer.changed_at_epoch
    else:
        with open_store(config_of(data, state_url)) as store:
            state = store.load()
            at = epoch or state.epoch
            found = entry_at(store, section, entry_id, epoch=at, state=state) if at <= state.epoch else None
        if found is None:
            raise Failure(f"policyd: there is no {section.noun} `{entry_id}` at epoch {at}", Exit.FAILED)
        entry, changed_at = found
    if as_json:
        document = to_dict(_alone(section, entry))
        print_json({"epoch": at, "changed_at_epoch": changed_at, "registry": document})
        return
    for each in plan(Registry(), _alone(section, entry)):
        click.echo(f"{section.noun} {entry_id}")
        for member in each.members:
            click.echo(f"    {member.member}  {member.after}")
    click.echo(f"epoch {at}; so since epoch {changed_at}")


def _alone(section: Section, entry: Any) -> Registry:
    return Registry(**{section.key: {entry.id: entry}})


def _named(me: str | None) -> str:
    if me is None:
        raise click.UsageError(_WHO_ASKS)
    return me


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
