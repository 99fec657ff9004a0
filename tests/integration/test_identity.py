"""Who may call a running node: certificates that change under it, a deny-list, connections that end."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from policyd_client import Action, NoDecision, PolicyClient
from support.server import POLICYD, Process, Site, make_site, serving, stub
from test_state_changes import wait_for, watch

from policyd import clock
from policyd.config import read_config
from policyd.devsetup import client_credentials, client_files, trusted_logs
from policyd.errors import ConfigError, SourceError
from policyd.identity import pki
from policyd.identity.deny import Denial, add_denial, parse_denied
from policyd.identity.keys import replace_file
from policyd.server import Server
from policyd.service import decision_service
from policyd.service.listening import CERTIFICATE_HEALTH, DENY_LIST_HEALTH

NODE = "spiffe://policyd.test/policyd"


FILES = ("tls/server.pem", "tls/server.key", "tls/clients.pem", "deny.yaml")
"""What tests here change under a node, and what is put back after each."""


def _make(data: Path) -> Site:
    """Make a node whose list of authorities is another file than that of the authority that issues."""
    made = make_site(data)
    config = data / "policyd.yaml"
    config.write_text(config.read_text("utf-8").replace("tls/ca.pem", "tls/clients.pem"), "utf-8")
    shutil.copy(data / "tls" / "ca.pem", data / "tls" / "clients.pem")
    return Site(replace(read_config(made.data), address=made.config.address))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return _make(tmp_path_factory.mktemp("identity") / "data")


@pytest.fixture(scope="module")
def server(shared: Site) -> Iterator[Server]:
    with serving(shared) as running:
        yield running


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    before = {
        name: ((shared.data / name).read_bytes(), (shared.data / name).stat().st_mode) for name in FILES
    }
    yield shared
    for name, (data, mode) in before.items():
        replace_file(shared.data / name, data, mode=mode & 0o777)


@pytest.fixture
def own(tmp_path: Path) -> Site:
    """A data directory of this test alone, for a node that it starts itself."""
    return _make(tmp_path / "data")


def _authority(site: Site) -> pki.Authority:
    return pki.open_authority(site.data / "tls", trust_domain="policyd.test", now=clock.now())


def _renew(site: Site, **how: Any) -> pki.Credentials:
    """Make another certificate for the server, as one that renews does: key first, each file whole."""
    made = _authority(site).server(NODE, now=clock.now(), **how)
    made.write(site.data / "tls", name="server")
    return made


def _shown(site: Site, address: str) -> bytes:
    """Return the certificate that the node shows in a new handshake, as PEM."""
    own = client_files(site.config, site.spiffe_id())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(own.certificate, own.key)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain) as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der).encode()


def _connect(site: Site, address: str, **how: Any) -> grpc.Channel:
    """Open a channel with a connection of its own; others of this process share one."""
    arguments = {"root_certificates": (site.data / "tls" / "ca.pem").read_bytes(), **how}
    return site.channel(address, options=[("grpc.use_local_subchannel_pool", 1)], **arguments)


def _health(channel: grpc.Channel, service: str = "") -> str:
    make: Any = health_pb2_grpc.HealthStub
    reply = make(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def _pass(monkeypatch: pytest.MonkeyPatch, *, minutes: int) -> None:
    """Let time pass on the wall clock of this process."""
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + minutes * 60_000)


def _code(call: Callable[[], object]) -> grpc.StatusCode:
    try:
        call()
    except grpc.RpcError as error:
        failed: Any = error
        code: grpc.StatusCode = failed.code()
        return code
    return grpc.StatusCode.OK


def _ask(site: Site, channel: grpc.Channel, **arguments: Any) -> grpc.StatusCode:
    return _code(lambda: stub(channel).Check(site.question(**arguments), timeout=5))


# ----- the server's own certificate


def test_a_new_certificate_is_shown_from_the_next_handshake(site: Site, server: Server) -> None:
    """Without a restart, and without a break for those who are connected."""
    with site.channel(server.address) as old:
        assert _ask(site, old, number="before") is grpc.StatusCode.OK
        first = _shown(site, server.address)

        made = _renew(site)

        assert _shown(site, server.address) == made.certificate_pem != first
        with site.channel(server.address) as new:
            assert _ask(site, new, number="new") is grpc.StatusCode.OK
        assert _ask(site, old, number="after") is grpc.StatusCode.OK


def test_many_renewals_in_a_row_break_no_handshake(site: Site, server: Server) -> None:
    """Clients that connect while files change always find a certificate with its key."""
    stop, codes = threading.Event(), []

    def connect() -> None:
        while not stop.is_set():
            with _connect(site, server.address) as channel:
                codes.append(_ask(site, channel, number=f"renewed-{len(codes)}"))

    threads = [threading.Thread(target=connect) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        made = _renew(site)
        assert _shown(site, server.address) == made.certificate_pem
    stop.set()
    for thread in threads:
        thread.join()

    assert len(codes) > 4
    assert set(codes) == {grpc.StatusCode.OK}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    "case",
    [
        ("server.pem", _cut, "does not hold whole PEM certificates"),
        ("server.key", _cut, "does not hold a whole PEM private key"),
        ("clients.pem", _cut, "does not hold whole PEM certificates"),
        ("server.key", lambda path: shutil.copy(path.with_name("ca.key"), path), "does not fit its key"),
        ("server.key", lambda path: path.chmod(0o644), "chmod 600"),
        ("server.pem", Path.unlink, "cannot read"),
        ("clients.pem", lambda path: path.chmod(0o666), "chmod go-w"),
    ],
)
def test_files_that_cannot_be_used_leave_the_old_ones_in_force(
    site: Site,
    server: Server,
    case: tuple[str, Callable[[Path], object], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Said once in the log and in health; clients connect as before, and good files end it."""
    name, spoil, said = case
    shown = _shown(site, server.address)
    path = site.data / "tls" / name
    good, mode = path.read_bytes(), path.stat().st_mode
    with site.channel(server.address) as watching:
        assert _health(watching, CERTIFICATE_HEALTH) == "SERVING"
        with caplog.at_level(logging.ERROR, logger="policyd"):
            spoil(path)
            wait_for(lambda: _health(watching, CERTIFICATE_HEALTH) == "NOT_SERVING", what="told in health")
            assert _health(watching) == "SERVING"
            for _ in range(3):
                with _connect(site, server.address) as channel:
                    assert _ask(site, channel, number=f"meanwhile-{clock.now()}") is grpc.StatusCode.OK
        assert _shown(site, server.address) == shown

        path.unlink(missing_ok=True)
        path.write_bytes(good)
        path.chmod(mode)
        wait_for(lambda: _health(watching, CERTIFICATE_HEALTH) == "SERVING", what="well again")

    lines = [
        each.message for each in caplog.records if "the server's certificate cannot be used" in each.message
    ]
    assert len(lines) == 1
    assert said in lines[0]


