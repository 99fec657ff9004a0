"""The demo, whole: a real server, the real client over mutual TLS, every scenario as it has to be."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from policyd_client import PolicyClient

from policyd import clock
from policyd.demo.cast import SETTINGS, registry_text, sealed_pupil
from policyd.demo.run import DemoResult, run_scenarios
from policyd.demo.scenarios import SCENARIOS
from policyd.demo.story import WIDTH
from policyd.demo.synthetic import make_database
from policyd.devsetup import (
    administer,
    client_files,
    local_issuer,
    put_in_force,
    set_up,
    trusted_logs,
)
from policyd.model import Registry
from policyd.registry.document import read_registry_text
from policyd.server import Server
from policyd.state import open_store

POLICY = Path(__file__).parents[3] / "policies" / "npd"
SERVICE = "spiffe://policyd.test/data-service/"


@dataclass(frozen=True)
class Told:
    """What the demo printed, what it returned, and on which database."""

    text: str
    result: DemoResult
    database: Path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Run the demo once for all tests of this file."""
    data = tmp_path_factory.mktemp("demo")
    config = set_up(data, policy=POLICY, address=f"127.0.0.1:{free_port()}")
    database = data / "npd.db"
    make_database(database)
    seal_keys = {name: f"seal key of {name}".encode() for name in SETTINGS}
    now = clock.now()
    registry = read_registry_text(
        registry_text(now=now, database=database, seal_keys=seal_keys), "registry.yaml"
    )
    put_in_force(config)
    with open_store(config) as store:
        administer(config, store, replace(registry, seals={}), why="demo")
        administer(config, store, Registry(seals=registry.seals), why="demo")
    issuer = local_issuer(config)
    out = io.StringIO()
    with ExitStack() as stack:
        server = Server(config)
        server.start()
        stack.callback(server.stop)
        clients = {}
        for name in SETTINGS:
            files = client_files(config, SERVICE + name)
            clients[name] = stack.enter_context(
                PolicyClient(
                    server.address,
                    ca=files.authority,
                    certificate=files.certificate,
                    key=files.key,
                    logs=trusted_logs(config),
                    journal=data / f"{name}.jsonl",
                    default_deadline_s=10.0,
                )
            )
        result = run_scenarios(
            clients=clients,
            database=database,
            mint_token=lambda requester, service: issuer.mint(
                requester, data_service=SERVICE + service, audience=config.audience, now=clock.now()
            ),
            seal_keys=seal_keys,
            pseudonym_key=b"pseudonym key",
            out=out,
        )
        yield Told(out.getvalue(), result, database)


def test_every_scenario_comes_out_as_it_has_to(told: Told) -> None:
    """No outcome, reason, transform or proof differs from what the scenario says."""
    assert told.result.failures == ()
    assert told.result.scenarios == len(SCENARIOS) >= 10
    assert told.result.decisions == sum(scenario.outcome != "not-asked" for scenario in SCENARIOS)


def test_every_decision_is_told_with_its_id_trace_and_ledger_index(told: Told) -> None:
    """One line of each for every decision, no index twice."""
    lines = told.text.splitlines()
    ledger = [line for line in lines if line.startswith("    ledger ")]

    assert len(ledger) == len(set(ledger)) == told.result.decisions
    assert (
        sum(" trace " in line for line in lines if line.startswith("    decision ")) == told.result.decisions
    )


def test_the_seal_is_proved_in_rows_and_in_counts(told: Told) -> None:
    """The whole database was looked at, and differs from what came back by the sealed pupil alone."""
    checked = [line for line in told.text.splitlines() if line.startswith("    checked")]

    assert len(checked) == 4
    assert all("yes:" in line for line in checked)
    assert sealed_pupil(told.database)[0] not in told.text


def test_the_story_fits_in_its_columns_without_colour(told: Told) -> None:
    """Off a terminal there is no escape code, and no line is over 100 columns."""
    assert "\x1b" not in told.text
    assert max(len(line) for line in told.text.splitlines()) <= WIDTH
