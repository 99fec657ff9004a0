"""A record holds what must be proved, fits its frame, and holds nothing that must not be kept."""

from __future__ import annotations

import datetime
import hashlib
import json
import random
import sys
from dataclasses import replace
from typing import Any

import pytest
from ledger_cases import AT, DECISION, DETAIL, PSEUDONYM, RECORD_KEY, make_change, make_entry

from policyd.canonical import canonical_json, decode_mask
from policyd.errors import LedgerCorrupt
from policyd.ledger.change_record import Stage, activation_record, erasure_record, state_change_record
from policyd.ledger.entry import (
    MAX_LEAF_BYTES,
    IndexColumns,
    columns_of,
    leaf_bytes,
    open_private,
    parse_leaf,
)
from policyd.model import ColumnSet, Effect, Outcome, VerdictGroup
from policyd.reasons import Reason


def refused(reason: Reason, **other: Any) -> Any:
    group = VerdictGroup(Effect.WITHHOLD, reason, "gate:3:agreement", (), ("KS4.KS4_ATT8",))
    values: dict[str, Any] = {"outcome": Outcome.WITHHOLD, "groups": (group,), "agreement": ""}
    return replace(DECISION, **(values | other))


def test_same_decision_gives_the_same_bytes() -> None:
    """Nothing in a record comes from anywhere but its arguments."""
    assert make_entry(1) == make_entry(1)
    assert make_entry(1).leaf == canonical_json(json.loads(make_entry(1).leaf))


def test_columns_follow_from_the_bytes() -> None:
    """The columns handed to the writer are those that a verifier rebuilds from the leaf."""
    for entry in (make_entry(1), make_change(), make_entry(2, refused(Reason.AGREEMENT_NOT_YOURS))):
        assert columns_of(entry.leaf, entry.private) == entry.columns


def test_decision_is_found_by_what_it_was_about() -> None:
    """Ids, parties, purposes, outcome, policy, epoch and trace are all columns."""
    assert make_entry(1).columns == IndexColumns(
        kind="decision",
        decision_id=f"{1:026d}",
        at=AT + 1,
        requester=PSEUDONYM,
        organisation="org-university-1",
        agreement="DS00101",
        purposes="academic-research population-statistics",
        action="release",
        outcome="partial",
        policy_digest="ab" * 32,
        epoch=7,
        data_service="npd-secure",
        trace_id=(2).to_bytes(16, "big").hex(),
    )


def test_fields_are_kept_as_bits_by_term_and_year() -> None:
    """A group holds its fields as one bitmap for each term and year, apart by leaving or only used."""
    released, transformed, withheld = parse_leaf(make_entry(1).leaf)["verdicts"]

    assert [(t, y, decode_mask(m)) for t, y, m in released["released"]] == [("", 0, 4), ("SPR", 2018, 1)]
    assert [(t, y, decode_mask(m)) for t, y, m in transformed["used"]] == [("SPR", 2018, 2)]
    assert transformed["transform"] == ["generalise:year"]
    assert (withheld["names"], withheld["released"], withheld["used"]) == (1, [], [])


def test_no_name_no_person_and_no_unknown_text_is_kept() -> None:
    """Unknown names, the requester's id and the names asked for are nowhere in the record."""
    entry = make_entry(1, replace(DECISION, unknown=("pupil-17 of school-3",)))
    for secret in (b"pupil-17", b"researcher-1", b"NoSuchField", b"KS4_ATT8", b"Ethnicity"):
        assert secret not in entry.leaf
    assert parse_leaf(entry.leaf)["unknown"]["count"] == 1


def test_unknown_names_cannot_be_guessed_without_the_key() -> None:
    """The digest of unknown names is under the record's own key: erased with it, it can never be tried."""
    digests = {
        parse_leaf(make_entry(1, key=key).leaf)["unknown"]["digest"] for key in (RECORD_KEY, b"\xff" * 32)
    }

    assert len(digests) == 2


def test_leaf_commits_to_the_detail_and_to_its_key() -> None:
    """Another detail is a fault, and the key that opens it cannot be exchanged for another later."""
    entry = make_entry(1)

    assert parse_leaf(entry.leaf)["detail"] == {
        "ciphertext": hashlib.sha256(DETAIL).hexdigest(),
        "key": hashlib.sha256(RECORD_KEY).hexdigest(),
    }
    assert columns_of(entry.leaf, entry.private, detail=DETAIL) == entry.columns
    for other in (b"", DETAIL + b"x"):
        with pytest.raises(LedgerCorrupt, match="detail is not the one"):
            columns_of(entry.leaf, entry.private, detail=other)
    with pytest.raises(LedgerCorrupt, match="detail is not the one"):
        columns_of(make_change().leaf, detail=DETAIL)


