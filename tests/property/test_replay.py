"""Every decision that can be drawn comes out the same from its own detail, byte for byte."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from reference.duel import Tally, draw_loadable, write_files
from reference.worlds import EPOCH, World

from policyd.canonical import canonical_json
from policyd.decision.cache import Decider
from policyd.decision.explain import explain
from policyd.decision.snapshot import build_snapshot
from policyd.ledger.detail import seal
from policyd.ledger.entry import Entry, columns_of, parse_leaf
from policyd.ledger.keystore import KeyStore, Mark, RecordKey, open_keys
from policyd.ledger.reader import StoredRecord
from policyd.model import Instant, Request
from policyd.policy.archive import adopt
from policyd.reasons import Reason
from policyd.service.facts import LISTING, Question, facts_of, read_detail, snapshot_of, write_detail
from policyd.service.recording import Marks, valid_for_ms, write_record
from policyd.service.replay import Outcome, Replayer

SEED = int(os.environ.get("POLICYD_SEED", "20261124"))
WORLDS = 40
QUESTIONS = 25
ORIGIN = "policyd.test/node-1"


class Master:
    """A master key as `policyd.identity.keys` makes one."""

    id = "aa"
    secret = b"\x07" * 32


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyStore]:
    """The keys of one log, made ahead as a node makes them."""
    with closing(open_keys(tmp_path, Master(), origin=ORIGIN)) as store:
        count = WORLDS * QUESTIONS
        made = [RecordKey(number, number.to_bytes(32, "big"), bytes(12)) for number in range(count)]
        store.add_record_keys(
            made, Mark(0, 0), nonces=[number.to_bytes(12, "big") for number in range(count)]
        )
        yield store


def record(decider: Decider, request: Request, now: Instant, *, number: int) -> StoredRecord:
    """Decide as a node does, with its cache, and return the record as the log would hold it."""
    rpc = ("Check", "Check", "Explain", LISTING)[number % 4]
    table = ("", "Pupil", "nothing")[number % 3] if rpc == LISTING else ""
    snapshot = decider.snapshot
    token = request.verified.token
    question = Question(
        rpc=rpc,
        request=request,
        token_digest=token.digest if token else b"\x01" * 32,
        at_least_epoch=number % 3,
        record_tokens=() if rpc == LISTING else (bytes([number % 256]) * 32,) * (number % 3),
        want_receipt=rpc != LISTING and number % 2 == 0,
        table=table,
    )
    if rpc == LISTING:
        decision, until = decider.list_fields(request, now, table=table), now
    elif rpc == "Explain":
        explanation = explain(snapshot, request, now)
        decision, until = explanation.decision, explanation.valid_until
    else:
        decision, until = decider.decide_until(request, now)
    marks = Marks(f"{number:026d}", (number + 1).to_bytes(16, "big"), (number + 1).to_bytes(8, "big"), b"")
    key = RecordKey(number, number.to_bytes(32, "big"), bytes(12))
    plain = write_detail(facts_of(snapshot, request), question, now)
    entry = write_record(
        question,
        decision,
        marks=marks,
        valid_for_ms=valid_for_ms(question, until=until, now=now),
        requester="9f" * 32 if decision.requester else "",
        key=key.secret,
        detail=seal(plain, key, origin=ORIGIN, decision_id=marks.decision_id),
    )
    return stored(number, entry)


def stored(index: int, entry: Entry) -> StoredRecord:
    return StoredRecord(index, entry.leaf, entry.private, entry.columns, entry.detail)


def deciders(tmp_path: Path, *, worlds: int) -> Iterator[tuple[World, Decider]]:
    """Draw worlds and keep their policy sets as a node does when it puts them in force."""
    for number in range(worlds):
        rng = random.Random(f"{SEED}:replay:{number}")  # noqa: S311  (cases, not secrets)
        world, _ = draw_loadable(rng, Tally(), questions=QUESTIONS)
        write_files(tmp_path / f"source-{number}", world.files)
        policy = adopt(tmp_path / f"source-{number}", tmp_path / "policy")
        yield world, Decider(build_snapshot(policy, world.registry, epoch=EPOCH))


def test_every_drawn_decision_replays_byte_for_byte(tmp_path: Path, keys: KeyStore) -> None:
    """Record and private part come out the same from detail and policy set, with every reason there is."""
    print(f"seed {SEED}")
    replayer = Replayer(keys, tmp_path / "policy", origin=ORIGIN)
    reasons: Counter[str] = Counter()
    for world, decider in deciders(tmp_path, worlds=WORLDS):
        for request, now in world.questions:
            have = record(decider, request, now, number=reasons.total())

            again = replayer.replay(have)

            assert again.outcome is Outcome.SAME, f"seed {SEED}: {request} at {now}: {again.differences}"
            words = [group["reason"] for group in parse_leaf(have.leaf)["verdicts"]]
            reasons[next((word for word in words if word != Reason.NONE.value), Reason.NONE.value)] += 1
    assert reasons.total() == WORLDS * QUESTIONS
    print(dict(reasons))
    assert len(reasons) >= 15


def test_decisions_hand_out_the_names_that_are_no_field(tmp_path: Path) -> None:
    """Exactly the names that resolve to nothing, fields first, whatever the verdict on them was."""
    found: Counter[bool] = Counter()
    for world, decider in deciders(tmp_path, worlds=12):
        resolve = decider.snapshot.policy.index.resolve
        for request, now in world.questions:
            asked = (*request.claimed.fields, *request.claimed.used_fields)

            decision = decider.decide(request, now)

            assert decision.unknown == tuple(name for name in asked if resolve(name) is None)
            found[bool(decision.unknown and decision.groups[0].reason is not Reason.FIELD_UNKNOWN)] += 1
    assert found[True] > 10


def test_a_detail_says_what_was_asked_and_read(tmp_path: Path) -> None:
    """What is written is read back as it was, and read again it is written alike."""
    for world, decider in deciders(tmp_path, worlds=4):
        for number, (request, now) in enumerate(world.questions):
            facts = facts_of(decider.snapshot, request)
            token = request.verified.token
            question = Question("Check", request, token.digest if token else bytes(32), number)

            detail = read_detail(write_detail(facts, question, now))

            assert (detail.question, detail.at, detail.facts) == (question, now, facts)
            assert detail.policy_digest == decider.snapshot.policy.digest
            rebuilt = snapshot_of(facts, decider.snapshot.policy)
            assert facts_of(rebuilt, request) == facts


def test_a_detail_names_nobody_who_has_nothing_to_do_with_it(tmp_path: Path) -> None:
    """Of the registry only the requester, who supervises, and the agreement without its other people."""
    seen = 0
    for world, decider in deciders(tmp_path, worlds=6):
        for request, _ in world.questions:
            snapshot = decider.snapshot
            kept = snapshot_of(facts_of(snapshot, request), snapshot.policy)
            token = request.verified.token
            asks = snapshot.requesters.get((token.issuer, token.subject)) if token else None
            if asks is None or request.verified.spiffe_id not in snapshot.services:
                assert not kept.requesters_by_id
                assert not kept.agreements
                continue
            supervisors = {each.supervisor for each in snapshot.accreditations.get(asks.id, ())}
            named = {each.supervisor for each in token.visas.accreditations} if token else set()
            supervisors |= {each.id for key, each in snapshot.requesters.items() if key in named}
            assert kept.requesters_by_id.keys() <= {asks.id, *supervisors}
            for compiled in kept.agreements.values():
                assert compiled.agreement.requesters <= {asks.id}
                seen += 1
    assert seen > 20


def test_a_wrong_record_is_noticed(tmp_path: Path, keys: KeyStore) -> None:
    """The comparison is no rubber stamp: a changed outcome, epoch, digest or verdict is named by its part."""
    replayer = Replayer(keys, tmp_path / "policy", origin=ORIGIN)
    for world, decider in deciders(tmp_path, worlds=2):
        for number, (request, now) in enumerate(world.questions):
            have = record(decider, request, now, number=number)
            leaf = parse_leaf(have.leaf)
            for part, value in (("epoch", EPOCH + 1), ("answer_digest", "00" * 32), ("valid_for_ms", 7)):
                wrong = canonical_json({**leaf, part: value})
                other = replace(have, leaf=wrong, columns=columns_of(wrong, have.private))

                again = replayer.replay(other)

                assert again.outcome is Outcome.DIFFERENT
                (line,) = again.differences
                assert line.startswith(f"{part}: recorded ")


def test_a_detail_of_another_question_does_not_replay(tmp_path: Path, keys: KeyStore) -> None:
    """A record whose detail was exchanged before it was written, commitment and all, comes out otherwise."""
    replayer = Replayer(keys, tmp_path / "policy", origin=ORIGIN)
    for world, decider in deciders(tmp_path, worlds=3):
        for number, (request, now) in enumerate(world.questions):
            truth = record(decider, request, now, number=number)
            claimed = replace(request.claimed, request_id="another")
            forged = record(decider, replace(request, claimed=claimed), now, number=number)
            leaf = {**parse_leaf(truth.leaf), "detail": parse_leaf(forged.leaf)["detail"]}

            again = replayer.replay(replace(truth, leaf=canonical_json(leaf), detail=forged.detail))

            assert again.outcome is Outcome.DIFFERENT
            assert [line.split(":")[0] for line in again.differences] == ["answer_digest", "request_digest"]


def test_what_cannot_be_read_is_told_apart(tmp_path: Path, keys: KeyStore) -> None:
    """Erased, altered and without its policy set are three different things, and none of them is `same`."""
    world, decider = next(deciders(tmp_path, worlds=1))
    have = [record(decider, request, now, number=n) for n, (request, now) in enumerate(world.questions[:3])]
    replayer = Replayer(keys, tmp_path / "policy", origin=ORIGIN)

    keys.erase([0])
    assert replayer.replay(have[0]).outcome is Outcome.ERASED
    broken = replayer.replay(replace(have[1], detail=have[1].detail[:-1] + b"\x00\x00"))
    assert (broken.outcome, "commits to" in broken.differences[0]) == (Outcome.UNREADABLE, True)
    elsewhere = Replayer(keys, tmp_path / "nowhere", origin=ORIGIN).replay(have[2])
    assert (elsewhere.outcome, "is not in" in elsewhere.differences[0]) == (Outcome.UNREADABLE, True)
    assert replayer.replay(have[2]).outcome is Outcome.SAME
