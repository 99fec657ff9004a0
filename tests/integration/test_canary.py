"""Nothing that a question says is stored, printed, exported or sent back in an error where it could tell."""

from __future__ import annotations

import base64
import json
import logging
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from pbac.v1 import decision_pb2 as pb
from support.collector import Collector
from support.server import START_S, Process, Site, make_site, serving, stub

from policyd.telemetry.losses import LOSSES

CANARY = "CANARY7f3a"
PUPIL = "A820000118003"
"""Of the form of a unique pupil number, made up."""
RECORD = b"CANARY7f3a-token-of-one-record-x"


def questions(site: Site) -> list[pb.CheckRequest]:
    """Return questions that carry canaries wherever a caller can write something."""
    signed = site.token(f"{CANARY}-subject")
    return [
        site.question("good", record_tokens=[RECORD]),
        site.question("released", fields=["SC_Pupil.UPN_SPR19", "KS4.KS4_ATT8"], want_receipt=True),
        site.question(f"{CANARY}-request"),
        site.question("token", requester_token=signed),
        site.question("garbage", requester_token=f"{CANARY}.{CANARY}.{CANARY}"),
        site.question("field", fields=[f"SC_Pupil.{CANARY}", f"{CANARY}.{PUPIL}"]),
        site.question("used", used_fields=[f"SC_Pupil.{PUPIL}"]),
        site.question("purpose", purposes=[f"{CANARY.lower()}-purpose"]),
        site.question("agreement", agreement_id=f"{CANARY}-agreement"),
        site.question("wildcard", fields=[f"SC_Pupil.{CANARY}*"]),
    ]


def malformed(site: Site) -> list[pb.CheckRequest]:
    """Return questions that are refused before any decision, canaries and all."""
    return [
        site.question(f"{CANARY} {PUPIL}"),
        site.question("field", fields=[f"SC_Pupil.Name = '{CANARY}'"]),
        site.question("used", used_fields=[f"{CANARY}\n{PUPIL}"]),
        site.question("purpose", purposes=[f"{CANARY} purpose"]),
        site.question("agreement", agreement_id=f"{CANARY}/{PUPIL}"),
        site.question("twice", fields=[f"SC_Pupil.{CANARY}", f"SC_Pupil.{CANARY}"]),
        site.question("record", record_tokens=[CANARY.encode()]),
    ]


