"""Fill a data directory for one machine: keys, certificates, a token issuer and `policyd.yaml`.

For development and the demo. In production an operator's own authority and issuer take these places.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from policyd import clock, ids
from policyd.config import DEFAULT_ADDRESS, FILE, Config, read_config
from policyd.errors import ConfigError, SourceError
from policyd.identity.deny import EMPTY_LIST
from policyd.identity.issuer import JWKS_FILE, LocalIssuer
from policyd.identity.keys import (
    create_mac_key,
    create_signing_key,
    create_wrapping_key,
    load_signing_key,
    replace_file,
)
from policyd.identity.pki import Authority, Credentials, open_authority
from policyd.ledger.note import Verifier
from policyd.model import Registry
from policyd.policy.archive import adopt
from policyd.registry.change import State
from policyd.registry.draft import Activation, ChangeKind, Content, Proposal, draft_change, kind_of
from policyd.registry.store import StateStore
from policyd.registry.trust import Role
from policyd.state import open_store

TRUST_DOMAIN = "policyd.test"
AUDIENCE = "policyd"
ISSUER = "policyd-dev"
NODE = "node-1"
DENY_FILE = "deny.yaml"
TRUST_FILE = "trust.yaml"
LOGS_FILE = "logs.tlog-policy"
"""The logs that clients of this data directory trust: C2SP tlog-policy, one line for this node's."""
NODE_KEYS: Mapping[str, Callable[[Path], object]] = MappingProxyType(
    {
        "node": create_signing_key,
        "ledger": create_signing_key,
        "pseudonym": create_mac_key,
        "detail": create_wrapping_key,
    }
)
"""The keys of every node, by what their files are called less their ending, and how each is made."""

ADMINISTRATORS: Mapping[str, Role] = MappingProxyType(
    {
        "registrar-1": Role.REGISTRAR,
        "approver-1": Role.APPROVER,
        "sealing-officer-1": Role.SEALING_OFFICER,
        "policy-author-1": Role.POLICY_AUTHOR,
        "auditor-1": Role.AUDITOR,
    }
)
"""Who administers a development machine; each is a person of their own, and all keys lie in one place."""

_SIGNERS = {
    ChangeKind.REGISTRY: ("registrar-1", "approver-1"),
    ChangeKind.SEAL: ("sealing-officer-1",),
    ChangeKind.LIFT: ("sealing-officer-1", "approver-1"),
    ChangeKind.ACTIVATION: ("policy-author-1", "approver-1"),
    ChangeKind.TRUST: ("registrar-1", "approver-1"),
}


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """Where a data service of this machine finds what it connects with."""

    authority: Path
    certificate: Path
    key: Path


