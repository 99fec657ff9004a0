"""What is hashed has one spelling: canonical JSON, the two digests, and sets of fields."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policyd import canonical
from policyd.model import (
    NO_OBLIGATIONS,
    Action,
    Claimed,
    Decision,
    Effect,
    Obligations,
    Outcome,
    Step,
    Transform,
    TransformKind,
    VerdictGroup,
)
from policyd.reasons import Reason

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "digests.json").read_text("utf-8"))


def claimed_of(inputs: dict[str, Any]) -> Claimed:
    return Claimed(
        request_id=inputs["request_id"],
        agreement=inputs["agreement_id"],
        purposes=tuple(inputs["purposes"]),
        action=Action(inputs["action"]),
        fields=tuple(inputs["fields"]),
        used_fields=tuple(inputs["used_fields"]),
        years=tuple(inputs["years"]),
    )


def transform_of(steps: list[dict[str, dict[str, Any]]]) -> Transform:
    made = []
    for step in steps:
        ((kind, parameters),) = step.items()
        to = parameters.get("to", "") if kind == "generalise" else ""
        amount = 0 if kind == "generalise" else next(iter(parameters.values()), 0)
        made.append(Step(TransformKind(kind), to, amount))
    return tuple(made)


def obligations_of(stated: list[dict[str, Any]]) -> Obligations:
    values = {name: value for each in stated for name, value in each.items()}
    rows = values.get("rows")
    setting = values.get("setting")
    sealed = values.get("exclude_sealed")
    return Obligations(
        row_years=frozenset(rows["years"]) if rows and rows["years"] else None,
        row_local_authorities=(
            frozenset(rows["local_authorities"]) if rows and rows["by_local_authority"] else None
        ),
        min_cell_count=values.get("min_cell_count"),
        round_to=values.get("round_to"),
        retention_days=values.get("retention_days"),
        output_check=values.get("output_check", False),
        publish_in_register=values.get("publish_in_register", False),
        setting=frozenset({setting}) if setting else None,
        exclude_sealed_epoch=sealed["epoch"] if sealed else None,
    )


def decision_of(inputs: dict[str, Any]) -> Decision:
    groups = tuple(
        VerdictGroup(
            effect=Effect(group["effect"]),
            reason=Reason(group["reason"]),
            rule=group["rule"],
            transform=transform_of(group["transform"]),
            names=tuple(group["fields"]),
        )
        for group in inputs["verdicts"]
    )
    return Decision(
        outcome=Outcome(inputs["outcome"]),
        groups=groups,
        obligations=obligations_of(inputs["obligations"]),
        identification_risk=inputs["identification_risk"],
        sensitivity=inputs["sensitivity"],
        requester="researcher-1",
        organisation="org-university-1",
        data_service="npd-secure",
        setting="secure-research",
        agreement="DS00101",
        gateway="DEA2017-64",
        purposes=("academic-research",),
        action=Action.RELEASE,
        policy_digest=inputs["policy_digest"],
        policy_version=inputs["policy_version"],
        epoch=inputs["epoch"],
        at=1_770_000_000_000,
    )


@pytest.mark.parametrize("case", VECTORS["encodings"], ids=lambda c: str(c["value"]))
def test_encoding_vector(case: dict[str, Any]) -> None:
    """Each value has the encoding that docs/digests.md gives it."""
    assert canonical.encode(case["value"]).hex() == case["encoding"]


@pytest.mark.parametrize("case", VECTORS["requests"], ids=lambda c: c["name"])
def test_request_vector(case: dict[str, Any]) -> None:
    """The digest of a question is that of the shared vectors."""
    inputs = case["inputs"]
    options = {
        "record_tokens": [bytes.fromhex(token) for token in inputs["record_tokens"]],
        "want_receipt": inputs["want_receipt"],
        "at_least_epoch": inputs["at_least_epoch"],
    }
    token = canonical.token_digest(inputs["requester_token"])

    parts = canonical.request_parts(claimed_of(inputs), token, **options)

    assert canonical.encode(parts).hex() == case["encoding"]
    assert canonical.request_digest(claimed_of(inputs), token, **options).hex() == case["digest"]


@pytest.mark.parametrize("case", VECTORS["answers"], ids=lambda c: c["name"])
def test_answer_vector(case: dict[str, Any]) -> None:
    """The digest of an answer is that of the shared vectors."""
    inputs = case["inputs"]
    options = {key: inputs[key] for key in ("request_id", "decision_id", "valid_for_ms")}

    parts = canonical.answer_parts(decision_of(inputs), **options)

    assert canonical.encode(parts).hex() == case["encoding"]
    assert canonical.answer_digest(decision_of(inputs), **options).hex() == case["digest"]


def test_vectors_hold_no_digest_twice() -> None:
    """Different questions and answers have different digests."""
    digests = [case["digest"] for case in VECTORS["requests"] + VECTORS["answers"]]

    assert len(set(digests)) == len(digests)


def test_every_part_of_a_question_counts() -> None:
    """Changing any one part of a question changes its digest."""
    base = Claimed("q-1", "DS00101", ("a",), Action.RELEASE, ("A.b",), ("A.c",), (2018,))
    token = canonical.token_digest("t")
    others = [
        replace(base, request_id="q-2"),
        replace(base, agreement="DS00102"),
        replace(base, purposes=("a", "b")),
        replace(base, action=Action.MATCH),
        replace(base, fields=("a.b",)),
        replace(base, used_fields=()),
        replace(base, years=(2019,)),
    ]
    digests = {canonical.request_digest(each, token) for each in (base, *others)}
    digests.add(canonical.request_digest(base, canonical.token_digest("u")))
    digests.add(canonical.request_digest(base, token, record_tokens=[bytes(32)]))
    digests.add(canonical.request_digest(base, token, want_receipt=True))
    digests.add(canonical.request_digest(base, token, at_least_epoch=1))

    assert len(digests) == len(others) + 5


def test_every_part_of_an_answer_counts() -> None:
    """Changing any one part of an answer changes its digest."""
    inputs = next(case["inputs"] for case in VECTORS["answers"] if case["name"].startswith("every effect"))
    base = decision_of(inputs)
    group = base.groups[1]
    ids = {"request_id": "q-1", "decision_id": "d-1", "valid_for_ms": 5}
    obligations = [
        replace(base.obligations, **{name: value})
        for name, value in (
            ("row_years", frozenset({2018})),
            ("row_local_authorities", None),
            ("row_local_authorities", frozenset()),
            ("min_cell_count", 11),
            ("round_to", None),
            ("retention_days", 1),
            ("output_check", False),
            ("publish_in_register", False),
            ("setting", None),
            ("exclude_sealed_epoch", 1),
        )
    ]
    groups = [
        replace(group, effect=Effect.RELEASE),
        replace(group, reason=Reason.RULE_ERROR),
        replace(group, rule="r-9"),
        replace(group, transform=()),
        replace(group, names=("SC_Pupil.DOB_SPR18",)),
    ]
    others = [
        *(replace(base, obligations=each) for each in obligations),
        *(replace(base, groups=(base.groups[0], each, *base.groups[2:])) for each in groups),
        replace(base, outcome=Outcome.RELEASE),
        replace(base, policy_digest="cd" * 32),
        replace(base, policy_version=1),
        replace(base, epoch=1),
        replace(base, identification_risk=2),
        replace(base, sensitivity="AB"),
    ]

    digests = {canonical.answer_digest(each, **ids) for each in (base, *others)}
    digests |= {canonical.answer_digest(base, **{**ids, key: v}) for key, v in _other_ids().items()}

    assert len(digests) == len(others) + 4


def _other_ids() -> dict[str, Any]:
    return {"request_id": "q-2", "decision_id": "d-2", "valid_for_ms": 6}


def test_answer_shows_the_reason_that_the_caller_is_told() -> None:
    """An unknown agreement and somebody else's give the same digest: the caller cannot tell them apart."""
    base = decision_of(VECTORS["answers"][0]["inputs"])
    ids = {"request_id": "q-1", "decision_id": "d-1", "valid_for_ms": 0}
    unknown = replace(base, groups=(replace(base.groups[0], reason=Reason.AGREEMENT_UNKNOWN),))

    assert canonical.answer_digest(unknown, **ids) == canonical.answer_digest(base, **ids)


