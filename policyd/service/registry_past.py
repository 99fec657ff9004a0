"""What an entry of the registry was at an epoch, and which of the stored changes made it that."""

from __future__ import annotations

from policyd.canonical import canonical_json
from policyd.errors import NotServing
from policyd.model import Registry
from policyd.registry.change import GENESIS, State
from policyd.registry.draft import ChangeKind, read_body
from policyd.registry.entry import Entry, Section
from policyd.registry.store import StateStore
from policyd.service.changing import reading


def entry_at(
    store: StateStore, section: Section, id_: str, *, epoch: int, state: State
) -> tuple[Entry, int] | None:
    """Return an entry as it was at an epoch, and the number of the change that gave it this content.

    None when it was not there yet. ``state`` is one that was verified, at that epoch or later: the stored
    changes have to lead to it. Linear in all of them.

    Raises:
        NotServing: they do not, or cannot be read now.
    """
    found = None
    needle = canonical_json(id_) + b":"
    last = GENESIS
    with reading(store) as changes:
        for change in changes:
            if change.epoch > state.epoch:
                break
            if change.previous != last:
                break
            last = change.chain_hash
            # Most changes do not name it, and to look for its name is far quicker than to read them.
            if change.epoch <= epoch and change.draft.kind in _ENTRIES and needle in change.draft.body:
                content = read_body(change.draft)
                entry = section.of(content).get(id_) if isinstance(content, Registry) else None
                if entry is not None:
                    found = entry, change.epoch
    if last != state.chain_hash:
        raise NotServing("the stored changes are not those that this node has applied: ask another")
    return found


_ENTRIES = frozenset({ChangeKind.REGISTRY, ChangeKind.SEAL})
