"""One node that serves all tests of the command line, and a way to run a command in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.server import Site, make_site, registry_text, serving

from policyd.server import Server

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("cli") / "data")


@pytest.fixture(scope="session")
def server(site: Site) -> Iterator[Server]:
    with serving(site) as running:
        yield running


@pytest.fixture
def run() -> Run:
    """Run a command as a user would type it; a traceback is never an outcome."""
    main = import_module("policyd.cli.main").main

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(each) for each in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return invoke


@pytest.fixture
def own(tmp_path: Path) -> Site:
    """A data directory of this test alone, with the usual registry, and no server."""
    return make_site(tmp_path / "data")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A registry file that suspends the agreement and adds a person."""
    path = tmp_path / "registry.yaml"
    person = (
        "{id: researcher-4, organisation: org-university-1, "
        "identity: {issuer: policyd-dev, subject: researcher-4}, roles: [researcher], status: active}"
    )
    text = registry_text(status="suspended").replace("requesters:\n", f"requesters:\n  - {person}\n", 1)
    path.write_text(text, "utf-8")
    return path
