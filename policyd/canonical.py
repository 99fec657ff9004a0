"""One spelling for bytes that are hashed: JSON, the digests of docs/digests.md, and sets of fields."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence

from policyd.model import Claimed, Decision, FieldMask, Obligations, Outcome, VerdictGroup
from policyd.reasons import for_caller

Part = str | bytes | int | Sequence["Part"]
"""What the length-prefixed encoding can hold."""

_SAFE_INTEGER = 2**53 - 1
"""Beyond it, readers that keep numbers as IEEE doubles change the value (RFC 7493 section 2.2)."""

_TEXT_LIKE = frozenset({str, bool, type(None)})

_REQUEST_DOMAIN = "pbac.v1/request"
_LISTING_DOMAIN = "pbac.v1/listing"
_ANSWER_DOMAIN = "pbac.v1/answer"


def canonical_json(value: object) -> bytes:
    """Return the one JSON text of a value, as UTF-8.

    Keys are sorted by code point, there is no white space, and only strings, integers up to
    2**53 - 1, booleans, null, lists, tuples and dictionaries with string keys are accepted.

    Raises:
        ValueError: the value, or something inside it, has another type or is out of range.
    """
    check_json(value)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8")


def check_json(value: object) -> None:
    """Refuse what `canonical_json` refuses.

    Raises:
        ValueError: the value, or something inside it, has another type or is out of range.
    """
    kind = type(value)
    if kind in _TEXT_LIKE:
        return
    if kind is int:
        if not -_SAFE_INTEGER <= value <= _SAFE_INTEGER:  # type: ignore[operator]  # kind is int
            raise ValueError(f"`{value}` is beyond 2**53 - 1: write it as text")
    elif kind is list or kind is tuple:
        for item in value:  # type: ignore[attr-defined]  # kind is list or tuple
            if type(item) not in _TEXT_LIKE:
                check_json(item)
    elif kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]  # kind is dict
            if type(key) is not str:
                raise ValueError(f"a key of type `{type(key).__name__}`: keys are text")
            if type(item) not in _TEXT_LIKE:
                check_json(item)
    else:
        raise ValueError(f"a value of type `{kind.__name__}` has no canonical JSON form")


def encode(part: Part) -> bytes:
    """Return the length-prefixed encoding of docs/digests.md: tag, 4-byte length, payload.

    Integers are unsigned and below 2**64. Nothing else in the encoding depends on the reader:
    two different values never share an encoding.

    Raises:
        ValueError: an integer out of range, or a value of another type.
    """
    if isinstance(part, str):
        return _encode_text(part)
    if isinstance(part, bytes):
        tag, payload = b"B", part
    elif isinstance(part, bool):
        raise ValueError("a truth value is written as the integer 0 or 1")
    elif isinstance(part, int):
        if not 0 <= part < 2**64:
            raise ValueError(f"`{part}` is not an unsigned 64-bit integer")
        tag, payload = b"I", part.to_bytes(8, "big")
    elif isinstance(part, list | tuple):
        # Most of what is encoded is lists of names.
        tag, payload = b"L", b"".join([_encode_text(x) if type(x) is str else encode(x) for x in part])
    else:
        raise ValueError(f"a value of type `{type(part).__name__}` has no encoding")
    return tag + len(payload).to_bytes(4, "big") + payload


def _encode_text(text: str) -> bytes:
    payload = text.encode("utf-8")
    return b"S" + len(payload).to_bytes(4, "big") + payload


def token_digest(token: str) -> bytes:
    """Return SHA-256 of the requester's token as sent; of the empty text where none was sent."""
    return hashlib.sha256(token.encode("utf-8")).digest()


def request_parts(
    claimed: Claimed,
    token_digest: bytes,
    *,
    record_tokens: Sequence[bytes] = (),
    want_receipt: bool = False,
    at_least_epoch: int = 0,
) -> list[Part]:
    """Return what the request digest covers, in the order of docs/digests.md."""
    if len(token_digest) != hashlib.sha256().digest_size:
        raise ValueError(f"the token's digest has {len(token_digest)} bytes, not 32")
    return [
        _REQUEST_DOMAIN,
        claimed.request_id,
        token_digest,
        claimed.agreement,
        claimed.purposes,
        claimed.action.value,
        claimed.fields,
        claimed.used_fields,
        claimed.years,
        list(record_tokens),
        int(want_receipt),
        at_least_epoch,
    ]


def request_digest(
    claimed: Claimed,
    token_digest: bytes,
    *,
    record_tokens: Sequence[bytes] = (),
    want_receipt: bool = False,
    at_least_epoch: int = 0,
) -> bytes:
    """Return the SHA-256 that binds a record to the question as it was sent (32 bytes).

    Raises:
        ValueError: `token_digest` is not 32 bytes long, or a number is out of range.
    """
    parts = request_parts(
        claimed,
        token_digest,
        record_tokens=record_tokens,
        want_receipt=want_receipt,
        at_least_epoch=at_least_epoch,
    )
    return hashlib.sha256(encode(parts)).digest()


