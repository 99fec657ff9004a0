"""`policyd audit`: what auditors do with the ledger, one module a command."""

from __future__ import annotations

import click

from policyd.cli.audit_erase import erase_command
from policyd.cli.audit_export import export_command
from policyd.cli.audit_prove import prove_command, verify_proof_command
from policyd.cli.audit_replay import replay
from policyd.cli.audit_show import show_command
from policyd.cli.audit_spans import spans
from policyd.cli.audit_trace import trace
from policyd.cli.audit_verify import verify_command
from policyd.cli.exits import Commands


@click.group(cls=Commands)
def audit() -> None:
    """Prove what is in the ledger."""


for command in (
    verify_command,
    show_command,
    prove_command,
    verify_proof_command,
    export_command,
    trace,
    spans,
    replay,
    erase_command,
):
    audit.add_command(command)
