"""`policyd check`: ask one question through the real client, as a data service does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from policyd_client import Decision, Listing, Obligations, Outcome, Question, Verdict

from policyd.cli.asking import Asker, asker_options, asking, asking_options, hint
from policyd.cli.exits import Exit, Failure
from policyd.cli.explanation import explanation_document, show_explanation
from policyd.cli.options import print_json


@click.command()
@asking_options
@click.option(
    "--field", "fields", multiple=True, help="Field that leaves: Table.Field or a column. Repeatable."
)
@click.option("--used-field", "used_fields", multiple=True, help="Field only filtered, joined or grouped on.")
@click.option("--year", "years", multiple=True, type=int, help="Academic year: 2018 is 2018/19.")
@click.option("--explain", is_flag=True, help="Show every check that took part.")
@asker_options
def check(
    *,
    agreement: str,
    purposes: Sequence[str],
    fields: Sequence[str],
    used_fields: Sequence[str],
    years: Sequence[int],
    explain: bool,
    action: str,
    requester: str,
    token_file: Path | None,
    data_service: str,
    address: str | None,
    deadline_s: float,
    data: Path,
    as_json: bool,
) -> None:
    """Ask whether a requester may have these fields for this purpose.

    Uses a certificate and a token made by the local authority and issuer of the data directory. The
    decision is recorded like any other. Ends with 0 when nothing is withheld, 3 when something is, and
    4 when no decision was made.
    """
    asker = Asker(requester, token_file, data_service, address, data)
    with asking(asker) as (client, token):
        explanation = None
        if explain:
            question = Question(
                agreement=agreement,
                purposes=purposes,
                fields=fields,
                used_fields=used_fields,
                years=years,
                action=action,
                requester_token=token,
            )
            explanation = client.explain(question, deadline_s=deadline_s)
            decision = explanation.decision
        else:
            decision = client.check(
                agreement=agreement,
                purposes=purposes,
                fields=fields,
                used_fields=used_fields,
                years=years,
                action=action,
                requester_token=token,
                deadline_s=deadline_s,
            )
    if as_json:
        more = {} if explanation is None else {"explanation": explanation_document(explanation)}
        print_json({**as_document(decision), **more})
    else:
        show(decision)
        if explanation is not None:
            show_explanation(explanation)
    if decision.unexpected:
        raise Failure(f"no decision: {decision.unexpected}", Exit.NO_DECISION)
    for reason in sorted(set(decision.withheld.values())):
        hint(reason, asker, agreement=agreement)
    if decision.withheld:
        raise SystemExit(Exit.WITHHELD)


def show(decision: Decision) -> None:
    """Print a decision for people."""
    click.echo(f"{decision.outcome.value.upper()}  decision {decision.decision_id}")
    show_verdicts(decision)
    click.echo(
        f"  policy version {decision.policy_version} {decision.policy_digest[:16]}, epoch {decision.epoch}, "
        f"trace {decision.trace_id}"
    )
    click.echo(f"  ledger {place(decision)}")


def show_verdicts(decision: Decision) -> None:
    """Print the verdict on each name, and what must be done with a release."""
    width = max((len(name) for name in decision.verdicts), default=0)
    for name, verdict in decision.verdicts.items():
        click.echo(f"  {name:<{width}}  {verdict}  ({verdict.rule})")
    if decision.outcome is not Outcome.WITHHOLD:
        for line in obligation_lines(decision.obligations):
            click.echo(f"  must: {line}")


def place(found: Decision | Listing) -> str:
    """Return where a decision is recorded, and that this was proved."""
    where = f"{found.ledger_origin} index {found.ledger_index}"
    if found.receipt is None:
        return where
    return f"{where}, proved in the checkpoint of {found.receipt.checkpoint.size} records"


def obligation_lines(owed: Obligations) -> list[str]:
    """Return obligations as short sentences."""
    lines = []
    if owed.exclude_sealed_epoch is not None:
        lines.append(f"leave out sealed records (as of epoch {owed.exclude_sealed_epoch})")
    if owed.row_years is not None:
        lines.append(f"only rows of the academic years {sorted(owed.row_years)}")
    if owed.row_local_authorities is not None:
        lines.append(f"only rows of the local authorities {sorted(owed.row_local_authorities)}")
    if owed.min_cell_count is not None:
        lines.append(f"suppress cells below {owed.min_cell_count} pupils")
    if owed.round_to is not None:
        lines.append(f"round counts to {owed.round_to}")
    if owed.retention_days is not None:
        lines.append(f"delete within {owed.retention_days} days")
    if owed.output_check:
        lines.append("have a person check outputs before they leave")
    if owed.publish_in_register:
        lines.append("publish the share in the register")
    return lines + [f"release only inside {setting}" for setting in sorted(owed.settings)]


def as_document(decision: Decision) -> dict[str, object]:
    """Return a decision as plain values for JSON."""
    return {
        "outcome": decision.outcome.value,
        "decision_id": decision.decision_id,
        "verdicts": {name: verdict_document(verdict) for name, verdict in decision.verdicts.items()},
        "obligations": [] if decision.outcome is Outcome.WITHHOLD else obligation_lines(decision.obligations),
        "identification_risk": decision.identification_risk,
        "sensitivity": decision.sensitivity,
        "policy_digest": decision.policy_digest,
        "policy_version": decision.policy_version,
        "epoch": decision.epoch,
        "trace_id": decision.trace_id,
        "ledger": ledger_document(decision),
        "unexpected": decision.unexpected,
    }


def ledger_document(found: Decision | Listing) -> dict[str, object]:
    """Return where a decision is recorded, and the checkpoint that proves it, as plain values for JSON."""
    return {
        "origin": found.ledger_origin,
        "index": found.ledger_index,
        "checkpoint": None if found.receipt is None else found.receipt.checkpoint.note,
    }


def verdict_document(verdict: Verdict) -> dict[str, object]:
    """Return the verdict on one name as plain values for JSON."""
    return {
        "effect": verdict.effect.value,
        "reason": verdict.reason,
        "rule": verdict.rule,
        "transform": [str(step) for step in verdict.steps],
    }
