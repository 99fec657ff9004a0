"""A node that believes visas, whose issuer's keys it fetches: asked, explained, replayed, suspended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jwt
import pytest
from pbac.v1 import decision_pb2 as pb
from support.jwks_server import JwksServer, jwk, jwks_server, signing_key, with_keys, with_status
from support.server import Site, make_site, reasons, registry_text, serving, stub

from policyd import clock
from policyd.identity.jwks import Issuer, RemoteJwks
from policyd.identity.keys import load_wrapping_key
from policyd.identity.visa_facts import Evidence, VisaIssuer, VisaTrust
from policyd.ledger.keystore import read_keys
from policyd.ledger.reader import LedgerReader
from policyd.model import AccreditationLevel
from policyd.server import Server
from policyd.service.replay import Outcome, Replayer

ISSUER, AUTHORITY, UNIVERSITY = "https://visas.test", "https://authority.test", "https://university-1.test"
SCHEME = "dea-accredited-researcher"
KEY = signing_key(41)
YEAR_S = 365 * 24 * 3600
NAMES = ("SC_Pupil.Gender_SPR19", "KS4.KS4_ATT8")
SUSPENDED = """
  - {id: ACC-2, requester: researcher-1, organisation: org-university-1, scheme: dea-accredited-researcher,
     level: full, from: 2020-01-01, until: 2021-01-01, status: suspended, source: Panel}
"""


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[JwksServer]:
    with jwks_server(tmp_path) as server:
        server.answer = with_keys(jwk(KEY, "v1"))
        yield server


def trust_of(keys: JwksServer) -> VisaTrust:
    remote = RemoteJwks(keys.url, keys.authority)
    issuer = Issuer(ISSUER, jwks=remote, algorithms=("EdDSA",))
    return VisaTrust(
        brokers=frozenset({"policyd-dev"}),
        issuers=(VisaIssuer(issuer, frozenset({AUTHORITY, UNIVERSITY})),),
        affiliations=(
            (
                Evidence("AffiliationAndRole", UNIVERSITY, YEAR_S),
                "university-1.test",
                "org-university-1",
            ),
        ),
        accreditations=(
            (
                Evidence("ResearcherStatus", AUTHORITY, 5 * YEAR_S, f"{AUTHORITY}/full", frozenset({"so"})),
                SCHEME,
                AccreditationLevel.FULL,
            ),
        ),
        links=(Evidence("LinkedIdentities", AUTHORITY, YEAR_S),),
    )


def visa(kind: str, value: str, source: str, **members: Any) -> str:
    """Return a visa about `r-778`, issued a minute ago."""
    issued = clock.now() // 1000 - 60
    payload = {
        "iss": ISSUER,
        "sub": "r-778",
        "iat": issued,
        "exp": issued + 3600,
        "ga4gh_visa_v1": {"type": kind, "value": value, "source": source, "asserted": issued, **members},
    }
    return jwt.encode(
        payload, KEY, algorithm="EdDSA", headers={"typ": "vnd.ga4gh.visa+jwt", "kid": "v1", "jku": "x:y"}
    )


def passport() -> list[str]:
    tied = [[{"type": "AffiliationAndRole", "value": "const:member@university-1.test"}]]
    return [
        visa("ResearcherStatus", f"{AUTHORITY}/full", AUTHORITY, by="so", conditions=tied),
        visa("AffiliationAndRole", "member@university-1.test", UNIVERSITY, by="system"),
        visa("LinkedIdentities", "researcher-1,policyd-dev", AUTHORITY),
    ]


def unaccredited() -> str:
    """Return the registry of the tests, in which the researcher's accreditation ended long ago."""
    lines = registry_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("     level: full, from:"))
    lines[at] = "     level: full, from: 2020-01-01, until: 2021-01-01, status: active, source: Panel}"
    return "\n".join(lines) + "\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "data", registry=unaccredited())


def ask(site: Site, node: Server, number: int, visas: list[str]) -> pb.CheckResponse:
    with site.channel(node.address) as channel:
        question = site.question(number, requester_token=site.token(visas=visas))
        answer: pb.CheckResponse = stub(channel).Check(question, timeout=20)
        return answer


def fetch_again(node: Server) -> None:
    """Have the node read its keys as with SIGHUP, and wait until those of the visas have come."""
    visas = node._verifier._visas
    assert visas is not None
    remote = visas.keyring._remotes[ISSUER]
    before = remote.fetches
    node.reload_keys()
    with remote._moved:
        assert remote._moved.wait_for(lambda: remote.fetches > before, 10.0)


def test_a_visa_accredits_until_its_key_is_withdrawn_and_every_answer_replays(
    site: Site, keys: JwksServer
) -> None:
    """Without it withheld, with it released and explained; decided again from files it comes out the same."""
    with serving(site, visas=trust_of(keys)) as node:
        visas = passport()
        without, brought = ask(site, node, 1, []), ask(site, node, 2, visas)
        assert set(reasons(without).values()) == {"GATEWAY_PRECONDITION"}
        assert reasons(brought) == dict.fromkeys(NAMES, "release")

        with site.channel(node.address) as channel:
            question = site.question(3, requester_token=site.token(visas=visas))
            explained = stub(channel).Explain(pb.ExplainRequest(check=question), timeout=20)
        (person,) = [each for each in explained.steps if each.check == "gate:5:accredited_person"]
        assert person.why.endswith(f"and a visa of `{AUTHORITY}` says so")

        keys.answer = with_keys()
        fetch_again(node)
        assert set(reasons(ask(site, node, 4, visas)).values()) == {"GATEWAY_PRECONDITION"}

    config = site.config
    master = load_wrapping_key(config.keys / "detail.key")
    with (
        LedgerReader(config.ledger) as reader,
        closing(read_keys(config.ledger, master, origin=reader.origin)) as secrets,
    ):
        replayer = Replayer(secrets, config.policies, origin=reader.origin)
        records = [record for record in reader.records() if record.columns.kind == "decision"]
        have = [replayer.replay(record).outcome for record in records]
    assert have == [Outcome.SAME] * 4


def test_a_suspension_in_the_registry_ends_what_visas_give(site: Site, keys: JwksServer) -> None:
    """With the first decision after the change, whatever is brought."""
    with serving(site, visas=trust_of(keys)) as node:
        visas = passport()
        assert reasons(ask(site, node, 1, visas)) == dict.fromkeys(NAMES, "release")
        epoch = site.apply("accreditations:" + SUSPENDED)
        node.node.wait_beyond(epoch - 1, timeout_s=10.0)

        assert set(reasons(ask(site, node, 2, visas)).values()) == {"GATEWAY_PRECONDITION"}


def test_a_node_starts_without_the_visa_issuer_and_says_so(site: Site, keys: JwksServer) -> None:
    """Tokens hold, their visas count for nothing, until the keys can be fetched."""
    keys.answer = with_status("503 Service Unavailable")
    with serving(site, visas=trust_of(keys)) as node:
        visas = passport()
        assert any(ISSUER in line and "503" in line for line in node.notices)
        assert set(reasons(ask(site, node, 1, visas)).values()) == {"GATEWAY_PRECONDITION"}
        keys.answer = with_keys(jwk(KEY, "v1"))
        fetch_again(node)

        assert reasons(ask(site, node, 2, visas)) == dict.fromkeys(NAMES, "release")
