"""Registry entries as protobuf, and back, with the checks that registry files undergo."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pbac.v1 import decision_pb2
from pbac.v1 import registry_pb2 as pb

from policyd.clock import format_instant
from policyd.errors import Place, SourceError
from policyd.errors import Problem as Mistake
from policyd.model import (
    Accreditation,
    AccreditationLevel,
    Action,
    Agreement,
    DataService,
    Organisation,
    Registry,
    Requester,
    Status,
)
from policyd.policy.source import Node
from policyd.registry.check import MAX_FAULTS
from policyd.registry.document import parse_alone, parse_registry
from policyd.registry.entry import SECTIONS, Entry, Section, is_dated

KINDS: Mapping[pb.EntryKind, Section] = {
    pb.ENTRY_KIND_ORGANISATION: SECTIONS["organisations"],
    pb.ENTRY_KIND_REQUESTER: SECTIONS["requesters"],
    pb.ENTRY_KIND_ACCREDITATION: SECTIONS["accreditations"],
    pb.ENTRY_KIND_DATA_SERVICE: SECTIONS["data_services"],
    pb.ENTRY_KIND_AGREEMENT: SECTIONS["agreements"],
}
"""The lists that an administrator reads and changes here; seals have a service of their own."""

KIND_OF: Mapping[str, pb.EntryKind] = {section.key: kind for kind, section in KINDS.items()}
STATUSES: Mapping[pb.EntryStatus, Status] = {
    pb.ENTRY_STATUS_ACTIVE: Status.ACTIVE,
    pb.ENTRY_STATUS_SUSPENDED: Status.SUSPENDED,
}
_STATUS = {status: number for number, status in STATUSES.items()}
_LEVELS: Mapping[pb.AccreditationLevel, AccreditationLevel] = {
    pb.ACCREDITATION_LEVEL_FULL: AccreditationLevel.FULL,
    pb.ACCREDITATION_LEVEL_PROVISIONAL: AccreditationLevel.PROVISIONAL,
}
_LEVEL = {level: number for number, level in _LEVELS.items()}
_ACTIONS: Mapping[decision_pb2.Action, Action] = {
    decision_pb2.ACTION_RELEASE: Action.RELEASE,
    decision_pb2.ACTION_MATCH: Action.MATCH,
    decision_pb2.ACTION_VERIFY: Action.VERIFY,
    decision_pb2.ACTION_COUNT: Action.COUNT,
    decision_pb2.ACTION_LINK: Action.LINK,
}
_ACTION = {action: number for number, action in _ACTIONS.items()}
_LINE = re.compile(r", first on line [0-9]+\Z")

Named = tuple[str, str]
"""A section of the registry, and an id."""


def read_entries(sent: Sequence[pb.Entry], *, base: Registry | None) -> tuple[Registry, list[pb.Problem]]:
    """Return the entries that were sent, checked against `base` with them on top, and every mistake.

    Without ``base`` each is checked by itself. With a mistake, the entries are not to be used.
    """
    stated: list[_Stated] = []
    problems = []
    for number, entry in enumerate(sent, start=1):
        which = entry.WhichOneof("entry")
        if which is None:
            problems.append(pb.Problem(message=f"entry {number} has no content that is known here"))
            continue
        message = getattr(entry, which)
        stated.append(_Stated(number, _SECTION_OF[type(message)], _document(message)))
        problems += _repeated(message)
    if not sent:
        problems.append(pb.Problem(message="it holds no entries"))
    try:
        # Places cost as much as all the rest, and only mistakes have any.
        entries = _parse(stated, _unplaced, base)
    except SourceError:
        entries, found = Registry(), _mistakes(stated, base)
        by_number = {each.number: each for each in stated}
        problems += [_problem(each, by_number[each.place.line]) for each in found]
    return entries, problems[:MAX_FAULTS]


def named_in(sent: Iterable[pb.Entry]) -> Iterator[Named]:
    """Yield which entries are named, in the order in which they were sent."""
    for entry in sent:
        which = entry.WhichOneof("entry")
        if which is not None:
            message = getattr(entry, which)
            yield _SECTION_OF[type(message)], message.id


def write_entry(entry: Entry) -> pb.Entry:
    """Return an entry as protobuf.

    Raises:
        ValueError: it is a seal, which is shown to nobody.
    """
    match entry:
        case Organisation():
            return pb.Entry(
                organisation=pb.Organisation(
                    id=entry.id,
                    kind=entry.kind,
                    commercial=entry.commercial,
                    status=_STATUS[entry.status],
                    legal_name=entry.legal_name,
                    verified_at_ms=entry.verified_at,
                    changed_at_ms=entry.changed_at,
                    local_authorities=sorted(entry.local_authorities),
                )
            )
        case Requester():
            return pb.Entry(
                requester=pb.Requester(
                    id=entry.id,
                    organisation=entry.organisation,
                    issuer=entry.issuer,
                    subject=entry.subject,
                    status=_STATUS[entry.status],
                    roles=sorted(entry.roles),
                )
            )
        case Accreditation():
            return pb.Entry(
                accreditation=pb.Accreditation(
                    id=entry.id,
                    requester=entry.requester,
                    organisation=entry.organisation,
                    scheme=entry.scheme,
                    level=_LEVEL[entry.level],
                    from_at_ms=entry.from_at,
                    until_at_ms=entry.until_at,
                    status=_STATUS[entry.status],
                    source=entry.source,
                    supervisor=entry.supervisor,
                )
            )
        case DataService():
            return pb.Entry(
                data_service=pb.DataService(
                    id=entry.id,
                    spiffe_id=entry.spiffe_id,
                    organisation=entry.organisation,
                    setting=entry.setting,
                    status=_STATUS[entry.status],
                )
            )
        case Agreement():
            return pb.Entry(agreement=_agreement(entry))
        case _:
            raise ValueError("seals are not read here")


def _agreement(entry: Agreement) -> pb.Agreement:
    return pb.Agreement(
        id=entry.id,
        organisation=entry.organisation,
        requesters=sorted(entry.requesters),
        data_services=sorted(entry.data_services),
        purposes=sorted(entry.purposes),
        fields=sorted(entry.fields),
        years=sorted(entry.years),
        table_years=[
            pb.TableYears(table=table, years=sorted(years)) for table, years in sorted(entry.table_years)
        ],
        setting=entry.setting,
        actions=[_ACTION[action] for action in sorted(entry.actions)],
        gateway=entry.gateway,
        scheme=entry.scheme,
        project_accredited=entry.project_accredited,
        basis=entry.basis,
        article9=entry.article9,
        compatibility=entry.compatibility,
        exemption=entry.exemption,
        from_at_ms=entry.from_at,
        until_at_ms=entry.until_at,
        destroy_by_ms=entry.destroy_by,
        status=_STATUS[entry.status],
    )


@dataclass(frozen=True, slots=True)
class _Stated:
    """An entry as a file would state it: its number from 1, its section, and its parts."""

    number: int
    section: str
    parts: Mapping[str, Any]


def _document(message: Any) -> dict[str, Any]:
    """Return the parts of an entry as a file would state them (docs/registry.md)."""
    part: dict[str, Any] = {"id": message.id, "status": _word(STATUSES, message.status)}
    match message:
        case pb.Organisation():
            part |= {"kind": message.kind, "commercial": message.commercial, "legal_name": message.legal_name}
            part |= {"verified_at": _when(message.verified_at_ms)}
            part |= {"local_authorities": list(message.local_authorities)}
            if message.HasField("changed_at_ms"):
                part["changed_at"] = _when(message.changed_at_ms)
        case pb.Requester():
            part |= {"organisation": message.organisation, "roles": list(message.roles)}
            part |= {"identity": {"issuer": message.issuer, "subject": message.subject}}
        case pb.Accreditation():
            part |= {"requester": message.requester, "organisation": message.organisation}
            part |= {"scheme": message.scheme, "level": _word(_LEVELS, message.level)}
            part |= {"from": _when(message.from_at_ms), "until": _when(message.until_at_ms)}
            part |= {"source": message.source}
            if message.HasField("supervisor"):
                part["supervisor"] = message.supervisor
        case pb.DataService():
            part |= {"spiffe_id": message.spiffe_id, "organisation": message.organisation}
            part |= {"setting": message.setting}
        case pb.Agreement():
            lists = ("requesters", "data_services", "purposes", "fields", "years")
            part |= {name: list(getattr(message, name)) for name in lists}
            words = ("organisation", "setting", "gateway", "scheme")
            bases = ("basis", "article9", "compatibility", "exemption", "project_accredited")
            part |= {name: getattr(message, name) for name in (*words, *bases)}
            part |= {"actions": [_word(_ACTIONS, number) for number in message.actions]}
            part |= {"from": _when(message.from_at_ms), "until": _when(message.until_at_ms)}
            part |= {"destroy_by": _when(message.destroy_by_ms)}
            part |= {"table_years": {each.table: list(each.years) for each in message.table_years}}
    return part


_SECTION_OF = {
    pb.Organisation: "organisations",
    pb.Requester: "requesters",
    pb.Accreditation: "accreditations",
    pb.DataService: "data_services",
    pb.Agreement: "agreements",
}


def _word(words: Mapping[Any, str], number: int) -> str:
    """Return the word for an enum value; one that is unknown here is no word of any list."""
    return str(words.get(number, f"enum value {number}"))


def _when(instant_ms: int) -> str:
    # Absent is 0 on the wire, and no date of a register is the first instant of 1970.
    if instant_ms == 0:
        return ""
    return format_instant(instant_ms) if is_dated(instant_ms) else str(instant_ms)


def _repeated(message: Any) -> Iterator[pb.Problem]:
    """Yield tables that an agreement states twice, which a mapping cannot show."""
    tables = [each.table for each in getattr(message, "table_years", ())]
    for table in sorted({each for each in tables if tables.count(each) > 1}) if tables else ():
        yield pb.Problem(
            kind=pb.ENTRY_KIND_AGREEMENT, id=message.id, part="table_years", message=f"`{table}` comes twice"
        )


def _parse(
    stated: Iterable[_Stated], place_of: Callable[[int, int], Place], base: Registry | None
) -> Registry:
    sections: dict[str, list[Node]] = {}
    for each in stated:
        places = {key: place_of(each.number, column) for column, key in enumerate(each.parts, start=1)}
        parts = {key: _node(value, places[key]) for key, value in each.parts.items()}
        node = Node(parts, place_of(each.number, 0), places)
        sections.setdefault(each.section, []).append(node)
    top = _unplaced(0, 0)
    tables = {key: Node(tuple(nodes), top) for key, nodes in sections.items()}
    whole = Node(tables, top, dict.fromkeys(tables, top))
    return parse_alone(whole) if base is None else parse_registry(whole, base=base)


def _mistakes(stated: Iterable[_Stated], base: Registry | None) -> tuple[Mistake, ...]:
    """Return every mistake; the line of its place is the number of the entry, the column that of the part."""
    try:
        _parse(stated, lambda number, column: Place("", number, column), base)
    except SourceError as error:
        return error.problems
    return ()


_NOWHERE = Place("")


def _unplaced(*_: int) -> Place:
    return _NOWHERE


def _node(value: Any, place: Place) -> Node:
    if isinstance(value, dict):
        parts = {key: _node(each, place) for key, each in value.items()}
        return Node(parts, place, dict.fromkeys(value, place))
    if isinstance(value, list):
        return Node(tuple(Node(each, place) for each in value), place)
    return Node(value, place)


def _problem(mistake: Mistake, entry: _Stated) -> pb.Problem:
    column = mistake.place.column
    return pb.Problem(
        kind=KIND_OF[entry.section],
        id=entry.parts["id"],
        part=list(entry.parts)[column - 1] if column else "",
        message=_LINE.sub("", mistake.message),
    )
