"""The seals of a data service, as its client follows them: whole, in order, current, or not used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from client_rig import ASK, Decisions, good_answer
from google.protobuf.json_format import ParseDict
from pbac.v1 import seal_pb2 as pb
from pbac.v1 import seal_pb2_grpc
from policyd_client import PolicyClient, SealsNotLive, SealWatch, Withheld

Serve = Callable[..., str]
Connect = Callable[..., PolicyClient]
WAIT_S = 10.0

ONE, TWO, THREE = (bytes([n]) * 32 for n in (1, 2, 3))


def snapshot(epoch: int, *tokens: bytes, complete: bool = True) -> pb.WatchSealsResponse:
    """Return a part of a snapshot."""
    return pb.WatchSealsResponse(snapshot=pb.SealSnapshot(epoch=epoch, tokens=tokens, complete=complete))


def change(
    epoch: int, *, added: tuple[bytes, ...] = (), removed: tuple[bytes, ...] = ()
) -> pb.WatchSealsResponse:
    """Return a change of tokens."""
    return pb.WatchSealsResponse(change=pb.SealChange(epoch=epoch, added=added, removed=removed))


def beat(epoch: int) -> pb.WatchSealsResponse:
    """Return a heartbeat."""
    return pb.WatchSealsResponse(heartbeat=pb.SealHeartbeat(epoch=epoch))


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Node(seal_pb2_grpc.SealServiceServicer):
    """Streams what the test tells it; each connection gets a queue of its own."""

    def __init__(self) -> None:
        self.requests: list[pb.WatchSealsRequest] = []
        self.streams: queue.Queue[queue.Queue[Any]] = queue.Queue()
        self.ended = threading.Semaphore(0)

    def WatchSeals(  # noqa: N802
        self, request: pb.WatchSealsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchSealsResponse]:
        events: queue.Queue[Any] = queue.Queue()

        def end() -> None:
            events.put(None)
            self.ended.release()

        context.add_callback(end)
        self.requests.append(request)
        self.streams.put(events)
        while (event := events.get()) is not None:
            if isinstance(event, grpc.StatusCode):
                context.abort(event, "as the test says")
            yield event

    def next_stream(self, *events: Any) -> queue.Queue[Any]:
        """Wait for a connection and send `events` on it."""
        stream = self.streams.get(timeout=WAIT_S)
        for event in events:
            stream.put(event)
        return stream


@pytest.fixture
def node() -> Node:
    """A node that streams what the test tells it."""
    return Node()


@pytest.fixture
def clock() -> Clock:
    """The client's clock."""
    return Clock()


@pytest.fixture
def watch(node: Node, clock: Clock, serve: Serve, connect: Connect) -> SealWatch:
    """A watch on `node`."""
    return connect(serve(seals=node), clock=clock).watch_seals()


def wait_until(watch: SealWatch, holds: Callable[[], bool]) -> None:
    """Wait for an event of the watch after which `holds`."""
    with watch._changed:
        assert watch._changed.wait_for(holds, WAIT_S), watch._problem


def test_before_the_snapshot_nothing_is_known(node: Node, watch: SealWatch) -> None:
    """Until the snapshot has come there are no tokens to use, and asking for them raises."""
    node.next_stream()

    assert (watch.live, watch.epoch) == (False, 0)
    with pytest.raises(SealsNotLive, match="no snapshot has come yet"):
        _ = watch.tokens
    with pytest.raises(Withheld):
        watch.take()


def test_a_snapshot_makes_the_seals_live(node: Node, watch: SealWatch) -> None:
    """After the snapshot the tokens and their epoch are known."""
    node.next_stream(snapshot(5, ONE, TWO))

    state = watch.take(5, wait_s=WAIT_S)

    assert (state.live, state.epoch, state.tokens) == (True, 5, frozenset({ONE, TWO}))
    assert (watch.live, watch.epoch, watch.tokens, watch.problem) == (True, 5, frozenset({ONE, TWO}), "")


