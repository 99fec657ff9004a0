"""`policyd.yaml` is read strictly: every mistake at once, paths from the data directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policyd.config import Witness, read_config
from policyd.errors import ConfigError, SourceError
from policyd.ledger.note import Verifier, WitnessVerifier

KEY = "ab" * 32
_PUBLIC = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32).public_key()
WITNESS, LOG = WitnessVerifier("witness.test/w1", _PUBLIC).vkey, Verifier("witness.test/w1", _PUBLIC).vkey
TEXT = f"""\
node: node-1
address: "127.0.0.1:50151"
trust_domain: policyd.test
audience: policyd
policy: ../policies/npd
tls: {{authority: tls/ca.pem, certificate: /etc/policyd/server.pem, key: tls/server.key}}
issuers:
  - {{issuer: policyd-dev, jwks: issuer/jwks.json, algorithms: [EdDSA]}}
trusted_nodes:
  "{KEY[:16]}": {KEY}
"""


def write(directory: Path, text: str) -> Path:
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
    assert config.trusted_nodes == {KEY[:16]: bytes.fromhex(KEY)}
    assert (config.calls, config.watches, config.disk_reserve_mib) == (256, 16, 64)


def test_the_limits_can_be_set(tmp_path: Path) -> None:
    """`calls`, `watches` and `disk_reserve_mib` are whole numbers from 1."""
    config = read_config(write(tmp_path, TEXT + "calls: 8\nwatches: 2\ndisk_reserve_mib: 512\n"))

    assert (config.calls, config.watches, config.disk_reserve_mib) == (8, 2, 512)
    assert mistakes(tmp_path, TEXT + "calls: 0\n")
    assert mistakes(tmp_path, TEXT + "disk_reserve_mib: 0\n")


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
        (KEY + "\n", KEY[:-1] + "\n", "is not 64 hex digits"),
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
    assert "policyd.yaml:11:" in mistake
