"""The command group: which commands there are."""

from __future__ import annotations

import logging
import sys

import click

from policyd.cli.audit import audit
from policyd.cli.catalogue import catalogue
from policyd.cli.check import check
from policyd.cli.demo import demo
from policyd.cli.deny import deny
from policyd.cli.exits import Commands
from policyd.cli.fields import fields
from policyd.cli.policy import policy
from policyd.cli.registry import registry
from policyd.cli.serve import dev, serve
from policyd.cli.witness import witness


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="policyd", prog_name="policyd")
def main() -> None:
    """Purpose-based access control for the National Pupil Database.

    May this person, under this agreement, for this purpose, read these fields, and where is the signed
    record that we asked?

    Exit codes: 0 done or released in full, 1 a check or verification failed, 2 wrong usage, 3 something
    was withheld, 4 no decision was made.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")


for command in (audit, catalogue, check, demo, deny, dev, fields, policy, registry, serve, witness):
    main.add_command(command)