def test_no_seal_is_an_empty_snapshot(node: Node, watch: SealWatch) -> None:
    """That nothing is under seal is knowledge too."""
    node.next_stream(snapshot(5))

    assert watch.take(wait_s=WAIT_S).tokens == frozenset()


def test_a_snapshot_in_parts_counts_when_it_is_whole(node: Node, watch: SealWatch) -> None:
    """Parts that have come are not used until the last one has."""
    stream = node.next_stream(snapshot(5, ONE, complete=False))
    with pytest.raises(SealsNotLive):
        watch.take(wait_s=0.1)

    stream.put(snapshot(5, TWO))

    assert watch.take(wait_s=WAIT_S).tokens == frozenset({ONE, TWO})


def test_changes_and_their_epoch_come_together(node: Node, watch: SealWatch) -> None:
    """Tokens are added and removed in the same instant in which the epoch moves."""
    stream = node.next_stream(snapshot(5, ONE, TWO))
    watch.take(5, wait_s=WAIT_S)

    stream.put(change(7, added=(THREE,), removed=(ONE,)))
    state = watch.take(7, wait_s=WAIT_S)

    assert (state.epoch, state.tokens) == (7, frozenset({TWO, THREE}))


def test_a_heartbeat_moves_the_epoch(node: Node, watch: SealWatch) -> None:
    """Changes of other things move the epoch without a change of tokens."""
    node.next_stream(snapshot(5, ONE), beat(9))

    state = watch.take(9, wait_s=WAIT_S)

    assert (state.epoch, state.tokens) == (9, frozenset({ONE}))


def test_an_epoch_that_is_not_reached_is_refused(node: Node, watch: SealWatch) -> None:
    """A decision of epoch 6 may not be used with seals of epoch 5, live or not."""
    node.next_stream(snapshot(5, ONE))
    watch.take(5, wait_s=WAIT_S)

    with pytest.raises(SealsNotLive, match="seals are known to epoch 5; epoch 6 is needed"):
        watch.take(6)


def test_without_a_heartbeat_the_seals_are_not_live(node: Node, watch: SealWatch, clock: Clock) -> None:
    """Two seconds of the client's own clock after the last heartbeat it ends."""
    stream = node.next_stream(snapshot(5, ONE))
    watch.take(5, wait_s=WAIT_S)

    clock.now_s += 1.9
    stream.put(beat(6))
    watch.take(6, wait_s=WAIT_S)
    clock.now_s += 2.0
    assert watch.live
    clock.now_s += 0.01
    assert not watch.live
    with pytest.raises(SealsNotLive, match="it is not known which records are under seal"):
        _ = watch.tokens


def test_changes_alone_do_not_keep_it_live(node: Node, watch: SealWatch, clock: Clock) -> None:
    """Only a heartbeat says that nothing is missing."""
    stream = node.next_stream(snapshot(5, ONE))
    watch.take(5, wait_s=WAIT_S)
    clock.now_s += 1.9
    stream.put(change(6, added=(TWO,)))
    wait_until(watch, lambda: watch._epoch == 6)

    assert watch.live
    clock.now_s += 0.2
    assert not watch.live


def test_a_silent_stream_is_dropped_for_another(node: Node, watch: SealWatch, clock: Clock) -> None:
    """A stream on which nothing comes for two seconds is cancelled, and a new one is opened."""
    node.next_stream(snapshot(5, ONE))
    watch.take(5, wait_s=WAIT_S)

    clock.now_s += 2.1
    node.next_stream(snapshot(6, TWO))

    assert watch.take(6, wait_s=WAIT_S).tokens == frozenset({TWO})
    assert node.ended.acquire(timeout=WAIT_S)


