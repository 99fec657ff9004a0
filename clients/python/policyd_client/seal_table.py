"""The tokens under seal as one stream of WatchSeals tells them, each event checked against those before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from pbac.v1 import seal_pb2 as pb

_TOKEN_BYTES = 32


class Broken(Exception):
    """The stream said something that cannot be right, so nothing it said can be relied on."""


class SealTable:
    """What one stream has told so far; nothing before its snapshot is complete."""

    def __init__(self, at_least_epoch: int) -> None:
        self.epoch = at_least_epoch
        self.tokens: frozenset[bytes] | None = None
        self._parts: list[bytes] = []
        self._part_epoch: int | None = None

    def apply(self, event: pb.WatchSealsResponse) -> bool:
        """Take in one event; return whether it shows that the table is current.

        Raises:
            Broken: the event is not known, or does not follow from those before it.
        """
        _refuse_unknown(event)
        match event.WhichOneof("event"):
            case "snapshot":
                return self._snapshot(event.snapshot)
            case "change":
                return self._change(event.change)
            case "heartbeat":
                return self._heartbeat(event.heartbeat)
            case _:
                raise Broken("an event is not known")

    def _snapshot(self, part: pb.SealSnapshot) -> bool:
        _refuse_unknown(part)
        if self.tokens is not None:
            raise Broken("a second snapshot came")
        if self._part_epoch not in (None, part.epoch):
            raise Broken("the parts of the snapshot have different epochs")
        if part.epoch < self.epoch:
            raise Broken(f"the snapshot is from epoch {part.epoch}, but epoch {self.epoch} was seen before")
        self._part_epoch = part.epoch
        self._parts.extend(_check_tokens(part.tokens))
        if not part.complete:
            return False
        tokens = frozenset(self._parts)
        if len(tokens) != len(self._parts):
            raise Broken("the snapshot has a token twice")
        self.tokens, self.epoch, self._parts = tokens, part.epoch, []
        return True

    def _change(self, change: pb.SealChange) -> bool:
        _refuse_unknown(change)
        if self.tokens is None:
            raise Broken("a change came before the snapshot was complete")
        if change.epoch <= self.epoch:
            raise Broken(f"change {change.epoch} came after epoch {self.epoch}")
        added, removed = frozenset(_check_tokens(change.added)), frozenset(_check_tokens(change.removed))
        if added & removed or not removed <= self.tokens:
            raise Broken(f"change {change.epoch} does not fit the tokens before it")
        self.tokens, self.epoch = (self.tokens | added) - removed, change.epoch
        return False

    def _heartbeat(self, heartbeat: pb.SealHeartbeat) -> bool:
        _refuse_unknown(heartbeat)
        if self.tokens is None:
            raise Broken("a heartbeat came before the snapshot was complete")
        if heartbeat.epoch < self.epoch:
            raise Broken(f"heartbeat of epoch {heartbeat.epoch} came after epoch {self.epoch}")
        self.epoch = heartbeat.epoch
        return True


def _check_tokens(tokens: Iterable[bytes]) -> Sequence[bytes]:
    checked = tuple(tokens)
    if any(len(token) != _TOKEN_BYTES for token in checked):
        raise Broken(f"a token is not {_TOKEN_BYTES} bytes long")
    return checked


def _refuse_unknown(message: Message) -> None:
    if len(UnknownFieldSet(message)):
        raise Broken("an event has a part that is not known")
