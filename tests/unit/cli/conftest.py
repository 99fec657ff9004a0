"""One node that serves all tests of the command line, and a way to run a command in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

import pytest
from click.testing import CliRunner, Result
from support.server import Site, make_site, serving

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
