"""The digests that bind a record to one question and one answer (docs/digests.md), from wire messages.

Written from that page alone and independent of the server's code, so that each checks the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pbac.v1 import decision_pb2 as pb

_Number = TypeVar("_Number", bound=int)
Part = str | bytes | int | Sequence["Part"]
"""What the encoding can hold."""

_ACTIONS = {
    pb.ACTION_RELEASE: "release",
    pb.ACTION_MATCH: "match",
    pb.ACTION_VERIFY: "verify",
    pb.ACTION_COUNT: "count",
    pb.ACTION_LINK: "link",
}
_OUTCOMES = {pb.OUTCOME_RELEASE: "release", pb.OUTCOME_PARTIAL: "partial", pb.OUTCOME_WITHHOLD: "withhold"}
_EFFECTS = {pb.EFFECT_RELEASE: "release", pb.EFFECT_TRANSFORM: "transform", pb.EFFECT_WITHHOLD: "withhold"}


def request_digest(request: pb.CheckRequest) -> bytes:
    """Return the digest of a question as it was sent, 32 bytes.

    Raises:
        ValueError: the action, or a year, has no encoding.
    """
    return hashlib.sha256(encode_request(request)).digest()


def listing_digest(request: pb.ListFieldsRequest) -> bytes:
    """Return the digest of a question to ListFields as it was sent, 32 bytes.

    Raises:
        ValueError: the action has no encoding.
    """
    parts: list[Part] = [
        "pbac.v1/listing",
        request.request_id,
        hashlib.sha256(request.requester_token.encode()).digest(),
        request.agreement_id,
        list(request.purposes),
        _word(_ACTIONS, request.action, "action"),
        request.table,
        request.at_least_epoch,
    ]
    return hashlib.sha256(encode(parts)).digest()


def answer_digest(answer: pb.CheckResponse | pb.ListFieldsResponse) -> bytes:
    """Return the digest of an answer as it was received, 32 bytes.

    Raises:
        ValueError: the outcome, an effect, a step or an obligation is not known; withhold.
    """
    return hashlib.sha256(encode_answer(answer)).digest()


def encode_request(request: pb.CheckRequest) -> bytes:
    """Return the encoding of a question, which ``request_digest`` hashes."""
    return encode(
        [
            "pbac.v1/request",
            request.request_id,
            hashlib.sha256(request.requester_token.encode()).digest(),
            request.agreement_id,
            list(request.purposes),
            _word(_ACTIONS, request.action, "action"),
            list(request.fields),
            list(request.used_fields),
            list(request.years),
            list(request.record_tokens),
            int(request.want_receipt),
            request.at_least_epoch,
        ]
    )


def encode_answer(answer: pb.CheckResponse | pb.ListFieldsResponse) -> bytes:
    """Return the encoding of an answer, which ``answer_digest`` hashes; a listing is valid for 0 ms."""
    return encode(
        [
            "pbac.v1/answer",
            answer.request_id,
            answer.decision_id,
            _word(_OUTCOMES, answer.outcome, "outcome"),
            [_group(group) for group in answer.verdicts],
            [_obligation(obligation) for obligation in answer.obligations],
            answer.policy_digest,
            answer.policy_version,
            answer.epoch,
            answer.valid_for_ms if isinstance(answer, pb.CheckResponse) else 0,
            answer.identification_risk,
            answer.sensitivity,
        ]
    )


def encode(part: Part) -> bytes:
    """Return one tag byte, four bytes of length, and the payload; a list's payload is its items'.

    Raises:
        ValueError: an integer is negative or takes more than eight bytes.
    """
    if isinstance(part, str):
        return _framed(b"S", part.encode())
    if isinstance(part, bytes):
        return _framed(b"B", part)
    if isinstance(part, int):
        if not 0 <= part < 1 << 64:
            raise ValueError(f"`{part}` has no encoding; integers are 0 to 2^64 - 1")
        return _framed(b"I", part.to_bytes(8, "big"))
    return _framed(b"L", b"".join(encode(item) for item in part))


def _framed(tag: bytes, payload: bytes) -> bytes:
    return tag + len(payload).to_bytes(4, "big") + payload


def _word(words: Mapping[_Number, str], number: _Number, what: str) -> str:
    word = words.get(number)
    if word is None:
        raise ValueError(f"{what} {number} is not known, so it has no digest")
    return word


def _group(group: pb.VerdictGroup) -> list[Part]:
    steps = [_step(step) for step in group.transform]
    return [_word(_EFFECTS, group.effect, "effect"), group.reason, group.rule, steps, list(group.fields)]


def _step(step: pb.TransformStep) -> list[Part]:
    match step.WhichOneof("kind"):
        case "pseudonymise":
            return ["pseudonymise", "", 0]
        case "generalise":
            return ["generalise", step.generalise.to, 0]
        case "band":
            return ["band", "", step.band.width]
        case "round":
            return ["round", "", step.round.to]
        case "top_code":
            return ["top_code", "", step.top_code.at]
        case _:
            raise ValueError("a transform step is not known, so it has no digest")


def _obligation(obligation: pb.Obligation) -> list[Part]:
    match obligation.WhichOneof("kind"):
        case "exclude_sealed":
            return ["exclude_sealed", obligation.exclude_sealed.epoch]
        case "rows":
            rows = obligation.rows
            return ["rows", list(rows.years), int(rows.by_local_authority), list(rows.local_authorities)]
        case "min_cell_count":
            return ["min_cell_count", obligation.min_cell_count]
        case "round_to":
            return ["round_to", obligation.round_to]
        case "retention_days":
            return ["retention_days", obligation.retention_days]
        case "output_check":
            return ["output_check", int(obligation.output_check)]
        case "publish_in_register":
            return ["publish_in_register", int(obligation.publish_in_register)]
        case "setting":
            return ["setting", obligation.setting]
        case _:
            raise ValueError("an obligation is not known, so it has no digest")
