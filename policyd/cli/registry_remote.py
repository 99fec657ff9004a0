"""The commands of `policyd registry` that go through a node: the same plans, questions and proposal files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from pbac.v1 import registry_pb2 as pb
from policyd_client import AdminClient, NotDone

from policyd.cli.administering import Remote, administering, signing_key
from policyd.cli.exits import Exit, Failure
from policyd.cli.options import safe
from policyd.cli.signing import Signing, hand_on, keep, new_draft, show_request
from policyd.model import Registry
from policyd.registry.document import read_alone
from policyd.registry.draft import Proposal, read_body
from policyd.registry.entry import Entry, Section, entries
from policyd.registry.state import Difference, Effect, MemberChange, plan, render
from policyd.service.change_wire import write_change
from policyd.service.registry_service import suspension
from policyd.service.registry_wire import KIND_OF, KINDS, read_entries, write_entry

_EFFECT = {
    pb.DIFFERENCE_KIND_ADDED: Effect.ADDED,
    pb.DIFFERENCE_KIND_CHANGED: Effect.CHANGED,
    pb.DIFFERENCE_KIND_UNCHANGED: Effect.UNCHANGED,
}
_LIST_ATTEMPTS = 5


def apply(remote: Remote, file: Path, *, why: str, signing: Signing, dry_run: bool) -> None:
    """Show what a file would change, and have it made."""
    wanted = read_alone(file)
    if wanted.seals:
        raise click.UsageError("seals do not go through here; apply them with --data, without --server")
    with administering(remote, signing.names[0]) as client:
        planned = _plan(client, wanted, called=str(file))
        changed = _changed(wanted, planned)
        if changed == Registry():
            click.echo("nothing to change")
        elif dry_run:
            click.echo("planned; nothing was changed")
        else:
            draft = new_draft(changed, who=signing.names[0], why=why, planned_on=planned.chain_hash)
            _sign_and_send(client, remote, Proposal(draft), changed, planned, signing=signing)


def approve(remote: Remote, file: Path, proposal: Proposal, *, signing: Signing) -> None:
    """Show what somebody has asked for, sign it, too, and have it made.

    What this person has signed already is sent again as it is.
    """
    content = read_body(proposal.draft)
    if not isinstance(content, Registry) or content.seals:
        kind = proposal.draft.kind.value
        raise click.UsageError(f"a change of kind {kind} does not go through here; approve it with --data")
    with administering(remote, signing.names[0]) as client:
        show_request(proposal.draft)
        planned = _plan(client, content, called=str(file))
        _sign_and_send(client, remote, proposal, content, planned, signing=signing, file=file)


def suspend(remote: Remote, section: Section, id_: str, *, why: str, signing: Signing) -> None:
    """Take one entry out of use."""
    with administering(remote, signing.names[0]) as client:
        entry, _ = get(client, section, id_)
        change = suspension(section, entry)
        if section.of(change)[id_] == entry:
            click.echo(f"{section.noun} {id_} is suspended already")
            return
        planned = _plan(client, change, called=f"{section.noun} {id_}")
        draft = new_draft(change, who=signing.names[0], why=why, planned_on=planned.chain_hash)
        named = section, id_
        _sign_and_send(client, remote, Proposal(draft), change, planned, signing=signing, suspend=named)


def get(client: AdminClient, section: Section, id_: str, *, epoch: int = 0) -> tuple[Entry, pb.GetResponse]:
    """Return an entry, and when it was what it is.

    Raises:
        NotDone: there is none, or no answer came.
    """
    answer = client.get(pb.GetRequest(kind=KIND_OF[section.key], id=id_, epoch=epoch))
    return section.of(_read([answer.entry]))[id_], answer


def read_all(client: AdminClient) -> tuple[int, Registry]:
    """Return all that is registered but seals, at one epoch.

    Raises:
        NotDone: no answer came, or the registry kept changing.
    """
    for attempt in range(_LIST_ATTEMPTS):
        found: dict[str, dict[str, Any]] = {}
        epochs = set()
        try:
            for kind, section in KINDS.items():
                for page in client.list(pb.ListRequest(kind=kind, page_size=1000)):
                    found.setdefault(section.key, {}).update(section.of(_read(page.entries)))
                    epochs.add(page.epoch)
        except NotDone as error:
            if error.code != "ABORTED" or attempt == _LIST_ATTEMPTS - 1:
                raise
            continue
        if len(epochs) == 1:
            return epochs.pop(), Registry(**found)
    raise NotDone("the registry changed while it was read; try again when it is quiet", code="ABORTED")


def _sign_and_send(
    client: AdminClient,
    remote: Remote,
    proposal: Proposal,
    content: Registry,
    planned: pb.ApplyResponse,
    *,
    signing: Signing,
    file: Path | None = None,
    suspend: tuple[Section, str] | None = None,
) -> None:
    keys = [signing_key(remote, signing.keys, name) for name in signing.names]
    click.echo(
        "takes two people: it can give more"
        if planned.needs_two_people
        else "takes one person: it only takes away"
    )
    if not signing.yes and not click.confirm("apply?"):
        click.echo("nothing was changed")
        return
    signed = {each.key_id for each in proposal.signatures}
    proposal = proposal.signed_by(*(key for key in keys if key.id not in signed))
    try:
        answer = _send(client, proposal, content, suspend)
    except NotDone as error:
        if error.unknown:
            path = keep(proposal, file=file)
            click.echo(f"it is not known whether it was applied; to know, send the same again, from {path}:")
            click.echo(f"  policyd registry approve {path} {remote.words} --as {signing.names[0]}")
        raise
    _tell(answer, remote, proposal, file=file)


def _send(
    client: AdminClient, proposal: Proposal, content: Registry, suspend: tuple[Section, str] | None
) -> pb.ApplyResponse | pb.SuspendResponse:
    change = write_change(proposal)
    if suspend is None:
        sent = [write_entry(entry) for _, entry in entries(content)]
        return client.apply(pb.ApplyRequest(change=change, entries=sent))
    section, id_ = suspend
    return client.suspend(pb.SuspendRequest(change=change, kind=KIND_OF[section.key], id=id_))


def _tell(
    answer: pb.ApplyResponse | pb.SuspendResponse, remote: Remote, proposal: Proposal, *, file: Path | None
) -> None:
    """Say how far a change has come; a state that is not known here is none that is good."""
    if answer.state == pb.CHANGE_STATE_IN_FORCE:
        click.echo(f"applied as epoch {answer.epoch}; in force")
    elif answer.state == pb.CHANGE_STATE_PENDING:
        names = ", ".join(safe(name) for name in answer.waiting_for)
        click.echo(f"applied as epoch {answer.epoch}; not known to be in force yet on: {names}")
    elif answer.state == pb.CHANGE_STATE_AWAITING_APPROVAL:
        click.echo("not applied yet: it takes the signature of one more person")
        hand_on(proposal, file=file, where=remote.words)
    elif isinstance(answer, pb.ApplyResponse) and answer.problems:
        raise Failure(_mistakes(answer.problems, called=proposal.draft.change_id), Exit.FAILED)
    else:
        raise Failure(f"policyd: {remote.server} answered in a way that is not known here", Exit.NO_DECISION)


def _plan(client: AdminClient, content: Registry, *, called: str) -> pb.ApplyResponse:
    """Ask what a change would change, and show it.

    Raises:
        Failure: it has mistakes.
    """
    sent = [write_entry(entry) for _, entry in entries(content)]
    planned = client.apply(pb.ApplyRequest(entries=sent, dry_run=True))
    if planned.problems:
        raise Failure(_mistakes(planned.problems, called=called), Exit.FAILED)
    kinds = {each.kind for each in planned.differences}
    if planned.state != pb.CHANGE_STATE_PLANNED or not kinds <= KINDS.keys():
        raise Failure("policyd: the node answered in a way that is not known here", Exit.NO_DECISION)
    # What is added is in the file; of what changes only the node knows how it was.
    new = {(each.section.key, each.id): each for each in plan(Registry(), content)}
    click.echo(render([_difference(each, new) for each in planned.differences]))
    return planned


def _difference(found: pb.Difference, new: Mapping[tuple[str, str], Difference]) -> Difference:
    section = KINDS[found.kind]
    effect = _EFFECT.get(found.difference, Effect.CHANGED)
    if effect is Effect.ADDED:
        return new[section.key, found.id]
    members = (
        MemberChange(safe(each.part), each.before, each.after, safe(each.step)) for each in found.parts
    )
    return Difference(section, found.id, effect, tuple(members))


def _changed(wanted: Registry, planned: pb.ApplyResponse) -> Registry:
    """Return just the entries that differ: what a change does not name, nobody has to plan again for."""
    found: dict[str, dict[str, Any]] = {}
    for each in planned.differences:
        if each.difference != pb.DIFFERENCE_KIND_UNCHANGED:
            section = KINDS[each.kind]
            found.setdefault(section.key, {})[each.id] = section.of(wanted)[each.id]
    return Registry(**found)


def _read(sent: Iterable[pb.Entry]) -> Registry:
    found, problems = read_entries(list(sent), base=None)
    if problems:
        raise Failure(_mistakes(problems, called="the node's answer"), Exit.NO_DECISION)
    return found


def _mistakes(problems: Iterable[pb.Problem], *, called: str) -> str:
    lines = []
    for each in problems:
        noun = KINDS[each.kind].noun if each.kind in KINDS else ""
        where = " ".join(word for word in (noun, f"`{each.id}`" if each.id else "") if word)
        lines.append(safe(": ".join(word for word in (called, where, each.part, each.message) if word)))
    count = f"{len(lines)} mistake{'s' * (len(lines) != 1)}"
    return "\n".join([*lines, f"{count}; nothing was changed"])
