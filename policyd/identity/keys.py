"""Key files: one secret a file, readable by its owner alone; and how files are written whole."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policyd.errors import ConfigError
from policyd.files import sync

SECRET_BYTES = 32
MAX_KEY_FILE_BYTES = 64 << 10

_LINE = re.compile(
    r"policyd-key (?P<kind>ed25519|hmac-sha256|aes-256-gcm) (?P<id>[0-9a-f]{16}) "
    r"(?P<secret>[A-Za-z0-9+/=]+)\n"
)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair. ``id`` is the first 16 hex digits of the SHA-256 of the public key."""

    id: str
    public: bytes
    private: Ed25519PrivateKey = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature of `data` (RFC 8032)."""
        return self.private.sign(data)


@dataclass(frozen=True, slots=True)
class MacKey:
    """A secret for HMAC-SHA-256. ``id`` is derived from it and says nothing about it."""

    id: str
    secret: bytes = field(repr=False, compare=False)

    def mac(self, data: bytes) -> bytes:
        """Return the 32-byte HMAC-SHA-256 of `data`."""
        return hmac.digest(self.secret, data, "sha256")


@dataclass(frozen=True, slots=True)
class WrappingKey:
    """A secret under which other keys are kept (AES-256-GCM). ``id`` says nothing about it."""

    id: str
    secret: bytes = field(repr=False, compare=False)


Key = TypeVar("Key", SigningKey, MacKey, WrappingKey)


def create_signing_key(path: Path) -> SigningKey:
    """Make an Ed25519 key and write it to `path`, which must not exist.

    Raises:
        ConfigError: the file is there already or cannot be written.
    """
    key = _signing_key(Ed25519PrivateKey.generate())
    _write(path, kind="ed25519", key_id=key.id, secret=key.private.private_bytes_raw())
    return key


def create_mac_key(path: Path) -> MacKey:
    """Make a 32-byte HMAC key and write it to `path`, which must not exist.

    Raises:
        ConfigError: the file is there already or cannot be written.
    """
    key = _mac_key(AESGCM.generate_key(bit_length=8 * SECRET_BYTES))
    _write(path, kind="hmac-sha256", key_id=key.id, secret=key.secret)
    return key


def create_wrapping_key(path: Path) -> WrappingKey:
    """Make a 32-byte AES key that wraps other keys, and write it to `path`, which must not exist.

    Raises:
        ConfigError: the file is there already or cannot be written.
    """
    key = _wrapping_key(AESGCM.generate_key(bit_length=8 * SECRET_BYTES))
    _write(path, kind="aes-256-gcm", key_id=key.id, secret=key.secret)
    return key


def load_signing_key(path: Path) -> SigningKey:
    """Read an Ed25519 key file.

    Raises:
        ConfigError: it is not there, damaged, of another kind, or others may read it.
    """
    key_id, secret = _read(path, kind="ed25519")
    return _checked(path, key=_signing_key(Ed25519PrivateKey.from_private_bytes(secret)), key_id=key_id)


def load_mac_key(path: Path) -> MacKey:
    """Read an HMAC key file.

    Raises:
        ConfigError: it is not there, damaged, of another kind, or others may read it.
    """
    key_id, secret = _read(path, kind="hmac-sha256")
    return _checked(path, key=_mac_key(secret), key_id=key_id)


def load_wrapping_key(path: Path) -> WrappingKey:
    """Read a key file that `create_wrapping_key` wrote.

    Raises:
        ConfigError: it is not there, damaged, of another kind, or others may read it.
    """
    key_id, secret = _read(path, kind="aes-256-gcm")
    return _checked(path, key=_wrapping_key(secret), key_id=key_id)


def write_private(path: Path, data: bytes) -> None:
    """Write `data` durably to a new file of mode 0600; the file appears whole or not at all.

    Raises:
        ConfigError: `path` exists already or cannot be written.
    """
    try:
        # A link fails where a rename would replace: two processes cannot both make the key.
        _place(path, data, mode=0o600, put=path.hardlink_to)
    except FileExistsError:
        raise ConfigError(f"{path} exists already; keep it, or move it away first") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def replace_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `data` durably to `path`, in place of what is there; readers see the old file or the new one.

    Raises:
        ConfigError: `path` cannot be written; what was there is still there.
    """
    try:
        _place(path, data, mode=mode, put=lambda scratch: scratch.replace(path))
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def read_private(path: Path) -> bytes:
    """Return the content of a file that only its owner (or root) may read or write.

    Raises:
        ConfigError: it is not there, not a plain file, too large, or open to others.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path} is not a plain file")
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                mode = stat.S_IMODE(status.st_mode)
                raise ConfigError(f"{path} is open to others (mode {mode:04o}); run: chmod 600 {path}")
            if status.st_uid not in (0, os.geteuid()):
                raise ConfigError(f"{path} belongs to another user; give it to the user that runs policyd")
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_KEY_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_KEY_FILE_BYTES} bytes")
    return data


def _signing_key(private: Ed25519PrivateKey) -> SigningKey:
    public = private.public_key().public_bytes_raw()
    return SigningKey(id=hashlib.sha256(public).hexdigest()[:16], public=public, private=private)


def _mac_key(secret: bytes) -> MacKey:
    return MacKey(id=hmac.digest(secret, b"policyd key id", "sha256").hex()[:16], secret=secret)


def _wrapping_key(secret: bytes) -> WrappingKey:
    return WrappingKey(id=hmac.digest(secret, b"policyd key id", "sha256").hex()[:16], secret=secret)


def _checked(path: Path, *, key: Key, key_id: str) -> Key:
    if key.id != key_id:
        raise ConfigError(f"{path} is damaged: its id is not that of its key; restore it from a copy")
    return key


def _write(path: Path, *, kind: str, key_id: str, secret: bytes) -> None:
    write_private(path, f"policyd-key {kind} {key_id} {b64encode(secret).decode()}\n".encode())


def _read(path: Path, *, kind: str) -> tuple[str, bytes]:
    match = _LINE.fullmatch(read_private(path).decode("latin-1"))
    if match is None:
        raise ConfigError(f"{path} is not a policyd key file, or is damaged")
    if match["kind"] != kind:
        raise ConfigError(f"{path} holds a key for {match['kind']}; one for {kind} is needed here")
    try:
        secret = b64decode(match["secret"], validate=True)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise ConfigError(f"{path} is damaged: the key is not {SECRET_BYTES} bytes")
    return match["id"], secret


def _place(path: Path, data: bytes, *, mode: int, put: Callable[[Path], object]) -> None:
    """Write a scratch file beside `path`, have `put` give it its name, and make both durable."""
    # A name of its own for each writer: threads of one process may write the same file at once.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        put(scratch)
    finally:
        with suppress(OSError):
            scratch.unlink()
    sync(path.parent)
