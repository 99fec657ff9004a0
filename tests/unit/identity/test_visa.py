"""Visas against tests/vectors/tokens/visas.yaml, in a token and out of it."""

from __future__ import annotations

import itertools
import json
import random
from base64 import urlsafe_b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd.errors import ConfigError, TokenError
from policyd.identity.claims import TokenFault
from policyd.identity.jwks import Issuer, RemoteJwks
from policyd.identity.token import TokenVerifier
from policyd.identity.visa import MAX_VISAS, VisaFault, VisaVerifier
from policyd.identity.visa_conditions import MAX_ALTERNATIVES, MAX_CLAUSES, alternatives, matches_pattern
from policyd.identity.visa_facts import REQUESTED_TTL_S, Visa, VisaTrust, derive
from policyd.issuerconfig import read_visas
from policyd.model import NO_VISAS, Visas
from policyd.policy.reader import Reader
from policyd.service.recording import VALID_FOR_MS

VECTORS = Path(__file__).parents[2] / "vectors" / "tokens"
TABLE: dict[str, Any] = yaml.safe_load((VECTORS / "visas.yaml").read_text(encoding="utf-8"))
TOKENS: dict[str, Any] = yaml.safe_load((VECTORS / "tokens.yaml").read_text(encoding="utf-8"))
KEYS = {
    name: Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)) for name, seed in TOKENS["seeds"].items()
}
NOW = TABLE["now"] * 1000
BEARER = (TABLE["bearer"]["iss"], TABLE["bearer"]["sub"])
SERVICE = TOKENS["data_service"]
EVERYTHING = ["full", "training", "member", "link"]


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _jwks(directory: Path, name: str) -> Path:
    public = KEYS[name].public_key().public_bytes_raw()
    member = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": name, "x": _b64(public)}
    path = directory / f"{name}.json"
    path.write_text(json.dumps({"keys": [member]}), encoding="ascii")
    path.chmod(0o644)
    return path


@pytest.fixture
def trust(tmp_path: Path) -> VisaTrust:
    """Read the configuration in the table as that of a node."""
    for name in ("ed-1", "ed-2"):
        _jwks(tmp_path, name)
    (tmp_path / "visas.yaml").write_text(json.dumps(TABLE["visas"]), encoding="utf-8")
    reader = Reader()
    found = read_visas(reader, reader.file(tmp_path / "visas.yaml"), tmp_path)
    reader.finish()
    return found


@pytest.fixture
def verifier(trust: VisaTrust) -> VisaVerifier:
    return VisaVerifier(trust, audience=TABLE["audience"], skew_s=30)


def _expand(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"repeat", "times"}:
        return value["repeat"] * value["times"]
    return {key: _expand(each) for key, each in value.items()} if isinstance(value, dict) else value


def _sign(header: dict[str, Any], payload: dict[str, Any], key: str) -> str:
    text = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(payload).encode())}"
    return f"{text}.{_b64(b'' if key == 'nothing' else KEYS[key].sign(text.encode()))}"


def make(asked: str | dict[str, Any]) -> str:
    """Make the visa that a case asks for."""
    patch = {"use": asked} if isinstance(asked, str) else asked
    if "text" in patch:
        return str(patch["text"])
    base, dropped = TABLE["made"][patch["use"]], patch.get("drop", [])
    said = {**base["visa"], **_expand(patch.get("set", {}))}
    payload = {**base["claims"], **patch.get("claims", {})}
    payload["ga4gh_visa_v1"] = {name: each for name, each in said.items() if name not in dropped}
    payload = {name: each for name, each in payload.items() if name not in dropped}
    header = {"alg": "EdDSA", "typ": "vnd.ga4gh.visa+jwt", "kid": base["key"], **patch.get("header", {})}
    return _sign(header, payload, patch.get("sign", base["key"]))


def spell(visas: Visas) -> list[str]:
    """Write facts as the table does."""
    found = []
    for each in visas.accreditations:
        text = f"{each.level.value} {each.scheme} {each.organisation} {_times(each.from_at, each.until_at)}"
        if each.supervisor:
            text += f" under {each.supervisor[1]} of {each.supervisor[0]}"
        found.append(text)
    found += [f"project {each.agreement} {_times(each.from_at, each.until_at)}" for each in visas.projects]
    return found


