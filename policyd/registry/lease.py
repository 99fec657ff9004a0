"""What nodes tell each other about how far they are: acknowledgements, and what renewing one gives."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from policyd.canonical import canonical_json
from policyd.registry.draft import Signer
from policyd.registry.trust import Trust

_SIGNED = b"policyd acknowledgement, format 1\n"
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-f]{128}", re.ASCII)
_MAX_NUMBER = 2**53 - 1
_MAX_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A node's word that it decides on the history up to `epoch`, and on nothing older.

    ``at_boot_ms`` is the node's own CLOCK_BOOTTIME when it said so: it orders the words of one run of one
    machine and means nothing to others. Stores keep the signature and do not check it.
    """

    node: str
    epoch: int
    chain_hash: bytes
    at_boot_ms: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Renewal:
    """Whether the store took an acknowledgement, and the head of the chain at that moment."""

    accepted: bool
    epoch: int
    chain_hash: bytes


def acknowledge(
    node: str, *, epoch: int, chain_hash: bytes, at_boot_ms: int, signer: Signer
) -> Acknowledgement:
    """Return the word of `node`, whose key `signer` is, that it decides on nothing older than `epoch`."""
    words = _signed_bytes(node, epoch=epoch, chain_hash=chain_hash, at_boot_ms=at_boot_ms)
    return Acknowledgement(node, epoch, chain_hash, at_boot_ms, signer.sign(words))


def is_genuine(acknowledgement: Acknowledgement, trust: Trust) -> bool:
    """Say whether the node that it names is trusted and has signed it."""
    node = trust.nodes.get(acknowledgement.node)
    if node is None:
        return False
    words = _signed_bytes(
        acknowledgement.node,
        epoch=acknowledgement.epoch,
        chain_hash=acknowledgement.chain_hash,
        at_boot_ms=acknowledgement.at_boot_ms,
    )
    try:
        Ed25519PublicKey.from_public_bytes(node.key).verify(acknowledgement.signature, words)
    except (InvalidSignature, ValueError):
        return False
    return True


def acknowledgement_bytes(acknowledgement: Acknowledgement) -> bytes:
    """Return the one form in which a store keeps an acknowledgement.

    Raises:
        ValueError: it could not be read back.
    """
    written = canonical_json(
        {
            "at_boot_ms": acknowledgement.at_boot_ms,
            "chain_hash": acknowledgement.chain_hash.hex(),
            "epoch": acknowledgement.epoch,
            "node": acknowledgement.node,
            "signature": acknowledgement.signature.hex(),
        }
    )
    read_acknowledgement(written)
    return written


def read_acknowledgement(data: bytes) -> Acknowledgement:
    """Read what `acknowledgement_bytes` wrote, and nothing else.

    Raises:
        ValueError: the bytes have any other form.
    """
    if len(data) > _MAX_BYTES:
        raise ValueError(f"it is over {_MAX_BYTES} bytes")
    try:
        value = json.loads(data)
        same = canonical_json(value) == data
    except (ValueError, RecursionError):
        raise ValueError("it is not canonical JSON") from None
    if not same or not isinstance(value, dict):
        raise ValueError("it is not canonical JSON")
    if value.keys() != {"at_boot_ms", "chain_hash", "epoch", "node", "signature"}:
        raise ValueError("it has other members than an acknowledgement")
    return Acknowledgement(
        node=_text(value, "node", _NODE),
        epoch=_number(value, "epoch"),
        chain_hash=bytes.fromhex(_text(value, "chain_hash", _HASH)),
        at_boot_ms=_number(value, "at_boot_ms"),
        signature=bytes.fromhex(_text(value, "signature", _SIGNATURE)),
    )


def _signed_bytes(node: str, *, epoch: int, chain_hash: bytes, at_boot_ms: int) -> bytes:
    return _SIGNED + canonical_json(
        {"at_boot_ms": at_boot_ms, "chain_hash": chain_hash.hex(), "epoch": epoch, "node": node}
    )


def _text(value: dict[str, object], name: str, pattern: re.Pattern[str]) -> str:
    text = value[name]
    if not isinstance(text, str) or pattern.fullmatch(text) is None:
        raise ValueError(f"`{name}` has another form than policyd writes")
    return text


def _number(value: dict[str, object], name: str) -> int:
    number = value[name]
    if type(number) is not int or not 0 <= number <= _MAX_NUMBER:
        raise ValueError(f"`{name}` is no whole number of at most 2**53 - 1")
    return number
