"""`policyd seal`: put records under seal through a running node, and say where that holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import grpc
from pbac.v1 import registry_pb2, seal_pb2_grpc
from pbac.v1 import seal_pb2 as pb

from policyd import clock
from policyd.cli.exits import Commands, Exit, Failure
from policyd.cli.options import data_option, safe
from policyd.cli.signing import (
    Signing,
    keep,
    load_admin_key,
    new_draft,
    show,
    signing_options,
    why_option,
)
from policyd.cli.state_place import config_of, state_option
from policyd.config import Config
from policyd.errors import ConfigError
from policyd.model import Registry
from policyd.registry.change import State
from policyd.registry.document import read_registry
from policyd.registry.draft import Content, Lift, Proposal
from policyd.service.change_wire import write_change
from policyd.state import open_store

_CALL_S = 10.0
"""More than any lease runs, so that one call is enough unless the state itself is in trouble."""

_server_option = click.option(
    "--server", metavar="HOST:PORT", help="The node to go through.  [default: that of the data directory]"
)
_wait_option = click.option(
    "--wait",
    "wait_s",
    default=30.0,
    show_default=True,
    help="Seconds until a seal that is pending ends this.",
)


@click.group(cls=Commands)
def seal() -> None:
    """Take single children's records out of every release, and let them in again."""


@seal.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@state_option
@_server_option
@signing_options
@why_option
@_wait_option
def add(
    file: Path,
    *,
    data: Path,
    state_url: str | None,
    server: str | None,
    asker: str,
    approvers: tuple[str, ...],
    why: str,
    keys: Path | None,
    yes: bool,
    wait_s: float,
) -> None:
    """Put the records of FILE under seal, one change each, and wait until no node decides without it.

    FILE is a registry file with `seals:` alone: for each seal a token for every data service.
    """
    config = config_of(data, state_url)
    state = _state(config)
    named = read_registry(file, base=state.registry)
    if replace(named, seals={}) != Registry():
        raise click.UsageError(
            f"`{file}` holds other entries than seals; `policyd registry apply` takes them"
        )
    wanted = {id_: entry for id_, entry in named.seals.items() if state.registry.seals.get(id_) != entry}
    if not wanted:
        click.echo("nothing to seal: all of it is under seal")
        return
    show(state, Registry(seals=wanted))
    if not yes and not click.confirm("seal?"):
        click.echo("nothing was changed")
        return
    signing = Signing((asker, *approvers), keys, yes)
    pending = 0
    with _connected(config, server, asker) as stub:
        for id_, entry in sorted(wanted.items()):
            proposal = _signed(config, Registry(seals={id_: entry}), state=state, why=why, signing=signing)
            request = pb.SealRequest(
                change=write_change(proposal),
                seal_id=id_,
                tokens=[pb.SealToken(data_service=name, token=token) for name, token in entry.tokens],
            )
            pending += not _say(id_, _wait_for(stub, request, wait_s=wait_s))
    if pending:
        raise Failure(f"pending: {pending} of {len(wanted)}; docs/seals.md says what to do", Exit.FAILED)