def _times(from_at: int, until_at: int) -> str:
    assert from_at % 1000 == until_at % 1000 == 0
    return f"{from_at // 1000}..{until_at // 1000}"


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
def test_visas_come_to_what_the_table_says(verifier: VisaVerifier, case: dict[str, Any]) -> None:
    """The facts, and which visas count for nothing because of what they are."""
    visas = [make(each) for each in case["visas"]]

    assert spell(verifier.open(visas, bearer=BEARER, now=NOW).visas) == case["want"]
    faults = []
    for each in visas:
        try:
            verifier.verify(each, now=NOW)
        except TokenError as error:
            faults.append(error.code)
    assert faults == case.get("faults", [])


def test_no_two_cases_share_a_name() -> None:
    """A failing case is found by its name."""
    names = [case["name"] for case in TABLE["cases"]]

    assert len(set(names)) == len(names)


def test_every_case_gives_no_more_when_a_visa_is_left_out(verifier: VisaVerifier) -> None:
    """Each fact that is left was there before, and lasted at least as long."""
    compared = 0
    for case in TABLE["cases"]:
        visas = [make(each) for each in case["visas"]]
        before = verifier.open(visas, bearer=BEARER, now=NOW).visas
        for left in range(len(visas)):
            fewer = [each for at, each in enumerate(visas) if at != left]
            compared += gives_no_more(before, verifier.open(fewer, bearer=BEARER, now=NOW).visas)
    assert compared >= 10


def gives_no_more(before: Visas, after: Visas) -> int:
    """Check that every fact after was there before for at least as long; return how many there are."""
    known = {_kind(each): each.until_at for each in (*before.accreditations, *before.projects)}
    left = (*after.accreditations, *after.projects)
    for each in left:
        assert each.until_at <= known.get(_kind(each), 0), each
    return len(left)


def _kind(fact: Any) -> tuple[object, ...]:
    return tuple(getattr(fact, name) for name in fact.__slots__ if name != "until_at")


def drawn(rng: random.Random) -> list[Visa]:
    """Draw visas about few people, with every type, near and past their ends, some of them conditional."""
    people = [BEARER, ("https://visas.test", "r-778"), ("https://visas.test", "r-779")]
    said = [
        ("ResearcherStatus", "https://authority.test/full", "https://authority.test", "so"),
        ("ResearcherStatus", "https://authority.test/provisional", "https://authority.test", "so"),
        ("AcceptedTermsAndPolicies", "https://authority.test/training", "https://authority.test", "so"),
        ("ControlledAccessGrants", "https://dac.test/DS00101", "https://dac.test", "dac"),
        ("AffiliationAndRole", "member@university-1.test", "https://university-1.test", "so"),
        ("AffiliationAndRole", "member@hospital-1.test", "https://university-1.test", "so"),
        ("LinkedIdentities", "r-778,https%3A%2F%2Fvisas.test", "https://broker.test", ""),
        ("LinkedIdentities", "r-779,https%3A%2F%2Fvisas.test", "https://broker.test", ""),
        ("https://authority.test/types/supervisor", "researcher-9,x", "https://authority.test", "so"),
    ]
    tied: list[object] = [
        None,
        [[{"type": "AffiliationAndRole", "value": "pattern:*"}]],
        [[{"type": "AffiliationAndRole", "value": "const:member@university-1.test"}]],
        [
            [
                {"type": "AffiliationAndRole", "by": "const:so"},
                {"type": "LinkedIdentities", "source": "pattern:*"},
            ]
        ],
    ]
    found = []
    # Mostly what makes an accreditation together, and then anything.
    likely = [said[at] for at in (rng.choice((0, 1)), 2, 4, 6, 8) if rng.random() < 0.85]
    for kind, value, source, by in [*likely, *rng.choices(said, k=rng.randint(1, 3))]:
        status = kind in ("ResearcherStatus", "ControlledAccessGrants")
        asserted = TABLE["now"] - rng.choice((0, 1000, 86400, 29 * 86400, 364 * 86400, 366 * 86400))
        found.append(
            Visa(
                identity=rng.choice((*people, BEARER, BEARER)),
                type=kind,
                value=value,
                source=source,
                by=by,
                asserted=asserted,
                expires=TABLE["now"] + rng.choice((61, 1000, 10**6, 10**7, 10**8)),
                conditions=rng.choice(tied if status else tied[:1] * 4 + tied[1:]),
            )
        )
    return found