def listing_digest(claimed: Claimed, token_digest: bytes, *, table: str, at_least_epoch: int) -> bytes:
    """Return the SHA-256 that binds a record to a question to ListFields as it was sent (32 bytes).

    Raises:
        ValueError: `at_least_epoch` is out of range.
    """
    parts: list[Part] = [
        _LISTING_DOMAIN,
        claimed.request_id,
        token_digest,
        claimed.agreement,
        claimed.purposes,
        claimed.action.value,
        table,
        at_least_epoch,
    ]
    return hashlib.sha256(encode(parts)).digest()


def answer_parts(decision: Decision, *, request_id: str, decision_id: str, valid_for_ms: int) -> list[Part]:
    """Return what the answer digest covers, in the order of docs/digests.md.

    Reasons appear as callers are told them. A withheld answer carries no obligations.

    Raises:
        ValueError: an obligation that cannot be told to a client (an empty set of years).
    """
    withheld = decision.outcome is Outcome.WITHHOLD
    return [
        _ANSWER_DOMAIN,
        request_id,
        decision_id,
        decision.outcome.value,
        [_group_parts(group) for group in decision.groups],
        [] if withheld else _obligation_parts(decision.obligations),
        decision.policy_digest,
        decision.policy_version,
        decision.epoch,
        valid_for_ms,
        decision.identification_risk,
        decision.sensitivity,
    ]


def answer_digest(decision: Decision, *, request_id: str, decision_id: str, valid_for_ms: int) -> bytes:
    """Return the SHA-256 that binds a record to the answer as the caller gets it (32 bytes).

    Raises:
        ValueError: as `answer_parts`.
    """
    parts = answer_parts(decision, request_id=request_id, decision_id=decision_id, valid_for_ms=valid_for_ms)
    return hashlib.sha256(encode(parts)).digest()


def _group_parts(group: VerdictGroup) -> Part:
    steps: list[Part] = [[step.kind.value, step.to, step.amount] for step in group.transform]
    return [group.effect.value, for_caller(group.reason).value, group.rule, steps, group.names]


def _obligation_parts(obligations: Obligations) -> list[Part]:
    parts: list[Part] = []
    if obligations.exclude_sealed_epoch is not None:
        parts.append(["exclude_sealed", obligations.exclude_sealed_epoch])
    years, authorities = obligations.row_years, obligations.row_local_authorities
    if years is not None and not years:
        raise ValueError("no academic year is left for any row: withhold instead of releasing nothing")
    if years is not None or authorities is not None:
        parts.append(["rows", sorted(years or ()), int(authorities is not None), sorted(authorities or ())])
    for name, amount in (
        ("min_cell_count", obligations.min_cell_count),
        ("round_to", obligations.round_to),
        ("retention_days", obligations.retention_days),
    ):
        if amount is not None:
            parts.append([name, amount])
    if obligations.output_check:
        parts.append(["output_check", 1])
    if obligations.publish_in_register:
        parts.append(["publish_in_register", 1])
    parts.extend(["setting", setting] for setting in sorted(obligations.setting or ()))
    return parts


def encode_mask(mask: FieldMask) -> str:
    """Return a set of fields as text: the shorter of a dense (`d:`) and a sparse (`s:`) form.

    Dense is base64url, without padding, of the little-endian bytes without trailing zeros. Sparse
    is base64url of LEB128 numbers: the first position, then each gap to the next less one. Dense
    where both are equally long.

    Raises:
        ValueError: the mask is negative.
    """
    if mask < 0:
        raise ValueError("a set of fields is never negative")
    dense = mask.to_bytes((mask.bit_length() + 7) // 8, "little")
    sparse = _sparse(mask, len(dense))
    if sparse is not None and len(sparse) < len(dense):
        return "s:" + _base64url(sparse)
    return "d:" + _base64url(dense)


def decode_mask(text: str) -> FieldMask:
    """Return the set of fields that `encode_mask` wrote as `text`.

    Raises:
        ValueError: the text is not exactly what `encode_mask` writes for its value.
    """
    body = text[2:]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        mask = _from_sparse(raw) if text.startswith("s:") else int.from_bytes(raw, "little")
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"`{text[:40]}` is not a set of fields: {error}") from None
    if encode_mask(mask) != text:
        raise ValueError(f"`{text[:40]}` is not the canonical form of its set of fields")
    return mask


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _sparse(mask: FieldMask, limit_bytes: int) -> bytes | None:
    """Return the sparse form, or None as soon as it is longer than `limit_bytes`."""
    if mask.bit_count() > limit_bytes:
        return None
    out = bytearray()
    next_position = 0
    while mask:
        low = mask & -mask
        position = low.bit_length() - 1
        mask ^= low
        gap, next_position = position - next_position, position + 1
        while gap > 127:
            out.append(gap & 127 | 128)
            gap >>= 7
        out.append(gap)
    return bytes(out)


def _from_sparse(raw: bytes) -> FieldMask:
    mask, next_position, gap, shift = 0, 0, 0, 0
    for byte in raw:
        gap |= (byte & 127) << shift
        shift += 7
        if gap >> 24:
            raise ValueError("a position beyond 2**24")
        if byte < 128:
            mask |= 1 << (next_position + gap)
            next_position += gap + 1
            gap = shift = 0
    if shift:
        raise ValueError("the last number is cut short")
    return mask
