"""What a question says is sealed: nothing of it can be read without the keys, and all of it with them."""

from __future__ import annotations

import base64
import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from pbac.v1 import decision_pb2 as pb
from support.server import START_S, Process, Site, make_site, serving, stub

from policyd.config import Config
from policyd.devsetup import put_in_force
from policyd.errors import ConfigError
from policyd.identity.keys import create_wrapping_key, load_wrapping_key
from policyd.ledger import keystore
from policyd.ledger.detail import key_number, unseal
from policyd.ledger.keystore import read_keys
from policyd.ledger.reader import LedgerReader
from policyd.service.replay import Outcome, Replayer

WORD = "CANARY9c4e"
PUPIL = "B820000118009"
"""Of the form of a unique pupil number, made up."""
RECORD = b"CANARY9c4e-token-of-one-record-y"


def check(site: Site, number: int, **changes: Any) -> pb.CheckRequest:
    return site.question(f"{WORD}-{PUPIL}-{number}", want_receipt=True, **changes)


def checks(site: Site) -> list[pb.CheckRequest]:
    """Return questions with a word and a pupil reference in each part that takes a text or bytes."""
    lower = PUPIL.lower()
    changes: list[dict[str, Any]] = [
        {"record_tokens": [RECORD, PUPIL.encode().ljust(32, b".")]},
        {"requester_token": f"{WORD}.{PUPIL}.x"},
        {"requester_token": site.token(f"{WORD}-{PUPIL}")},
        {"agreement_id": f"{WORD}-{PUPIL}"},
        {"purposes": [f"{WORD.lower()}-{lower}"]},
        {"fields": [f"{WORD}.{PUPIL}", f"SC_Pupil.{PUPIL}", "SC_Pupil.Gender_SPR19"]},
        {"used_fields": [f"{WORD}.{PUPIL}_used", f"SC_Pupil.{WORD}"]},
        {"fields": [f"SC_Pupil.{WORD}{PUPIL}*"]},
        {"fields": [f"SC_Pupil.{WORD}_{number}" for number in range(400)]},  # long enough to be deflated
    ]
    return [check(site, number, **each) for number, each in enumerate(changes)]


def listing(site: Site) -> pb.ListFieldsRequest:
    return pb.ListFieldsRequest(
        request_id=f"{WORD}-{PUPIL}-listing",
        requester_token=site.token(),
        agreement_id="DS00101",
        purposes=["academic-research"],
        action=pb.ACTION_RELEASE,
        table=f"{WORD}_{PUPIL}",
    )