def test_leaving_out_any_drawn_visa_never_gives_more(trust: VisaTrust) -> None:
    """Whatever is combined with whatever, by whatever links and conditions."""
    seed = 20261124
    print(f"seed {seed}")
    compared = 0
    for number in range(6000):
        visas = drawn(random.Random(f"{seed}:{number}"))  # noqa: S311  (cases, not secrets)
        before = derive(visas, BEARER, trust=trust, now=NOW)
        for left in range(len(visas)):
            fewer = visas[:left] + visas[left + 1 :]
            compared += gives_no_more(before, derive(fewer, BEARER, trust=trust, now=NOW))
    assert compared > 1000, compared


def test_facts_do_not_depend_on_the_order_of_visas(trust: VisaTrust) -> None:
    """The record of a decision must come out alike whatever order a broker likes."""
    for number in range(60):
        visas = drawn(random.Random(number))[:6]  # noqa: S311  (cases, not secrets)
        facts = {derive(order, BEARER, trust=trust, now=NOW) for order in itertools.permutations(visas)}
        assert len(facts) == 1


def test_every_fact_is_in_force_only_while_the_inequality_holds(trust: VisaTrust) -> None:
    """`now + requestedTTL < min(exp, asserted + maxAuthzTTL)`, to the second, at every end of a visa."""
    seen = 0
    for number in range(2000):
        visas = drawn(random.Random(number))  # noqa: S311  (cases, not secrets)
        for fact in derive(visas, BEARER, trust=trust, now=NOW).accreditations:
            assert fact.until_at > NOW
            end = fact.until_at // 1000 + REQUESTED_TTL_S
            assert end in {at for each in visas for at in _ends(each)}
            seen += 1
    assert seen > 100
    assert REQUESTED_TTL_S * 1000 == VALID_FOR_MS


def _ends(visa: Visa) -> list[int]:
    return [visa.expires, *(visa.asserted + days * 86400 for days in (30, 365, 1096, 1826))]


def test_a_token_brings_what_its_visas_come_to(trust: VisaTrust, tmp_path: Path) -> None:
    """Through the verifier that a node has; the token holds whatever its visas are worth."""
    tokens = token_verifier(tmp_path, trust)

    assert spell(tokens.verify(token(EVERYTHING), data_service=SERVICE, now=NOW).visas) == [
        "full scheme-1 org-university-1 1760000000..1781535940"
    ]
    assert tokens.verify(token([]), data_service=SERVICE, now=NOW).visas == NO_VISAS
    assert tokens.verify(token(None), data_service=SERVICE, now=NOW).visas == NO_VISAS


def token_verifier(
    directory: Path, trust: VisaTrust | None, *, broker: str = "https://broker.test"
) -> TokenVerifier:
    return TokenVerifier([Issuer(broker, jwks=_jwks(directory, "ed-2"))], audience="policyd", visas=trust)


def token(visas: Any, *, broker: str = "https://broker.test") -> str:
    """Return a token of the bearer with a passport; names in it are of ``made``."""
    payload = {**TOKENS["claims"], "iss": broker}
    if visas is not None:
        listed = isinstance(visas, list)
        payload["ga4gh_passport_v1"] = (
            [make(each) if isinstance(each, str) and each in TABLE["made"] else each for each in visas]
            if listed
            else visas
        )
    return _sign({"alg": "EdDSA", "typ": "at+jwt", "kid": "ed-2"}, payload, "ed-2")


@pytest.mark.parametrize("claim", ["text", {}, 7, True, [1], [["a"]], ["a"] * (MAX_VISAS + 1)])
def test_a_passport_of_another_form_ends_the_token(claim: object, trust: VisaTrust, tmp_path: Path) -> None:
    """It is a claim like any other; up to 16 visas are a passport, whatever is in them."""
    tokens = token_verifier(tmp_path, trust)

    with pytest.raises(TokenError, match="claims"):
        tokens.verify(token(claim), data_service=SERVICE, now=NOW)
    assert tokens.verify(token(["a"] * MAX_VISAS), data_service=SERVICE, now=NOW).visas == NO_VISAS


