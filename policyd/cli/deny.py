"""`policyd deny`: refuse a caller on every call from now on, and list who is refused."""

from __future__ import annotations

from pathlib import Path

import click

from policyd import clock
from policyd.cli.options import data_option, json_option, print_json, safe
from policyd.clock import format_instant
from policyd.config import FILE, read_config
from policyd.errors import ConfigError
from policyd.identity.deny import Denial, add_denial, check_why, parse_denied, read_deny_list


@click.command()
@click.argument("caller", metavar="[ID]", required=False)
@data_option
@click.option("--why", help="Reason, kept in the list; required with ID.")
@click.option("--list", "list_only", is_flag=True, help="Print who is denied, and change nothing.")
@json_option
def deny(*, caller: str | None, data: Path, why: str | None, list_only: bool, as_json: bool) -> None:
    """Refuse every call of ID from now on, and end its streams.

    ID is the SPIFFE ID of a data service or administrator, or the SHA-256 fingerprint of one certificate.
    Running nodes that use this deny-list need no restart. To lift a denial, take it out of the file.
    """
    # An ID and a reason, or the option: two of three would leave open what is meant.
    if any(given is list_only for given in (caller is not None, why is not None)):
        raise click.UsageError("give either ID with --why, or --list alone")
    config = read_config(data)
    if config.deny is None:
        raise ConfigError(f"{data / FILE} names no deny-list; add `deny: deny.yaml` and make that file")
    if list_only:
        _print(read_deny_list(config.deny, trust_domain=config.trust_domain).denials, as_json=as_json)
        return
    try:
        spiffe_id, fingerprint = parse_denied(caller or "", trust_domain=config.trust_domain)
        denial = Denial(check_why(why or ""), spiffe_id, fingerprint, at=clock.now() // 1000 * 1000)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    added = add_denial(config.deny, denial, trust_domain=config.trust_domain)
    if as_json:
        print_json({"denied": denial.named, "added": added})
    elif added:
        click.echo(f"{denial.named} is denied, from its next call at each node that uses {config.deny}")
    else:
        click.echo(f"{denial.named} was denied already; nothing was changed")


def _print(denials: tuple[Denial, ...], *, as_json: bool) -> None:
    if as_json:
        print_json({"denied": [_fields(denial) for denial in denials]})
        return
    for denial in denials:
        since = "" if denial.at is None else f" since {format_instant(denial.at)}"
        click.echo(f"{denial.named}{since}: {safe(denial.why)}")
    click.echo(f"{len(denials)} denied")


def _fields(denial: Denial) -> dict[str, str]:
    fields = {
        "spiffe_id": denial.spiffe_id,
        "certificate_sha256": denial.certificate_sha256,
        "why": denial.why,
        "at": "" if denial.at is None else format_instant(denial.at),
    }
    return {name: text for name, text in fields.items() if text}
