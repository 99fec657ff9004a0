"""A small synthetic database for all tests of the demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyd.demo.synthetic import make_database


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 pupils; tests that change it copy it first."""
    path = tmp_path_factory.mktemp("npd") / "npd.db"
    make_database(path, pupils=600)
    return path
