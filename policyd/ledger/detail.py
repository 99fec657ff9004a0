"""Seals what a decision was made from under the key of its record, and opens it again (docs/ledger.md)."""

from __future__ import annotations

import hashlib
import hmac
import zlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policyd.canonical import encode
from policyd.errors import LedgerCorrupt
from policyd.ledger.entry import parse_leaf
from policyd.ledger.keystore import NONCE_BYTES, RecordKey
from policyd.ledger.store import KEY_NUMBER_BYTES

_HEAD = KEY_NUMBER_BYTES + NONCE_BYTES
_PLAIN, _DEFLATED = b"\x00", b"\x01"
_DEFLATE_FROM_BYTES = 4_096
_MAX_BYTES = 16 << 20


def seal(plain: bytes, key: RecordKey, *, origin: str, decision_id: str) -> bytes:
    """Return the sealed detail: number of the key, nonce, ciphertext. A key seals once."""
    packed = _PLAIN + plain
    if len(plain) >= _DEFLATE_FROM_BYTES:
        packed = _DEFLATED + zlib.compress(plain, 1)
    context = _context(origin, decision_id)
    ciphertext = AESGCM(_encryption_key(key.secret)).encrypt(key.nonce, packed, context)
    return key.number.to_bytes(KEY_NUMBER_BYTES, "big") + key.nonce + ciphertext


def key_number(detail: bytes) -> int:
    """Return the number of the key that a detail is sealed under."""
    return int.from_bytes(detail[:KEY_NUMBER_BYTES], "big")


def unseal(leaf: bytes, detail: bytes, secret: bytes, *, origin: str) -> bytes:
    """Return what is sealed in `detail`, which must be what the leaf commits to, under the key it commits to.

    Raises:
        LedgerCorrupt: it is another detail or key, or does not open.
    """
    document = parse_leaf(leaf)
    stated = document.get("detail")
    want = {"ciphertext": hashlib.sha256(detail).hexdigest(), "key": hashlib.sha256(secret).hexdigest()}
    if stated != want:
        raise LedgerCorrupt("the detail or its key is not the one that the record commits to")
    context = _context(origin, str(document.get("decision_id")))
    try:
        packed = AESGCM(_encryption_key(secret)).decrypt(
            detail[KEY_NUMBER_BYTES:_HEAD], detail[_HEAD:], context
        )
        if packed[:1] == _PLAIN:
            return packed[1:]
        inflater = zlib.decompressobj()
        plain = inflater.decompress(packed[1:], _MAX_BYTES)
    except (InvalidTag, ValueError, zlib.error):
        raise LedgerCorrupt("the detail does not open under the key that the record commits to") from None
    if packed[:1] != _DEFLATED or not inflater.eof:
        raise LedgerCorrupt("the detail is of a form that this program does not know")
    return plain


def _encryption_key(secret: bytes) -> bytes:
    return hmac.digest(secret, b"policyd/detail\x00", hashlib.sha256)


def _context(origin: str, decision_id: str) -> bytes:
    return encode(["policyd/detail", origin, decision_id])