def spellings(secret: bytes) -> set[bytes]:
    """Return a secret as it is and as it would show in hex, and in base64 at any offset."""
    found = {secret, secret.lower(), secret.hex().encode(), secret.hex().upper().encode()}
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + secret)
        found.add(encoded[4 if lead else 0 : len(encoded) // 4 * 4 - 4])
    return found


def assert_absent(content: bytes, secrets: set[bytes], *, where: object) -> None:
    for secret in secrets:
        assert secret not in content, f"{secret!r} is in {where}"


def test_no_canary_leaves_a_running_server(tmp_path: Path) -> None:
    """Data directory, output, spans and error texts hold no token, unknown name, record or pupil."""
    site = make_site(tmp_path / "data")
    signed = {site.token(), site.token(f"{CANARY}-subject")}
    asked = questions(site)
    secrets = set().union(*(spellings(each) for each in (CANARY.encode(), PUPIL.encode(), RECORD)))
    for token in (*signed, *(question.requester_token for question in asked)):
        secrets |= {part.encode() for part in token.split(".")[1:]}
    texts = []
    metadata = [("baggage", f"pupil={PUPIL}"), ("x-note", CANARY), ("tracestate", f"x={CANARY}")]
    with Process(site, environment={"OTEL_TRACES_EXPORTER": "console"}) as node:
        with site.channel(node.address, options=[("grpc.primary_user_agent", CANARY)]) as channel:
            answers = [stub(channel).Check(each, timeout=10, metadata=metadata) for each in asked]
            answers += stub(channel).BatchCheck(pb.BatchCheckRequest(checks=asked), timeout=10).answers
            for bad in malformed(site):
                with pytest.raises(grpc.RpcError) as caught:
                    stub(channel).Check(bad, timeout=10, metadata=metadata)
                failed: Any = caught.value
                assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
                texts += [failed.details(), str(failed.trailing_metadata()), str(failed.initial_metadata())]
            until = time.monotonic() + START_S
            while node.output.count('"pbac.decision"') < len(answers) and time.monotonic() < until:
                time.sleep(0.05)
        live = {path: path.read_bytes() for path in site.data.rglob("*") if path.is_file()}
        assert node.terminate() == 0

    assert node.output.count('"pbac.decision"') == len(answers)
    assert_absent(node.output.encode(), secrets, where="the output")
    assert_absent("\n".join(texts).encode(), secrets, where="an error text")
    after = {path: path.read_bytes() for path in site.data.rglob("*") if path.is_file()}
    assert any(path.name == "ledger.db-wal" for path in live)
    for path, content in [*live.items(), *after.items()]:
        assert_absent(content, secrets, where=path)


def test_no_canary_reaches_a_collector_or_comes_back_from_one(tmp_path: Path) -> None:
    """Spans hold nothing that a question says, known purposes and fields too; no collector is quoted."""
    site = make_site(tmp_path / "data")
    asked = questions(site)
    secrets = set().union(*(spellings(each) for each in (CANARY.encode(), PUPIL.encode(), RECORD)))
    secrets |= {part.encode() for question in asked for part in question.requester_token.split(".")[1:]}
    secrets |= {
        b"academic-research",
        b"Gender",
        b"KS4_ATT8",
        b"researcher-1",
        b"request-",
        site.token().encode(),
    }
    metadata = [("baggage", f"pupil={PUPIL}"), ("x-note", CANARY), ("tracestate", f"x={CANARY}")]
    collector = Collector()
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.start(), "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
    collector.refuse(grpc.StatusCode.PERMISSION_DENIED, details=f"{CANARY} {PUPIL}")
    try:
        with Process(site, environment=endpoint) as node, site.channel(node.address) as channel:
            for each in asked:
                stub(channel).Check(each, timeout=10, metadata=metadata)
                stub(channel).Explain(pb.ExplainRequest(check=each), timeout=10, metadata=metadata)
            node.line_with("spans cannot be exported (PERMISSION_DENIED)")
            collector.drop_first(message=f"{CANARY} {PUPIL}")
            node.line_with("the collector did not keep 1 spans")
            collector.wait_for(2 * len(asked) - 1)
            assert node.terminate() == 0
    finally:
        collector.close()

    spans = [*collector.spans]
    assert len(spans) == 2 * len(asked) - 1
    assert_absent(b"".join(collector.requests), secrets, where="what the collector was sent")
    assert_absent(node.output.encode(), secrets, where="the output")
    assert_absent((site.config.ledger / LOSSES).read_bytes(), secrets, where="the count of losses")
    for span in spans:
        assert (len(span.events), len(span.links), span.status.message, span.trace_state) == (0, 0, "", "")


def test_no_canary_is_in_any_log_record_however_much_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG, of every library in the process, arguments and tracebacks included."""
    site = make_site(tmp_path / "data")
    secrets = set().union(*(spellings(each) for each in (CANARY.encode(), PUPIL.encode(), RECORD)))
    with caplog.at_level(logging.DEBUG), serving(site) as running, site.channel(running.address) as channel:
        for each in questions(site):
            secrets |= {part.encode() for part in each.requester_token.split(".")[1:]}
            stub(channel).Check(each, timeout=10, metadata=[("x-note", CANARY)])
        for bad in malformed(site):
            with pytest.raises(grpc.RpcError):
                stub(channel).Check(bad, timeout=10)
        logging.getLogger("policyd").debug("the end of what is looked at")

    assert "the end of what is looked at" in caplog.text
    assert_absent(caplog.text.encode(), secrets, where="the log")
    for record in caplog.records:
        assert_absent(repr(vars(record)).encode(), secrets, where=record)


def test_the_ledger_names_requesters_by_pseudonym_alone(tmp_path: Path) -> None:
    """The registry holds who people are; ledger and spans hold a keyed pseudonym."""
    site = make_site(tmp_path / "data")
    with Process(site, environment={"OTEL_TRACES_EXPORTER": "console"}) as node:
        with site.channel(node.address) as channel:
            answer = stub(channel).Check(site.question(want_receipt=True), timeout=10)
        assert node.terminate() == 0

    leaf = json.loads(answer.receipt.leaf)
    assert leaf["requester"]
    assert leaf["requester"] in node.output
    assert "researcher-1" not in node.output
    for path in site.config.ledger.rglob("*"):
        if path.is_file():
            assert b"researcher-1" not in path.read_bytes(), path


def test_a_fault_of_ours_tells_nothing_but_a_number(
    tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """INTERNAL carries a correlation id; the log has it with type and place, without the exception's text."""
    site = make_site(tmp_path / "data")
    with serving(site) as running, site.channel(running.address) as channel:
        records = site.count()

        def broken(*_: object, **__: object) -> None:
            raise KeyError(f"{CANARY} {PUPIL}")

        monkeypatch.setattr(running.node, "_verify", broken)
        with caplog.at_level(logging.DEBUG), pytest.raises(grpc.RpcError) as caught:
            stub(channel).Check(site.question(), timeout=10)
        failed: Any = caught.value
        assert site.count() == records

    assert failed.code() is grpc.StatusCode.INTERNAL
    number = failed.details().removeprefix("a fault of this server; no decision was made (").removesuffix(")")
    assert len(bytes.fromhex(number)) == 16
    assert f"correlation id {number}" in caplog.text
    assert "KeyError at " in caplog.text
    assert CANARY not in caplog.text + failed.details()
