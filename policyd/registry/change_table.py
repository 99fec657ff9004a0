"""Changes as the rows of SQLite that they are stored in; verifying them is for `change.extend`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

from policyd.errors import StateCorrupt
from policyd.registry.change import Change, State
from policyd.registry.draft import AdminSignature, ChangeKind, Draft
from policyd.registry.entry import is_dated

_SELECT_ONE = """
    SELECT epoch, previous, kind, body, who, why, at, change_id, planned_on, signatures, node, signature
    FROM change WHERE epoch = ?
"""
_SELECT_AFTER = """
    SELECT epoch, previous, kind, body, who, why, at, change_id, planned_on, signatures, node, signature
    FROM change WHERE epoch > ? ORDER BY epoch
"""
_INSERT = """
    INSERT INTO change
    (epoch, previous, kind, body, who, why, at, change_id, planned_on, signatures, node, signature)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SIGNATURE = re.compile(r"([0-9a-f]{16}):([0-9a-f]{128})", re.ASCII)


def changes_after(connection: sqlite3.Connection, state: State) -> Iterator[Change]:
    """Yield the changes after `state`, in order; the caller holds a transaction.

    Raises:
        StateCorrupt: the last change of `state` is no longer there; or as `changes_from`.
    """
    if state.epoch:
        last = stored(connection, state.epoch)
        if last is None or last.chain_hash != state.chain_hash:
            raise StateCorrupt(
                f"change {state.epoch} is no longer the one that was applied; restore the state"
            )
    yield from changes_from(connection, state.epoch)


def changes_from(connection: sqlite3.Connection, after_epoch: int) -> Iterator[Change]:
    """Yield the changes after an epoch, in order.

    Raises:
        StateCorrupt: one has a form that no policyd of this format writes.
    """
    for row in connection.execute(_SELECT_AFTER, (after_epoch,)):
        yield _change(row)


def highest(connection: sqlite3.Connection) -> int:
    """Return the number of the newest change, 0 when there is none."""
    epoch: int = connection.execute("SELECT coalesce(max(epoch), 0) FROM change").fetchone()[0]
    return epoch


def stored(connection: sqlite3.Connection, epoch: int) -> Change | None:
    """Return the change of a number, or None.

    Raises:
        StateCorrupt: it has a form that no policyd of this format writes.
    """
    row = connection.execute(_SELECT_ONE, (epoch,)).fetchone()
    return None if row is None else _change(row)


def insert(connection: sqlite3.Connection, change: Change) -> None:
    """Store a change; the caller holds a transaction."""
    draft = change.draft
    signatures = " ".join(f"{each.key_id}:{each.signature.hex()}" for each in change.signatures)
    connection.execute(
        _INSERT,
        (
            *(change.epoch, change.previous, draft.kind.value, draft.body, draft.who, draft.why, draft.at),
            *(draft.change_id, draft.planned_on, signatures, change.node, change.signature),
        ),
    )


def _change(row: tuple[int, bytes, str, bytes, str, str, int, str, bytes, str, str, bytes]) -> Change:
    epoch, previous, kind, body, who, why, at, change_id, planned_on, signatures, node, signature = row
    if kind not in set(ChangeKind) or not is_dated(at):
        raise StateCorrupt(f"change {epoch} has a kind or date that no policyd of this format writes")
    draft = Draft(ChangeKind(kind), body, who=who, why=why, at=at, change_id=change_id, planned_on=planned_on)
    found = []
    for word in signatures.split():
        match = _SIGNATURE.fullmatch(word)
        if match is None:
            raise StateCorrupt(f"change {epoch} has signatures that no policyd of this format writes")
        found.append(AdminSignature(match[1], bytes.fromhex(match[2])))
    return Change(epoch, previous, draft, tuple(found), node=node, signature=signature)
