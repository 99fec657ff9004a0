"""Which callers are data services: ids by table, and certificates in real TLS handshakes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from policyd import clock
from policyd.errors import Unauthenticated
from policyd.identity import pki
from policyd.identity.spiffe import caller_of, check_spiffe_id, check_trust_domain
from policyd.registry.check import is_spiffe_id

VECTORS = Path(__file__).parents[2] / "vectors" / "tokens" / "spiffe_ids.yaml"
TABLE: dict[str, Any] = yaml.safe_load(VECTORS.read_text(encoding="utf-8"))
DOMAIN = TABLE["trust_domain"]
SERVICE = f"spiffe://{DOMAIN}/data-service/npd-secure"
AuthContext = Mapping[str, Sequence[bytes]]


def _accepts(text: str) -> bool:
    try:
        return check_spiffe_id(text, trust_domain=DOMAIN) == text
    except ValueError:
        return False


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: repr(case["id"]))
def test_a_spiffe_id_has_one_spelling(case: dict[str, Any]) -> None:
    """Each id of the table is accepted as it stands or refused, here and in the registry alike."""
    right_form = case["ok"] or case.get("domain") is False

    assert _accepts(case["id"]) is case["ok"]
    assert is_spiffe_id(case["id"]) is right_form


def test_an_id_longer_than_2048_bytes_is_refused() -> None:
    """The length limit of SPIFFE-ID section 2.3 holds, here and in the registry."""
    longest = f"spiffe://{DOMAIN}/".ljust(2048, "a")

    assert (_accepts(longest), is_spiffe_id(longest)) == (True, True)
    assert (_accepts(longest + "a"), is_spiffe_id(longest + "a")) == (False, False)


@pytest.mark.parametrize("name", ["", "Policyd.test", "policyd.test/", "spiffe://policyd.test", "a b", "a:1"])
def test_a_trust_domain_is_lower_case_and_bare(name: str) -> None:
    """A configured trust domain with scheme, path, port or capitals is refused."""
    with pytest.raises(ValueError, match="trust domain"):
        check_trust_domain(name)


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"peer_spiffe_id": []},
        {"peer_spiffe_id": [SERVICE.encode(), SERVICE.encode()]},
        {"peer_spiffe_id": [SERVICE.encode()], "peer_uri": [SERVICE.encode(), b"https://policyd.test"]},
        {"peer_spiffe_id": [b"spiffe://policyd.test/\xd0\xb0"]},
        {"peer_spiffe_id": [SERVICE.encode()]},
        {"peer_spiffe_id": [SERVICE.encode()], "x509_pem_cert": [b"no certificate"]},
        {"x509_common_name": [SERVICE.encode()]},
        {"peer_uri": [SERVICE.encode()]},
        {"peer_dns": [SERVICE.encode()]},
        {"x509_subject_alternative_name": [SERVICE.encode()]},
    ],
    ids=str,
)
def test_nothing_but_one_peer_spiffe_id_names_a_data_service(context: AuthContext) -> None:
    """Common name, DNS name, and lists of none or several never name the caller."""
    with pytest.raises(Unauthenticated):
        caller_of(context, trust_domain=DOMAIN, now=clock.now())


# Certificates in real handshakes


class _Teller(grpc.GenericRpcHandler):
    """Answers every call with OK and keeps what gRPC said about the caller."""

    def __init__(self) -> None:
        self.seen: list[AuthContext] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.seen.append(context.auth_context())
            return request

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def _serving(authority: pki.Authority) -> Iterator[tuple[int, _Teller]]:
    credentials = authority.server(f"spiffe://{DOMAIN}/policyd", now=clock.now())
    teller = _Teller()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[teller])
        port = server.add_secure_port(
            "127.0.0.1:0",
            grpc.ssl_server_credentials(
                [(credentials.key_pem, credentials.certificate_pem)],
                root_certificates=authority.certificate_pem,
                require_client_auth=True,
            ),
        )
        server.start()
        try:
            yield port, teller
        finally:
            server.stop(None).wait()


def _call(port: int, *, root: bytes, credentials: pki.Credentials | None) -> grpc.StatusCode:
    channel_credentials = grpc.ssl_channel_credentials(
        root,
        private_key=credentials.key_pem if credentials else None,
        certificate_chain=credentials.certificate_pem if credentials else None,
    )
    with grpc.secure_channel(f"127.0.0.1:{port}", channel_credentials) as channel:
        try:
            channel.unary_unary("/test/Ask", None, None)(b"x", timeout=5)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def _certificate(
    authority: pki.Authority,
    *,
    names: Sequence[x509.GeneralName],
    common_name: str = "client",
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ca: bool = False,
    may_sign: str = "",
    age: timedelta = timedelta(minutes=1),
    life: timedelta = timedelta(hours=1),
) -> pki.Credentials:
    """Issue what `pki` would refuse to issue."""
    key = ec.generate_private_key(ec.SECP256R1())
    begin = datetime.fromtimestamp(clock.now() // 1000, tz=UTC) - age
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + life)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if may_sign:
        builder = builder.add_extension(_signing_usage(may_sign), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pki.Credentials(certificate_pem=certificate.public_bytes(Encoding.PEM), key_pem=key_pem)


def _signing_usage(what: str) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=what == "certificates",
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=what == "lists",
        encipher_only=False,
        decipher_only=False,
    )


@pytest.fixture(scope="module")
def authority() -> pki.Authority:
    return pki.create_authority(DOMAIN, now=clock.now())


@pytest.fixture(scope="module")
def served(authority: pki.Authority) -> Iterator[tuple[int, _Teller]]:
    with _serving(authority) as serving:
        yield serving


def _caller(
    served: tuple[int, _Teller], *, authority: pki.Authority, credentials: pki.Credentials
) -> AuthContext:
    """Make a call that the handshake lets through, and return what gRPC says about it."""
    port, teller = served
    assert _call(port, root=authority.certificate_pem, credentials=credentials) is grpc.StatusCode.OK
    return teller.seen[-1]


def _uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def test_a_data_service_is_known_by_the_spiffe_id_of_its_certificate(
    served: tuple[int, _Teller], authority: pki.Authority
) -> None:
    """A certificate as `pki` issues it names the data service, and its DER can be had for binding."""
    credentials = authority.client(SERVICE, now=clock.now())

    context = _caller(served, authority=authority, credentials=credentials)

    caller = caller_of(context, trust_domain=DOMAIN, now=clock.now())
    der = x509.load_pem_x509_certificate(credentials.certificate_pem).public_bytes(Encoding.DER)
    assert (caller.spiffe_id, caller.certificate_der) == (SERVICE, der)
    assert caller.certificate_sha256 == hashlib.sha256(der).hexdigest()


def test_a_dns_name_beside_the_uri_changes_nothing(
    served: tuple[int, _Teller], authority: pki.Authority
) -> None:
    """X509-SVID allows other kinds of names; only the URI counts."""
    names = [_uri(SERVICE), x509.DNSName("spiffe.policyd.test"), x509.IPAddress(ip_address("127.0.0.1"))]

    context = _caller(served, authority=authority, credentials=_certificate(authority, names=names))

    assert caller_of(context, trust_domain=DOMAIN, now=clock.now()).spiffe_id == SERVICE


@pytest.mark.parametrize(
    ("names", "common_name"),
    [
        ([], SERVICE),
        ([x509.DNSName("policyd.test")], SERVICE),
        ([_uri(SERVICE), _uri(f"spiffe://{DOMAIN}/data-service/other")], "client"),
        ([_uri(SERVICE), _uri("https://policyd.test/")], "client"),
        ([_uri(SERVICE), _uri(SERVICE)], "client"),
        ([_uri("https://policyd.test/data-service/npd-secure")], "client"),
        ([_uri("spiffe://policyd.test.evil/data-service/npd-secure")], "client"),
        ([_uri("spiffe://evil.policyd.test/data-service/npd-secure")], "client"),
        ([_uri("SPIFFE://policyd.test/data-service/npd-secure")], "client"),
        ([_uri("spiffe://POLICYD.test/data-service/npd-secure")], "client"),
        ([_uri("spiffe://policyd.test/data-service/%6epd-secure")], "client"),
        ([_uri("spiffe://policyd.test/x/../data-service/npd-secure")], "client"),
        ([_uri("spiffe://policyd.test/%2e%2e/data-service/npd-secure")], "client"),
        ([_uri("spiffe://policyd.test")], "client"),
        ([_uri("spiffe://policyd.test/")], "client"),
    ],
    ids=lambda value: (
        str([getattr(name, "value", name) for name in value]) if isinstance(value, list) else value
    ),
)
def test_a_certificate_of_our_authority_that_names_no_data_service_is_unauthenticated(
    served: tuple[int, _Teller],
    authority: pki.Authority,
    names: Sequence[x509.GeneralName],
    common_name: str,
) -> None:
    """A spoofed common name, two URI names and every other spelling of an id are refused."""
    credentials = _certificate(authority, names=names, common_name=common_name)

    context = _caller(served, authority=authority, credentials=credentials)

    with pytest.raises(Unauthenticated):
        caller_of(context, trust_domain=DOMAIN, now=clock.now())


@pytest.mark.parametrize(
    "kind",
    [
        {"ca": True},
        {"ca": True, "may_sign": "certificates"},
        {"may_sign": "certificates"},
        {"may_sign": "lists"},
    ],
    ids=str,
)
def test_an_authority_is_no_data_service(
    served: tuple[int, _Teller], authority: pki.Authority, kind: dict[str, Any]
) -> None:
    """A certificate that may sign others is refused, whatever it is named and whatever TLS makes of it."""
    port, teller = served
    before = len(teller.seen)
    credentials = _certificate(authority, names=[_uri(SERVICE)], **kind)

    if _call(port, root=authority.certificate_pem, credentials=credentials) is not grpc.StatusCode.OK:
        assert len(teller.seen) == before
        return
    with pytest.raises(Unauthenticated, match="cannot sign"):
        caller_of(teller.seen[-1], trust_domain=DOMAIN, now=clock.now())


def test_no_certificate_gets_no_connection(served: tuple[int, _Teller], authority: pki.Authority) -> None:
    """A caller without a client certificate never reaches a handler."""
    port, teller = served
    before = len(teller.seen)

    have = _call(port, root=authority.certificate_pem, credentials=None)

    assert (have, len(teller.seen)) == (grpc.StatusCode.UNAVAILABLE, before)


def test_a_certificate_of_another_authority_gets_no_connection(
    served: tuple[int, _Teller], authority: pki.Authority
) -> None:
    """An authority of the same name and trust domain, but with another key, vouches for nobody."""
    port, teller = served
    before = len(teller.seen)
    other = pki.create_authority(DOMAIN, now=clock.now())

    have = _call(port, root=authority.certificate_pem, credentials=other.client(SERVICE, now=clock.now()))

    assert (have, len(teller.seen)) == (grpc.StatusCode.UNAVAILABLE, before)


@pytest.mark.parametrize(
    "wrong",
    [
        {"age": timedelta(hours=2)},
        {"age": timedelta(hours=-1)},
        {"usage": ExtendedKeyUsageOID.SERVER_AUTH},
        {"usage": ExtendedKeyUsageOID.CODE_SIGNING},
    ],
    ids=["expired", "not yet valid", "for servers", "for code"],
)
def test_a_certificate_out_of_time_or_for_another_use_gets_no_connection(
    served: tuple[int, _Teller], authority: pki.Authority, wrong: dict[str, Any]
) -> None:
    """Expired, future and wrong-purpose certificates never reach a handler."""
    port, teller = served
    before = len(teller.seen)
    credentials = _certificate(authority, names=[_uri(SERVICE)], **wrong)

    have = _call(port, root=authority.certificate_pem, credentials=credentials)

    assert (have, len(teller.seen)) == (grpc.StatusCode.UNAVAILABLE, before)


def test_a_data_service_cannot_pose_as_the_server(authority: pki.Authority) -> None:
    """A client refuses a server that shows a data service's certificate."""
    credentials = authority.client(SERVICE, now=clock.now())
    teller = _Teller()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[teller])
        port = server.add_secure_port(
            "127.0.0.1:0",
            grpc.ssl_server_credentials([(credentials.key_pem, credentials.certificate_pem)]),
        )
        server.start()
        have = _call(port, root=authority.certificate_pem, credentials=credentials)
        server.stop(None).wait()

    assert (have, teller.seen) == (grpc.StatusCode.UNAVAILABLE, [])


