"""`policyd health`: ask a node, over mutual TLS, whether it decides now; for probes and for people."""

from __future__ import annotations

from pathlib import Path

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from policyd import clock
from policyd.cli.exits import Exit, Failure
from policyd.cli.options import data_option, json_option, print_json, safe
from policyd.config import Config, read_config
from policyd.errors import ConfigError
from policyd.identity.pki import open_authority
from policyd.service.listening import CERTIFICATE_HEALTH, DENY_LIST_HEALTH

_DECIDES = ""
"""The name in grpc.health.v1 that stands for the node as a whole."""
_EVERYWHERE = ("0.0.0.0", "[::]")  # noqa: S104  # what nodes listen on, not us

_pem = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("address", required=False)
@data_option
@click.option("--service", help="Ask about this service alone, such as policyd.certificate.")
@click.option("--name", help="Name that the node's certificate is for.  [default: the host of ADDRESS]")
@click.option("--ca", type=_pem, help="Authority of the node's certificate.")
@click.option("--certificate", type=_pem, help="Certificate to ask with; needs --key.")
@click.option("--key", type=_pem, help="Key of that certificate.")
@click.option("--deadline", "deadline_s", default=5.0, show_default=True, help="Seconds to wait.")
@json_option
def health(
    *,
    address: str | None,
    data: Path,
    service: str | None,
    name: str | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    deadline_s: float,
    as_json: bool,
) -> None:
    """Ask the node at ADDRESS whether it decides now: 0 if it does, 4 if it does not or cannot be reached.

    With ADDRESS, --ca, --certificate and --key no data directory is needed. Without, the configuration in it
    says where the node listens and whom it trusts. The certificate is then one of the local authority that
    `policyd dev` made, or else the node's own, which needs the usage `client auth`.

    What stands beside, such as a deny-list that cannot be read, is printed and does not count, unless
    --service asks for it.
    """
    if (certificate is None) != (key is None):
        raise click.UsageError("give --certificate and --key together")
    if address is None or ca is None or certificate is None or key is None:
        config = read_config(data)
        address = address or _near(config.address)
        ca = ca or config.tls.authority
        own = _own(config) if certificate is None or key is None else (_read(certificate), _read(key))
    else:
        own = (_read(certificate), _read(key))
    options = (("grpc.ssl_target_name_override", name),) if name else ()
    credentials = grpc.ssl_channel_credentials(_read(ca), private_key=own[1], certificate_chain=own[0])
    wanted = service if service is not None else _DECIDES
    beside = () if service is not None else (CERTIFICATE_HEALTH, DENY_LIST_HEALTH)
    with grpc.secure_channel(address, credentials, options=options) as channel:
        found = {each: _ask(channel, each, deadline_s, address) for each in (wanted, *beside)}
    if wanted == service and found[wanted] == "UNKNOWN":
        raise Failure(f"{address} has no `{safe(wanted)}`", Exit.NO_DECISION)
    if as_json:
        print_json({"address": address, "serving": found[wanted] == "SERVING", "services": found})
    else:
        click.echo(f"{address} {f'{wanted}: ' if wanted else ''}{found[wanted]}")
        for each in beside:
            if found[each] != "UNKNOWN":  # no deny-list is configured there
                click.echo(f"  {each} {found[each]}")
    if found[wanted] != "SERVING":
        raise SystemExit(Exit.NO_DECISION)


def _ask(channel: grpc.Channel, service: str, deadline_s: float, address: str) -> str:
    """Return the name of the status of a service; UNKNOWN where the node knows no such service."""
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=deadline_s)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return "UNKNOWN"
        why = f"{error.code().name}: {safe(error.details())}"
        raise Failure(f"{address} does not answer: {why}", Exit.NO_DECISION) from error
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _own(config: Config) -> tuple[bytes, bytes]:
    """Return certificate and key to ask with, where none are named."""
    local = config.data / "tls"
    if (local / "ca.key").exists():
        authority = open_authority(local, trust_domain=config.trust_domain, now=clock.now())
        own = authority.client(f"spiffe://{config.trust_domain}/data-service/health", now=clock.now())
        return own.certificate_pem, own.key_pem
    return _read(config.tls.certificate), _read(config.tls.key)


def _near(address: str) -> str:
    """Return where to reach on this host what listens on ``address``."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in _EVERYWHERE else address


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
