"""Signed checkpoints of pinned logs: C2SP signed-note, tlog-checkpoint and the `log` lines of tlog-policy."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from policyd_client.expect import Unexpected, quote
from policyd_client.tree import HASH_BYTES

Logs = Mapping[str, str] | str | os.PathLike[str]
"""The logs that are trusted: vkeys by origin, or the path of a tlog-policy file."""

_ED25519 = 1
_MAX_NOTE_BYTES = 65_536
_MAX_SIGNATURES = 64
_RECENT = 64
_SIGNATURE = re.compile("\N{EM DASH} ([^\\s+]+) ([A-Za-z0-9+/]+={0,2})")
_SIZE = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_VKEY = re.compile(r"([!-*,-~]{1,255})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)", re.ASCII)
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Pin:
    """The one key that may sign for a log."""

    origin: str
    key_id: bytes
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log, as signed: its name, how many records it has, their root, and the note itself."""

    origin: str
    size: int
    root: bytes
    note: str


def read_logs(logs: Logs) -> Mapping[str, Pin]:
    """Return the pinned keys by origin.

    Raises:
        ValueError: a vkey, an origin or a line has the wrong form, or there is no log.
        OSError: the file cannot be read.
    """
    if isinstance(logs, Mapping):
        pins = {origin: _pin(vkey) for origin, vkey in logs.items()}
        for origin, pin in pins.items():
            if pin.origin != origin:
                raise ValueError(f"`logs` gives log `{origin}` the key of `{pin.origin}`")
    else:
        pins = _read_policy(Path(logs))
    if not pins:
        raise ValueError("`logs` names no log; give the file that `policyd dev` writes, or {origin: vkey}")
    return pins


def open_checkpoint(note: str, pins: Mapping[str, Pin]) -> Checkpoint:
    """Return the checkpoint in a note that the pinned key of its log has signed.

    Signatures of other keys, such as those of witnesses, are ignored.

    Raises:
        Unexpected: the note is malformed, of a log that is not pinned, or not signed by its key.
    """
    if len(note.encode("utf-8", "replace")) > _MAX_NOTE_BYTES or _CONTROL.search(note):
        raise Unexpected("its checkpoint is over 64 KiB or holds a control character")
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise Unexpected("its checkpoint is not a signed note")
    text += "\n"
    body = text.split("\n")
    if len(body) != 4 or not all(body[:3]):
        raise Unexpected("its checkpoint has not three lines")
    origin, size, encoded = body[:3]
    pin = pins.get(origin)
    if pin is None:
        raise Unexpected(f"it is in log {quote(origin)}, which is not pinned")
    root = _base64(encoded)
    if not _SIZE.fullmatch(size) or root is None or len(root) != HASH_BYTES:
        raise Unexpected("the size or the root of its checkpoint is malformed")
    _check_signatures(text, lines[:-1].split("\n"), pin)
    return Checkpoint(origin, int(size), root, note)


def _check_signatures(text: str, lines: list[str], pin: Pin) -> None:
    """Refuse a note unless the pinned key has signed it, and every signature of that key holds."""
    signed = False
    if len(lines) > _MAX_SIGNATURES:
        raise Unexpected(f"its checkpoint has more than {_MAX_SIGNATURES} signatures")
    for line in lines:
        match = _SIGNATURE.fullmatch(line)
        blob = None if match is None else _base64(match[2])
        if match is None or blob is None or len(blob) < 5:
            raise Unexpected("a signature line of its checkpoint is malformed")
        if match[1] != pin.origin or blob[:4] != pin.key_id:
            continue
        if not _fits(pin.public_key, blob[4:], text):
            raise Unexpected(f"the signature of `{pin.origin}` does not fit its checkpoint")
        signed = True
    if not signed:
        raise Unexpected(f"its checkpoint is not signed by the pinned key of `{pin.origin}`")


@lru_cache(_RECENT)
def _fits(public_key: bytes, signature: bytes, text: str) -> bool:
    """Return whether a signature is right; the answers to one batch share theirs."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text.encode())
    except InvalidSignature:
        return False
    return True


def _read_policy(path: Path) -> dict[str, Pin]:
    """Read the `log` lines of a tlog-policy; a quorum of witnesses is more than this client can check."""
    pins: dict[str, Pin] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#") or words[0] in ("witness", "group"):
            continue
        try:
            if words[0] == "quorum" and words[1:] == ["none"]:
                continue
            if words[0] != "log" or len(words) not in (2, 3):
                raise ValueError("it is no line `log <vkey>`, and no other kind of line can be met here")
            pin = _pin(words[1])
            if pin.origin in pins:
                raise ValueError(f"log `{pin.origin}` has two keys")
        except ValueError as error:
            raise ValueError(f"{path.name}:{number}: {error}") from None
        pins[pin.origin] = pin
    return pins


def _pin(vkey: str) -> Pin:
    match = _VKEY.fullmatch(vkey)
    raw = None if match is None else _base64(match[3])
    if match is None or raw is None or len(raw) != 33 or raw[0] != _ED25519:
        raise ValueError(f"`{vkey[:120]}` is no vkey of an Ed25519 key")
    key_id = hashlib.sha256(match[1].encode() + b"\n" + raw).digest()[:4]
    if key_id.hex() != match[2]:
        raise ValueError(f"the id in vkey `{vkey[:120]}` is not that of its key")
    return Pin(match[1], key_id, raw[1:])


def _base64(text: str) -> bytes | None:
    """Return the bytes of standard, padded, canonical base64; None for anything else."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return raw if base64.b64encode(raw).decode() == text else None
