"""What a collector did not keep is counted by ranges of records, and can be sent again."""

from __future__ import annotations

import grpc
import pytest
from support.collector import WAIT_S, Collector, until
from support.decisions import ORIGIN, make_entry, project

from policyd.ledger.reader import LedgerReader
from policyd.ledger.writer import Ledger
from policyd.telemetry.delivery import OtlpSender, Outbox
from policyd.telemetry.losses import LOSSES, Loss, Resent, add_losses, read_losses, send_again, settle
from policyd.telemetry.settings import make_resource


def span_id(number: int) -> bytes:
    return (number + 1).to_bytes(8, "big")


def resend(ledger: Ledger, first: int, last: int) -> Resent:
    with LedgerReader(ledger.directory) as reader:
        outbox = Outbox(reader, [OtlpSender()], make_resource(ORIGIN))
        try:
            return send_again(outbox, first, last)
        finally:
            outbox.close_senders()


def test_spans_that_the_collector_drops_are_counted(
    ledger: Ledger, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """A partial success is no failure: nothing is sent twice, and the loss is kept and said once."""
    collector.drop_first(message="CANARY7f3a")
    ledger.append([make_entry(number) for number in range(600)])
    projector = project(ledger)
    projector.close(flush_s=WAIT_S)

    losses = read_losses(ledger.directory, origin=ORIGIN)
    assert [(loss.first, loss.last, loss.spans) for loss in losses] == [(0, 511, 1), (512, 599, 1)]
    assert {loss.why for loss in losses} == {"partial-success"}
    assert (projector.state.lost_spans, projector.state.sent_spans) == (2, 598)
    assert projector.state.failed_sends == 0
    said = [each.getMessage() for each in caplog.records if "did not keep" in each.getMessage()]
    assert len(said) == 1
    assert "1 spans of records 0..511 (partial-success)" in said[0]
    assert "CANARY7f3a" not in caplog.text


@pytest.mark.parametrize("rejected", [-5, 10**6])
def test_any_number_of_the_collector_is_survived(ledger: Ledger, collector: Collector, rejected: int) -> None:
    """A collector cannot say that it lost fewer than none, or more than it was sent."""
    collector.drop_first()
    answer = collector.answer([], None)  # type: ignore[arg-type]  # the call is not looked at
    assert answer is not None
    answer.partial_success.rejected_spans = rejected
    collector.answer = lambda _spans, _call: answer
    ledger.append([make_entry(number) for number in range(3)])
    projector = project(ledger)
    projector.close(flush_s=WAIT_S)

    assert projector.state.lost_spans == (0 if rejected < 0 else 3)
    assert projector.state.waiting == 0


@pytest.mark.parametrize("bad", [(0,), (3,), (3, 4, 5), (6,)])
def test_record_that_is_refused_holds_up_no_other(
    ledger: Ledger, collector: Collector, bad: tuple[int, ...]
) -> None:
    """Spans that a collector will not have are found one by one, counted, and stepped over."""
    collector.refuse_spans(*(span_id(number) for number in bad))
    ledger.append([make_entry(number) for number in range(8)])
    projector = project(ledger)
    collector.wait_for(8 - len(bad))
    projector.close(flush_s=WAIT_S)

    assert {int(key, 16) - 1 for key in collector.ids} == set(range(8)) - set(bad)
    losses = read_losses(ledger.directory, origin=ORIGIN)
    assert losses == [Loss(each, each, 1, "INVALID_ARGUMENT") for each in bad]
    assert projector.state.waiting == 0


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    ],
    ids=lambda code: code.name,
)
def test_collector_that_refuses_everything_loses_nothing(
    ledger: Ledger,
    collector: Collector,
    code: grpc.StatusCode,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no other record goes through, the record is not to blame: all of it waits, by status."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")  # the exporter itself tries some again until then
    collector.refuse(code, details="CANARY7f3a")
    ledger.append([make_entry(number) for number in range(20)])
    projector = project(ledger)
    until(lambda: projector.state.failed_sends >= 6 and bool(projector.state.problem))
    assert projector.state.problem == code.name
    projector.close(flush_s=0)
    assert read_losses(ledger.directory, origin=ORIGIN) == []
    assert projector.state.next_index == 0
    assert f"cannot be exported ({code.name})" in caplog.text
    assert "CANARY7f3a" not in caplog.text

    collector.take_all()
    project(ledger).close(flush_s=WAIT_S)

    assert len(collector.spans) == len(collector.ids) == 20


def test_lost_spans_are_sent_again_and_settled(ledger: Ledger, collector: Collector) -> None:
    """Sending a range again fills the hole with the same span, and the loss is no longer listed."""
    collector.drop_first()
    ledger.append([make_entry(number) for number in range(10)])
    project(ledger).close(flush_s=WAIT_S)
    (loss,) = read_losses(ledger.directory, origin=ORIGIN)
    assert span_id(0).hex() not in collector.ids
    collector.take_all()

    again = resend(ledger, loss.first, loss.last)
    settle(ledger.directory, loss.first, again, origin=ORIGIN)

    assert again == Resent(next_index=10, sent_spans=10, losses=())
    assert len(collector.ids) == 10
    assert read_losses(ledger.directory, origin=ORIGIN) == []


def test_sending_again_goes_around_what_is_refused(ledger: Ledger, collector: Collector) -> None:
    """Of 2,000 records the collector refuses two: the others arrive, and these two are losses again."""
    ledger.append([make_entry(number) for number in range(2_000)])
    collector.refuse_spans(span_id(700), span_id(1_999))

    again = resend(ledger, 1, 1_999)
    settle(ledger.directory, 1, again, origin=ORIGIN)

    assert {int(key, 16) - 1 for key in collector.ids} == set(range(1, 2_000)) - {700, 1_999}
    assert (again.next_index, again.sent_spans) == (2_000, 1_997)
    want = [Loss(700, 700, 1, "INVALID_ARGUMENT"), Loss(1_999, 1_999, 1, "INVALID_ARGUMENT")]
    assert list(again.losses) == read_losses(ledger.directory, origin=ORIGIN) == want


def test_sending_again_stops_where_nobody_listens(ledger: Ledger, collector: Collector) -> None:
    """It says where it stopped and why, so that it can go on from there."""
    ledger.append([make_entry(number) for number in range(3)])
    collector.refuse(grpc.StatusCode.UNAUTHENTICATED)

    assert resend(ledger, 1, 2) == Resent(next_index=1, sent_spans=0, losses=(), why="UNAUTHENTICATED")


def test_lines_without_sense_and_other_logs_are_left_out(ledger: Ledger) -> None:
    """A line that a crash cut short costs that line alone; one of another log counts for nothing."""
    kept = Loss(5, 9, 2, "partial-success")
    add_losses(ledger.directory, [Loss(0, 4, 1, "INTERNAL"), kept], origin=ORIGIN)
    add_losses(ledger.directory, [Loss(0, 4, 7, "INTERNAL")], origin="policyd.test/other")
    settle(ledger.directory, 0, Resent(next_index=7, sent_spans=7, losses=()), origin=ORIGIN)
    with (ledger.directory / LOSSES).open("a", encoding="utf-8") as file:
        file.write('[]\n{"origin": "policyd.test/node-1", "resent": 3}\n{"origin": "policyd.test/no')

    assert read_losses(ledger.directory, origin=ORIGIN) == [kept]
