"""How a command signs a change of state: whose keys, what is shown before, and who is still missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from policyd import clock, ids
from policyd.cli.options import safe
from policyd.config import Config
from policyd.devsetup import key_name
from policyd.errors import ApprovalMissing, ConfigError
from policyd.identity.keys import SigningKey, load_signing_key
from policyd.model import Registry
from policyd.registry.change import State
from policyd.registry.draft import Activation, Content, Draft, Lift, Proposal, draft_change
from policyd.registry.proposal_file import ENDING, write_proposal
from policyd.registry.reach import gives_more, told
from policyd.registry.state import plan, render
from policyd.registry.store import StateStore
from policyd.registry.trust import Trust

Command = TypeVar("Command", bound=Callable[..., Any])

_AS = click.option("--as", "asker", required=True, metavar="ID", help="Administrator who signs.")
_AS_UNLESS_DRY = click.option(
    "--as", "asker", metavar="ID", help="Administrator who signs; a dry run needs none."
)
_APPROVE = click.option(
    "--approve", "approvers", multiple=True, metavar="ID", help="Administrator who signs, too."
)
_KEYS = click.option(
    "--keys",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Directory with admin-ID.key.  [default: keys of the data directory]",
)
_YES = click.option("--yes", is_flag=True, help="Do not ask before it is done.")


@dataclass(frozen=True, slots=True)
class Signing:
    """Who signs a change, in order, with keys from where; and whether to ask first."""

    names: tuple[str, ...]
    keys: Path | None
    yes: bool


why_option = click.option("--why", required=True, help="Reason, recorded for good; one line.")


def signing_options(command: Command) -> Command:
    """Add the options of a command that makes a change: who asks, who approves, with which keys."""
    return _AS(_APPROVE(_KEYS(_YES(command))))


def planning_options(command: Command) -> Command:
    """Add the options of `signing_options` to a command that can also just say what would change."""
    return _AS_UNLESS_DRY(_APPROVE(_KEYS(_YES(command))))


def approving_options(command: Command) -> Command:
    """Add the options of a command that signs what somebody else has asked for."""
    return _AS(_KEYS(_YES(command)))


def make_change(
    config: Config, store: StateStore, content: Content, *, state: State, why: str, signing: Signing
) -> bool:
    """Show a change, ask, sign and apply it, or write a proposal; return whether it was applied.

    Raises:
        click.UsageError: the reason or the content cannot be recorded.
        PolicydError: as `EmbeddedStore.append`.
    """
    draft = new_draft(content, who=signing.names[0], why=why, planned_on=state.chain_hash)
    return sign_and_apply(config, store, Proposal(draft), content=content, state=state, signing=signing)


def new_draft(content: Content, *, who: str, why: str, planned_on: bytes) -> Draft:
    """Return a change of now, under a new id.

    Raises:
        click.UsageError: the reason or the content cannot be recorded.
    """
    try:
        return draft_change(
            content, who=who, why=why, at=clock.now(), change_id=ids.change_id(), planned_on=planned_on
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def load_admin_key(folder: Path, name: str) -> SigningKey:
    """Read the key with which an administrator signs; whether it counts is for others to say.

    Raises:
        ConfigError: it cannot be used.
    """
    return load_signing_key(folder / f"{key_name(name)}.key")


def sign_and_apply(
    config: Config,
    store: StateStore,
    proposal: Proposal,
    *,
    content: Content,
    state: State,
    signing: Signing,
    file: Path | None = None,
) -> bool:
    """Show a proposal, ask, add the signatures, and apply it or write it to `file`.

    Raises:
        PolicydError: as `EmbeddedStore.append`.
    """
    trusts = [trust for trust in (state.trust, content) if isinstance(trust, Trust)]
    keys = [_key(config, signing.keys, name, trusts) for name in signing.names]
    reasons = told(gives_more(state.registry, content))
    click.echo(f"takes two people: {safe(reasons)}" if reasons else "takes one person: it only takes away")
    if not signing.yes and not click.confirm("apply?"):
        click.echo("nothing was changed")
        return False
    proposal = proposal.signed_by(*keys)
    try:
        epoch = store.append(proposal, state.epoch)
    except ApprovalMissing as missing:
        click.echo(f"not applied yet: {missing}")
        hand_on(proposal, file=file, where=f"--data {config.data}")
        return False
    click.echo(f"applied as epoch {epoch}")
    return True


def hand_on(proposal: Proposal, *, file: Path | None, where: str) -> None:
    """Write a proposal for a second signature, and say what the other person runs.

    Raises:
        ConfigError: the file cannot be written.
    """
    path = keep(proposal, file=file)
    click.echo(f"wrote {path}; to sign and apply it, the other person runs:")
    click.echo(f"  policyd registry approve {path} {where} --as THEIR-ID")


def keep(proposal: Proposal, *, file: Path | None) -> Path:
    """Write a proposal to `file`, or to one of its own in the current directory, and return which.

    Raises:
        ConfigError: the file cannot be written.
    """
    path = Path(f"{proposal.draft.change_id}{ENDING}") if file is None else file
    try:
        path.write_text(write_proposal(proposal), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    return path


def show(state: State, content: Content) -> None:
    """Print what a change would do to a state."""
    if isinstance(content, Registry):
        click.echo(render(plan(state.registry, content)))
        return
    for line in _lines(state, content):
        click.echo(safe(line))


def show_request(draft: Draft) -> None:
    """Print who asks for a change, when and why."""
    click.echo(f"change {draft.change_id} of kind {draft.kind.value}")
    click.echo(f"asked for by {draft.who} at {clock.format_instant(draft.at)}: {safe(draft.why)}")


def _lines(state: State, content: Content) -> Iterator[str]:
    match content:
        case Lift(seals):
            yield from (f"- seal {seal}" for seal in seals)
        case Activation():
            now = state.activation
            before = "none" if now is None else f"{now.policy_digest[:16]} (version {now.policy_version})"
            yield f"~ policy set  {before} -> {content.policy_digest[:16]} (version {content.policy_version})"
        case Trust():
            old = state.trust
            yield from _differences("node", {} if old is None else old.nodes, content.nodes)
            admins = {} if old is None else old.administrators
            yield from _differences("administrator", admins, content.administrators)
            yield f"trust document {content.digest}"


def _differences(noun: str, before: Any, after: Any) -> Iterator[str]:
    for id_ in sorted(before.keys() | after.keys()):
        old, new = before.get(id_), after.get(id_)
        if old != new:
            sign = "+" if old is None else "-" if new is None else "~"
            step = " -> ".join(_told(each) for each in (old, new) if each is not None)
            yield f"{sign} {noun} {id_}  {step}"


def _told(entry: Any) -> str:
    key = f"key {entry.key.hex()[:16]}"
    if not hasattr(entry, "roles"):
        return f"{key} {entry.address}".strip()
    return f"{entry.person} {key} [{', '.join(sorted(entry.roles))}] {entry.spiffe_id}"


def _key(config: Config, folder: Path | None, name: str, trusts: Sequence[Trust]) -> SigningKey:
    known: Iterable[str] = (key for trust in trusts for key in trust.administrators)
    if name not in set(known):
        raise click.UsageError(f"`{name}` is no administrator of the trust document")
    folder = config.keys if folder is None else folder
    key = load_admin_key(folder, name)
    if all(key.public != trust.administrators[name].key for trust in trusts if name in trust.administrators):
        path = folder / f"{key_name(name)}.key"
        raise ConfigError(f"{path} is not the key that the trust document has for `{name}`")
    return key
