"""Holds a verified log against checkpoints that others kept, cosigned by a witness where one is demanded."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from policyd import merkle
from policyd.errors import ConfigError, LedgerCorrupt
from policyd.ledger import note, store

Finding = tuple[int | None, str]
"""The first record at fault, where it is about one, and what is wrong."""


def check_cosigned(
    connection: sqlite3.Connection,
    given: Sequence[str],
    *,
    verifier: note.Verifier,
    size: int,
    witness: str | None,
) -> Iterator[Finding]:
    """Yield what is wrong between a log of `size` records and the checkpoint notes `given`.

    Each must be signed by the log's key, and by `witness` (a vkey) if that is given, and be the root of
    the log's beginning. The stored tree is relied on: verify it first.

    Raises:
        ConfigError: `witness` is no vkey of a witness.
    """
    try:
        cosigner = None if witness is None else note.WitnessVerifier.from_vkey(witness)
    except ValueError as error:
        raise ConfigError(f"the key of the witness is malformed: {error}") from None
    for number, signed in enumerate(given, start=1):
        where = f"checkpoint {number} of those given"
        try:
            held = note.verify_checkpoint(signed, origin=verifier.name, verifier=verifier, witness=cosigner)
        except LedgerCorrupt as error:
            yield None, f"{where} does not hold: {error}"
            continue
        if held.size > size:
            yield size, f"record {size} is missing: {where} covers {held.size}"
        elif _root(connection, held.size) != held.root:
            yield None, f"the log does not begin with the {held.size} records of {where}"


def _root(connection: sqlite3.Connection, size: int) -> bytes:
    try:
        return merkle.root_at(
            size, lambda level, position: store.read_node(connection, level, position=position)
        )
    except LedgerCorrupt:
        return b""
