"""How a command reaches a node as an administrator: its options, the connection, and how errors end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from policyd_client import AdminClient, NotDone

from policyd.cli.exits import Exit, Failure
from policyd.cli.options import safe
from policyd.cli.signing import load_admin_key
from policyd.identity.keys import SigningKey

Command = TypeVar("Command", bound=Callable[..., Any])

_DEADLINE_S = 120.0
"""Longer than a node takes for a change of 16 MiB."""
READING_S = 10.0
"""For a node that is not there; a page of a listing takes milliseconds."""

_FILE = click.Path(path_type=Path, dir_okay=False)
_SERVER = click.option(
    "--server", metavar="HOST:PORT", help="Go through this node, not through the files of --data."
)
_CA = click.option(
    "--ca",
    type=_FILE,
    help="With --server: who signs the node's certificate.  [default: tls/ca.pem of --data]",
)
_CERTIFICATE = click.option(
    "--certificate",
    type=_FILE,
    help="With --server: your certificate.  [default: tls/admin/ID.pem of --data]",
)
_CERTIFICATE_KEY = click.option(
    "--certificate-key", type=_FILE, help="With --server: its key.  [default: tls/admin/ID.key of --data]"
)
_ME = click.option("--as", "me", metavar="ID", help="With --server: administrator who asks.")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a node is and whom one connects as; ``data`` is where files are that are not named."""

    server: str
    data: Path
    ca: Path | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None

    @property
    def words(self) -> str:
        """What another person gives to reach the same node."""
        return f"--server {self.server}"


def server_options(command: Command) -> Command:
    """Add the options by which a command that changes goes through a node."""
    return _SERVER(_CA(_CERTIFICATE(_CERTIFICATE_KEY(command))))


def reading_options(command: Command) -> Command:
    """Add the options by which a command that only reads goes through a node."""
    return _ME(server_options(command))


def remote_of(options: dict[str, Any], data: Path) -> Remote | None:
    """Take the options of `server_options` out of those of a command; None without ``--server``.

    Raises:
        click.UsageError: files are named for a connection, and no node.
    """
    server = options.pop("server")
    files = {name: options.pop(name) for name in ("ca", "certificate", "certificate_key")}
    if server is not None:
        return Remote(server, data, **files)
    if any(each is not None for each in files.values()):
        raise click.UsageError("--ca, --certificate and --certificate-key are for --server")
    return None


def signing_key(remote: Remote, folder: Path | None, administrator: str) -> SigningKey:
    """Read the key with which an administrator signs; whether it counts is for the node to say.

    Raises:
        ConfigError: it cannot be used.
    """
    return load_admin_key(folder or remote.data / "keys", administrator)


@contextmanager
def administering(
    remote: Remote, administrator: str, *, deadline_s: float = _DEADLINE_S
) -> Iterator[AdminClient]:
    """Give a connection to the node, for calls of ``deadline_s`` each; what it turns away ends the command.

    Raises:
        Failure: the node said no, or said nothing.
        click.UsageError: the address or a file has the wrong form.
    """
    own = remote.data / "tls" / "admin"
    try:
        client = AdminClient(
            remote.server,
            ca=remote.ca or remote.data / "tls" / "ca.pem",
            certificate=remote.certificate or own / f"{administrator}.pem",
            key=remote.certificate_key or own / f"{administrator}.key",
            deadline_s=deadline_s,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"`{error.filename}` cannot be read: {error.strerror}") from error
    with client:
        try:
            yield client
        except NotDone as error:
            code = Exit.NO_DECISION if error.unknown else Exit.FAILED
            raise Failure(f"policyd: {remote.server}: {safe(error)}", code) from error