def test_only_brokers_carry_visas(trust: VisaTrust, tmp_path: Path) -> None:
    """From any other issuer of tokens, and where no visas are configured, a passport means nothing."""
    elsewhere = token_verifier(tmp_path, trust, broker="https://other.test")
    without = token_verifier(tmp_path, None)

    known = {
        "use": "link",
        "set": {"value": "r-778,https%3A%2F%2Fvisas.test;researcher-1,https%3A%2F%2Fother.test"},
    }
    visas = [*EVERYTHING, make(known)]
    carried = token(visas, broker="https://other.test")
    assert elsewhere.verify(carried, data_service=SERVICE, now=NOW).visas == NO_VISAS
    also = replace(trust, brokers=trust.brokers | {"https://other.test"})
    believed = token_verifier(tmp_path, also, broker="https://other.test")
    assert believed.verify(carried, data_service=SERVICE, now=NOW).visas != NO_VISAS
    assert without.verify(token(EVERYTHING), data_service=SERVICE, now=NOW).visas == NO_VISAS
    assert without.verify(token("text"), data_service=SERVICE, now=NOW).visas == NO_VISAS


def test_a_key_that_is_gone_ends_the_visas_and_not_the_token(trust: VisaTrust, tmp_path: Path) -> None:
    """After the keys of a visa issuer were read again, also for tokens that are remembered."""
    tokens = token_verifier(tmp_path, trust)
    carried = token(EVERYTHING)
    assert tokens.verify(carried, data_service=SERVICE, now=NOW).visas != NO_VISAS
    _jwks(tmp_path, "stranger").rename(tmp_path / "ed-1.json")

    tokens.reload()

    assert tokens.verify(carried, data_service=SERVICE, now=NOW).visas == NO_VISAS


def test_a_reload_that_fails_for_visas_changes_no_key_of_tokens(trust: VisaTrust, tmp_path: Path) -> None:
    """All files are read before the first is used."""
    own = tmp_path / "own"
    own.mkdir()
    tokens = token_verifier(own, trust)
    carried = token(EVERYTHING)
    _jwks(own, "stranger").rename(own / "ed-2.json")
    (tmp_path / "ed-1.json").write_text("{", encoding="ascii")

    with pytest.raises(ConfigError, match="not JSON"):
        tokens.reload()

    assert tokens.verify(carried, data_service=SERVICE, now=NOW).visas != NO_VISAS


def test_stale_keys_end_the_visas_and_not_the_token_and_are_not_remembered(
    trust: VisaTrust, tmp_path: Path
) -> None:
    """Remembered facts rest on keys that are fresh; once they are again the facts are back."""
    (first, *others) = trust.issuers
    remote = RemoteJwks("https://visas.test/jwks.json")
    away = Issuer(first.issuer.issuer, jwks=remote, algorithms=first.issuer.algorithms)
    changed = VisaTrust(
        **{name: getattr(trust, name) for name in trust.__slots__ if name != "issuers"},
        issuers=(type(first)(away, first.sources), *others),
    )
    tokens = token_verifier(tmp_path, changed)
    carried = token(EVERYTHING)
    assert tokens.verify(carried, data_service=SERVICE, now=NOW).visas == NO_VISAS

    assert tokens._visas is not None
    source = tokens._visas.keyring._remotes["https://visas.test"]
    keys = VisaVerifier(trust, audience="policyd", skew_s=30).keyring._files["https://visas.test"].current()
    source._known = (source._now_s(), keys)
    assert tokens.verify(carried, data_service=SERVICE, now=NOW).visas != NO_VISAS
    source._known = (source._now_s() - 1000, keys)
    assert tokens.verify(carried, data_service=SERVICE, now=NOW).visas == NO_VISAS
    source._known = (source._now_s(), keys)
    assert tokens.verify(carried, data_service=SERVICE, now=NOW).visas != NO_VISAS


