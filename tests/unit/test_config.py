"""`policyd.yaml` is read strictly: every mistake at once, paths from the data directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd.config import Witness, read_config
from policyd.errors import ConfigError, SourceError
from policyd.identity.jwks import RemoteJwks
from policyd.ledger.note import Verifier, WitnessVerifier
from policyd.model import AccreditationLevel

KEY = "ab" * 32
_PUBLIC = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32).public_key()
WITNESS, LOG = WitnessVerifier("witness.test/w1", _PUBLIC).vkey, Verifier("witness.test/w1", _PUBLIC).vkey
TEXT = """\
node: node-1
address: "127.0.0.1:50151"
trust_domain: policyd.test
audience: policyd
policy: ../policies/npd
tls: {authority: tls/ca.pem, certificate: /etc/policyd/server.pem, key: tls/server.key}
issuers:
  - {issuer: policyd-dev, jwks: issuer/jwks.json, algorithms: [EdDSA]}
trust: trust.yaml
"""
TRUST = f"""\
nodes:
  node-1: {{key: "{KEY}", address: "127.0.0.1:50151"}}
administrators:
  registrar-1: {{person: person-1, spiffe_id: "spiffe://policyd.test/admin/registrar-1",
    key: "{KEY.replace("a", "c")}", roles: [registrar]}}
  approver-1: {{person: person-2, spiffe_id: "spiffe://policyd.test/admin/approver-1",
    key: "{KEY.replace("a", "d")}", roles: [approver]}}