def test_withheld_answer_carries_no_obligations() -> None:
    """Obligations of an answer that releases nothing are not told, so they are not digested."""
    base = decision_of(VECTORS["answers"][0]["inputs"])
    ids = {"request_id": "q-1", "decision_id": "d-1", "valid_for_ms": 0}
    owed = replace(base, obligations=replace(NO_OBLIGATIONS, round_to=5))

    assert canonical.answer_digest(owed, **ids) == canonical.answer_digest(base, **ids)


def test_empty_set_of_years_is_refused() -> None:
    """On the wire no years means any year, so an answer for no year at all is never digested."""
    base = decision_of(VECTORS["answers"][1]["inputs"])
    broken = replace(base, obligations=replace(base.obligations, row_years=frozenset()))

    with pytest.raises(ValueError, match="no academic year is left"):
        canonical.answer_digest(broken, request_id="q-1", decision_id="d-1", valid_for_ms=0)


@pytest.mark.parametrize("value", [-1, 2**64, True, None, 1.0, {"a": 1}], ids=repr)
def test_encoding_refuses_other_values(value: Any) -> None:
    """What has no encoding is an error and never a guess."""
    with pytest.raises(ValueError, match=r"integer|encoding"):
        canonical.encode(value)


def test_short_token_digest_is_refused() -> None:
    """A token digest has 32 bytes."""
    with pytest.raises(ValueError, match="not 32"):
        canonical.request_digest(Claimed("q", "a", (), Action.RELEASE, ("A.b",)), b"short")