def test_two_visa_issuers_of_one_name_are_refused(trust: VisaTrust) -> None:
    """One `iss` leads to one set of keys."""
    twice = VisaTrust(brokers=trust.brokers, issuers=(trust.issuers[0], trust.issuers[0]))
    with pytest.raises(ConfigError, match="one name"):
        VisaVerifier(twice, audience="policyd", skew_s=30)


def test_the_log_says_what_counted_for_nothing_without_text_of_it(
    trust: VisaTrust, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line with the codes and how many, so that an operator can see why a passport did not help."""
    with caplog.at_level("INFO"):
        VisaVerifier(trust, audience="policyd", skew_s=30).open(
            ["abc", "abd", make({"use": "member", "claims": {"iss": "https://evil.test"}})],
            bearer=BEARER,
            now=NOW,
        )

    (record,) = caplog.records
    assert record.getMessage().endswith("count for nothing: issuer 1, malformed 2")


@pytest.mark.parametrize(
    ("pattern", "text", "want"),
    [
        ("", "", True),
        ("", "a", False),
        ("a", "a", True),
        ("a", "A", False),
        ("?", "", False),
        ("?", "a", True),
        ("?", "ab", False),
        ("*", "", True),
        ("*", "anything at all", True),
        ("**", "", True),
        ("a*", "a", True),
        ("*@university-?.test", "member@university-1.test", True),
        ("*@university-?.test", "member@university-12.test", False),
        ("*@university-1.test", "member@university-1.test.evil", False),
        ("a*b*c", "aXbXbXc", True),
        ("a*b*c", "aXbXbX", False),
        ("[ab]", "a", False),
        ("a.c", "abc", False),
        ("*a*a*a*a*a*a*a*a*b", "a" * 255, False),
    ],
)
def test_a_pattern_matches_whole_and_to_the_letter(pattern: str, text: str, want: bool) -> None:
    """`?` is one character and `*` any number; nothing else is special, and there is no escape."""
    assert matches_pattern(pattern, text) == want


def test_a_list_is_matched_part_by_part() -> None:
    """`split_pattern` needs one whole part between semicolons."""
    links = Visa(BEARER, "LinkedIdentities", "001,https%3A;123,https%3A%2F%2Fa1.test;456,x", "s", "", 0, 0)
    for want, held in (
        ("split_pattern:123,https:%2F%2Fa?.test", False),
        ("split_pattern:123,https%3A%2F%2Fa?.test", True),
        ("split_pattern:456,*", True),
        ("split_pattern:*;*", False),
        ("pattern:123,*", False),
        ("const:456,x", False),
    ):
        clause = {"type": "LinkedIdentities", "value": want}
        assert bool(list(alternatives([[clause]], [links]))) == held, want


def test_too_many_conditions_are_not_looked_at() -> None:
    """A visa cannot make a node work for long: beyond the limits its conditions do not hold."""
    visa = Visa(BEARER, "AffiliationAndRole", "a@b", "s", "so", 0, 0)
    clause = {"type": "AffiliationAndRole", "by": "const:so"}

    assert len(list(alternatives([[clause]] * MAX_ALTERNATIVES, [visa]))) == MAX_ALTERNATIVES
    assert not list(alternatives([[clause]] * (MAX_ALTERNATIVES + 1), [visa]))
    assert list(alternatives([[clause] * MAX_CLAUSES], [visa]))
    assert not list(alternatives([[clause] * (MAX_CLAUSES + 1)], [visa]))


def test_a_clause_about_who_says_so_does_not_hold_where_nobody_does() -> None:
    """An absent `by` is unknown, and no pattern matches the unknown."""
    visa = Visa(BEARER, "AffiliationAndRole", "a@b", "s", "", 0, 0)

    assert not list(alternatives([[{"type": "AffiliationAndRole", "by": "pattern:*"}]], [visa]))


def test_the_documentation_explains_every_code() -> None:
    """The table in docs/visas.md has a row for each code that a visa alone can have."""
    docs = (VECTORS.parents[2] / "docs" / "visas.md").read_text(encoding="utf-8")
    section = docs.split("## When a visa counts for nothing")[1].split("\n## ")[0]

    have = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}

    assert set(VisaFault) <= have <= {*VisaFault, *TokenFault}
