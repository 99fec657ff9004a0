"""Pages through the entries of one kind, all at the epoch at which the first page was read."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass

from pbac.v1 import registry_pb2 as pb

from policyd.errors import InvalidRequest, StateConflict
from policyd.registry.change import State
from policyd.registry.entry import Entry, Section
from policyd.service.registry_wire import KINDS, STATUSES, write_entry

MAX_PAGE = 1_000
DEFAULT_PAGE = 100
KEPT = 8
"""How many listings can be under way at once while the state moves on."""

_TOKEN = re.compile(r"([0-9a-f]{16})\.([0-9]{1,18})\.([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Listing:
    """What one listing gives, in order of id."""

    epoch: int
    entries: tuple[Entry, ...]


class Listings:
    """Answers List. Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], _Listing] = OrderedDict()

    def page(self, request: pb.ListRequest, state: State) -> pb.ListResponse:
        """Return one page of the entries asked for; ``state`` is that of now.

        Raises:
            InvalidRequest: a part of the question is unknown, or the token is not of this listing.
            StateConflict: the epoch of the pages before is no longer kept; begin again.
        """
        section = KINDS.get(request.kind)
        if section is None:
            raise InvalidRequest("kind must be one of the kinds of entries")
        if request.status not in (pb.ENTRY_STATUS_UNSPECIFIED, *STATUSES):
            raise InvalidRequest("status must be active or suspended, or be left out")
        if request.page_size > MAX_PAGE:
            raise InvalidRequest(f"page_size must be at most {MAX_PAGE}")
        asked, start, epoch = _asked(request), 0, state.epoch
        if request.page_token:
            match = _TOKEN.fullmatch(request.page_token)
            if match is None or match[1] != asked:
                raise InvalidRequest("page_token is not that of a page of this listing; begin again without")
            epoch, start = int(match[2]), int(match[3])
        listing = self._listing(request, section, state=state, asked=asked, epoch=epoch)
        end = start + (request.page_size or DEFAULT_PAGE)
        return pb.ListResponse(
            entries=[write_entry(entry) for entry in listing.entries[start:end]],
            next_page_token=f"{asked}.{listing.epoch}.{end}" if end < len(listing.entries) else "",
            epoch=listing.epoch,
        )

    def _listing(
        self, request: pb.ListRequest, section: Section, *, state: State, asked: str, epoch: int
    ) -> _Listing:
        with self._lock:
            kept = self._kept.get((asked, epoch))
            if kept is not None:
                self._kept.move_to_end((asked, epoch))
                return kept
        if epoch != state.epoch:
            raise StateConflict(
                f"the state of epoch {epoch} is no longer kept here; list again from the start"
            )
        table = section.of(state.registry)
        chosen = (table[id_] for id_ in sorted(table))
        listing = _Listing(epoch, tuple(entry for entry in chosen if _is_asked_for(entry, request)))
        with self._lock:
            self._kept[asked, epoch] = listing
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return listing


def _asked(request: pb.ListRequest) -> str:
    """Return what stands for all parts of a question that choose entries."""
    parts = (request.kind, request.status, request.until_before_ms, request.organisation)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _is_asked_for(entry: Entry, request: pb.ListRequest) -> bool:
    if request.organisation:
        # An organisation is its own.
        owner = getattr(entry, "organisation", entry.id)
        if owner != request.organisation:
            return False
    if request.status and getattr(entry, "status", None) is not STATUSES[request.status]:
        return False
    until: int | None = getattr(entry, "until_at", None)
    return not request.until_before_ms or (until is not None and until < request.until_before_ms)
