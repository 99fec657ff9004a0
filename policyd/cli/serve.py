"""`policyd dev` and `policyd serve`: make a node's data directory, and run the node."""

from __future__ import annotations

import gc
import signal
import threading
from pathlib import Path
from types import FrameType

import click

from policyd.cli.options import data_option, policy_option
from policyd.cli.progress import progress_on_stderr
from policyd.cli.signals import wait_for_signal
from policyd.cli.state_place import config_of, state_option
from policyd.config import DEFAULT_ADDRESS
from policyd.devsetup import put_in_force, set_up
from policyd.errors import ConfigError
from policyd.server import Server


@click.command()
@data_option
@policy_option
@click.option("--address", default=DEFAULT_ADDRESS, show_default=True, help="Where the node will listen.")
def dev(*, data: Path, policy: Path, address: str) -> None:
    """Make a data directory for one machine: keys, certificates, token issuer, administrators, configuration.

    What is there already stays; the policy set is put in force. For development only: the local authority
    and the local issuer vouch for anyone, and the keys of all administrators lie beside each other.
    """
    config = set_up(data, policy=policy, address=address)
    put_in_force(config)
    click.echo(f"{data} is ready: node {config.node}, trust domain {config.trust_domain}")
    click.echo(f"next: policyd registry apply FILE --data {data} --as registrar-1 --approve approver-1")
    click.echo(f"then: policyd serve --data {data}")


@click.command()
@data_option
@state_option
@click.option("--grace", "grace_s", default=5.0, show_default=True, help="Seconds for calls to finish.")
def serve(*, data: Path, state_url: str | None, grace_s: float) -> None:
    """Run the node whose data directory this is, until SIGTERM or SIGINT.

    SIGHUP reads the token issuers' keys again.
    """
    config = config_of(data, state_url)
    server = Server(config, progress=progress_on_stderr())
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    def reload_keys(_number: int, _frame: FrameType | None) -> None:
        try:
            server.reload_keys()
        except ConfigError as error:
            click.echo(f"the issuers' keys stay as they are: {error}", err=True)
        else:
            click.echo("read the issuers' keys again")

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the keys are about to be read anyway
    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    server.start()
    settle_memory()
    signal.signal(signal.SIGHUP, reload_keys)
    describe(server)
    wait_for_signal(stop)
    click.echo("draining")
    server.stop(grace_s=grace_s)
    click.echo("stopped")


def settle_memory() -> None:
    """Take what was loaded out of the garbage collector's rounds, which a large registry makes long.

    At national size a full round stops every thread for half a second. What is replaced later is given
    back all the same, for no cycle holds it.
    """
    gc.collect()
    gc.freeze()


def describe(server: Server) -> None:
    """Print what runs, where, and on which policy set."""
    policy, current = server.policy, server.node.applied
    click.echo(f"policyd serves on {server.address} (mutual TLS, trust domain {server.config.trust_domain})")
    click.echo(
        f"policy set {policy.name} version {policy.version}, digest {policy.digest[:16]}: "
        f"{len(policy.fields)} fields, {len(policy.rules)} rules"
    )
    place = f" in {server.config.redis}" if server.config.redis else ""
    ledger = server.ledger
    click.echo(f"state at epoch {current.epoch}{place}; ledger {ledger.origin}, {ledger.size} records")
    for line in server.notices:
        click.echo(line)
