"""The configuration of one node: `policyd.yaml` in its data directory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from policyd.errors import ConfigError, SourceError
from policyd.identity.jwks import Issuer
from policyd.identity.visa_facts import VisaTrust
from policyd.issuerconfig import read_issuer, read_visas
from policyd.ledger.note import WitnessVerifier
from policyd.ledger.post import check_url
from policyd.ledger.reserve import RESERVE_BYTES
from policyd.policy.reader import ID, Reader
from policyd.policy.source import Node
from policyd.registry.redis_url import RedisUrl, parse_redis_url
from policyd.registry.trust import Trust, read_trust

FILE = "policyd.yaml"
DEFAULT_ADDRESS = "127.0.0.1:50151"
CONNECTION_AGE_S = 600
MAX_CONNECTION_AGE_S = 3600
"""Certificates of data services should live an hour at most, and a connection no longer than they do."""

_RESERVE_MIB = RESERVE_BYTES >> 20
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})", re.ASCII)
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,253}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of mutual TLS: the authority of clients, and the server's certificate and key, all PEM."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Witness:
    """Who cosigns the checkpoints: its submission prefix, its vkey, and whether answers wait for it."""

    url: str
    vkey: str
    required: bool


@dataclass(frozen=True, slots=True)
class Config:
    """What a node needs to run. Paths are absolute; ``trust`` is the document read from ``trust_file``.

    ``calls`` and ``watches`` bound what runs at once: calls in progress, and WatchSeals streams.
    ``disk_reserve_mib`` is what stays free on the ledger's disk; below it nothing is decided.
    ``connection_age_s`` is after how long a client has to connect anew; ``deny`` is the deny-list's file.
    ``redis`` is where the fleet's state is; without it the state is in a file of this host alone.
    """

    data: Path
    node: str
    address: str
    trust_domain: str
    audience: str
    policy: Path
    tls: Tls
    issuers: tuple[Issuer, ...]
    trust: Trust
    trust_file: Path
    calls: int = 256
    watches: int = 16
    disk_reserve_mib: int = _RESERVE_MIB
    witness: Witness | None = None
    connection_age_s: int = CONNECTION_AGE_S
    deny: Path | None = None
    visas: VisaTrust | None = None
    redis: RedisUrl | None = None

    @property
    def ledger(self) -> Path:
        """The directory of this node's log."""
        return self.data / "nodes" / self.node

    @property
    def keys(self) -> Path:
        """The directory of the node's keys."""
        return self.data / "keys"

    @property
    def state(self) -> Path:
        """The file of the embedded state store; with ``redis``, this node's own copy of the changes."""
        return self.data / "state.db"

    @property
    def policies(self) -> Path:
        """The directory of the policy sets that were in force here, by digest."""
        return self.data / "policy"

    @property
    def origin(self) -> str:
        """The name of this node's log."""
        return f"{self.trust_domain}/policyd/{self.node}"


def read_config(data: Path) -> Config:
    """Read `policyd.yaml` in the data directory; relative paths are taken from there.

    Raises:
        ConfigError: it is not there.
        SourceError: it has mistakes; holds all of them.
    """
    if not (data / FILE).exists():
        raise ConfigError(f"no node is set up in `{data}`: `policyd dev --data {data}` makes one to try out")
    reader = Reader()
    top = reader.mapping(
        reader.file(data / FILE),
        required={"node", "address", "trust_domain", "audience", "policy", "tls", "issuers", "trust"},
        optional={
            *("calls", "connection_age_s", "deny", "disk_reserve_mib", "state", "visas"),
            *("watches", "witness"),
        },
    )
    tls = reader.mapping(top["tls"], required={"authority", "certificate", "key"})
    config = Config(
        data=data.absolute(),
        node=reader.ident(top["node"], ID),
        address=_matching(reader, top["address"], _ADDRESS, "an address such as 127.0.0.1:50151"),
        trust_domain=_matching(reader, top["trust_domain"], _DOMAIN, "a lower-case domain name"),
        audience=reader.text(top["audience"]),
        policy=_path(reader, top["policy"], data),
        tls=Tls(
            authority=_path(reader, tls["authority"], data),
            certificate=_path(reader, tls["certificate"], data),
            key=_path(reader, tls["key"], data),
        ),
        issuers=tuple(read_issuer(reader, entry, data) for entry in reader.entries(top["issuers"])),
        trust=_trust(reader, top["trust"], data),
        trust_file=_path(reader, top["trust"], data),
        calls=reader.integer(top["calls"], minimum=1, maximum=10_000) if "calls" in top else 256,
        watches=reader.integer(top["watches"], minimum=1, maximum=10_000) if "watches" in top else 16,
        disk_reserve_mib=(
            reader.integer(top["disk_reserve_mib"], minimum=1, maximum=1 << 20)
            if "disk_reserve_mib" in top
            else _RESERVE_MIB
        ),
        witness=_witness(reader, top["witness"]) if "witness" in top else None,
        connection_age_s=reader.integer(
            top.get("connection_age_s"),
            minimum=1,
            maximum=MAX_CONNECTION_AGE_S,
            default=CONNECTION_AGE_S,
        ),
        deny=_path(reader, top["deny"], data) if "deny" in top else None,
        visas=read_visas(reader, top["visas"], data) if "visas" in top else None,
        redis=_state(reader, top["state"], data) if "state" in top else None,
    )
    if isinstance(top["issuers"].value, tuple) and not config.issuers:
        reader.fail(top["issuers"], "name at least one issuer: no token could be verified without")
    reader.finish()
    return config


def _trust(reader: Reader, node: Node, data: Path) -> Trust:
    path = _path(reader, node, data)
    try:
        if isinstance(node.value, str):
            return read_trust(path)
    except SourceError as error:
        reader.problems.extend(error.problems)
    return Trust({}, {})


def parse_state(text: str, *, data: Path) -> RedisUrl | None:
    """Read where the state is: ``embedded``, which gives None, or the URL of a Redis.

    Raises:
        ConfigError: the text is neither.
    """
    return None if text == "embedded" else parse_redis_url(text, base=data)


def _state(reader: Reader, node: Node, data: Path) -> RedisUrl | None:
    text = reader.text(node)
    try:
        return parse_state(text, data=data) if text else None
    except ConfigError as error:
        reader.fail(node, str(error))
        return None


def _witness(reader: Reader, node: Node) -> Witness:
    fields = reader.mapping(node, required={"url", "vkey", "required"})

    def checked(name: str, check: Callable[[str], object]) -> str:
        text = reader.text(fields[name])
        try:
            if text:
                check(text)
        except ValueError as error:
            reader.fail(fields[name], str(error))
        return text

    return Witness(
        url=checked("url", check_url),
        vkey=checked("vkey", WitnessVerifier.from_vkey),
        required=reader.boolean(fields["required"]),
    )


def _matching(reader: Reader, node: Node, pattern: re.Pattern[str], wanted: str) -> str:
    text = reader.text(node)
    if text and not pattern.fullmatch(text):
        reader.fail(node, f"`{text}` is not {wanted}")
        return ""
    return text


def _path(reader: Reader, node: Node, data: Path) -> Path:
    return data.absolute() / reader.text(node)
