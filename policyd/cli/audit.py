"""`policyd audit`: what auditors do with the ledger, one module a command."""

from __future__ import annotations

import click

from policyd.cli.audit_export import export_command
from policyd.cli.audit_prove import prove_command, verify_proof_command
from policyd.cli.audit_show import show_command
from policyd.cli.audit_verify import verify_command
from policyd.cli.exits import Commands


@click.group(cls=Commands)
def audit() -> None:
    """Prove what is in the ledger."""


audit.add_command(export_command)
audit.add_command(prove_command)
audit.add_command(show_command)
audit.add_command(verify_command)
audit.add_command(verify_proof_command)