"""


def write(directory: Path, text: str, *, trust: str = TRUST) -> Path:
    (directory / "trust.yaml").write_text(trust, "utf-8")
    (directory / "policyd.yaml").write_text(text, "utf-8")
    return directory


def mistakes(directory: Path, text: str) -> list[str]:
    with pytest.raises(SourceError) as caught:
        read_config(write(directory, text))
    return [str(problem) for problem in caught.value.problems]


def test_paths_are_taken_from_the_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ones from there, whatever the working directory; absolute ones as they are."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    write(data, TEXT)

    config = read_config(Path("data"))
    monkeypatch.chdir("/")

    assert config.data == data
    assert config.tls.authority == data / "tls" / "ca.pem"
    assert config.tls.certificate == Path("/etc/policyd/server.pem")
    assert config.issuers[0].jwks == data / "issuer" / "jwks.json"
    assert config.ledger == data / "nodes" / "node-1"
    assert config.state == data / "state.db"
    assert config.keys == data / "keys"
    assert config.origin == "policyd.test/policyd/node-1"
    assert config.trust_file == data / "trust.yaml"
    assert config.trust.nodes["node-1"].key == bytes.fromhex(KEY)
    assert (config.calls, config.watches, config.disk_reserve_mib) == (256, 16, 64)


def test_the_limits_can_be_set(tmp_path: Path) -> None:
    """`calls`, `watches` and `disk_reserve_mib` are whole numbers from 1."""
    config = read_config(write(tmp_path, TEXT + "calls: 8\nwatches: 2\ndisk_reserve_mib: 512\n"))

    assert (config.calls, config.watches, config.disk_reserve_mib) == (8, 2, 512)
    assert mistakes(tmp_path, TEXT + "calls: 0\n")
    assert mistakes(tmp_path, TEXT + "disk_reserve_mib: 0\n")


def test_identity_can_be_bounded(tmp_path: Path) -> None:
    """`connection_age_s` is 1 to 3600, 600 unless said; `deny` names a file, and without it there is none."""
    plain = read_config(write(tmp_path, TEXT))
    config = read_config(write(tmp_path, TEXT + "connection_age_s: 60\ndeny: lists/deny.yaml\n"))

    assert (plain.connection_age_s, plain.deny) == (600, None)
    assert (config.connection_age_s, config.deny) == (60, tmp_path / "lists" / "deny.yaml")
    for age in (0, 3601, '"60"'):
        assert mistakes(tmp_path, TEXT + f"connection_age_s: {age}\n")


def test_a_witness_is_optional_and_read_whole(tmp_path: Path) -> None:
    """`witness:` names where, which key, and whether answers wait; without it there is none."""
    line = f'witness: {{url: "https://witness.test:8443/a", vkey: "{WITNESS}", required: true}}\n'

    assert read_config(write(tmp_path, TEXT)).witness is None
    assert read_config(write(tmp_path, TEXT + line)).witness == Witness(
        "https://witness.test:8443/a", WITNESS, required=True
    )


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("https://", "ftp://", "is not a URL such as"),
        ("https://", "https://user@", "is not a URL such as"),
        ("/a", "/a?b", "is not a URL such as"),
        ("/a", "/a b", "is not a URL such as"),
        (":8443", ":99999", "is not a URL such as"),
        ("https://witness.test:8443/a", "https://[::1", "is not a URL such as"),
        (WITNESS, LOG, "no vkey of a witness"),
        (WITNESS, WITNESS[:-1] + "N", "is not the id of its key"),
        ("required: true", "required: 1", "must be true or false"),
        (", required: true", "", "key `required` is missing"),
        ("required", "require", "unknown key `require`"),
    ],
)
def test_a_mistake_about_the_witness_is_named(tmp_path: Path, old: str, new: str, text: str) -> None:
    """A place that cannot be posted to, a key of another kind, a choice that was not made."""
    line = f'witness: {{url: "https://witness.test:8443/a", vkey: "{WITNESS}", required: true}}\n'
    assert old in line

    assert any(text in each for each in mistakes(tmp_path, TEXT + line.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("node: node-1\n", "", "`node`"),
        ("node: node-1", "node: node 1", "`node 1`"),
        ("node: node-1", "nodes: node-1", "`nodes`"),
        ("127.0.0.1:50151", "127.0.0.1", "`127.0.0.1` is not an address such as"),
        ("127.0.0.1:50151", "unix:/run/policyd", "is not an address such as"),
        ("policyd.test", "Policyd.Test", "is not a lower-case domain name"),
        ("audience: policyd", 'audience: ""', "policyd.yaml:4:"),
        ("[EdDSA]", "[none]", "`none`"),
        ("[EdDSA]", "[HS256]", "`HS256`"),
        ("trust: trust.yaml", "trust: {}", "must be text"),
        ("trust: trust.yaml", "trusted_nodes: {}", "unknown key `trusted_nodes`"),
        ("key: tls/server.key", "cert: tls/server.key", "`cert`"),
        ("  - {issuer: policyd-dev, jwks: issuer/jwks.json, algorithms: [EdDSA]}\n", "", "policyd.yaml:7"),
        (
            "issuers:\n  - {issuer: policyd-dev, jwks: issuer/jwks.json, algorithms: [EdDSA]}",
            "issuers: []",
            "",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, text: str) -> None:
    """File, line, column, and the word at fault."""
    assert old in TEXT

    found = mistakes(tmp_path, TEXT.replace(old, new))

    assert any(text in each for each in found), found
    assert all(each.startswith(f"{tmp_path}/policyd.yaml:") for each in found)


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    """Three mistakes, three lines."""
    bad = TEXT.replace("node-1", "node 1").replace("[EdDSA]", "[none]").replace("50151", "port")

    assert len(mistakes(tmp_path, bad)) == 3


def test_no_file_says_how_to_make_one(tmp_path: Path) -> None:
    """The directory and the command."""
    with pytest.raises(ConfigError, match=r"no node is set up in .* `policyd dev --data "):
        read_config(tmp_path)


REMOTE = "{url: https://login.test/jwks.json, authority: tls/login.pem, refresh_s: 60, stale_after_s: 120}"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("https://login.test/jwks.json", RemoteJwks("https://login.test/jwks.json")),
        ("http://127.0.0.1:8080/jwks.json", RemoteJwks("http://127.0.0.1:8080/jwks.json")),
        ("{url: https://login.test/k}", RemoteJwks("https://login.test/k")),
    ],
)
def test_keys_may_be_behind_a_url(tmp_path: Path, text: str, want: RemoteJwks) -> None:
    """As a text or with what goes with it; fetched every five minutes and believed for fifteen."""
    config = read_config(write(tmp_path, TEXT.replace("issuer/jwks.json", _quoted(text))))

    assert config.issuers[0].jwks == want
    assert (want.refresh_s, want.stale_after_s) == (300, 900)


def test_what_goes_with_a_url_is_read(tmp_path: Path) -> None:
    """The authority's file is taken from the data directory."""
    config = read_config(write(tmp_path, TEXT.replace("issuer/jwks.json", REMOTE)))

    assert config.issuers[0].jwks == RemoteJwks(
        "https://login.test/jwks.json", tmp_path / "tls" / "login.pem", refresh_s=60, stale_after_s=120
    )


def _quoted(text: str) -> str:
    return text if text.startswith("{") else f'"{text}"'


@pytest.mark.parametrize(
    ("jwks", "text"),
    [
        ('"http://login.test/jwks.json"', "is not https"),
        ('"ftp://login.test/jwks.json"', "is not a URL such as"),
        ('"https://user@login.test/jwks.json"', "is not a URL such as"),
        ("{url: http://login.test/jwks.json}", "is not https"),
        ("{uri: https://login.test/jwks.json}", "unknown key `uri`"),
        (REMOTE.replace("refresh_s: 60", "refresh_s: 29"), "must be from 30 to 3600"),
        (REMOTE.replace("stale_after_s: 120", "stale_after_s: 119"), "at least twice `refresh_s`"),
        (REMOTE.replace("stale_after_s: 120", "stale_after_s: 86401"), "must be from 60 to 86400"),
    ],
)
def test_a_mistake_about_a_url_is_named(tmp_path: Path, jwks: str, text: str) -> None:
    """With its place, as every other."""
    found = mistakes(tmp_path, TEXT.replace("issuer/jwks.json", jwks))

    assert any(text in each for each in found), found


