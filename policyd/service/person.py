"""Finds the records of one person in a log, as far as their details can still be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from policyd.ledger import keystore
from policyd.ledger.detail import key_number, unseal
from policyd.ledger.keystore import KeyStore
from policyd.ledger.reader import LedgerReader, StoredRecord
from policyd.model import Registry
from policyd.service.facts import Detail, read_detail, registry_in


@dataclass(frozen=True, slots=True)
class PersonRecords:
    """The keys of the records in which a person asked, and how many records of others name that person.

    Others name somebody who supervises them. ``finder`` finds the key of the person, where there is one.
    """

    numbers: frozenset[int]
    finder: bytes | None
    named_by_others: int


def records_of(
    reader: LedgerReader, keys: KeyStore, requester: str, *, pseudonym_key: bytes, registry: Registry
) -> PersonRecords:
    """Return the records of the requester with this id; reads every detail of the log, twice.

    A question that was refused before anybody looked who asks has no pseudonym. It is found by the
    issuer and subject of its token, as they stand in ``registry`` or in other records of the person.

    Raises:
        LedgerCorrupt: a detail is not what its record commits to, so nobody can say whose it is.
    """
    finder = keystore.finder_of(pseudonym_key, requester)
    person_key = keys.person_key(finder)
    pseudonym = keystore.pseudonym_of(person_key, requester) if person_key else ""
    names = {(each.issuer, each.subject) for each in registry.requesters.values() if each.id == requester}
    found, others = set(), 0
    for record, detail in _details(reader, keys):
        entry = registry_in(detail.facts).requesters.get(requester)
        if entry is not None:
            names.add((entry.issuer, entry.subject))
        if pseudonym and record.columns.requester == pseudonym:
            found.add(key_number(record.detail))
        elif entry is not None and _asks(detail) != (entry.issuer, entry.subject):
            others += 1
    for record, detail in _details(reader, keys):
        if _asks(detail) in names:
            found.add(key_number(record.detail))
    return PersonRecords(frozenset(found), finder if person_key else None, others)


def _asks(detail: Detail) -> tuple[str, str] | None:
    token = detail.question.request.verified.token
    return None if token is None else (token.issuer, token.subject)


def _details(reader: LedgerReader, keys: KeyStore) -> Iterator[tuple[StoredRecord, Detail]]:
    for record in reader.records():
        secret = keys.record_key(key_number(record.detail)) if record.detail else None
        if secret is not None:
            yield record, read_detail(unseal(record.leaf, record.detail, secret, origin=reader.origin))