def test_leaf_does_not_tell_an_unknown_agreement_from_somebody_elses() -> None:
    """What a receipt shows is the same for both, but for a commitment that cannot be guessed."""
    unknown = make_entry(1, refused(Reason.AGREEMENT_UNKNOWN))
    elses = make_entry(1, refused(Reason.AGREEMENT_NOT_YOURS, agreement="DS00999", gateway="EA1996-537A"))
    shown = [parse_leaf(entry.leaf) for entry in (unknown, elses)]
    commitments = [each.pop("private") for each in shown]
    shown[0]["gateway"] = shown[1]["gateway"] = ""

    assert shown[0] == shown[1]
    assert len(unknown.leaf) == len(elses.leaf)
    assert commitments[0] != commitments[1]


def test_exact_reason_is_kept_beside_the_leaf() -> None:
    """The auditor sees which of the two it was, and the leaf proves that it was not changed since."""
    entry = make_entry(1, refused(Reason.AGREEMENT_NOT_YOURS, agreement="DS00999"))

    opened = open_private(entry.leaf, entry.private)

    assert (opened.reasons, opened.agreement) == ((Reason.AGREEMENT_NOT_YOURS,), "DS00999")
    assert entry.columns.agreement == "DS00999"
    with pytest.raises(LedgerCorrupt, match="commits to"):
        open_private(entry.leaf, entry.private.replace(b"NOT_YOURS", b"UNKNOWN"))
    with pytest.raises(LedgerCorrupt, match="commits to"):
        columns_of(entry.leaf)


def test_commitment_is_salted_for_each_decision() -> None:
    """The same hidden reason gives different commitments, so that a table of them is of no use."""
    entries = [make_entry(number, refused(Reason.AGREEMENT_UNKNOWN)) for number in (1, 2)]

    assert len({parse_leaf(entry.leaf)["private"] for entry in entries}) == 2


def test_worst_case_of_five_thousand_names_fits_the_frame() -> None:
    """5,000 names spread over terms, years and verdicts stay under 65,535 bytes, whatever the spread."""
    seed = 3
    chance = random.Random(seed)  # noqa: S311  # seeded test data
    sizes = []
    overflowed = set()
    for group_count in (1, 2, 40, 400, 5_000):
        for years in (1, 100):
            sets: list[dict[tuple[str, int], int]] = [{} for _ in range(group_count)]
            names: list[list[str]] = [[] for _ in range(group_count)]
            for number in range(5_000):
                key = (chance.choice(("", "AUT", "SPR", "SUM")), 2000 + chance.randrange(years))
                group = number % group_count
                sets[group][key] = sets[group].get(key, 0) | 1 << chance.randrange(3_802)
                names[group].append(f"T.f{number}")
            groups = tuple(
                VerdictGroup(
                    effect=Effect.WITHHOLD,
                    reason=Reason.PURPOSE_NOT_IN_AGREEMENT,
                    rule=f"{number:063d}",
                    transform=(),
                    names=tuple(names[number]),
                    released=tuple(ColumnSet(t, y, m) for (t, y), m in sorted(sets[number].items())),
                )
                for number in range(group_count)
            )
            decision = replace(
                DECISION,
                groups=groups,
                purposes=tuple("p" * 62 + str(n) for n in range(8)),
                obligations=replace(
                    DECISION.obligations,
                    row_local_authorities=frozenset(f"{n:03d}" for n in range(1_000)),
                    row_years=frozenset(range(1900, 2201)),
                ),
            )
            entry = make_entry(1, decision, spiffe_id="s" * 2_048)
            sizes.append(len(entry.leaf))
            overflowed.add(bool(entry.private))
            assert len(entry.leaf) <= MAX_LEAF_BYTES < 65_535, f"seed {seed}"
            verdicts = parse_leaf(entry.leaf)["verdicts"]
            if entry.private:
                assert verdicts == {"groups": group_count, "names": 5_000}
                verdicts = list(open_private(entry.leaf, entry.private).verdicts)
            have = [
                sum(decode_mask(mask).bit_count() for _, _, mask in group["released"]) for group in verdicts
            ]
            assert have == [sum(m.bit_count() for m in each.values()) for each in sets]
    assert max(sizes) > 35_000
    assert overflowed == {True, False}  # the cases lie on both sides of the limit