def set_up(data: Path, *, policy: Path, address: str = DEFAULT_ADDRESS) -> Config:
    """Make what is missing in ``data``, renew the server's certificate, and return the configuration.

    Keys and `policyd.yaml` that are there stay as they are, so it may be run again at any time.

    Raises:
        ConfigError: there is no policy set, a file cannot be written, or one that is there cannot be used.
        SourceError: the `policyd.yaml` that is there, or the address, has mistakes.
    """
    try:
        for folder in (data, data / "keys", data / "tls", data / "tls" / "admin", data / "nodes"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {error.filename}: {error.strerror}") from None
    LocalIssuer.open(data / "issuer", name=ISSUER)
    makers: dict[str, Callable[[Path], object]] = {
        **NODE_KEYS,
        **dict.fromkeys((key_name(admin) for admin in ADMINISTRATORS), create_signing_key),
    }
    for name, make in makers.items():
        if not (data / "keys" / f"{name}.key").exists():
            make(data / "keys" / f"{name}.key")
    if not (data / DENY_FILE).exists():
        replace_file(data / DENY_FILE, EMPTY_LIST.encode(), mode=0o644)
    config = _read_or_write_config(data, policy=policy, address=address)
    _write_trusted_logs(config)
    now = clock.now()
    authority = _authority(data, config.trust_domain)
    authority.server(f"spiffe://{config.trust_domain}/policyd", now=now).write(data / "tls", name="server")
    for each in config.trust.administrators.values():
        authority.client(each.spiffe_id, now=now).write(data / "tls" / "admin", name=each.id)
    return config


def put_in_force(config: Config) -> None:
    """Put the trust document and the policy set in force, unless they are, signed by all who have to.

    Raises:
        ConfigError: a key or the state store cannot be used, or another trust document is in force.
        SourceError: the policy set has mistakes.
        StateCorrupt, StateConflict, NotServing: the state store cannot be used.
    """
    policy = adopt(config.policy, config.policies)
    wanted = Activation(policy_digest=policy.digest, policy_version=policy.version)
    with open_store(config) as store:
        state = store.load()
        if state.trust is None:
            administer(config, store, config.trust, why="the first trust document of this machine")
        if state.activation != wanted:
            administer(config, store, wanted, why="the policy set of this machine")


def administer(config: Config, store: StateStore, content: Content, *, why: str) -> int:
    """Make a change with the keys of this machine's administrators, and return its epoch.

    Raises:
        RegistryError: its entries contradict each other or those registered.
        ConfigError, StateCorrupt, StateConflict, NotServing: a key or the store cannot be used.
        ValueError: there is nothing in it, or ``why`` is no line of text.
    """
    state = store.load()
    return store.append(propose(config, content, state=state, why=why), state.epoch)


def propose(config: Config, content: Content, *, state: State, why: str) -> Proposal:
    """Plan a change on `state`, signed by all of this machine's administrators that it takes.

    Raises:
        ConfigError: a key cannot be used.
        ValueError: there is nothing in it, or ``why`` is no line of text.
    """
    kind = kind_of(content)
    names = [*_SIGNERS[kind]]
    if isinstance(content, Registry) and content.seals and kind is ChangeKind.REGISTRY:
        names.append("sealing-officer-1")
    draft = draft_change(
        content,
        who=names[0],
        why=why,
        at=clock.now(),
        change_id=ids.change_id(),
        planned_on=state.chain_hash,
    )
    keys = [load_signing_key(config.keys / f"{key_name(name)}.key") for name in names]
    return Proposal(draft).signed_by(*keys)


def key_name(administrator: str) -> str:
    """Return what the key file of an administrator is called, less its ending."""
    return f"admin-{administrator}"


def client_files(config: Config, spiffe_id: str) -> ClientFiles:
    """Make a certificate for a data service of this machine, valid for a day, and return where it is.

    Raises:
        ConfigError: as ``client_credentials``; production certificates come from elsewhere.
    """
    folder = config.data / "tls" / "clients"
    folder.mkdir(mode=0o700, exist_ok=True)
    certificate, key = client_credentials(config, spiffe_id).write(folder, name=spiffe_id.rsplit("/", 1)[1])
    return ClientFiles(config.tls.authority, certificate, key)


def client_credentials(config: Config, spiffe_id: str) -> Credentials:
    """Make a certificate for a data service of this machine, valid for a day, and keep it in memory.

    Raises:
        ConfigError: the local authority cannot be used, or ``spiffe_id`` is none of its trust domain.
    """
    try:
        return _authority(config.data, config.trust_domain).client(spiffe_id, now=clock.now())
    except ValueError as error:
        raise ConfigError(f"`{spiffe_id}` cannot name a data service: {error}") from None


def trusted_logs(config: Config) -> Path:
    """Return the file with the public key of this node's log, which clients pin."""
    return config.data / LOGS_FILE


def client_journal(config: Config, spiffe_id: str) -> Path:
    """Return where a long-lived data service of this machine keeps its journal.

    Raises:
        ConfigError: its directory cannot be made.
    """
    folder = config.data / "receipts"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {folder}: {error.strerror}") from None
    return folder / f"{spiffe_id.rsplit('/', 1)[1]}.jsonl"


def local_issuer(config: Config) -> LocalIssuer:
    """Return the development issuer of this data directory."""
    return LocalIssuer.open(config.data / "issuer", name=ISSUER)


def _authority(data: Path, trust_domain: str) -> Authority:
    return open_authority(data / "tls", trust_domain=trust_domain, now=clock.now())


def _write_trusted_logs(config: Config) -> None:
    """Write the file of trusted logs, unless it is there: a pin is never replaced by itself."""
    path = trusted_logs(config)
    if path.exists():
        return
    key = load_signing_key(config.keys / "ledger.key")
    vkey = Verifier(config.origin, key.private.public_key()).vkey
    path.write_text(f"log {vkey}\nquorum none\n", encoding="utf-8")


def _read_or_write_config(data: Path, *, policy: Path, address: str) -> Config:
    if (data / FILE).exists():
        return read_config(data)
    if not (policy / "policyset.yaml").is_file():
        raise ConfigError(f"no policy set in `{policy}`: name its directory with --policy")
    _write_trust(data)
    _write_config(data, policy=policy.absolute(), address=address)
    try:
        return read_config(data)
    except SourceError:
        (data / FILE).unlink()  # a bad address must not stay for the next run to trip over
        raise


def _write_config(data: Path, *, policy: Path, address: str) -> None:
    text = f"""\
# One node of policyd. Every path may be absolute or relative to this file.
node: {NODE}
address: {json.dumps(address)}
trust_domain: {TRUST_DOMAIN}
audience: {AUDIENCE}
policy: {json.dumps(str(policy), ensure_ascii=False)}
tls: {{authority: tls/ca.pem, certificate: tls/server.pem, key: tls/server.key}}
deny: {DENY_FILE}
issuers:
  - {{issuer: {ISSUER}, jwks: issuer/{JWKS_FILE}, algorithms: [EdDSA]}}
trust: {TRUST_FILE}
"""
    (data / FILE).write_text(text, encoding="utf-8")


def _write_trust(data: Path) -> None:
    """Write the trust document, unless it is there: whose signatures count is never replaced by itself."""
    if (data / TRUST_FILE).exists():
        return
    node = load_signing_key(data / "keys" / "node.key").public.hex()
    lines = [
        "# Whose signatures count (docs/registry.md). A change of this file is a change of state of its own.",
        "nodes:",
        f'  {NODE}: {{key: "{node}"}}',
        "administrators:",
    ]
    for number, (admin, role) in enumerate(ADMINISTRATORS.items(), start=1):
        key = load_signing_key(data / "keys" / f"{key_name(admin)}.key").public
        lines.append(
            trust_entry(
                admin,
                person=f"person-{number}",
                spiffe_id=f"spiffe://{TRUST_DOMAIN}/admin/{admin}",
                key=key,
                roles=[role],
            )
        )
    (data / TRUST_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def trust_entry(admin: str, *, person: str, spiffe_id: str, key: bytes, roles: Iterable[Role]) -> str:
    """Return an administrator as the lines that stand for it in a trust document."""
    listed = ", ".join(role.value for role in roles)
    return (
        f'  {admin}: {{person: {person}, spiffe_id: "{spiffe_id}",\n'
        f'    key: "{key.hex()}", roles: [{listed}]}}'
    )