def test_a_lost_stream_is_opened_again_at_the_epoch_reached(node: Node, watch: SealWatch) -> None:
    """After a break the client says how far it was, keeps what it knew, and takes the new snapshot."""
    stream = node.next_stream(snapshot(5, ONE))
    watch.take(5, wait_s=WAIT_S)
    stream.put(grpc.StatusCode.UNAVAILABLE)
    second = node.next_stream()

    assert [request.at_least_epoch for request in node.requests] == [0, 5]
    assert watch.tokens == frozenset({ONE})
    second.put(snapshot(6, TWO))
    assert watch.take(6, wait_s=WAIT_S).tokens == frozenset({TWO})


def test_a_stream_that_the_node_ends_is_opened_again(node: Node, watch: SealWatch) -> None:
    """A node that stops serving ends its streams in good order; that is no end for the client."""
    node.next_stream(snapshot(5, ONE), None)
    node.next_stream(snapshot(6, ONE))

    assert watch.take(6, wait_s=WAIT_S).epoch == 6


def test_another_target_is_watched_when_one_refuses(node: Node, serve: Serve, connect: Connect) -> None:
    """A node without the service, or that may not answer, is passed over."""
    targets = [serve(decisions=Decisions(lambda *_: None)), serve(seals=node)]
    watch = connect(targets).watch_seals()
    node.next_stream(snapshot(5, ONE))

    assert watch.take(5, wait_s=WAIT_S).tokens == frozenset({ONE})


HOSTILE: dict[str, tuple[list[pb.WatchSealsResponse], str]] = {
    "change-before-snapshot": ([change(6, added=(TWO,))], "a change came before the snapshot"),
    "heartbeat-before-snapshot": ([beat(6)], "a heartbeat came before the snapshot"),
    "second-snapshot": ([snapshot(5, ONE), snapshot(6)], "a second snapshot came"),
    "parts-of-two-epochs": ([snapshot(5, ONE, complete=False), snapshot(6, TWO)], "different epochs"),
    "token-twice": ([snapshot(5, ONE, ONE)], "the snapshot has a token twice"),
    "token-twice-over-parts": ([snapshot(5, ONE, complete=False), snapshot(5, ONE)], "a token twice"),
    "token-too-short": ([snapshot(5, b"\x01" * 31)], "a token is not 32 bytes long"),
    "token-empty": ([snapshot(5, ONE), change(6, added=(b"",))], "a token is not 32 bytes long"),
    "change-of-the-past": ([snapshot(5, ONE), change(4, added=(TWO,))], "change 4 came after epoch 5"),
    "change-twice": ([snapshot(5, ONE), change(6, added=(TWO,)), change(6)], "change 6 came after epoch 6"),
    "removed-unknown": ([snapshot(5, ONE), change(6, removed=(TWO,))], "change 6 does not fit"),
    "added-and-removed": ([snapshot(5, ONE), change(6, added=(ONE,), removed=(ONE,))], "does not fit"),
    "heartbeat-of-the-past": ([snapshot(5, ONE), beat(4)], "heartbeat of epoch 4 came after epoch 5"),
    "unknown-event": ([snapshot(5, ONE), pb.WatchSealsResponse()], "an event is not known"),
    "unknown-part-of-event": (
        [snapshot(5, ONE), pb.WatchSealsResponse.FromString(bytes.fromhex("b83e01"))],
        "a part that is not known",
    ),
    "unknown-part-of-snapshot": (
        [pb.WatchSealsResponse(snapshot=pb.SealSnapshot.FromString(bytes.fromhex("08051801b83e01")))],
        "a part that is not known",
    ),
    "unknown-part-of-change": (
        [snapshot(5), pb.WatchSealsResponse(change=pb.SealChange.FromString(bytes.fromhex("0806b83e01")))],
        "a part that is not known",
    ),
    "unknown-part-of-heartbeat": (
        [
            snapshot(5, ONE),
            pb.WatchSealsResponse(heartbeat=pb.SealHeartbeat.FromString(bytes.fromhex("0807b83e01"))),
        ],
        "a part that is not known",
    ),
}