@pytest.mark.parametrize(
    "other",
    [
        {"trace_id": bytes(15)},
        {"span_id": bytes(7)},
        {"parent_span_id": bytes(1)},
        {"request_digest": b""},
        {"answer_digest": bytes(31)},
        {"key": bytes(16)},
        {"detail": b""},
        {"requester": ""},
        {"spiffe_id": "s" * 2_049},
        {"rpc": "ReportRelease"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_malformed_parts_are_refused(other: dict[str, Any]) -> None:
    """A record with a short digest or id would prove nothing later, so it is not made."""
    with pytest.raises(ValueError):
        make_entry(1, **other)


def test_state_change_says_what_when_who_and_why() -> None:
    """A state change is found by kind, stage, epoch and who made it."""
    entry = make_change(5, stage=Stage.IN_FORCE)

    assert parse_leaf(entry.leaf)["why"] == "first load"
    assert (entry.columns.kind, entry.columns.action, entry.columns.outcome, entry.columns.epoch) == (
        "state-change",
        "registry",
        "in-force",
        5,
    )


def test_activation_names_the_policy_set() -> None:
    """An activation is found by the digest of the set that it put in force."""
    entry = activation_record(
        policy_digest="ab" * 32,
        policy_version=3,
        stage=Stage.APPLIED,
        epoch=5,
        body_digest=bytes(32),
        who="node-1",
        why="first load",
        at=AT,
        chain_hash=b"\x01" * 32,
    )
    columns = columns_of(entry.leaf, detail=b"")

    assert columns == entry.columns
    assert (columns.kind, columns.action, columns.outcome) == ("activation", "activation", "applied")
    assert columns.policy_digest == "ab" * 32
    assert parse_leaf(entry.leaf)["chain_hash"] == "01" * 32


def test_erasure_counts_and_names_nobody() -> None:
    """An erasure says how many keys went and until when copies live, and its digest is over just that."""
    values: dict[str, Any] = {"stage": Stage.INTENDED, "epoch": 7, "who": "officer-1", "why": "asked for"}
    entry = erasure_record(**values, records=12, persons=1, lost=False, backups_until="2027-01-31", at=AT)
    leaf = parse_leaf(entry.leaf)
    stated = {name: leaf[name] for name in ("records", "persons", "lost", "backups_until")}

    assert stated == {"records": 12, "persons": 1, "lost": False, "backups_until": "2027-01-31"}
    assert leaf["body_digest"] == hashlib.sha256(canonical_json(stated)).hexdigest()
    assert (entry.columns.action, entry.columns.outcome) == ("erasure", "intended")


@pytest.mark.parametrize(
    "other",
    [
        {"chain_hash": b"x"},
        {"body_digest": b""},
        {"why": "x" * 501},
        {"why": "two\nlines"},
        {"who": "w" * 129},
    ],
    ids=repr,
)
def test_malformed_state_change_is_refused(other: dict[str, Any]) -> None:
    """Texts of a state change are one line and bounded."""
    values: dict[str, Any] = {
        "stage": Stage.APPLIED,
        "epoch": 1,
        "body_digest": bytes(32),
        "who": "node-1",
        "why": "",
        "at": AT,
    }
    with pytest.raises(ValueError):
        state_change_record("registry", **(values | other))


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"v":2}',
        b'{"v":1,"kind":"decision"}',
        b'{"v":1,"kind":"party"}',
        b'{"v":1,"kind":[]}',
        b"[" * 60_000,
        make_change().leaf.replace(b'"at":1770000000000', b'"at":"1770000000000"'),
        make_change().leaf.replace(b'"who":"node-1"', b'"who":7'),
        make_change().leaf.replace(b'"epoch":0', b'"epoch":true'),
    ],
    ids=lambda leaf: leaf[:30].decode("latin-1"),
)
def test_bytes_that_are_no_record_are_named_so(leaf: bytes) -> None:
    """A verifier meets any bytes; each that is no record is reported and never a crash."""
    with pytest.raises(LedgerCorrupt):
        columns_of(leaf)


def test_a_leaf_is_canonical_json_whatever_it_holds() -> None:
    """Every character, as a key and as a value, is spelled and sorted as everywhere else."""
    letters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    for start in range(0, len(letters), 4096):
        page = letters[start : start + 4096]
        document = {each: {"text": [f"a{each}", each], "n": None, each: (True, -1)} for each in page}
        assert leaf_bytes(document) == canonical_json(document)


@pytest.mark.parametrize("value", [1.0, 2**53, b"", {1: ""}, "\ud800", datetime.date(2026, 1, 1), {"a"}])
def test_a_leaf_holds_nothing_that_has_no_canonical_form(value: object) -> None:
    """The faster writer accepts no more than the other: what it spells is spelled in one way."""
    for write in (leaf_bytes, canonical_json):
        with pytest.raises(ValueError):
            write({"part": [value]})
