"""Signed notes, checkpoints and cosignatures of C2SP signed-note, tlog-checkpoint and tlog-cosignature."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from policyd.errors import LedgerCorrupt
from policyd.merkle import HASH_BYTES

_ED25519 = b"\x01"
_COSIGNATURE = b"\x04"
_TIME_BYTES = 8
_MAX_TIME_S = 2**63 - 1
_DASH = "\N{EM DASH} "
_MAX_NOTE_BYTES = 65_536
_MAX_SIGNATURES = 64
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line of a note: the name and id of the key, and the signature itself."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note as read: text, which ends in a newline, and signatures that nobody has checked yet."""

    text: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: its name, how many records it has, and their root."""

    origin: str
    size: int
    root: bytes


class Verifier:
    """A named public key that checks notes; written as `<name>+<key id>+<base64>` (a vkey)."""

    TYPE: ClassVar[bytes] = _ED25519
    """The type byte of the vkey, which the key id covers: one key has another id for each use."""
    KIND: ClassVar[str] = "an Ed25519 key"

    def __init__(self, name: str, public_key: Ed25519PublicKey) -> None:
        """Name a key.

        Raises:
            ValueError: the name is empty or holds a space or a plus sign.
        """
        if not is_name(name):
            raise ValueError(f"`{name}` is no key name: not empty, no space, no `+`")
        self.name = name
        self._public_key = public_key
        self._raw = public_key.public_bytes_raw()
        self.key_id = key_id(name, self._raw, kind=self.TYPE)

    @classmethod
    def from_vkey(cls, text: str) -> Self:
        """Read a vkey of this type.

        Raises:
            ValueError: the text is no vkey of this type, or its id does not fit.
        """
        name, _, rest = text.partition("+")
        identity, _, encoded = rest.partition("+")
        raw = _decode_base64(encoded)
        if raw is None or len(raw) != 33 or raw[:1] != cls.TYPE or not _KEY_ID.fullmatch(identity):
            raise ValueError(f"`{text[:120]}` is no vkey of {cls.KIND}")
        verifier = cls(name, Ed25519PublicKey.from_public_bytes(raw[1:]))
        if verifier.key_id.hex() != identity:
            raise ValueError(f"the id in vkey `{text[:120]}` is not the id of its key")
        return verifier

    @property
    def vkey(self) -> str:
        """The key as text."""
        encoded = base64.b64encode(self.TYPE + self._raw).decode("ascii")
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def matches(self, text: str, signature: Signature) -> bool:
        """Return whether the signature is this key's over the text."""
        return self._holds(signature.value, text.encode("utf-8"))

    def _holds(self, signature: bytes, message: bytes) -> bool:
        try:
            self._public_key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class WitnessVerifier(Verifier):
    """The named public key of a witness. SPEC: C2SP tlog-cosignature, cosignature/v1 with Ed25519."""

    TYPE: ClassVar[bytes] = _COSIGNATURE
    KIND: ClassVar[str] = "a witness that cosigns with Ed25519 (type 0x04)"

    def matches(self, text: str, signature: Signature) -> bool:
        """Return whether the signature is this witness's over the text at the time that it states."""
        stamp, value = signature.value[:_TIME_BYTES], signature.value[_TIME_BYTES:]
        at_s = int.from_bytes(stamp, "big")
        return (
            len(stamp) == _TIME_BYTES
            and at_s <= _MAX_TIME_S
            and self._holds(value, _cosigned_message(text, at_s))
        )