def test_encodings_of_different_values_differ() -> None:
    """Random nested values: equal encodings only for equal values."""
    seed = 7
    chance = random.Random(seed)  # noqa: S311  # seeded test data
    seen: dict[bytes, Any] = {}
    for _ in range(3_000):
        value = _random_value(chance, depth=3)
        assert seen.setdefault(canonical.encode(value), value) == value, f"seed {seed}"
    assert len(seen) > 1_000


def _random_value(chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(4 if depth else 3)
    if kind == 0:
        return "".join(chance.choice("aSBIL\0") for _ in range(chance.randrange(4)))
    if kind == 1:
        return chance.randrange(4)
    if kind == 2:
        return chance.randbytes(chance.randrange(3))
    return [_random_value(chance, depth - 1) for _ in range(chance.randrange(4))]


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ({"b": 1, "a": [True, None, "é"]}, '{"a":[true,null,"é"],"b":1}'),
        ({"B": 1, "a": 2, "é": 3, "\U0001f600": 4}, '{"B":1,"a":2,"é":3,"\U0001f600":4}'),
        ([-(2**53) + 1, 2**53 - 1, 0], "[-9007199254740991,9007199254740991,0]"),
        ((), "[]"),
        ('\x1f\n"\\/\u2028', '"\\u001f\\n\\"\\\\/\u2028"'),
    ],
)
def test_json_has_one_spelling(value: Any, want: str) -> None:
    """Sorted keys, no spaces, UTF-8, nothing escaped that need not be."""
    assert canonical.canonical_json(value) == want.encode("utf-8")


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        2**53,
        -(2**53),
        {1: 2},
        {None: 1},
        [{"a": 0.5}],
        b"x",
        {"a"},
        Action.RELEASE,
        "\ud800",
    ],
    ids=repr,
)
def test_json_refuses_what_readers_disagree_on(value: Any) -> None:
    """Floats, large integers, keys that are no text, and types that JSON lacks are errors."""
    with pytest.raises(ValueError):
        canonical.canonical_json(value)


@pytest.mark.parametrize(
    ("mask", "want"),
    [
        (0, "d:"),
        (1, "d:AQ"),
        (0b1000_0001, "d:gQ"),
        (1 << 15, "s:Dw"),
        (1 << 127, "s:fw"),
        (1 << 128, "s:gAE"),
        ((1 << 3_801) | 1, "s:ANgd"),
        ((1 << 64) - 1, "d:__________8"),
    ],
)
def test_mask_has_one_spelling(mask: int, want: str) -> None:
    """A set of fields is written in the shorter of two forms."""
    assert canonical.encode_mask(mask) == want
    assert canonical.decode_mask(want) == mask


def test_masks_come_back() -> None:
    """Random sets of fields, sparse and dense, come back from their text."""
    seed = 11
    chance = random.Random(seed)  # noqa: S311  # seeded test data
    for _ in range(2_000):
        size = chance.randrange(1, 4_000)
        mask = sum({1 << chance.randrange(size) for _ in range(chance.choice((1, 3, 40, 900)))})
        text = canonical.encode_mask(mask)
        assert canonical.decode_mask(text) == mask, f"seed {seed}"
        assert len(text) <= 2 + -(-mask.bit_length() // 8) * 4 / 3 + 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "d",
        "x:AQ",
        "AQ",
        "d:AQA",  # trailing zero byte
        "d:AA",  # zero written out
        "d:AQ==",  # padding
        "d:A!",
        "d:AR",  # bits left over behind the last byte
        "d:+w",  # the other alphabet
        "d:AIA",  # sparse is shorter
        "s:AA",  # dense is as short
        "s:",
        "s:gA",  # number cut short
        "s:jwA",  # number longer than it need be
        "s:____________AQ",  # beyond any catalogue
    ],
)
def test_other_spellings_of_a_mask_are_refused(text: str) -> None:
    """Only what `encode_mask` writes is read: one set, one text, one hash."""
    with pytest.raises(ValueError, match="set of fields"):
        canonical.decode_mask(text)


def test_negative_mask_is_refused() -> None:
    """A set of fields has no negative form (in Python, -1 would be every field there is)."""
    with pytest.raises(ValueError, match="negative"):
        canonical.encode_mask(-1)


def test_token_digest_is_sha256_of_the_text() -> None:
    """Client and server digest the token as it is sent."""
    assert canonical.token_digest("a.b.c") == hashlib.sha256(b"a.b.c").digest()