def spellings(secrets: Iterable[bytes]) -> set[bytes]:
    """Return secrets as they are and as they would show in hex, or in base64 at any offset."""
    found = set()
    for secret in secrets:
        found |= {secret, secret.lower(), secret.hex().encode(), secret.hex().upper().encode()}
        for lead in range(3):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                encoded = encode(b"\0" * lead + secret)
                found.add(encoded[4 if lead else 0 : len(encoded) // 4 * 4 - 4])
    return found


def files_below(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def opened(config: Config) -> bytes:
    """Return everything that the details of a log say to whoever holds the keys."""
    master = load_wrapping_key(config.keys / "detail.key")
    texts = []
    with (
        LedgerReader(config.ledger) as reader,
        closing(read_keys(config.ledger, master, origin=reader.origin)) as keys,
    ):
        for record in reader.records():
            secret = keys.record_key(key_number(record.detail)) if record.detail else None
            if secret is not None:
                texts.append(unseal(record.leaf, record.detail, secret, origin=reader.origin))
    return b"\n".join(texts)


def test_nothing_of_a_question_can_be_read_without_the_keys(tmp_path: Path) -> None:
    """No byte of it in ledger, write-ahead log, checkpoint, output, span, receipt or error: only sealed."""
    site = make_site(tmp_path / "data")
    asked = checks(site)
    tokens = [part.encode() for each in asked for part in each.requester_token.split(".") if len(part) > 20]
    secrets = spellings([WORD.encode(), PUPIL.encode(), RECORD, *tokens])
    receipts, errors = [], []
    with Process(site, environment={"OTEL_TRACES_EXPORTER": "console"}) as node:
        with site.channel(node.address) as channel:
            ask = stub(channel)
            answers = [ask.Check(each, timeout=10) for each in asked]
            answers += ask.BatchCheck(pb.BatchCheckRequest(checks=asked), timeout=10).answers
            answers += [ask.Explain(pb.ExplainRequest(check=each), timeout=10).answer for each in asked]
            ask.ListFields(listing(site), timeout=10)
            receipts += [each.receipt.leaf for each in answers]
            for bad in (check(site, 1, years=[99]), check(site, 2, fields=[f"{WORD} {PUPIL}"])):
                with pytest.raises(grpc.RpcError) as caught:
                    ask.Check(bad, timeout=10)
                failed: Any = caught.value
                errors.append(f"{failed.code()} {failed.details()}".encode())
            until = time.monotonic() + START_S
            while node.output.count('"pbac.decision"') <= len(answers) and time.monotonic() < until:
                time.sleep(0.05)
        live = files_below(site.data)
        assert node.terminate() == 0

    assert node.output.count('"pbac.decision"') == len(answers) + 1
    after = files_below(site.data)
    names = {path.name for path in live} | {path.name for path in after}
    assert names >= {"ledger.db", "ledger.db-wal", "checkpoint", "detail.db", "detail.db-wal", "state.db"}
    places = [*live.items(), *after.items(), *enumerate(receipts), *enumerate(errors)]
    for where, content in [*places, ("the output", node.output.encode())]:
        assert not [secret for secret in secrets if secret in content], where
    told = opened(site.config)
    for kept in (WORD.encode(), PUPIL.encode(), RECORD.hex().encode()):
        assert kept in told  # so that its absence elsewhere says something
    for token in tokens:
        assert token not in told  # not even the details hold a token


def test_a_token_is_nowhere_but_its_digest_is_in_the_detail(tmp_path: Path) -> None:
    """Whoever has the keys can tell which token was brought, and cannot bring it again."""
    site = make_site(tmp_path / "data")
    token = site.token()
    with serving(site) as running, site.channel(running.address) as channel:
        stub(channel).Check(site.question(requester_token=token), timeout=10)

    told = opened(site.config)
    assert b'"subject":"researcher-1"' in told
    assert all(part.encode() not in told for part in token.split("."))


def test_a_fault_of_ours_does_not_tell_what_was_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error while the record is made shows neither the question nor the key, and records nothing."""
    site = make_site(tmp_path / "data")
    with serving(site) as running, site.channel(running.address) as channel:
        before = site.count()
        asked = checks(site)[5]

        def broken(plain: bytes, key: object, **_: object) -> bytes:
            raise ValueError(f"{plain!r} {key!r}")

        monkeypatch.setattr("policyd.service.recording.seal", broken)
        with caplog.at_level(logging.DEBUG), pytest.raises(grpc.RpcError) as caught:
            stub(channel).Check(asked, timeout=10)
        failed: Any = caught.value
        assert site.count() == before

    assert failed.code() is grpc.StatusCode.INTERNAL
    assert "ValueError at " in caplog.text
    for secret in (WORD, PUPIL):
        assert secret not in caplog.text + failed.details()


def test_the_detail_of_a_usual_question_is_small(tmp_path: Path) -> None:
    """One person, one agreement, two fields: what bench/ledger.py takes as its size, or less."""
    site = make_site(tmp_path / "data")
    with serving(site) as running, site.channel(running.address) as channel:
        stub(channel).Check(site.question(), timeout=10)

    with LedgerReader(site.config.ledger) as reader:
        sizes = [len(record.detail) for record in reader.records() if record.detail]
    print(f"a detail has {sizes} bytes")
    assert sizes
    assert max(sizes) <= 2_060 + 37


def test_everything_replays_over_a_change_of_policy_and_registry(tmp_path: Path) -> None:
    """Each decision replays on the policy set and the facts of its time, whatever came after."""
    source = tmp_path / "policy"
    shutil.copytree(Path(__file__).parents[2] / "policies" / "npd", source)
    site = make_site(tmp_path / "data", policy=source)
    for number in range(2):
        put_in_force(site.config)
        with serving(site) as running, site.channel(running.address) as channel:
            ask = stub(channel)
            ask.Check(site.question(f"{number}-before"), timeout=10)
            epoch = site.apply(f"organisations:\n{organisation(f'Name {number}')}")
            deadline = time.monotonic() + START_S
            while running.node.current.epoch < epoch and time.monotonic() < deadline:
                threading.Event().wait(0.02)
            ask.Check(site.question(f"{number}-after", at_least_epoch=epoch), timeout=10)
        rules = next((source / "rules").glob("*.yaml"))
        rules.write_text(rules.read_text("utf-8").replace("why: ", "why: Indeed, ", 1), "utf-8")

    config = site.config
    master = load_wrapping_key(config.keys / "detail.key")
    with (
        LedgerReader(config.ledger) as reader,
        closing(read_keys(config.ledger, master, origin=reader.origin)) as keys,
    ):
        replayer = Replayer(keys, config.policies, origin=reader.origin)
        records = [record for record in reader.records() if record.columns.kind == "decision"]
        have = [replayer.replay(record).outcome for record in records]
    assert have == [Outcome.SAME] * 4
    assert len({record.columns.policy_digest for record in records}) == 2
    assert len({record.columns.epoch for record in records}) == 4
    activations = [leaf for leaf in site.leaves() if leaf["kind"] == "activation"]
    assert [leaf["stage"] for leaf in activations] == ["applied"] * 2
    assert {leaf["policy_digest"] for leaf in activations} == {r.columns.policy_digest for r in records}
    applied = [leaf for leaf in site.leaves() if leaf["kind"] in ("state-change", "activation")]
    assert [leaf["epoch"] for leaf in applied] == [1, 2, 3, 4, 5, 6]
    assert [leaf["change"] for leaf in applied[:3]] == ["trust", "activation", "registry"]
    assert len({leaf["chain_hash"] for leaf in applied}) == 6
    assert all(len(leaf["chain_hash"]) == 64 for leaf in applied)


def organisation(name: str) -> str:
    return (
        f"  - {{id: org-university-2, kind: university, commercial: false, legal_name: {name},"
        " status: active, verified_at: 2026-01-01}\n"
    )


def test_no_key_no_decision(tmp_path: Path) -> None:
    """A node that cannot make keys answers nothing, records nothing, and says that it does not serve."""
    site = make_site(tmp_path / "data")
    with serving(site) as running, site.channel(running.address) as channel:
        ask = stub(channel)
        path = site.config.ledger / keystore.DATABASE
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("DROP TABLE person")
        before = site.count()
        for number in range(2):  # the first meets the error, the second is refused at once
            with pytest.raises(grpc.RpcError) as caught:
                ask.Check(site.question(number), timeout=10)
            failed: Any = caught.value
            assert failed.code() is grpc.StatusCode.UNAVAILABLE
        assert "nothing is decided" in running.node.refusing
        assert site.count() == before


def test_a_node_starts_with_its_own_master_key_only(tmp_path: Path) -> None:
    """Another key, or none: the node does not start, and says which key it needs."""
    site = make_site(tmp_path / "data")
    with serving(site):
        pass
    key = site.config.keys / "detail.key"
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*detail\.key"), serving(site):
        pass
    create_wrapping_key(key)
    with pytest.raises(ConfigError, match="wrapped under master key"), serving(site):
        pass
    key.write_bytes(kept)
    with serving(replace(site)) as running:
        assert not running.node.refusing
