"""`policyd audit`: what auditors do with the ledger, one module a command."""

from __future__ import annotations

import click

from policyd.cli.exits import Commands

_COMMANDS = {
    "erase": "policyd.cli.audit_erase:erase_command",
    "export": "policyd.cli.audit_export:export_command",
    "prove": "policyd.cli.audit_prove:prove_command",
    "replay": "policyd.cli.audit_replay:replay",
    "show": "policyd.cli.audit_show:show_command",
    "spans": "policyd.cli.audit_spans:spans",
    "trace": "policyd.cli.audit_trace:trace",
    "verify": "policyd.cli.audit_verify:verify_command",
    "verify-proof": "policyd.cli.audit_prove:verify_proof_command",
}


@click.group(cls=Commands, lazy=_COMMANDS)
def audit() -> None:
    """Prove what is in the ledger."""