@pytest.mark.parametrize(("events", "problem"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_stream_that_cannot_be_right_ends_liveness_at_once(
    events: list[pb.WatchSealsResponse], problem: str, node: Node, watch: SealWatch
) -> None:
    """Whatever does not follow from what came before makes the seals unusable until a new snapshot."""
    node.next_stream(*events)
    second = node.next_stream()  # the broken stream was left

    assert problem in watch.problem
    assert not watch.live
    with pytest.raises(SealsNotLive):
        _ = watch.tokens
    second.put(snapshot(8, THREE))
    assert watch.take(8, wait_s=WAIT_S).tokens == frozenset({THREE})


def test_a_node_that_is_behind_is_not_believed(
    node: Node, clock: Clock, serve: Serve, connect: Connect
) -> None:
    """A snapshot from before an epoch that any answer showed is refused."""
    client = connect(
        serve(seals=node, decisions=Decisions(lambda request, _: good_answer(request))), clock=clock
    )
    client.check(**ASK).require()
    watch = client.watch_seals()
    node.next_stream(snapshot(41, ONE))
    node.next_stream(snapshot(42, TWO))

    assert watch.take(42, wait_s=WAIT_S).tokens == frozenset({TWO})
    assert [request.at_least_epoch for request in node.requests] == [42, 42]


def test_seals_move_the_epoch_of_questions(node: Node, serve: Serve, connect: Connect) -> None:
    """Once the seals have reached an epoch, no node may answer a question from before it."""
    decisions = Decisions(lambda request, _: good_answer(request))
    client = connect(serve(seals=node, decisions=decisions))
    watch = client.watch_seals()
    node.next_stream(snapshot(5, ONE), beat(43))
    watch.take(43, wait_s=WAIT_S)

    decision = client.check(**ASK)

    assert decisions.asked[0].at_least_epoch == 43
    assert "epoch 42, but epoch 43 was seen before" in decision.unexpected


def test_a_closed_watch_is_not_live(node: Node, watch: SealWatch) -> None:
    """Closing ends the stream and the threads, and the tokens can no longer be used."""
    node.next_stream(snapshot(5, ONE))
    with watch:
        watch.take(5, wait_s=WAIT_S)
    watch.close()

    assert not watch.live
    assert not any(thread.is_alive() for thread in watch._threads)
    assert node.ended.acquire(timeout=WAIT_S)
    with pytest.raises(SealsNotLive, match="the watch is closed"):
        watch.take(wait_s=WAIT_S)


def test_closing_the_client_closes_its_watches(node: Node, serve: Serve, connect: Connect) -> None:
    """No thread outlives the client."""
    client = connect(serve(seals=node))
    watch = client.watch_seals()
    node.next_stream(snapshot(5, ONE))
    watch.take(5, wait_s=WAIT_S)

    client.close()

    assert not any(thread.is_alive() for thread in watch._threads)
    assert not watch.live


def test_a_reader_never_sees_tokens_of_one_epoch_with_another(node: Node, watch: SealWatch) -> None:
    """While 500 changes go by, every state read has exactly the tokens of its epoch."""
    stream = node.next_stream(snapshot(1))
    watch.take(1, wait_s=WAIT_S)
    names = {epoch: epoch.to_bytes(32, "big") for epoch in range(2, 502)}
    for epoch, name in names.items():
        stream.put(change(epoch, added=(name,)))

    seen = set()
    while (state := watch.state).epoch < 501:
        seen.add(state.epoch)
        assert len(state.tokens) == state.epoch - 1
        watch.take(state.epoch + 1, wait_s=WAIT_S)

    assert seen
    assert watch.state.tokens == frozenset(names.values())


def test_a_message_of_the_protocol_is_no_bigger_than_the_limit() -> None:
    """A full part of a snapshot stays under 1 MiB, the limit of a message."""
    part = ParseDict({"snapshot": {"epoch": str(2**63), "complete": True}}, pb.WatchSealsResponse())
    part.snapshot.tokens.extend(n.to_bytes(32, "big") for n in range(20_000))

    assert part.ByteSize() < 1 << 20