@pytest.mark.parametrize(
    "pem",
    [b"no PEM", b"\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=str,
)
def test_a_certificate_that_cannot_be_read_is_no_callers(pem: bytes) -> None:
    """Where gRPC gives no readable certificate, its word for the id is not enough."""
    context = {"peer_spiffe_id": [SERVICE.encode()], "x509_pem_cert": [pem]}

    with pytest.raises(Unauthenticated, match="cannot sign"):
        caller_of(context, trust_domain=DOMAIN, now=clock.now())


def test_the_id_that_grpc_gives_must_be_that_of_the_certificate(authority: pki.Authority) -> None:
    """Both are read, and where they differ nobody has called."""
    pem = authority.client(SERVICE, now=clock.now()).certificate_pem
    context = {"peer_spiffe_id": [f"spiffe://{DOMAIN}/data-service/other".encode()], "x509_pem_cert": [pem]}

    with pytest.raises(Unauthenticated, match="exactly one URI name"):
        caller_of(context, trust_domain=DOMAIN, now=clock.now())


def test_a_certificate_of_unusual_size_is_refused(authority: pki.Authority) -> None:
    """What is remembered of certificates is bounded in number and in size; gRPC's own clients send none."""
    names = [_uri(SERVICE), *(x509.DNSName(f"{number}.policyd.test") for number in range(1000))]
    pem = _certificate(authority, names=names).certificate_pem
    context = {"peer_spiffe_id": [SERVICE.encode()], "x509_pem_cert": [pem]}

    with pytest.raises(Unauthenticated, match="more than 16384 bytes"):
        caller_of(context, trust_domain=DOMAIN, now=clock.now())


def test_a_certificate_is_looked_at_again_on_every_call(
    served: tuple[int, _Teller], authority: pki.Authority
) -> None:
    """One that ended, or has not begun, by the clock of now is refused, whatever the handshake said."""
    context = _caller(served, authority=authority, credentials=_certificate(authority, names=[_uri(SERVICE)]))
    caller = caller_of(context, trust_domain=DOMAIN, now=clock.now())

    assert caller.not_after - caller.not_before == 3600 * 1000 + 999
    for now in (caller.not_before, caller.not_after):
        assert caller_of(context, trust_domain=DOMAIN, now=now) == caller
    for now in (caller.not_before - 1, caller.not_after + 1):
        with pytest.raises(Unauthenticated, match=r"is valid from .* until .*: connect again"):
            caller_of(context, trust_domain=DOMAIN, now=now)