DOCS = Path(__file__).parents[2] / "docs"
VISAS = (DOCS / "visas.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]


def test_the_documented_visas_are_read(tmp_path: Path) -> None:
    """The configuration shown in docs/visas.md is one, and means what the page says."""
    visas = read_config(write(tmp_path, TEXT + VISAS)).visas

    assert visas is not None
    assert visas.brokers == {"https://login.university-1.test"}
    assert [each.issuer.jwks for each in visas.issuers] == [
        RemoteJwks("https://visas.authority.test/jwks.json"),
        RemoteJwks("https://login.university-1.test/jwks.json"),
    ]
    assert [(level, evidence.max_age_s // 86400) for evidence, _, level in visas.accreditations] == [
        (AccreditationLevel.FULL, 1826),
        (AccreditationLevel.PROVISIONAL, 1096),
    ]
    (training,) = visas.training
    assert training[0].by == {"so"}
    assert training[1] == "dea-accredited-researcher"
    assert [agreement for _, agreement in visas.projects] == ["DS00101"]
    (supervisor,), (link,) = visas.supervisors, visas.links
    assert (supervisor.max_age_s, link.max_age_s) == (365 * 86400, 365 * 86400)
    assert (supervisor.value, link.by) == ("", {"system", "so", "dac"})
    assert read_config(write(tmp_path, TEXT)).visas is None


def test_the_documented_issuers_are_read(tmp_path: Path) -> None:
    """The entries shown in docs/tokens.md, from a file, a URL and a URL with all that goes with it."""
    page = (DOCS / "tokens.md").read_text(encoding="utf-8")
    shown = page.split("```yaml\n")[1].split("```")[0]
    start = TEXT.index("issuers:")
    end = TEXT.index("\n", TEXT.index("issuer: policyd-dev")) + 1

    issuers = read_config(write(tmp_path, TEXT[:start] + shown + TEXT[end:])).issuers

    assert len(issuers) == 3
    assert issuers[2].jwks == RemoteJwks(
        "https://login.university-2.test/keys", tmp_path / "tls" / "university-2.pem"
    )


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("by: [dac]", "by: [king]", "unknown value `king`"),
        ("by: [dac]", "by: []", "name who may assert it"),
        ("level: provisional", "level: half", "unknown value `half`"),
        ("max_age_days: 365", "max_age_days: 0", "must be from 1 to 1830"),
        ("agreement: DS00101", "agreement: DS 00101", "is not an id of the form"),
        ("domain: university-1.test, ", "", "key `domain` is missing"),
        ("algorithms: [ES256]", "algorithms: [HS256]", "unknown value `HS256`"),
        ("issuer: https://visas.authority.test\n", "issuer: https://login.university-1.test\n", "one name"),
        (
            'sources: ["https://university-1.test"]',
            'sources: ["https://university-2.test"]',
            "none of the visa",
        ),
        ("linked_identities:", "links:", "unknown key `links`"),
        ("  brokers:", "  broker:", "key `brokers` is missing"),
        ("value: https://authority.test/projects/", f"value: https://{'a' * 250}/", "longer than the 255"),
    ],
)
def test_a_mistake_about_visas_is_named(tmp_path: Path, old: str, new: str, text: str) -> None:
    """A word, a source that nobody signs for, an authority that nobody has."""
    assert old in VISAS

    found = mistakes(tmp_path, TEXT + VISAS.replace(old, new))

    assert any(text in each for each in found), found
    assert all(each.startswith(f"{tmp_path}/policyd.yaml:") for each in found)


def test_mistakes_of_the_trust_document_are_told_with_the_others(tmp_path: Path) -> None:
    """One read names what is wrong in both files."""
    write(
        tmp_path, TEXT.replace("node: node-1", "node: node 1"), trust=TRUST.replace("[approver]", "[owner]")
    )
    with pytest.raises(SourceError) as caught:
        read_config(tmp_path)

    told = str(caught.value)
    assert "policyd.yaml:1:7: `node 1`" in told
    assert "trust.yaml:7:" in told
    assert "`owner`" in told

    (absent,) = mistakes(tmp_path, TEXT.replace("trust.yaml", "other.yaml"))
    assert "other.yaml:1:1: cannot be read" in absent


def test_the_state_is_embedded_or_in_a_redis(tmp_path: Path) -> None:
    """`state:` takes `embedded` or the URL of a Redis, whose paths are taken from the data directory."""
    line = 'state: "rediss://policyd@redis.test:6380?password_file=keys/redis&ca=tls/redis.pem"\n'

    assert read_config(write(tmp_path, TEXT)).redis is None
    assert read_config(write(tmp_path, TEXT + "state: embedded\n")).redis is None
    redis = read_config(write(tmp_path, TEXT + line)).redis
    assert redis is not None
    assert str(redis) == "rediss://redis.test:6380"
    assert redis.authority == tmp_path / "tls" / "redis.pem"
    assert redis.password is not None
    assert redis.password.file == tmp_path / "keys" / "redis"
    (mistake,) = mistakes(tmp_path, TEXT + 'state: "redis://u:secret@redis.test"\n')
    assert "holds a password" in mistake
    assert ":secret" not in mistake
    assert "policyd.yaml:10:" in mistake
