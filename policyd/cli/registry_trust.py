"""`policyd registry trust` and `admin-key`: whose signatures count, and a key for one more person."""

from __future__ import annotations

from pathlib import Path

import click

from policyd.cli.options import data_option
from policyd.cli.signing import Signing, make_change, show, signing_options, why_option
from policyd.cli.state_place import config_of, state_option
from policyd.config import read_config
from policyd.devsetup import key_name, trust_entry
from policyd.identity.keys import create_signing_key
from policyd.policy.reader import CODE, ID
from policyd.registry.trust import Role, read_trust
from policyd.state import open_store


@click.command(name="trust")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@data_option
@state_option
@signing_options
@why_option
def trust_command(
    file: Path | None,
    *,
    data: Path,
    state_url: str | None,
    asker: str,
    approvers: tuple[str, ...],
    why: str,
    keys: Path | None,
    yes: bool,
) -> None:
    """Put the trust document FILE in force: which nodes and administrators count from now on.

    Without FILE, the one that the configuration names: the first change of a new state. Later ones take a
    registrar and an approver of the document in force, and a registrar and an approver of the new one. Then
    every node needs the new file in place of its own, and does not serve before.
    """
    config = config_of(data, state_url)
    document = config.trust if file is None else read_trust(file)
    with open_store(config) as store:
        state = store.load()
        if state.trust == document:
            click.echo(f"trust document {document.digest[:12]} is in force already")
            return
        first = state.trust is None
        show(state, document)
        signing = Signing((asker, *approvers), keys, yes)
        applied = make_change(config, store, document, state=state, why=why, signing=signing)
    if applied and not first:
        click.echo(f"now put {file} in place of {config.trust_file} on every node, and start the nodes again")


@click.command(name="admin-key")
@click.argument("administrator", metavar="ID")
@data_option
@click.option("--person", required=True, help="Whose key it is; two keys of one person count as one.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice([role.value for role in Role]),
    help="What the person may do; may be given again.",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where to write admin-ID.key.  [default: keys of the data directory]",
)
@click.option("--spiffe-id", help="The person's certificate.  [default: spiffe://TRUST-DOMAIN/admin/ID]")
def admin_key_command(
    administrator: str,
    *,
    data: Path,
    person: str,
    roles: tuple[str, ...],
    keys: Path | None,
    spiffe_id: str | None,
) -> None:
    """Make a signing key for an administrator, and print the entry for the trust document.

    On a machine of the person's own, give --keys and --spiffe-id: then no data directory is needed.
    """
    for text, pattern in ((administrator, ID), (person, CODE)):
        if pattern.fullmatch(text) is None:
            raise click.UsageError(f"`{text}` is not an id of the form {pattern.pattern}")
    if keys is None or spiffe_id is None:
        config = read_config(data)
        keys = keys or config.keys
        spiffe_id = spiffe_id or f"spiffe://{config.trust_domain}/admin/{administrator}"
    path = keys / f"{key_name(administrator)}.key"
    key = create_signing_key(path)
    click.echo(f"wrote {path}; keep it to yourself. Under `administrators` in the trust document:", err=True)
    click.echo(
        trust_entry(
            administrator,
            person=person,
            spiffe_id=spiffe_id,
            key=key.public,
            roles=[Role(role) for role in roles],
        )
    )
