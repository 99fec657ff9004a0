"""Read a question from protobuf, strictly: what is malformed is refused before anything is decided.

Identifiers are ASCII and matched whole; nothing is normalised, so that no two spellings of a name
can be confused (trust.md section 7, row 25).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from pbac.v1 import decision_pb2 as pb

from policyd.errors import InvalidRequest
from policyd.model import Action, Claimed

MAX_NAMES = 5_000
"""Over fields and used fields together, and over all questions of a batch."""
MAX_PURPOSES = 8
MAX_YEARS = 40
MAX_RECORD_TOKENS = 1_000
YEARS = (1900, 2200)

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_TABLE = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_*][A-Za-z0-9_*]*(\.[A-Za-z0-9_ .:/*-]{1,128})?", re.ASCII)
_MAX_NAME = 160
_ACTIONS: Mapping[int, Action] = {
    pb.ACTION_RELEASE: Action.RELEASE,
    pb.ACTION_MATCH: Action.MATCH,
    pb.ACTION_VERIFY: Action.VERIFY,
    pb.ACTION_COUNT: Action.COUNT,
    pb.ACTION_LINK: Action.LINK,
}


def read_question(check: pb.CheckRequest) -> Claimed:
    """Return what the caller claims.

    Raises:
        InvalidRequest: the question is malformed; says which part and what to do.
    """
    base = _read_base(check)
    fields, used = tuple(check.fields), tuple(check.used_fields)
    if len(fields) + len(used) > MAX_NAMES:
        raise InvalidRequest(f"a question names at most {MAX_NAMES} fields; split it")
    if not fields and not used:
        raise InvalidRequest("fields is empty: name each field that the query reads")
    for names, called in ((fields, "fields"), (used, "used_fields")):
        _distinct(names, called, limit=MAX_NAMES)
        for number, name in enumerate(names):
            if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
                raise InvalidRequest(
                    f"{called}[{number}] is not a field name; write Table.Field in ASCII, without quotes"
                )
    years = tuple(check.years)
    _distinct(years, "years", limit=MAX_YEARS)
    if any(not YEARS[0] <= year <= YEARS[1] for year in years):
        raise InvalidRequest(
            f"years must be from {YEARS[0]} to {YEARS[1]}, the first year of 2018/19 is 2018"
        )
    if len(check.record_tokens) > MAX_RECORD_TOKENS:
        raise InvalidRequest(f"record_tokens has more than {MAX_RECORD_TOKENS} entries; split the question")
    if any(len(token) != 32 for token in check.record_tokens):
        raise InvalidRequest("record_tokens must be 32 bytes each")
    return replace(base, fields=fields, used_fields=used, years=years)


def read_explain(request: pb.ExplainRequest) -> Claimed:
    """Return what the caller of Explain claims.

    Raises:
        InvalidRequest: as ``read_question``, or there is no question.
    """
    _known(request)
    if not request.HasField("check"):
        raise InvalidRequest("check is absent: give the question to explain")
    return read_question(request.check)


def read_listing(listing: pb.ListFieldsRequest) -> Claimed:
    """Return what the caller of ListFields claims, which names no field.

    Raises:
        InvalidRequest: the question is malformed; says which part and what to do.
    """
    base = _read_base(listing)
    if listing.table and not _TABLE.fullmatch(listing.table):
        raise InvalidRequest("table must be 1 to 64 of [A-Za-z0-9_]; leave it out for all tables")
    return base


def read_batch(batch: pb.BatchCheckRequest, *, limit: int) -> list[Claimed]:
    """Return the questions of a batch; one malformed question refuses them all, naming its position.

    Raises:
        InvalidRequest: as ``read_question``, or there are none or too many.
    """
    _known(batch)
    checks = batch.checks
    if not 1 <= len(checks) <= limit:
        raise InvalidRequest(f"checks must hold 1 to {limit} questions")
    if sum(len(check.fields) + len(check.used_fields) for check in checks) > MAX_NAMES:
        raise InvalidRequest(f"a batch names at most {MAX_NAMES} fields over all questions; split it")
    found = []
    for number, check in enumerate(checks):
        try:
            found.append(read_question(check))
        except InvalidRequest as error:
            raise InvalidRequest(f"checks[{number}]: {error}") from None
    if len({claimed.request_id for claimed in found}) != len(found):
        raise InvalidRequest("two checks share a request_id; each question needs its own")
    return found


def _read_base(message: pb.CheckRequest | pb.ListFieldsRequest) -> Claimed:
    """Return what every question claims: agreement, purposes and action."""
    _known(message)
    if not _ID.fullmatch(message.request_id):
        raise InvalidRequest("request_id must be 1 to 64 of [A-Za-z0-9._-]; use a fresh random one")
    if not _ID.fullmatch(message.agreement_id):
        raise InvalidRequest("agreement_id must be 1 to 64 of [A-Za-z0-9._-]")
    action = _ACTIONS.get(message.action)
    if action is None:
        raise InvalidRequest("action must be one of release, match, verify, count, link")
    purposes = tuple(message.purposes)
    _distinct(purposes, "purposes", limit=MAX_PURPOSES)
    for purpose in purposes:
        if not _PURPOSE.fullmatch(purpose):
            raise InvalidRequest("purposes must be ids of lower-case letters, digits and -")
    return Claimed(message.request_id, message.agreement_id, purposes, action, fields=())


def _known(message: Message) -> None:
    # SECURITY: a part added by a later version could be a restriction, such as rows to leave out; and
    # neither digest covers it (trust.md section 7, row 8; test_bad_input `unknown field 99`).
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise InvalidRequest(
            f"part {unknown[0].field_number} of the question is not known here; "
            "ask a node of the version that your client was made for"
        )


def _distinct(values: Sequence[object], called: str, *, limit: int) -> None:
    if len(values) > limit:
        raise InvalidRequest(f"{called} has more than {limit} entries; split the question")
    if len(set(values)) != len(values):
        raise InvalidRequest(f"{called} names something twice")
