"""A data directory for one machine: made once, kept, and refused where it cannot be used."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.server import POLICY

from policyd import clock
from policyd.devsetup import (
    ADMINISTRATORS,
    client_credentials,
    client_files,
    key_name,
    local_issuer,
    put_in_force,
    set_up,
)
from policyd.errors import ConfigError, SourceError
from policyd.identity import keys
from policyd.identity.token import TokenVerifier
from policyd.registry.trust import Role
from policyd.state import open_store


def test_everything_that_a_node_names_is_there(tmp_path: Path) -> None:
    """Keys, certificates and the issuer's public keys, at the paths of the configuration."""
    config = set_up(tmp_path / "data", policy=POLICY)

    named = [config.tls.authority, config.tls.certificate, config.tls.key, config.issuers[0].jwks]
    named += [config.keys / f"{name}.key" for name in ("node", "ledger", "pseudonym", "detail")]
    assert [path for path in named if not path.is_file()] == []
    assert config.policy == POLICY


def test_its_tokens_are_believed_by_its_own_configuration(tmp_path: Path) -> None:
    """The local issuer and the configured one are the same."""
    config = set_up(tmp_path / "data", policy=POLICY)
    now = clock.now()
    service = "spiffe://policyd.test/data-service/npd-secure"

    signed = local_issuer(config).mint("r-1", data_service=service, audience=config.audience, now=now)
    verified = TokenVerifier(config.issuers, audience=config.audience).verify(
        signed, data_service=service, now=now
    )

    assert (verified.issuer, verified.subject) == ("policyd-dev", "r-1")


def test_a_policy_path_with_quotes_and_letters_of_any_script_is_kept(tmp_path: Path) -> None:
    """What YAML would read otherwise is written so that it comes back."""
    policy = tmp_path / 'Données "1" \\ #'
    policy.mkdir()
    (policy / "policyset.yaml").write_text("name: x\n", "utf-8")

    assert set_up(tmp_path / "data", policy=policy).policy == policy


@pytest.mark.parametrize("address", ["nowhere", "a b:1", "1.2.3.4:", "1.2.3.4:123456"])
def test_a_bad_address_leaves_no_configuration(tmp_path: Path, address: str) -> None:
    """The next run starts afresh."""
    with pytest.raises(SourceError, match="is not an address"):
        set_up(tmp_path / "data", policy=POLICY, address=address)

    assert set_up(tmp_path / "data", policy=POLICY).address == "127.0.0.1:50151"


def test_no_policy_set_no_configuration(tmp_path: Path) -> None:
    """A directory without `policyset.yaml` is no policy set."""
    with pytest.raises(ConfigError, match="no policy set in"):
        set_up(tmp_path / "data", policy=tmp_path)

    assert not (tmp_path / "data" / "policyd.yaml").exists()


def test_a_client_certificate_in_memory_is_the_same_kind_as_one_in_files(tmp_path: Path) -> None:
    """Both name the data service; only the one asked for leaves files."""
    config = set_up(tmp_path / "data", policy=POLICY)
    service = "spiffe://policyd.test/data-service/npd-secure"

    pem = client_credentials(config, service).certificate_pem
    assert not (config.data / "tls" / "clients").exists()
    files = client_files(config, service)

    for each in (pem, files.certificate.read_bytes()):
        names = x509.load_pem_x509_certificate(each).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [service]
    assert files.key.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["", "a b", "..", "ü", "a//b"])
def test_a_name_that_is_no_spiffe_id_gets_no_certificate(tmp_path: Path, name: str) -> None:
    """The id is named in the text."""
    config = set_up(tmp_path / "data", policy=POLICY)

    with pytest.raises(ConfigError, match="cannot name a data service"):
        client_credentials(config, f"spiffe://policyd.test/data-service/{name}")


def test_a_public_key_that_looks_like_a_number_is_read_back_as_text(tmp_path: Path) -> None:
    """One key in 256 begins with `0b`, which strict YAML refuses unless it is quoted."""
    private = Ed25519PrivateKey.generate()
    while not private.public_key().public_bytes_raw().hex().startswith("0b"):
        private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    (tmp_path / "keys").mkdir(mode=0o700)
    key_id = hashlib.sha256(public).hexdigest()[:16]
    secret = private.private_bytes_raw()
    keys._write(tmp_path / "keys" / "node.key", kind="ed25519", key_id=key_id, secret=secret)

    trust = set_up(tmp_path, policy=POLICY).trust
    assert [(each.id, each.key) for each in trust.nodes.values()] == [("node-1", public)]


def test_everybody_who_administers_has_a_key_and_a_certificate(tmp_path: Path) -> None:
    """One person a role, each with the key that the trust document names, and a certificate of their own."""
    config = set_up(tmp_path / "data", policy=POLICY)

    admins = config.trust.administrators
    assert {id_: set(each.roles) for id_, each in admins.items()} == {
        id_: {role} for id_, role in ADMINISTRATORS.items()
    }
    assert len({each.person for each in admins.values()}) == len(Role) == len(admins)
    for id_, each in admins.items():
        assert keys.load_signing_key(config.keys / f"{key_name(id_)}.key").public == each.key
        certificate = x509.load_pem_x509_certificate((config.data / f"tls/admin/{id_}.pem").read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [each.spiffe_id]


def test_trust_document_and_policy_set_are_put_in_force_once(tmp_path: Path) -> None:
    """Two changes, each with the signatures it takes; the second time there is nothing to do."""
    config = set_up(tmp_path / "data", policy=POLICY)
    for _ in range(2):
        put_in_force(config)

    with open_store(config) as store:
        state = store.load()
        changes = list(store.changes(0))
    assert (state.epoch, state.trust) == (2, config.trust)
    assert [(each.draft.kind.value, each.draft.who, len(each.signatures)) for each in changes] == [
        ("trust", "registrar-1", 2),
        ("activation", "policy-author-1", 2),
    ]
