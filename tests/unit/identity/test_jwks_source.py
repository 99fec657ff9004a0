"""Keys behind a URL: fetched off the request path, kept for a while, and then no longer believed."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from support.jwks_server import (
    Answer,
    JwksServer,
    jwk,
    jwks_server,
    signing_key,
    with_body,
    with_keys,
    with_status,
)

from policyd.errors import ConfigError, TokenError
from policyd.identity.jwks import Issuer, RemoteJwks
from policyd.identity.jwks_source import COOLDOWN_S, RETRY_S, WAIT_S, Keyring, RemoteKeys
from policyd.identity.token import TokenVerifier

NAME = "https://issuer.test"
SERVICE = "spiffe://policyd.test/data-service/npd-secure"
ONE, TWO = signing_key(1), signing_key(2)
NOW = 1_770_000_000
RSA_JWK = jwt.algorithms.RSAAlgorithm.to_jwk(
    rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(), as_dict=True
)
P256 = ec.generate_private_key(ec.SECP256R1())


@dataclass
class Hand:
    """A clock that a test moves."""

    at_s: float = 1000.0
    changes: list[float] = field(default_factory=list)

    def now_s(self) -> float:
        return self.at_s

    def changed(self) -> None:
        self.changes.append(self.at_s)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[JwksServer]:
    with jwks_server(tmp_path) as running:
        running.answer = with_keys(jwk(ONE, "k1"))
        yield running


@pytest.fixture
def hand() -> Hand:
    return Hand()


def issuer_of(server: JwksServer, **changes: int) -> Issuer:
    remote = RemoteJwks(server.url, server.authority, **changes)
    return Issuer(NAME, jwks=remote, algorithms=("EdDSA", "ES256"))


def source_of(server: JwksServer, hand: Hand) -> RemoteKeys:
    """Return a source without its thread: the test fetches."""
    issuer = issuer_of(server)
    assert isinstance(issuer.jwks, RemoteJwks)
    return RemoteKeys(issuer, issuer.jwks, changed=hand.changed, now_s=hand.now_s, deadline_s=2.0)


def code_of(call: Callable[[], object]) -> str:
    """Return `ok`, or the code of the refusal."""
    try:
        call()
    except TokenError as error:
        return error.code
    return "ok"


def test_before_the_first_fetch_no_key_counts(server: JwksServer, hand: Hand) -> None:
    """And the reason is that they are stale, not that the key is unknown."""
    source = source_of(server, hand)

    assert code_of(source.current) == "keys-stale"
    assert code_of(lambda: source.find("k1")) == "keys-stale"
    source.fetch()
    assert set(source.current()) == {"k1"}


def test_keys_that_cannot_be_fetched_go_on_for_a_while_and_then_end(server: JwksServer, hand: Hand) -> None:
    """Exactly for `stale_after_s` after the last good fetch began, and again once there is another."""
    source = source_of(server, hand)
    source.fetch()
    server.answer = with_status("503 Service Unavailable")

    hand.at_s += 900
    source.fetch()
    assert source.find("k1") is not None
    hand.at_s += 1
    source.fetch()
    assert code_of(lambda: source.find("k1")) == "keys-stale"
    server.answer = with_keys(jwk(ONE, "k1"))
    source.fetch()
    assert source.find("k1") is not None


def test_an_age_counts_from_when_the_keys_were_asked_for(server: JwksServer, hand: Hand) -> None:
    """An answer that took a minute is a minute old when it comes."""
    source = source_of(server, hand)

    def slowly(connection: object) -> None:
        hand.at_s += 60
        with_keys(jwk(ONE, "k1"))(connection)  # type: ignore[arg-type]  # a socket, as every answer gets

    server.answer = slowly
    source.fetch()

    hand.at_s += 840
    assert code_of(source.current) == "ok"
    hand.at_s += 1
    assert code_of(source.current) == "keys-stale"


UNFIT: dict[str, Answer] = {
    "500": with_status("500 Internal Server Error"),
    "a redirect": with_status("302 Found", "Location: https://evil.test/jwks.json"),
    "truncated": with_body(json.dumps({"keys": [jwk(TWO, "k1")]}).encode()[:-20]),
    "a page for people": with_body(b"<html><body>Please sign in</body></html>"),
    "not UTF-8": with_body(b'{"keys": [{"kid": "\xff"}]}'),
    "a list": with_body(b"[]"),
    "no keys": with_body(b"{}"),
    "keys that are a mapping": with_body(b'{"keys": {}}'),
    "keys given twice": with_body(b'{"keys": [], "keys": []}'),
    "huge": with_body(b" " * ((1 << 20) + 1)),
    "deep": with_body(b'{"keys": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "a key that is text": with_keys("k1"),
    "a private key": with_keys(jwk(TWO, "k1", d="AAAA")),
    "a private key beside a sound one": with_keys(jwk(TWO, "k2"), jwk(ONE, "k1", use="enc", d="AAAA")),
    "a shared secret": with_keys({"kty": "oct", "k": "AAAA", "alg": "HS256", "kid": "k1"}),
    "two keys of one id": with_keys(jwk(ONE, "k1"), jwk(TWO, "k1")),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_what_is_no_sound_set_of_keys_changes_nothing(
    unfit: str, server: JwksServer, hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    """What was known goes on, nothing of the document is used, and the log says why without keys."""
    source = source_of(server, hand)
    source.fetch()
    known = source.current()
    server.answer = UNFIT[unfit]
    caplog.clear()

    with caplog.at_level(logging.WARNING):
        source.fetch()
        source.fetch()

    assert source.current() is known
    assert len(caplog.records) == 1
    assert NAME in caplog.text
    assert "AAAA" not in caplog.text
    assert hand.changes == [1000.0]


def test_what_is_published_for_others_is_left_out(server: JwksServer, hand: Hand) -> None:
    """Keys for encryption, for other algorithms, without an id or misshapen stand beside ours unharmed."""
    server.answer = with_keys(
        jwk(ONE, "k1"),
        jwk(TWO, "k2", use="enc"),
        jwk(TWO, "k3", alg="RS256"),
        jwk(signing_key(3), "../k4"),
        jwk(signing_key(4), "k5", x="AAAA"),
    )
    source = source_of(server, hand)
    source.fetch()

    assert set(source.current()) == {"k1"}


def test_a_key_without_an_algorithm_has_the_one_that_fits(server: JwksServer, hand: Hand) -> None:
    """Where the issuer may use just one for keys of its kind; the name stays bound to that one."""
    member = jwk(ONE, "k1")
    del member["alg"]
    server.answer = with_keys(member)
    source = source_of(server, hand)
    source.fetch()

    assert source.current()["k1"].algorithm == "EdDSA"


def test_one_key_for_two_algorithms_is_refused(hand: Hand, server: JwksServer) -> None:
    """Under whatever names it comes (RFC 8725 section 3.1)."""
    server.answer = with_keys(
        {**RSA_JWK, "kid": "a", "alg": "PS256"}, {**RSA_JWK, "kid": "b", "alg": "RS256"}
    )
    source = rsa_source(server, hand)
    source.fetch()

    assert "two algorithms" in source.failure
    assert code_of(source.current) == "keys-stale"


def rsa_source(server: JwksServer, hand: Hand) -> RemoteKeys:
    """Return a source of an issuer that may use two algorithms with keys of one kind."""
    remote = RemoteJwks(server.url, server.authority)
    issuer = Issuer(NAME, jwks=remote, algorithms=("RS256", "PS256"))
    return RemoteKeys(issuer, remote, changed=hand.changed, now_s=hand.now_s)


def test_a_key_that_fits_two_algorithms_and_states_none_is_left_out(hand: Hand, server: JwksServer) -> None:
    """Nobody guesses which of them it is for."""
    server.answer = with_keys({**RSA_JWK, "kid": "a"}, {**RSA_JWK, "kid": "b", "alg": "PS256"})
    source = rsa_source(server, hand)
    source.fetch()

    assert set(source.current()) == {"b"}


def test_the_same_key_for_another_algorithm_is_a_change(hand: Hand, server: JwksServer) -> None:
    """What was verified under the old algorithm counts no more."""
    source = rsa_source(server, hand)
    for algorithm in ("PS256", "RS256", "RS256"):
        server.answer = with_keys({**RSA_JWK, "kid": "a", "alg": algorithm})
        source.fetch()

    assert len(hand.changes) == 2


def test_an_issuer_that_withdraws_every_key_has_none(server: JwksServer, hand: Hand) -> None:
    """An empty set is an answer: it ends every token at once, and not only when the keys are stale."""
    source = source_of(server, hand)
    source.fetch()
    server.answer = with_keys()
    source.fetch()

    assert source.current() == {}
    assert len(hand.changes) == 2


def test_a_change_is_told_only_where_there_is_one(server: JwksServer, hand: Hand) -> None:
    """The same keys again are none; another key or another algorithm under a known name is."""
    source = source_of(server, hand)
    for answer in (
        with_keys(jwk(ONE, "k1")),
        with_keys(jwk(ONE, "k1", note="new")),
        with_keys(jwk(TWO, "k1")),
        with_keys(jwk(TWO, "k1"), jwk(ONE, "k2")),
    ):
        server.answer = answer
        source.fetch()

    assert len(hand.changes) == 3


def started(server: JwksServer, hand: Hand) -> RemoteKeys:
    source = source_of(server, hand)
    source.start()
    assert source.wait_fetched(timeout_s=10.0)
    return source


def test_an_unknown_key_is_fetched_and_then_known(server: JwksServer, hand: Hand) -> None:
    """The first token under a new key passes, for it waits for the fetch that it began."""
    source = started(server, hand)
    server.answer = with_keys(jwk(ONE, "k1"), jwk(TWO, "k2"))

    assert source.find("k2") is not None
    assert source.fetches == 2
    source.close()


def test_made_up_keys_cause_one_fetch_in_a_cooldown(server: JwksServer, hand: Hand) -> None:
    """A thousand unknown ids are one question to the issuer, and one more after the cooldown."""
    source = started(server, hand)
    for number in range(1000):
        assert source.find(f"made-up-{number}") is None
    assert len(server.asked) == 2

    hand.at_s += COOLDOWN_S
    assert source.find("made-up") is None
    assert len(server.asked) == 3
    source.close()


def test_nobody_waits_long_for_a_slow_issuer(server: JwksServer, hand: Hand) -> None:
    """Who asks first waits a quarter of a second, who comes when the fetch is slow does not wait at all."""
    source = started(server, hand)
    release, begun = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        begun.set()
        release.wait(10.0)

    server.answer = hang
    assert source.find("k2") is None
    assert begun.wait(10.0)
    hand.at_s += WAIT_S * 2
    waiters = [threading.Thread(target=source.find, args=(f"k{number}",)) for number in range(50)]
    for waiter in waiters:
        waiter.start()
    for waiter in waiters:
        waiter.join(1.0)

    assert not any(waiter.is_alive() for waiter in waiters)
    assert source.find("k1") is not None
    assert not release.is_set()
    release.set()
    source.close()


@pytest.mark.parametrize(("answer", "after_s"), [("fails", RETRY_S), ("holds", 300.0)])
@pytest.mark.parametrize("early_s", [0.0, 1.0])
def test_the_thread_asks_again_by_itself(
    answer: str, after_s: float, early_s: float, server: JwksServer, hand: Hand
) -> None:
    """Soon after a failure, and after the time that keys are kept otherwise; not a second earlier."""
    source = source_of(server, hand)
    server.answer = with_keys(jwk(ONE, "k1")) if answer == "holds" else with_status("503 Unavailable")
    source.fetch()
    server.answer = with_keys(jwk(TWO, "k2"))
    hand.at_s += after_s - early_s
    source.start()

    with source._moved:
        again = source._moved.wait_for(lambda: source.fetches == 2, 0.5 if early_s else 10.0)

    assert again == (not early_s)
    source.close()
    if again:
        assert set(source.current()) == {"k2"}


def token(key_id: str, key: object, *, algorithm: str = "EdDSA") -> str:
    claims = {
        "iss": NAME,
        "sub": "researcher-1",
        "aud": "policyd",
        "iat": NOW - 10,
        "exp": NOW + 500,
        "jti": "7",
        "act": {"sub": SERVICE},
    }
    return jwt.encode(claims, key, algorithm=algorithm, headers={"typ": "at+jwt", "kid": key_id})  # type: ignore[arg-type]


@pytest.fixture
def verifier(server: JwksServer) -> Iterator[TokenVerifier]:
    running = TokenVerifier([issuer_of(server)], audience="policyd")
    assert running.start() == []
    yield running
    running.close()


def verdict(verifier: TokenVerifier, text: str) -> str:
    return code_of(lambda: verifier.verify(text, data_service=SERVICE, now=NOW * 1000))


def refetch(verifier: TokenVerifier) -> None:
    """Have the keys fetched again and wait for it."""
    remote = verifier._keyring._remotes[NAME]
    before = remote.fetches
    remote.refresh()
    with remote._moved:
        assert remote._moved.wait_for(lambda: remote.fetches > before, 10.0)


def test_a_removed_key_ends_what_was_verified_with_it(server: JwksServer, verifier: TokenVerifier) -> None:
    """With the fetch that no longer finds it, remembered tokens are refused as well."""
    text = token("k1", ONE)
    assert verdict(verifier, text) == "ok"
    server.answer = with_keys(jwk(TWO, "k2"))
    refetch(verifier)

    assert verdict(verifier, text) == "key"
    assert verdict(verifier, token("k2", TWO)) == "ok"


def test_an_issuer_that_fails_does_not_end_what_is_known(server: JwksServer, verifier: TokenVerifier) -> None:
    """Until the keys are stale, and then remembered tokens end too."""
    text = token("k1", ONE)
    assert verdict(verifier, text) == "ok"
    server.answer = with_status("500 Internal Server Error")
    refetch(verifier)
    assert verdict(verifier, text) == "ok"

    remote = verifier._keyring._remotes[NAME]
    known_at_s, keys = remote._known
    assert known_at_s is not None
    remote._known = (known_at_s - 901, keys)
    assert verdict(verifier, text) == "keys-stale"
    assert verdict(verifier, token("k1", TWO)) == "keys-stale"


def test_a_key_reused_with_another_algorithm_verifies_nothing_old(
    server: JwksServer, verifier: TokenVerifier
) -> None:
    """The name leads to the new key and its one algorithm; tokens of the old one are refused."""
    text = token("k1", ONE)
    assert verdict(verifier, text) == "ok"
    numbers = jwt.algorithms.ECAlgorithm.to_jwk(P256.public_key(), as_dict=True)
    server.answer = with_keys({**numbers, "kid": "k1", "alg": "ES256"})
    refetch(verifier)

    assert verdict(verifier, text) == "algorithm"
    assert verdict(verifier, token("k1", P256, algorithm="ES256")) == "ok"


def test_keys_rotate_under_load_without_a_wrong_answer(server: JwksServer, verifier: TokenVerifier) -> None:
    """While both keys are published every token passes; after the old one went, it never passes again."""
    old, new = token("k1", ONE), token("k2", TWO)
    both, gone, stop = threading.Event(), threading.Event(), threading.Event()
    wrong: list[str] = []
    counted: list[str] = []

    def load() -> None:
        while not stop.is_set():
            expected_gone, expected_both = gone.is_set(), both.is_set()
            have_old, have_new = verdict(verifier, old), verdict(verifier, new)
            if expected_gone and have_old != "key":
                wrong.append(f"old after it went: {have_old}")
            if expected_both and have_new != "ok":
                wrong.append(f"new after it came: {have_new}")
            counted.append(have_old)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    server.answer = with_keys(jwk(ONE, "k1"), jwk(TWO, "k2"))
    refetch(verifier)
    both.set()
    server.answer = with_keys(jwk(TWO, "k2"))
    refetch(verifier)
    gone.set()
    for _ in range(20):
        refetch(verifier)
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert {"ok", "key"} <= set(counted)


def test_a_start_without_the_issuer_says_so_and_recovers(server: JwksServer, tmp_path: Path) -> None:
    """The node can start; its tokens are refused until keys come, and then pass by themselves."""
    server.answer = with_status("503 Service Unavailable")
    verifier = TokenVerifier([issuer_of(server)], audience="policyd")

    (line,) = verifier.start()

    assert NAME in line
    assert "503" in line
    assert verdict(verifier, token("k1", ONE)) == "keys-stale"
    server.answer = with_keys(jwk(ONE, "k1"))
    remote = verifier._keyring._remotes[NAME]
    verifier.reload()
    with remote._moved:
        assert remote._moved.wait_for(lambda: remote.fetches > 1, RETRY_S / 2)  # before it asks by itself
    assert verdict(verifier, token("k1", ONE)) == "ok"
    verifier.close()


def test_a_reload_reads_files_and_leaves_a_failing_url_alone(server: JwksServer, tmp_path: Path) -> None:
    """A file with a mistake is reported and nothing changes, neither in files nor behind URLs."""
    path = tmp_path / "jwks-file.json"
    path.write_text(json.dumps({"keys": [jwk(TWO, "f1")]}), encoding="ascii")
    path.chmod(0o644)
    keyring = Keyring([Issuer("https://file.test", jwks=path), issuer_of(server)])
    version = keyring.version
    path.write_text("{", encoding="ascii")

    with pytest.raises(ConfigError, match="not JSON"):
        keyring.read_files()

    assert keyring.version == version
    assert keyring.find("https://file.test", "f1") is not None
    path.write_text(json.dumps({"keys": [jwk(ONE, "f2")]}), encoding="ascii")
    keyring.use(keyring.read_files())
    assert keyring.version > version
    assert keyring.find("https://file.test", "f1") is None
