"""What the commands that ask a node share: their options, and a client made for one question."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from policyd_client import Action, NoDecision, PolicyClient

from policyd import clock
from policyd.cli.exits import Exit, Failure
from policyd.cli.options import Command, data_option, json_option, read_text
from policyd.config import Config, read_config
from policyd.devsetup import client_credentials, local_issuer, trusted_logs

_WHAT = (
    click.option("--agreement", required=True, help="The approved data share."),
    click.option(
        "--purpose", "purposes", multiple=True, help="Declared purpose; repeat for several, all must comply."
    ),
)
_WHO = (
    click.option(
        "--action", type=click.Choice([each.value for each in Action]), default=Action.RELEASE.value
    ),
    click.option("--requester", default="researcher-1", show_default=True, help="Subject of the token."),
    click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="File with the requester's token; replaces --requester.",
    ),
    click.option(
        "--data-service",
        default="npd-secure",
        show_default=True,
        help="Data service to ask as: the last part of its SPIFFE ID.",
    ),
    click.option("--address", help="Address of the node. Default: as configured in the data directory."),
    click.option("--deadline", "deadline_s", default=5.0, show_default=True, help="Seconds to wait."),
    data_option,
    json_option,
)
REGISTERED = "`policyd registry list --data {data}` shows what is registered"
HINTS = {
    "DATA_SERVICE_UNKNOWN": "hint: data service `{data_service}` is not registered; " + REGISTERED,
    "REQUESTER_UNKNOWN": "hint: the token's subject is not registered; " + REGISTERED,
    "REQUESTER_UNVERIFIED": "hint: the token did not hold; docs/tokens.md explains the word after `gate:2:`",
    "AGREEMENT_NOT_YOURS": "hint: agreement `{agreement}` is not registered, or not for this requester and "
    "data service; " + REGISTERED,
}
"""What a person at the keyboard most likely got wrong; data services are told the reason alone."""


def asking_options(command: Command) -> Command:
    """Add the options that come first in every command that asks: what for."""
    for option in reversed(_WHAT):
        command = option(command)
    return command


def asker_options(command: Command) -> Command:
    """Add the options that come last in every command that asks: who, through what, and where."""
    for option in reversed(_WHO):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks a node: the options of ``asker_options``, by their names."""

    requester: str
    token_file: Path | None
    data_service: str
    address: str | None
    data: Path


@contextmanager
def asking(asker: Asker) -> Iterator[tuple[PolicyClient, str]]:
    """Give a client and a requester's token; what goes wrong on the way ends the command.

    Raises:
        Failure: no decision was made, or the file of trusted logs is missing.
        click.UsageError: the question, the deadline or the address has the wrong form.
    """
    config = read_config(asker.data)
    logs = trusted_logs(config)
    if not logs.exists():
        raise Failure(f"`{logs}` is missing: `policyd dev --data {asker.data}` makes it", Exit.USAGE)
    # This client lives for one question: that it keeps no journal need not be said.
    logging.getLogger("policyd_client").setLevel(logging.ERROR)
    spiffe_id = f"spiffe://{config.trust_domain}/data-service/{asker.data_service}"
    # In memory: two questions at once must not write each other's certificate and key.
    own = client_credentials(config, spiffe_id)
    token = _token(config, spiffe_id, asker)
    try:
        with PolicyClient(
            asker.address or config.address,
            ca=config.tls.authority,
            certificate=own.certificate_pem,
            key=own.key_pem,
            logs=logs,
        ) as client:
            yield client, token
    except NoDecision as error:
        raise Failure(str(error), Exit.NO_DECISION) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def hint(reason: str, asker: Asker, *, agreement: str) -> None:
    """Say on stderr what most likely is wrong, where a reason is a likely slip."""
    if reason in HINTS:
        words: dict[str, Any] = {"agreement": agreement, "data": asker.data}
        click.echo(HINTS[reason].format(**words, data_service=asker.data_service), err=True)


def _token(config: Config, spiffe_id: str, asker: Asker) -> str:
    if asker.token_file is not None:
        return read_text(asker.token_file).strip()
    return local_issuer(config).mint(
        asker.requester, data_service=spiffe_id, audience=config.audience, now=clock.now()
    )
