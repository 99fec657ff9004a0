"""`policyd demo`: the whole path on one machine, from a synthetic database to recorded answers."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click
from policyd_client import PolicyClient

from policyd import clock
from policyd.cli.exits import Exit, Failure
from policyd.cli.options import data_option, policy_option
from policyd.cli.serve import describe
from policyd.cli.signals import wait_for_signal
from policyd.config import DEFAULT_ADDRESS, Config
from policyd.demo.cast import SETTINGS, registry_text
from policyd.demo.run import run_scenarios
from policyd.demo.synthetic import make_database
from policyd.devsetup import (
    administer,
    client_files,
    client_journal,
    local_issuer,
    put_in_force,
    set_up,
    trusted_logs,
)
from policyd.identity.keys import create_mac_key, load_mac_key
from policyd.registry.document import read_registry_text
from policyd.registry.state import Effect, plan
from policyd.server import Server
from policyd.state import open_store


@click.command()
@data_option
@policy_option
@click.option("--address", help=f"Where the node listens.  [default: {DEFAULT_ADDRESS}]")
@click.option("--once", is_flag=True, help="End after the queries instead of serving on.")
def demo(*, data: Path, policy: Path, address: str | None, once: bool) -> None:
    """Watch data services ask policyd before each query, and release only what it says.

    Makes a synthetic database of 10,000 invented pupils, starts a node, puts queries to it through the
    real client, and prints what came back and where it is recorded. Then it goes on serving.
    """
    config = set_up(data, policy=policy, address=address or DEFAULT_ADDRESS)
    if address is not None:
        config = replace(config, address=address)
    database = _database(data)
    seal_keys = {service: _key(data, f"seal-{service}") for service in SETTINGS}
    _register(config, database, seal_keys)
    server = Server(config)
    server.start()
    try:
        describe(server)
        with _clients(config, server.address) as clients:
            result = run_scenarios(
                clients=clients,
                database=database,
                mint_token=lambda requester, service: _mint(config, requester, service),
                seal_keys=seal_keys,
                pseudonym_key=_key(data, "pseudonyms-of-the-data-services"),
                out=sys.stdout,
            )
        for failure in result.failures:
            click.echo(f"not as it has to be: {failure}", err=True)
        if not once:
            _serve_on(server, data)
    finally:
        server.stop()
    if result.failures:
        raise Failure(f"{len(result.failures)} scenarios did not come out as they have to", Exit.FAILED)
    log = data / "nodes" / config.node
    click.echo(f"{result.decisions} decisions on {result.scenarios} queries, all recorded in {log}")


def _database(data: Path) -> Path:
    """Make the synthetic database, always the same, unless an earlier run has."""
    path = data / "demo" / "npd.sqlite"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        scratch = path.with_suffix(".new")
        scratch.unlink(missing_ok=True)
        counts = make_database(scratch)
        scratch.rename(path)
        click.echo(f"made {path}: " + ", ".join(f"{table} {rows:,}" for table, rows in counts.items()))
    return path


def _key(data: Path, name: str) -> bytes:
    """Return a key of the data services; policyd itself never holds these."""
    path = data / "demo" / f"{name}.key"
    return (load_mac_key(path) if path.exists() else create_mac_key(path)).secret


def _register(config: Config, database: Path, seal_keys: Mapping[str, bytes]) -> None:
    put_in_force(config)
    text = registry_text(now=clock.now(), database=database, seal_keys=seal_keys)
    with open_store(config) as store:
        state = store.load()
        entries = read_registry_text(text, "the demo's registry", base=state.registry)
        if any(each.effect is not Effect.UNCHANGED for each in plan(state.registry, entries)):
            administer(config, store, entries, why="the cast of the demo")


def _spiffe_id(config: Config, service: str) -> str:
    return f"spiffe://{config.trust_domain}/data-service/{service}"


def _mint(config: Config, requester: str, service: str) -> str:
    return local_issuer(config).mint(
        requester, data_service=_spiffe_id(config, service), audience=config.audience, now=clock.now()
    )


@contextmanager
def _clients(config: Config, address: str) -> Iterator[dict[str, PolicyClient]]:
    """Connect one client for each data service, each with a certificate of its own."""
    with ExitStack() as stack:
        clients = {}
        for service in SETTINGS:
            files = client_files(config, _spiffe_id(config, service))
            client = PolicyClient(
                address,
                ca=files.authority,
                certificate=files.certificate,
                key=files.key,
                logs=trusted_logs(config),
                journal=client_journal(config, _spiffe_id(config, service)),
            )
            clients[service] = stack.enter_context(client)
        yield clients


def _serve_on(server: Server, data: Path) -> None:
    program = Path(sys.argv[0])
    if program.is_absolute() and program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    where = "" if data == Path(".policyd") else f" --data {data}"
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    click.echo(f"\nserving on {server.address}; Ctrl-C ends it. Try, from another terminal:")
    click.echo(
        f"  {program} check{where} --agreement DS00101 --purpose academic-research "
        "--field SC_Pupil.Ethnicity_SPR19 --field SC_Pupil.Surname_SPR19"
    )
    click.echo(
        f"  {program} audit verify {data / 'nodes' / server.config.node} --receipts {data / 'receipts'}"
    )
    click.echo(f"  {program} registry list{where}")
    wait_for_signal(stop)