@seal.command()
@click.argument("seal_id", metavar="ID")
@data_option
@state_option
@_server_option
@signing_options
@why_option
def lift(
    seal_id: str,
    *,
    data: Path,
    state_url: str | None,
    server: str | None,
    asker: str,
    approvers: tuple[str, ...],
    why: str,
    keys: Path | None,
    yes: bool,
) -> None:
    """Let a record that is under seal be released again; this takes two people.

    Without the second signature the change is recorded as intended, and written to a file for
    `policyd registry approve`.
    """
    config = config_of(data, state_url)
    state = _state(config)
    content = Lift((seal_id,))
    if seal_id not in state.registry.seals:
        raise click.UsageError(f"there is no seal `{safe(seal_id)}`")
    show(state, content)
    if not yes and not click.confirm("lift?"):
        click.echo("nothing was changed")
        return
    signing = Signing((asker, *approvers), keys, yes)
    proposal = _signed(config, content, state=state, why=why, signing=signing)
    with _connected(config, server, asker) as stub:
        answer = stub.Lift(pb.LiftRequest(change=write_change(proposal), seal_id=seal_id), timeout=_CALL_S)
    if answer.state == registry_pb2.CHANGE_STATE_AWAITING_APPROVAL:
        path = keep(proposal, file=None)
        click.echo("not lifted yet: this takes a second person, who is an approver")
        click.echo(f"wrote {path}; to sign and lift it, the other person runs:")
        click.echo(f"  policyd registry approve {path} --data {config.data} --as THEIR-ID")
    elif answer.state in (registry_pb2.CHANGE_STATE_PENDING, registry_pb2.CHANGE_STATE_IN_FORCE):
        click.echo(f"lifted as epoch {answer.epoch}")
    else:
        raise Failure("policyd: the node gave an answer that is not known here", Exit.NO_DECISION)


def _state(config: Config) -> State:
    with open_store(config) as store:
        return store.load()


def _signed(config: Config, content: Content, *, state: State, why: str, signing: Signing) -> Proposal:
    draft = new_draft(content, who=signing.names[0], why=why, planned_on=state.chain_hash)
    folder = config.keys if signing.keys is None else signing.keys
    return Proposal(draft).signed_by(*(load_admin_key(folder, name) for name in signing.names))


def _wait_for(stub: Any, request: pb.SealRequest, *, wait_s: float) -> pb.SealResponse:
    """Ask until the seal is in force or the time is over; the same call again changes nothing."""
    ends_s = clock.monotonic() + wait_s
    while True:
        left_s = ends_s - clock.monotonic()
        answer: pb.SealResponse = stub.Seal(request, timeout=max(1.0, min(_CALL_S, left_s)))
        if answer.state != registry_pb2.CHANGE_STATE_PENDING or clock.monotonic() >= ends_s:
            return answer


def _say(seal_id: str, answer: pb.SealResponse) -> bool:
    """Print where a seal holds, and return whether it holds everywhere."""
    if answer.state == registry_pb2.CHANGE_STATE_IN_FORCE:
        decisions, answers = (
            clock.format_instant(at) for at in (answer.in_force_at_ms, answer.in_force_for_answers_at_ms)
        )
        click.echo(f"seal {seal_id}, epoch {answer.epoch}: in force for decisions at {decisions}")
        click.echo(f"  for every answer still out at {answers}")
        return True
    if answer.state == registry_pb2.CHANGE_STATE_PENDING:
        named = ", ".join(map(safe, answer.waiting_for))
        click.echo(f"seal {seal_id}, epoch {answer.epoch}: PENDING; not known to hold on {named}")
        return False
    raise Failure("policyd: the node gave an answer that is not known here", Exit.NO_DECISION)


@contextmanager
def _connected(config: Config, server: str | None, administrator: str) -> Iterator[Any]:
    """Give the client side of SealService; what a node refuses ends the command.

    Raises:
        Failure: the node refused, or could not be reached.
        ConfigError: the certificate of the administrator cannot be read.
    """
    folder = config.data / "tls" / "admin"
    try:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=config.tls.authority.read_bytes(),
            private_key=(folder / f"{administrator}.key").read_bytes(),
            certificate_chain=(folder / f"{administrator}.pem").read_bytes(),
        )
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from None
    make: Any = seal_pb2_grpc.SealServiceStub  # generated code has no types
    with grpc.secure_channel(server or config.address, credentials) as channel:
        try:
            yield make(channel)
        except grpc.RpcError as error:
            failed: Any = error
            unknown = failed.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            code = Exit.NO_DECISION if unknown else Exit.FAILED
            raise Failure(f"policyd: {safe(failed.details())}", code) from error
