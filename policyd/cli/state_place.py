"""The option that says where the state is, for the commands that use it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from policyd.config import Config, parse_state, read_config

state_option = click.option(
    "--state",
    "state_url",
    metavar="URL",
    help="Where the state is, in place of what policyd.yaml says: redis://..., or embedded.",
)


def config_of(data: Path, state_url: str | None) -> Config:
    """Read the configuration of a node, with the state where ``--state`` says.

    Raises:
        ConfigError, SourceError: as `read_config` and `parse_state`.
    """
    config = read_config(data)
    return config if state_url is None else replace(config, redis=parse_state(state_url, data=data))
