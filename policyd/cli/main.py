"""The command group: which commands there are."""

from __future__ import annotations

import logging
import sys

import click

from policyd.cli.exits import Commands

_COMMANDS = {
    "audit": "policyd.cli.audit:audit",
    "catalogue": "policyd.cli.catalogue:catalogue",
    "check": "policyd.cli.check:check",
    "demo": "policyd.cli.demo:demo",
    "deny": "policyd.cli.deny:deny",
    "dev": "policyd.cli.serve:dev",
    "fields": "policyd.cli.fields:fields",
    "health": "policyd.cli.health:health",
    "keys": "policyd.cli.keys:keys",
    "policy": "policyd.cli.policy:policy",
    "registry": "policyd.cli.registry:registry",
    "seal": "policyd.cli.seal:seal",
    "serve": "policyd.cli.serve:serve",
    "witness": "policyd.cli.witness:witness",
}


@click.group(
    cls=Commands,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="policyd", prog_name="policyd")
def main() -> None:
    """Purpose-based access control for the National Pupil Database.

    May this person, under this agreement, for this purpose, read these fields, and where is the signed
    record that we asked?

    Exit codes: 0 done or released in full, 1 a check or verification failed, 2 wrong usage, 3 something
    was withheld, 4 no decision was made.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
