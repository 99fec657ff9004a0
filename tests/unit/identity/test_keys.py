"""Key files: made once, for their owner alone, and checked when read."""

from __future__ import annotations

import hmac
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from policyd.errors import ConfigError
from policyd.identity.keys import (
    create_mac_key,
    create_signing_key,
    create_wrapping_key,
    load_mac_key,
    load_signing_key,
    load_wrapping_key,
    replace_file,
    write_private,
)


def test_a_signing_key_signs_the_same_after_it_is_read_back(tmp_path: Path) -> None:
    """The key read from its file has the id and public key of the one that was made."""
    made = create_signing_key(tmp_path / "node.key")
    read = load_signing_key(tmp_path / "node.key")

    assert read == made
    Ed25519PublicKey.from_public_bytes(made.public).verify(read.sign(b"text"), b"text")


def test_a_mac_key_gives_the_same_digest_after_it_is_read_back(tmp_path: Path) -> None:
    """The digest is HMAC-SHA-256 under the 32 bytes of the file."""
    made = create_mac_key(tmp_path / "pseudonym.key")
    read = load_mac_key(tmp_path / "pseudonym.key")

    assert read.id == made.id
    assert len(made.secret) == 32
    assert read.mac(b"text") == hmac.digest(made.secret, b"text", "sha256")


def test_a_wrapping_key_is_the_same_after_it_is_read_back(tmp_path: Path) -> None:
    """32 bytes with an id that says nothing of them; no key of another kind takes its place."""
    made = create_wrapping_key(tmp_path / "detail.key")
    create_mac_key(tmp_path / "pseudonym.key")

    assert load_wrapping_key(tmp_path / "detail.key") == made
    assert len(made.secret) == 32
    assert made.id not in made.secret.hex()
    assert made.secret.hex() not in repr(made)
    with pytest.raises(ConfigError, match="holds a key for hmac-sha256; one for aes-256-gcm is needed"):
        load_wrapping_key(tmp_path / "pseudonym.key")


def test_two_keys_are_never_alike(tmp_path: Path) -> None:
    """Each key has its own id."""
    ids = {create_signing_key(tmp_path / f"s{n}").id for n in range(8)}
    ids |= {create_mac_key(tmp_path / f"m{n}").id for n in range(8)}

    assert len(ids) == 16


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_a_key_file_is_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    """The mode is 0600 whatever the umask."""
    before = os.umask(umask)
    try:
        create_mac_key(tmp_path / "a.key")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.key"]


@pytest.mark.parametrize("create", [create_signing_key, create_mac_key])
def test_a_key_is_never_overwritten(tmp_path: Path, create: Callable[[Path], object]) -> None:
    """Making a key where a file is refuses, and the file stays."""
    path = tmp_path / "a.key"
    create(path)
    before = path.read_bytes()

    with pytest.raises(ConfigError, match="exists already"):
        create(path)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_is_not_written_through_a_symbolic_link(tmp_path: Path) -> None:
    """A link in the place of the key file counts as a file that is there."""
    (tmp_path / "a.key").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigError, match="exists already"):
        create_mac_key(tmp_path / "a.key")

    assert not (tmp_path / "elsewhere").exists()


def test_of_many_that_make_one_key_one_succeeds(tmp_path: Path) -> None:
    """When threads race, one key is written whole and the others are told; at every try."""
    for attempt in range(20):
        path = tmp_path / f"{attempt}.key"
        made: list[str] = []
        refused: list[str] = []
        start = threading.Barrier(8)

        def make(
            path: Path = path,
            start: threading.Barrier = start,
            made: list[str] = made,
            refused: list[str] = refused,
        ) -> None:
            start.wait()
            try:
                made.append(create_mac_key(path).id)
            except ConfigError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert made == [load_mac_key(path).id]
        assert refused == [f"{path} exists already; keep it, or move it away first"] * 7
    assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622, 0o601, 0o777])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    """Any right of group or world is refused, with the command that mends it."""
    path = tmp_path / "a.key"
    create_signing_key(path)
    path.chmod(mode)

    with pytest.raises(ConfigError, match=f"mode {mode:04o}.*chmod 600"):
        load_signing_key(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a policyd key file"),
        (b"policyd-key ed25519 0123456789abcdef", "not a policyd key file"),
        (b"policyd-key ed25519 0123456789abcdef AAAA\n", "not 32 bytes"),
        (b"policyd-key ed25519 0123456789abcdef " + b"A" * 43 + b"=\n", "damaged"),
        (b"policyd-key ed25519 0123456789abcdef =A=A\n", "not 32 bytes"),
        (b"policyd-key hmac-sha256 0123456789abcdef " + b"A" * 43 + b"=\n", "is needed here"),
        (b"-----BEGIN PRIVATE KEY-----\n", "not a policyd key file"),
        (b"A" * 70_000, "larger than"),
        (b"\xff\xfe", "not a policyd key file"),
    ],
    ids=lambda value: value[:44] if isinstance(value, bytes) else None,
)
def test_a_damaged_key_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Whatever is wrong with the file, the message says what, and shows nothing of the content."""
    path = tmp_path / "a.key"
    write_private(path, content)

    with pytest.raises(ConfigError, match=message) as caught:
        load_signing_key(path)

    assert "AAAA" not in str(caught.value)


def test_a_key_file_with_one_character_changed_is_refused(tmp_path: Path) -> None:
    """The id tells a damaged key from the one that was made."""
    path = tmp_path / "a.key"
    create_mac_key(path)
    line = path.read_bytes()
    position = len(line) - 10
    path.write_bytes(line[:position] + (b"A" if line[position] != ord("A") else b"B") + line[position + 1 :])

    with pytest.raises(ConfigError, match="damaged"):
        load_mac_key(path)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    """A link, a directory, a pipe or nothing at all holds no key, and none of them blocks."""
    create_mac_key(tmp_path / "real.key")
    (tmp_path / "link.key").symlink_to(tmp_path / "real.key")
    (tmp_path / "directory.key").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe.key", 0o600)

    for name in ("link", "directory", "pipe", "absent"):
        with pytest.raises(ConfigError):
            load_mac_key(tmp_path / f"{name}.key")


def test_a_key_is_not_shown(tmp_path: Path) -> None:
    """Printing a key shows its id and nothing secret."""
    mac, signing = create_mac_key(tmp_path / "m"), create_signing_key(tmp_path / "s")

    assert repr(mac) == f"MacKey(id='{mac.id}')"
    assert "private" not in repr(signing)


def test_a_file_is_replaced_whole_by_many_writers(tmp_path: Path) -> None:
    """Whoever reads finds one writer's bytes, all of them; the last one stays, and no draft is left."""
    path = tmp_path / "server.pem"
    texts = [bytes([65 + number]) * 50_000 for number in range(6)]
    replace_file(path, texts[0], mode=0o644)
    start, wrong = threading.Barrier(len(texts) + 1), []

    def write(text: bytes) -> None:
        start.wait()
        for _ in range(5):
            replace_file(path, text, mode=0o644)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    start.wait()
    while any(thread.is_alive() for thread in threads):
        if (have := path.read_bytes()) not in texts:
            wrong.append(have)
    for thread in threads:
        thread.join()

    assert wrong == []
    assert path.read_bytes() in texts
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    """The message names the file, and nothing is left beside it."""
    (tmp_path / "taken").mkdir()

    with pytest.raises(ConfigError, match=r"cannot write .*taken"):
        replace_file(tmp_path / "taken", b"x")
    with pytest.raises(ConfigError, match=r"cannot write .*nowhere"):
        replace_file(tmp_path / "nowhere" / "file", b"x")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]
