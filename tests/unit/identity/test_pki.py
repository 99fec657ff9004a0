"""What the development authority issues, and when it makes itself anew."""

from __future__ import annotations

import stat
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from policyd.clock import parse_instant
from policyd.errors import ConfigError
from policyd.identity import pki

DOMAIN = "policyd.test"
SERVICE = "spiffe://policyd.test/data-service/npd-secure"
NOW = parse_instant("2026-03-01T10:00:00Z")
DAY_MS = 24 * 3600 * 1000


def _leaf(credentials: pki.Credentials) -> x509.Certificate:
    return x509.load_pem_x509_certificate(credentials.certificate_pem)


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_a_client_certificate_has_exactly_one_name() -> None:
    """The only subject alternative name is the SPIFFE ID, and there is no common name to confuse with it."""
    leaf = _leaf(pki.create_authority(DOMAIN, now=NOW).client(SERVICE, now=NOW))

    assert list(_names(leaf)) == [x509.UniformResourceIdentifier(SERVICE)]
    assert leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME) == []


def test_a_server_certificate_names_host_address_and_workload() -> None:
    """A client that dials localhost or 127.0.0.1 finds the name it dialled."""
    leaf = _leaf(pki.create_authority(DOMAIN, now=NOW).server("spiffe://policyd.test/policyd", now=NOW))

    assert set(_names(leaf)) == {
        x509.UniformResourceIdentifier("spiffe://policyd.test/policyd"),
        x509.DNSName("localhost"),
        x509.IPAddress(ip_address("127.0.0.1")),
    }


def test_leaves_are_no_authorities_and_have_one_use() -> None:
    """Leaf certificates sign no certificates, and a client's is of no use to a server."""
    authority = pki.create_authority(DOMAIN, now=NOW)
    uses = {
        "client": (authority.client(SERVICE, now=NOW), ExtendedKeyUsageOID.CLIENT_AUTH),
        "server": (authority.server(SERVICE, now=NOW), ExtendedKeyUsageOID.SERVER_AUTH),
    }
    for credentials, use in uses.values():
        extensions = _leaf(credentials).extensions
        assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
        key_usage = extensions.get_extension_for_class(x509.KeyUsage).value
        assert (key_usage.digital_signature, key_usage.key_cert_sign, key_usage.crl_sign) == (
            True,
            False,
            False,
        )
        assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [use]


def test_leaves_live_a_day() -> None:
    """A certificate begins a minute before it is made and ends 24 hours after."""
    leaf = _leaf(pki.create_authority(DOMAIN, now=NOW).client(SERVICE, now=NOW))

    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=1, seconds=pki.BACKDATED_S)


@pytest.mark.parametrize(
    "spiffe_id",
    ["spiffe://other.test/a", "spiffe://policyd.test", "npd-secure", "spiffe://policyd.test/a/../b"],
)
def test_the_authority_certifies_only_ids_of_its_trust_domain(spiffe_id: str) -> None:
    """An id that no verifier would accept is refused when the certificate is asked for."""
    authority = pki.create_authority(DOMAIN, now=NOW)
    with pytest.raises(ValueError):
        authority.client(spiffe_id, now=NOW)


def test_an_authority_outlives_the_process(tmp_path: Path) -> None:
    """Opening the directory again gives the same authority, so that issued certificates stay good."""
    first = pki.open_authority(tmp_path / "tls", trust_domain=DOMAIN, now=NOW)
    second = pki.open_authority(tmp_path / "tls", trust_domain=DOMAIN, now=NOW + DAY_MS)

    assert second.certificate == first.certificate


def test_an_authority_on_its_last_day_is_made_anew(tmp_path: Path) -> None:
    """No leaf is issued that would outlive its authority."""
    first = pki.open_authority(tmp_path, trust_domain=DOMAIN, now=NOW)
    late = NOW + pki.AUTHORITY_LIFETIME_S * 1000 - DAY_MS

    assert pki.open_authority(tmp_path, trust_domain=DOMAIN, now=late).certificate == first.certificate
    assert pki.open_authority(tmp_path, trust_domain=DOMAIN, now=late + 1000).certificate != first.certificate


def test_private_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Key files have mode 0600, also when they replace older ones."""
    authority = pki.open_authority(tmp_path, trust_domain=DOMAIN, now=NOW)
    for _ in range(2):
        _, key = authority.client(SERVICE, now=NOW).write(tmp_path, name="npd-secure")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "npd-secure.pem": 0o644, "npd-secure.key": 0o600}
    assert load_pem_private_key(key.read_bytes(), password=None)


def test_an_authority_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Whoever can read the authority's key can be any data service."""
    pki.open_authority(tmp_path, trust_domain=DOMAIN, now=NOW)
    (tmp_path / "ca.key").chmod(0o640)

    with pytest.raises(ConfigError, match="chmod 600"):
        pki.open_authority(tmp_path, trust_domain=DOMAIN, now=NOW)


def test_an_authority_of_another_trust_domain_is_not_used(tmp_path: Path) -> None:
    """A directory made for one trust domain says so when it is opened for another."""
    pki.open_authority(tmp_path, trust_domain=DOMAIN, now=NOW)

    with pytest.raises(ConfigError, match="another trust domain"):
        pki.open_authority(tmp_path, trust_domain="other.test", now=NOW)


def test_a_key_that_does_not_fit_its_certificate_is_refused(tmp_path: Path) -> None:
    """A key file put in place of another is found when the authority is opened."""
    pki.open_authority(tmp_path / "a", trust_domain=DOMAIN, now=NOW)
    pki.open_authority(tmp_path / "b", trust_domain=DOMAIN, now=NOW)
    (tmp_path / "a" / "ca.key").write_bytes((tmp_path / "b" / "ca.key").read_bytes())

    with pytest.raises(ConfigError, match="not the key of"):
        pki.open_authority(tmp_path / "a", trust_domain=DOMAIN, now=NOW)


def test_damaged_authority_files_are_refused(tmp_path: Path) -> None:
    """A certificate file that does not parse is named."""
    pki.open_authority(tmp_path, trust_domain=DOMAIN, now=NOW)
    (tmp_path / "ca.pem").write_text("nothing", encoding="ascii")

    with pytest.raises(ConfigError, match="damaged"):
        pki.open_authority(tmp_path, trust_domain=DOMAIN, now=NOW)


def test_a_private_key_is_not_shown() -> None:
    """Printing credentials or an authority shows no key."""
    authority = pki.create_authority(DOMAIN, now=NOW)

    assert "PRIVATE KEY" not in repr(authority.client(SERVICE, now=NOW))
    assert "PRIVATE" not in repr(authority)
