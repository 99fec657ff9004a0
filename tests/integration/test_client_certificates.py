"""A client's certificate is replaced while it is at work: the new one is used, and no call fails for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pbac.v1 import registry_pb2 as pb
from policyd_client import AdminClient, NoDecision, PolicyClient
from policyd_client.following import LOOK_EVERY_S
from support.server import Site, make_site, serving

from policyd.devsetup import client_credentials, trusted_logs
from policyd.server import Server

PATIENCE_S = 10.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("certificates") / "data")


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Server]:
    with serving(site) as running:
        yield running


def renew(site: Site, folder: Path, service: str = "npd-secure") -> bytes:
    """Put a new certificate and key in place as a renewer does, one file after the other."""
    own = client_credentials(site.config, site.spiffe_id(service))
    (folder / "own.key").write_bytes(own.key_pem)
    (folder / "own.pem").write_bytes(own.certificate_pem)
    (folder / "ca.pem").write_bytes(site.config.tls.authority.read_bytes())
    return own.certificate_pem


def client_of(site: Site, server: Server, folder: Path) -> PolicyClient:
    return PolicyClient(
        server.address,
        ca=folder / "ca.pem",
        certificate=folder / "own.pem",
        key=folder / "own.key",
        logs=trusted_logs(site.config),
    )


def ask(site: Site, client: PolicyClient) -> Any:
    return client.check(
        agreement="DS00101",
        purposes=["academic-research"],
        fields=["KS4.KS4_ATT8"],
        years=[2018],
        requester_token=site.token(),
    )


def shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list that grows by the certificate of each call that reaches the node."""
    seen: list[bytes] = []
    answer = server.node.answer

    def noted(checks: Any, claims: Any, call: Any, **options: Any) -> Any:
        seen.append(call.certificate_der)
        return answer(checks, claims, call, **options)

    monkeypatch.setattr(server.node, "answer", noted)
    return seen


def test_a_replaced_certificate_is_used_and_no_call_fails(
    site: Site, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls go on without an error while three certificates follow each other, each by a real handshake."""
    renew(site, tmp_path)
    seen, calls = shown(server, monkeypatch), 0
    with client_of(site, server, tmp_path) as client:
        for number in range(3):
            until = time.monotonic() + PATIENCE_S
            while len(set(seen)) <= number:
                assert time.monotonic() < until, f"certificate {number + 1} was never shown"
                assert ask(site, client).released == ("KS4.KS4_ATT8",)
                calls += 1
            renew(site, tmp_path)

    assert len(seen) == calls
    assert len(set(seen)) == 3
    print(f"{calls} calls, looked at every {LOOK_EVERY_S} s")


@pytest.mark.parametrize("damage", ["torn", "torn authority", "other key", "other name", "gone"])
def test_files_that_do_not_fit_are_not_taken(
    site: Site,
    server: Server,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    """Half a renewal, a key of another, another name or no file: the certificate before stays in use."""
    monkeypatch.setattr("policyd_client.following.LOOK_EVERY_S", 0.0)
    first = renew(site, tmp_path)
    with client_of(site, server, tmp_path) as client:
        assert ask(site, client).released
        key = (tmp_path / "own.key").read_bytes()
        if damage == "torn":
            (tmp_path / "own.pem").write_bytes(first[: len(first) // 2])
        elif damage == "torn authority":
            whole = (tmp_path / "ca.pem").read_bytes()
            (tmp_path / "ca.pem").write_bytes(whole[:-40])
        elif damage == "other key":
            renew(site, tmp_path)
            (tmp_path / "own.key").write_bytes(key)
        elif damage == "other name":
            renew(site, tmp_path, "npd-second")
        else:
            (tmp_path / "own.pem").unlink()
        seen = shown(server, monkeypatch)
        assert ask(site, client).released
        renew(site, tmp_path)
        assert ask(site, client).released

    assert len(set(seen)) == 2
    assert "cannot be used yet" in caplog.text


def test_an_administrator_follows_too_and_a_closed_client_stays_closed(site: Site, server: Server) -> None:
    """The files in the data directory serve as they are; after `close` nothing is called any more."""
    folder = site.data / "tls" / "admin"
    with AdminClient(
        server.address,
        ca=site.config.tls.authority,
        certificate=folder / "auditor-1.pem",
        key=folder / "auditor-1.key",
    ) as admin:
        (page,) = admin.list(pb.ListRequest(kind=pb.ENTRY_KIND_AGREEMENT))
        assert page.entries
    renewed = client_of(site, server, _folder(site))
    renewed.close()
    with pytest.raises(NoDecision, match="closed"):
        ask(site, renewed)


def _folder(site: Site) -> Path:
    folder = site.data / "mine"
    folder.mkdir()
    renew(site, folder)
    return folder