def key_id(name: str, raw_public_key: bytes, *, kind: bytes = _ED25519) -> bytes:
    """Return the four bytes that tell keys of one name apart; `kind` is the type byte of their use."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + kind + raw_public_key).digest()[:4]


def sign(text: str, name: str, *, key: Ed25519PrivateKey) -> str:
    """Return `text` as a note signed by one key. Ed25519 is deterministic: so is the note.

    Raises:
        ValueError: the text does not end in a newline or holds control characters, or the name is bad.
    """
    if not text.endswith("\n") or _CONTROL.search(text) or not is_name(name):
        raise ValueError("the text of a note ends in a newline and holds no other control character")
    identity = key_id(name, key.public_key().public_bytes_raw())
    return f"{text}\n{_line(name, identity + key.sign(text.encode('utf-8')))}"


def cosign(text: str, name: str, *, key: Ed25519PrivateKey, at_s: int) -> str:
    """Return a witness's signature line over the text of a checkpoint, to be added to its note.

    `at_s` is when, in seconds since 1970. SPEC: C2SP tlog-cosignature.

    Raises:
        ValueError: the text or the name is none that a note may hold, or the time does not fit.
    """
    if not text.endswith("\n") or _CONTROL.search(text) or not is_name(name):
        raise ValueError("the text of a note ends in a newline and holds no other control character")
    if not 0 <= at_s <= _MAX_TIME_S:
        raise ValueError(f"{at_s} is no time that a cosignature can state")
    identity = key_id(name, key.public_key().public_bytes_raw(), kind=_COSIGNATURE)
    stamp = at_s.to_bytes(_TIME_BYTES, "big")
    return _line(name, identity + stamp + key.sign(_cosigned_message(text, at_s)))


def _cosigned_message(text: str, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{text}".encode()


def _line(name: str, blob: bytes) -> str:
    return f"{_DASH}{name} {base64.b64encode(blob).decode('ascii')}\n"


def parse(note: str) -> Note:
    """Read a signed note without checking any signature.

    Raises:
        LedgerCorrupt: the text is not exactly of the form that C2SP signed-note gives.
    """
    try:
        size_bytes = len(note.encode("utf-8"))
    except UnicodeEncodeError:
        raise LedgerCorrupt("the note is not UTF-8") from None
    if size_bytes > _MAX_NOTE_BYTES or _CONTROL.search(note):
        raise LedgerCorrupt("the note is over 64 KiB or holds a control character")
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise LedgerCorrupt("the note has no blank line before its signatures, or no newline at its end")
    signatures = []
    for line in lines[:-1].split("\n"):
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        blob = _decode_base64(encoded)
        if not line.startswith(_DASH) or not is_name(name) or blob is None or len(blob) < 5:
            raise LedgerCorrupt(f"`{line[:80]}` is no signature line of a note")
        signatures.append(Signature(name=name, key_id=blob[:4], value=blob[4:]))
    if len(signatures) > _MAX_SIGNATURES:
        raise LedgerCorrupt(f"the note has more than {_MAX_SIGNATURES} signatures")
    return Note(text=text + "\n", signatures=tuple(signatures))


def verify(note: str, verifiers: Sequence[Verifier]) -> str:
    """Return the text of a note that at least one of the keys has signed.

    Signatures of other keys are ignored. One bad signature of a given key refuses the note.

    Raises:
        LedgerCorrupt: the note is malformed, has a bad signature, or has none of these keys.
    """
    parsed = parse(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    signed = False
    for signature in parsed.signatures:
        verifier = known.get((signature.name, signature.key_id))
        if verifier is None:
            continue
        if not verifier.matches(parsed.text, signature):
            raise LedgerCorrupt(f"the signature of `{signature.name}` does not fit the note")
        signed = True
    if not signed:
        raise LedgerCorrupt("the note is not signed by a key that is trusted here")
    return parsed.text


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """Return the note text of a checkpoint: origin, size, root."""
    root = base64.b64encode(checkpoint.root).decode("ascii")
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """Return a checkpoint as a note signed under its origin's name."""
    return sign(checkpoint_text(checkpoint), checkpoint.origin, key=key)


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint; extension lines are ignored.

    Raises:
        LedgerCorrupt: the text is not exactly of the form that C2SP tlog-checkpoint gives.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise LedgerCorrupt("a checkpoint has three lines or more, none empty")
    origin, size, encoded = lines[:3]
    root = _decode_base64(encoded)
    if not _SIZE.fullmatch(size) or root is None or len(root) != HASH_BYTES:
        raise LedgerCorrupt("the size or the root of the checkpoint is malformed")
    return Checkpoint(origin=origin, size=int(size), root=root)


def verify_checkpoint(
    note: str, *, origin: str, verifier: Verifier, witness: WitnessVerifier | None = None
) -> Checkpoint:
    """Return the checkpoint in a note, signed by this key, of this log; cosigned too if a witness is given.

    Raises:
        LedgerCorrupt: the note or the checkpoint is malformed, not signed, not cosigned, or of another log.
    """
    checkpoint = parse_checkpoint(verify(note, [verifier]))
    if witness is not None:
        verify(note, [witness])
    if checkpoint.origin != origin:
        raise LedgerCorrupt(f"the checkpoint is of log `{checkpoint.origin[:80]}`, not of `{origin}`")
    return checkpoint


def is_name(name: str) -> bool:
    """Return whether a key may have this name."""
    return bool(name) and "+" not in name and not any(c.isspace() for c in name) and not _CONTROL.search(name)


def _decode_base64(text: str) -> bytes | None:
    """Return the bytes of standard, padded, canonical base64; None for anything else."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw if base64.b64encode(raw).decode("ascii") == text else None