def test_an_expired_certificate_is_said_loudly(
    site: Site, server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the log with what to renew, and in health; a new one ends it without a restart."""
    with caplog.at_level(logging.WARNING, logger="policyd"), site.channel(server.address) as channel:
        assert _health(channel) == "SERVING"
        _pass(monkeypatch, minutes=22 * 60)
        wait_for(lambda: "has not been replaced; renew" in caplog.text, what="a word before the end")
        assert _health(channel) == "SERVING"
        _pass(monkeypatch, minutes=3 * 60)
        wait_for(lambda: _health(channel) == "NOT_SERVING", what="told in health")
        assert _health(channel, CERTIFICATE_HEALTH) == "NOT_SERVING"
        assert "no client can connect any more; renew" in caplog.text
        _renew(site)
        wait_for(lambda: _health(channel) == "SERVING", what="well again")
        assert _health(channel, CERTIFICATE_HEALTH) == "SERVING"

    assert len(caplog.records) == 2


def test_a_node_does_not_start_with_a_certificate_that_has_ended(site: Site) -> None:
    """No client could connect; better said at once."""
    made = clock.now() - 2 * 3600 * 1000
    _authority(site).server(NODE, now=made, lifetime_s=3600).write(site.data / "tls", name="server")

    with pytest.raises(ConfigError, match="put a new one there"):
        Server(site.config).start()


def test_a_connection_must_not_live_longer_than_the_certificate(site: Site) -> None:
    """Where both are configured so, the node does not start."""
    _renew(site, lifetime_s=120)

    with pytest.raises(ConfigError, match="a connection must not live longer"):
        Server(replace(site.config, connection_age_s=600)).start()


# ----- the authority of clients


def test_an_authority_is_changed_over_without_a_break(site: Site, server: Server) -> None:
    """Old alone, both in one bundle, new alone: each client connects while its authority is listed."""
    old = _authority(site)
    new = pki.create_authority("policyd.test", now=clock.now())
    both = old.certificate_pem + new.certificate_pem
    service = site.spiffe_id()

    def connects(authority: pki.Authority) -> bool:
        pem = authority.client(service, now=clock.now())
        with _connect(
            site,
            server.address,
            root_certificates=both,
            private_key=pem.key_pem,
            certificate_chain=pem.certificate_pem,
        ) as channel:
            return _ask(site, channel, number=f"authority-{clock.now()}") is grpc.StatusCode.OK

    def trust(pem: bytes) -> None:
        scratch = site.data / "tls" / "next.pem"
        scratch.write_bytes(pem)
        scratch.replace(site.config.tls.authority)

    assert (connects(old), connects(new)) == (True, False)
    trust(both)
    assert (connects(old), connects(new)) == (True, True)
    new.server(NODE, now=clock.now()).write(site.data / "tls", name="server")
    assert (connects(old), connects(new)) == (True, True)
    trust(new.certificate_pem)
    assert (connects(old), connects(new)) == (False, True)


# ----- the deny-list


def _deny(site: Site, name: str) -> None:
    """Deny a caller as `policyd deny` does."""
    denial = Denial("found on a bus", *parse_denied(name, trust_domain="policyd.test"))
    assert add_denial(site.data / "deny.yaml", denial, trust_domain="policyd.test")


def test_a_denial_holds_from_the_next_call(site: Site, server: Server) -> None:
    """On the connection that is open, for that caller alone; nothing is decided or recorded for it."""
    with site.channel(server.address) as channel, site.channel(server.address, service="npd-second") as other:
        assert _ask(site, channel, number="before") is grpc.StatusCode.OK

        _deny(site, site.spiffe_id())
        before = site.count()

        with pytest.raises(grpc.RpcError) as caught:
            stub(channel).Check(site.question("after"), timeout=5)
        failed: Any = caught.value
        assert failed.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "deny-list" in failed.details()
        assert "bus" not in failed.details()
        assert site.count() == before
        assert _ask(site, other, number="other", requester_token=site.token(service="npd-second")) is (
            grpc.StatusCode.OK
        )


def test_a_denial_ends_a_stream_that_is_open(site: Site, server: Server) -> None:
    """At its next message, which comes within the second of a heartbeat."""
    with site.channel(server.address) as channel:
        stream = watch(channel)
        assert next(stream).WhichOneof("event") == "snapshot"
        assert next(stream).WhichOneof("event") == "heartbeat"

        _deny(site, site.spiffe_id())

        received = []
        assert _code(lambda: received.extend(stream)) is grpc.StatusCode.PERMISSION_DENIED
        assert len(received) <= 1, "one message may have been on its way"


def test_one_certificate_is_denied_and_not_its_successor(site: Site, server: Server) -> None:
    """By the fingerprint that openssl prints: the stolen one is refused, its successor is not."""
    stolen = client_credentials(site.config, site.spiffe_id())
    der = ssl.PEM_cert_to_DER_cert(stolen.certificate_pem.decode())
    (site.data / "stolen.der").write_bytes(der)
    digest = subprocess.run(
        ["sha256sum", str(site.data / "stolen.der")], capture_output=True, text=True, check=True
    ).stdout.split()[0]

    _deny(site, ":".join(digest.upper()[at : at + 2] for at in range(0, 64, 2)))

    with site.channel(
        server.address, private_key=stolen.key_pem, certificate_chain=stolen.certificate_pem
    ) as channel:
        assert _ask(site, channel, number="stolen") is grpc.StatusCode.PERMISSION_DENIED
    with site.channel(server.address) as channel:
        assert _ask(site, channel, number="successor") is grpc.StatusCode.OK


def test_a_list_that_breaks_keeps_the_last_one_in_force(
    site: Site, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is let in by a slip, and nobody locked out; health and log tell, and a good list ends it."""
    path = site.data / "deny.yaml"
    _deny(site, site.spiffe_id("npd-second"))
    good = path.read_text("utf-8")
    with (
        site.channel(server.address) as channel,
        site.channel(server.address, service="npd-second") as denied,
    ):

        def both() -> tuple[grpc.StatusCode, grpc.StatusCode]:
            number = f"list-{clock.now()}"
            return _ask(site, channel, number=number), _ask(site, denied, number=number)

        before = both()
        assert before == (grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED)
        with caplog.at_level(logging.ERROR, logger="policyd"):
            path.write_text(good.replace("why:", "because:"), "utf-8")
            assert [both() for _ in range(3)] == [before] * 3
            wait_for(lambda: _health(channel, DENY_LIST_HEALTH) == "NOT_SERVING", what="told in health")
            assert _health(channel) == "SERVING"
            path.unlink()
            assert both() == before
        path.write_text("denied: []\n", "utf-8")
        assert both() == (grpc.StatusCode.OK, grpc.StatusCode.OK)
        wait_for(lambda: _health(channel, DENY_LIST_HEALTH) == "SERVING", what="well again")

    lines = [each.message for each in caplog.records if "the deny-list cannot be used" in each.message]
    assert [("unknown key `because`" in line, "cannot read" in line) for line in lines] == [
        (True, False),
        (False, True),
    ]


def test_a_node_does_not_start_with_a_list_that_it_cannot_read(own: Site) -> None:
    """At start there is no last good list: with mistakes, or gone, nobody may be let in."""
    path = own.data / "deny.yaml"
    path.write_text("denied: nobody\n", "utf-8")
    with pytest.raises(SourceError, match="must be a list"):
        Server(own.config).start()

    path.unlink()
    with pytest.raises(ConfigError, match="cannot read the deny-list"):
        Server(own.config).start()
    with serving(own, deny=None) as running, own.channel(running.address) as channel:
        assert _ask(own, channel) is grpc.StatusCode.OK


def test_the_list_holds_in_a_node_of_its_own_process(own: Site) -> None:
    """`policyd serve`, `policyd deny`, no restart."""
    with Process(own) as node, own.channel(node.address) as channel:
        assert _ask(own, channel, number="before") is grpc.StatusCode.OK
        command = [*POLICYD, "deny", own.spiffe_id(), "--why", "x", "--data", str(own.data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert _ask(own, channel, number="after") is grpc.StatusCode.PERMISSION_DENIED
        assert node.terminate() == 0
        assert f"deny-list {own.data / 'deny.yaml'}: 0 denied" in node.output


# ----- connections and certificates that end


def _client(site: Site, address: str, **changes: Any) -> PolicyClient:
    files = client_files(site.config, site.spiffe_id())
    arguments: dict[str, Any] = {
        "ca": files.authority,
        "certificate": files.certificate,
        "key": files.key,
        "logs": trusted_logs(site.config),
    }
    return PolicyClient(address, **{**arguments, **changes})


def _check(site: Site, client: PolicyClient) -> str:
    decision = client.check(
        agreement="DS00101",
        purposes=["academic-research"],
        fields=["KS4.KS4_ATT8"],
        years=[2018],
        action=Action.RELEASE,
        requester_token=site.token(),
    )
    return str(decision.outcome.value)


def test_a_client_whose_connection_has_ended_connects_again_unseen(
    own: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls and the watch over seals go on over several connections; their caller sees no error."""
    peers: set[str] = set()
    call_of = decision_service.call_of

    def noted(context: grpc.ServicerContext) -> Any:
        peers.add(context.peer())
        return call_of(context)

    monkeypatch.setattr(decision_service, "call_of", noted)
    outcomes = []
    with (
        serving(own, connection_age_s=1) as running,
        own.channel(running.address, service="npd-second") as second,
        _client(own, running.address) as client,
        client.watch_seals() as seals,
    ):
        wait_for(lambda: seals.live, what="seals live")
        stream = watch(second)
        begin = time.monotonic()
        while len(peers) < 4:
            assert time.monotonic() - begin < 30, f"only {len(peers)} connections"
            outcomes.append(_check(own, client))
            wait_for(lambda: seals.live, what=f"seals live again: {seals.problem}")

        # What does not end by itself is cut when the grace is over, too.
        assert _code(lambda: list(stream)) is grpc.StatusCode.UNAVAILABLE

    assert set(outcomes) == {"release"}
    print(f"{len(outcomes)} answers over {len(peers)} connections, no error")


def test_a_client_certificate_that_ends_while_connected_is_refused(
    site: Site, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the connection that it opened while it was good: calls, and the stream that runs."""
    hour = _authority(site).client(site.spiffe_id(), now=clock.now(), lifetime_s=3600)
    with site.channel(
        server.address, private_key=hour.key_pem, certificate_chain=hour.certificate_pem
    ) as channel:
        stream = watch(channel)
        assert next(stream).WhichOneof("event") == "snapshot"
        assert _ask(site, channel, number="good") is grpc.StatusCode.OK

        _pass(monkeypatch, minutes=61)

        assert _code(lambda: list(stream)) is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as caught:
            stub(channel).Check(site.question("late"), timeout=5)

    failed: Any = caught.value
    assert failed.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "connect again" in failed.details()


def test_the_client_tells_its_caller_that_its_certificate_has_ended(
    site: Site, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that never comes is no decision; a client with a new certificate gets decisions again."""
    hour = _authority(site).client(site.spiffe_id(), now=clock.now(), lifetime_s=3600)
    with _client(site, server.address, certificate=hour.certificate_pem, key=hour.key_pem) as client:
        assert _check(site, client) == "release"
        with monkeypatch.context() as patched:
            _pass(patched, minutes=61)
            with pytest.raises(NoDecision) as caught:
                _check(site, client)
        assert caught.value.code == "UNAUTHENTICATED"
    with _client(site, server.address) as client:
        assert _check(site, client) == "release"
