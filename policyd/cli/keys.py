"""`policyd keys`: make the keys of a node, and print what others have to know of them."""

from __future__ import annotations

from pathlib import Path

import click

from policyd.cli.options import data_option
from policyd.devsetup import NODE_KEYS
from policyd.errors import ConfigError
from policyd.identity.keys import load_signing_key
from policyd.ledger.note import Verifier
from policyd.policy.reader import ID


@click.command()
@data_option
@click.option("--node", required=True, help="Id of the node, as in its policyd.yaml.")
@click.option("--trust-domain", required=True, help="Trust domain, as in its policyd.yaml.")
def keys(*, data: Path, node: str, trust_domain: str) -> None:
    """Make the keys of a node that are missing, and print its entry for the trust document.

    What is there already stays, and is printed again. The second part is the line by which clients and
    auditors trust its log. No key is ever shared between nodes.
    """
    if ID.fullmatch(node) is None:
        raise click.UsageError(f"`{node}` is not an id of the form {ID.pattern}")
    folder = data / "keys"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {error.filename}: {error.strerror}") from error
    for name, make in NODE_KEYS.items():
        path = folder / f"{name}.key"
        made = not path.exists()
        if made:
            make(path)
        click.echo(f"{'made' if made else 'kept'} {path}", err=True)
    public = load_signing_key(folder / "node.key").public.hex()
    log = load_signing_key(folder / "ledger.key").private.public_key()
    click.echo("# under `nodes` in the trust document of every node")
    click.echo(f'  {node}: {{key: "{public}"}}')
    click.echo("# in the file of trusted logs of every client")
    click.echo(f"log {Verifier(f'{trust_domain}/policyd/{node}', log).vkey}")
