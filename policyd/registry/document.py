"""Reads registry files (docs/registry.md), reporting every mistake at once with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from policyd.errors import Place
from policyd.model import (
    Accreditation,
    AccreditationLevel,
    Action,
    Agreement,
    DataService,
    Instant,
    Organisation,
    Registry,
    Requester,
    Seal,
    Status,
)
from policyd.policy.reader import CODE, FIELD_ID, ID, WORD, Reader
from policyd.policy.source import Node, read_text
from policyd.registry.check import check
from policyd.registry.entry import SECTIONS, Entry, is_dated
from policyd.registry.state import merge

ORGANISATION_KINDS = (
    "department",
    "university",
    "research-institute",
    "local-authority",
    "school",
    "government-department",
    "statistics-office",
    "charity",
    "commercial-company",
    "training-provider",
    "police",
    "court",
    "press",
)

FIRST_YEAR, LAST_YEAR = 1900, 2200

_LOCAL_AUTHORITY = re.compile(r"[0-9]{3}", re.ASCII)
_SUBJECT = re.compile(r"[!-~]{1,255}", re.ASCII)
_TOKEN = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BASIS = re.compile(r"none|art-6-1-[a-f]", re.ASCII)
_ARTICLE_9 = re.compile(r"none|art-9-2-[a-j](-[a-z0-9-]+)?", re.ASCII)
_COMPATIBILITY = re.compile(r"none|art-8a|annex2-[0-9]{1,2}", re.ASCII)

E = TypeVar("E", bound=Entry)


def read_registry(path: Path, *, base: Registry | None = None, name: str | None = None) -> Registry:
    """Read a registry file and return the entries that it names.

    They are checked against `base` (default: nothing registered) with the file's entries on top;
    ``name`` is what messages call the file.

    Raises:
        SourceError: the file does not read, or an entry is wrong; holds every mistake.
    """
    reader = Reader()
    node = reader.file(path, name=name)
    reader.finish()
    return parse_registry(node, base=base)


def read_registry_text(text: str, file: str, *, base: Registry | None = None) -> Registry:
    """Read registry entries from text; ``file`` is what messages call it.

    Raises:
        SourceError: as `read_registry`.
    """
    return parse_registry(read_text(text, file), base=base)


def parse_registry(node: Node, *, base: Registry | None = None) -> Registry:
    """Turn a strictly read mapping of sections into entries.

    Raises:
        SourceError: as `read_registry`.
    """
    return _parse(node, base=Registry() if base is None else base)


def read_alone(path: Path) -> Registry:
    """Read a registry file, without asking what its entries are to be added to.

    Raises:
        SourceError: the file does not read, or an entry is wrong in itself; holds every mistake.
    """
    reader = Reader()
    node = reader.file(path)
    reader.finish()
    return parse_alone(node)


def parse_alone(node: Node) -> Registry:
    """Turn a strictly read mapping of sections into entries that are still to be checked (`check`).

    Raises:
        SourceError: as `read_alone`.
    """
    return _parse(node, base=None)


def _parse(node: Node, *, base: Registry | None) -> Registry:
    loader = _Loader()
    entries = loader.registry(node)
    # What failed to read is already reported; to check what is left against it would only repeat that.
    if not loader.reader.problems and base is not None:
        loader.cross_check(entries, base=base)
    loader.reader.finish()
    return entries


class _Loader:
    """Reads one file, remembering where each member of each entry stands."""

    def __init__(self) -> None:
        self.reader = Reader()
        self._nodes: dict[tuple[str, str], Node] = {}

    def registry(self, node: Node) -> Registry:
        sections = self.reader.mapping(node, optional=SECTIONS)
        return Registry(
            organisations=self._section(sections, "organisations", self._organisation),
            requesters=self._section(sections, "requesters", self._requester),
            accreditations=self._section(sections, "accreditations", self._accreditation),
            data_services=self._section(sections, "data_services", self._data_service),
            agreements=self._section(sections, "agreements", self._agreement),
            seals=self._section(sections, "seals", self._seal),
        )

    def cross_check(self, entries: Registry, *, base: Registry) -> None:
        for fault in check(merge(base, entries), only=entries, before=base):
            node = self._nodes[fault.section.key, fault.id]
            self.reader.fail(_place(node, fault.member, fault.word), fault.message)

    def _section(self, sections: Mapping[str, Node], key: str, read: Callable[[Node], E]) -> dict[str, E]:
        found: dict[str, E] = {}
        for node in self.reader.entries(sections.get(key)):
            entry = read(node)
            if entry.id in found:
                first = self._nodes[key, entry.id].place.line
                noun = SECTIONS[key].noun
                self.reader.fail(node, f"{noun} `{entry.id}` is given twice, first on line {first}")
            elif entry.id:
                found[entry.id] = entry
                self._nodes[key, entry.id] = node
        return found

    def _organisation(self, node: Node) -> Organisation:
        reader = self.reader
        part = reader.mapping(
            node,
            required={"id", "kind", "commercial", "legal_name", "status", "verified_at"},
            optional={"changed_at", "local_authorities"},
        )
        return Organisation(
            id=reader.ident(part["id"], ID),
            kind=reader.one_of(part["kind"], ORGANISATION_KINDS),
            commercial=reader.boolean(part["commercial"]),
            status=self._status(part["status"]),
            legal_name=self._line(part["legal_name"]),
            verified_at=self._instant(part["verified_at"]),
            changed_at=self._instant(part["changed_at"]) if "changed_at" in part else None,
            local_authorities=frozenset(reader.idents(part.get("local_authorities"), _LOCAL_AUTHORITY)),
        )

    def _requester(self, node: Node) -> Requester:
        reader = self.reader
        part = reader.mapping(node, required={"id", "organisation", "identity", "status"}, optional={"roles"})
        identity = reader.mapping(part["identity"], required={"issuer", "subject"})
        absent = part["identity"]
        return Requester(
            id=reader.ident(part["id"], CODE),
            organisation=reader.ident(part["organisation"], ID),
            issuer=reader.ident(identity.get("issuer", absent), _SUBJECT),
            subject=reader.ident(identity.get("subject", absent), _SUBJECT),
            status=self._status(part["status"]),
            roles=frozenset(reader.idents(part.get("roles"), ID)),
        )

    def _accreditation(self, node: Node) -> Accreditation:
        reader = self.reader
        part = reader.mapping(
            node,
            required={
                "id",
                "requester",
                "organisation",
                "scheme",
                "level",
                "from",
                "until",
                "status",
                "source",
            },
            optional={"supervisor"},
        )
        return Accreditation(
            id=reader.ident(part["id"], CODE),
            requester=reader.ident(part["requester"], CODE),
            organisation=reader.ident(part["organisation"], ID),
            scheme=reader.ident(part["scheme"], ID),
            level=reader.one_of(part["level"], AccreditationLevel),
            from_at=self._instant(part["from"]),
            until_at=self._instant(part["until"]),
            status=self._status(part["status"]),
            source=self._line(part["source"]),
            supervisor=reader.ident(part["supervisor"], CODE) if "supervisor" in part else None,
        )

    def _data_service(self, node: Node) -> DataService:
        reader = self.reader
        part = reader.mapping(node, required={"id", "spiffe_id", "organisation", "setting", "status"})
        return DataService(
            id=reader.ident(part["id"], ID),
            spiffe_id=reader.text(part["spiffe_id"]),
            organisation=reader.ident(part["organisation"], ID),
            setting=reader.ident(part["setting"], ID),
            status=self._status(part["status"]),
        )

    def _agreement(self, node: Node) -> Agreement:
        reader = self.reader
        part = reader.mapping(
            node,
            required={
                *("id", "organisation", "requesters", "data_services", "purposes", "fields", "years"),
                *("setting", "actions", "gateway", "scheme", "from", "until", "destroy_by", "status"),
            },
            optional={
                *("table_years", "project_accredited"),
                *("basis", "article9", "compatibility", "exemption"),
            },
        )
        return Agreement(
            id=reader.ident(part["id"], CODE),
            organisation=reader.ident(part["organisation"], ID),
            requesters=frozenset(reader.idents(part["requesters"], CODE)),
            data_services=frozenset(reader.idents(part["data_services"], ID)),
            purposes=frozenset(reader.idents(part["purposes"], ID)),
            fields=frozenset(reader.each(part["fields"], self._field)),
            years=self._years(part["years"]),
            setting=reader.ident(part["setting"], ID),
            actions=frozenset(reader.each(part["actions"], lambda item: reader.one_of(item, Action))),
            gateway=reader.ident(part["gateway"], CODE),
            scheme=reader.ident(part["scheme"], ID),
            from_at=self._instant(part["from"]),
            until_at=self._instant(part["until"]),
            destroy_by=self._instant(part["destroy_by"]),
            status=self._status(part["status"]),
            table_years=self._table_years(part.get("table_years")),
            basis=reader.ident(part.get("basis"), _BASIS, default="none"),
            article9=reader.ident(part.get("article9"), _ARTICLE_9, default="none"),
            compatibility=reader.ident(part.get("compatibility"), _COMPATIBILITY, default="none"),
            exemption=reader.ident(part.get("exemption"), ID, default="none"),
            project_accredited=reader.boolean(part.get("project_accredited")),
        )

    def _seal(self, node: Node) -> Seal:
        part = self.reader.mapping(node, required={"id", "tokens"})
        tokens: list[tuple[str, bytes]] = []
        for service, item in self.reader.table(part["tokens"]).items():
            token = self.reader.text(item)
            if _TOKEN.fullmatch(token):
                tokens.append((service, bytes.fromhex(token)))
            else:
                # The value is left out: half a token in a message is half a secret.
                self.reader.fail(item, f"the token of `{service}` must be 64 lower-case hex digits")
        return Seal(id=self.reader.ident(part["id"], CODE), tokens=tuple(sorted(tokens)))

    def _status(self, node: Node) -> Status:
        return self.reader.one_of(node, Status, default=Status.SUSPENDED)

    def _line(self, node: Node) -> str:
        text = self.reader.text(node)
        if not text.isprintable():
            self.reader.fail(node, "must be one line of printable text")
        return text

    def _instant(self, node: Node) -> Instant:
        instant = self.reader.instant(node)
        if not is_dated(instant):
            self.reader.fail(node, f"must lie in the years {FIRST_YEAR} to 9999")
        return instant

    def _field(self, node: Node) -> str:
        text = self.reader.text(node)
        if "*" in text:
            self.reader.fail(node, f"`{text}` is a wildcard; name every field (UK GDPR Art 5(1)(c))")
            return ""
        return self.reader.ident(node, FIELD_ID)

    def _years(self, node: Node) -> frozenset[int]:
        if not isinstance(node.value, dict):
            return frozenset(self.reader.integers(node, minimum=FIRST_YEAR, maximum=LAST_YEAR))
        part = self.reader.mapping(node, required={"from", "until"})
        before = len(self.reader.problems)
        first, last = (
            self.reader.integer(part[key], minimum=FIRST_YEAR, maximum=LAST_YEAR, default=FIRST_YEAR)
            for key in ("from", "until")
        )
        if last < first and len(self.reader.problems) == before:
            self.reader.fail(part["until"], f"year {last} is before year {first} in `from`")
        return frozenset(range(first, last + 1))

    def _table_years(self, node: Node | None) -> tuple[tuple[str, frozenset[int]], ...]:
        found: list[tuple[str, frozenset[int]]] = []
        for table, item in self.reader.table(node).items():
            if node is not None and WORD.fullmatch(table) is None:
                self.reader.fail(node.key_places[table], f"`{table}` is not a table name")
            found.append((table, self._years(item)))
        return tuple(sorted(found))


def _place(node: Node, member: str, word: str) -> Place:
    """Return where an entry says `word` in its `member`, or the nearest place around it."""
    inner = node.value.get(member) if isinstance(node.value, dict) else None
    if inner is None:
        return node.place
    if isinstance(inner.value, dict):
        return inner.key_places.get(word, inner.place)
    items = inner.value if isinstance(inner.value, tuple) else ()
    return next((item.place for item in items if item.value == word), inner.place)
