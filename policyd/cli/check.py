"""`policyd check`: ask one question through the real client, as a data service does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from policyd_client import Action, Decision, NoDecision, Outcome, PolicyClient

from policyd import clock
from policyd.cli.exits import Exit, Failure
from policyd.cli.options import data_option, json_option, print_json, read_text
from policyd.config import Config, read_config
from policyd.devsetup import client_credentials, local_issuer


@click.command()
@click.option("--agreement", required=True, help="The approved data share.")
@click.option(
    "--purpose", "purposes", multiple=True, help="Declared purpose; repeat for several, all must comply."
)
@click.option(
    "--field", "fields", multiple=True, help="Field that leaves: Table.Field or a column. Repeatable."
)
@click.option("--used-field", "used_fields", multiple=True, help="Field only filtered, joined or grouped on.")
@click.option("--year", "years", multiple=True, type=int, help="Academic year: 2018 is 2018/19.")
@click.option("--action", type=click.Choice([each.value for each in Action]), default=Action.RELEASE.value)
@click.option("--requester", default="researcher-1", show_default=True, help="Subject of the token.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File with the requester's token; replaces --requester.",
)
@click.option(
    "--data-service",
    default="npd-secure",
    show_default=True,
    help="Data service to ask as: the last part of its SPIFFE ID.",
)
@click.option("--address", help="Address of the node. Default: as configured in the data directory.")
@click.option("--deadline", "deadline_s", default=5.0, show_default=True, help="Seconds to wait.")
@data_option
@json_option
def check(
    *,
    agreement: str,
    purposes: Sequence[str],
    fields: Sequence[str],
    used_fields: Sequence[str],
    years: Sequence[int],
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
    config = read_config(data)
    spiffe_id = f"spiffe://{config.trust_domain}/data-service/{data_service}"
    # In memory: two checks at once must not write each other's certificate and key.
    own = client_credentials(config, spiffe_id)
    token = _token(config, spiffe_id, requester) if token_file is None else read_text(token_file).strip()
    try:
        with PolicyClient(
            address or config.address,
            ca=config.tls.authority,
            certificate=own.certificate_pem,
            key=own.key_pem,
        ) as client:
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
    except NoDecision as error:
        raise Failure(str(error), Exit.NO_DECISION) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        print_json(as_document(decision))
    else:
        show(decision)
    if decision.unexpected:
        raise Failure(f"no decision: {decision.unexpected}", Exit.NO_DECISION)
    for reason in sorted(set(decision.withheld.values()) & HINTS.keys()):
        words = {"agreement": agreement, "data": data, "data_service": data_service, "requester": requester}
        click.echo(HINTS[reason].format(**words), err=True)
    if decision.withheld:
        raise SystemExit(Exit.WITHHELD)


_REGISTERED = "`policyd registry list --data {data}` shows what is registered"
HINTS = {
    "DATA_SERVICE_UNKNOWN": "hint: data service `{data_service}` is not registered; " + _REGISTERED,
    "REQUESTER_UNKNOWN": "hint: the token's subject is not registered; " + _REGISTERED,
    "REQUESTER_UNVERIFIED": "hint: the token did not hold; docs/tokens.md explains the word after `gate:2:`",
    "AGREEMENT_NOT_YOURS": "hint: agreement `{agreement}` is not registered, or not for this requester and "
    "data service; " + _REGISTERED,
}
"""What a person at the keyboard most likely got wrong; data services are told the reason alone."""


def show(decision: Decision) -> None:
    """Print a decision for people."""
    click.echo(f"{decision.outcome.value.upper()}  decision {decision.decision_id}")
    width = max((len(name) for name in decision.verdicts), default=0)
    for name, verdict in decision.verdicts.items():
        click.echo(f"  {name:<{width}}  {verdict}  ({verdict.rule})")
    if decision.outcome is not Outcome.WITHHOLD:
        for line in obligation_lines(decision):
            click.echo(f"  must: {line}")
    click.echo(
        f"  policy version {decision.policy_version} {decision.policy_digest[:16]}, epoch {decision.epoch}, "
        f"trace {decision.trace_id}"
    )
    click.echo(f"  ledger {decision.ledger_origin} index {decision.ledger_index}")


def obligation_lines(decision: Decision) -> list[str]:
    """Return the obligations as short sentences."""
    owed = decision.obligations
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
        "verdicts": {
            name: {
                "effect": verdict.effect.value,
                "reason": verdict.reason,
                "rule": verdict.rule,
                "transform": [str(step) for step in verdict.steps],
            }
            for name, verdict in decision.verdicts.items()
        },
        "obligations": [] if decision.outcome is Outcome.WITHHOLD else obligation_lines(decision),
        "identification_risk": decision.identification_risk,
        "sensitivity": decision.sensitivity,
        "policy_digest": decision.policy_digest,
        "policy_version": decision.policy_version,
        "epoch": decision.epoch,
        "trace_id": decision.trace_id,
        "ledger": {"origin": decision.ledger_origin, "index": decision.ledger_index},
        "unexpected": decision.unexpected,
    }


def _token(config: Config, spiffe_id: str, requester: str) -> str:
    return local_issuer(config).mint(
        requester, data_service=spiffe_id, audience=config.audience, now=clock.now()
    )
