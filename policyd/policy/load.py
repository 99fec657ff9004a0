"""Load a policy set from its directory: every mistake at once, and either all of it or nothing."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from policyd.canonical import canonical_json
from policyd.errors import Place, SourceError
from policyd.fieldset import FieldIndex, NameClash
from policyd.model import AccreditationLevel, AccreditationStatus, Action
from policyd.policy.attributes import DERIVED, Attribute, read_attributes
from policyd.policy.catalogue import LETTERS, LEVELS, Defaults, Field, read_defaults, read_table
from policyd.policy.compile import compile_classes, compile_purposes, compile_rules
from policyd.policy.gateways import Gateways, read_gateways
from policyd.policy.policyset import PolicySet
from policyd.policy.progress import Progress, silent
from policyd.policy.reader import ID, Reader
from policyd.policy.rules import RuleSource, read_rule
from policyd.policy.source import Node, plain
from policyd.purpose import Purpose, PurposeError, PurposeGraph

_HEAD = {"name", "version", "description", "effective_from", "combining"}


class _Loader:
    """Reads the files of one directory and keeps their content for the digest."""

    def __init__(self, directory: Path, progress: Progress) -> None:
        self.directory = directory
        self.progress = progress
        self.reader = Reader()
        self.content: dict[str, Any] = {}

    def file(self, name: str) -> Node:
        """Read one file, called by its path as the user gave it."""
        path = self.directory / name
        return self.reader.file(path, name=str(path))

    def files(self, folder: str) -> list[str]:
        """Return the YAML files of a folder, by name; an empty or missing folder is a mistake.

        So is what somebody may believe to be read: a deny rule in `rules/more/` or in a `.yml` file.
        """
        place = Place(str(self.directory / folder))
        found = []
        for path in sorted((self.directory / folder).glob("*")):
            if path.suffix == ".yaml" and not path.is_dir():
                found.append(path.name)
            elif path.is_dir() or path.suffix.lower() in {".yaml", ".yml"}:
                self.reader.fail(place, f"`{path.name}` is not read; keep all in .yaml files of this folder")
        if not found:
            self.reader.fail(place, "holds no .yaml file; is this a policy set?")
        return [f"{folder}/{name}" for name in found]


def load_policy_set(directory: Path, *, progress: Progress = silent) -> PolicySet:
    """Read, check and compile the policy set in ``directory``; about 1 s for a thousand rules.

    Raises:
        SourceError: it has mistakes; all of them are in ``problems``, sorted by place.
    """
    with collection_off():
        return _load(directory, progress)


@contextmanager
def collection_off() -> Iterator[None]:
    """Keep the garbage collector still: it would walk ever more nodes, none of which is garbage yet."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _load(directory: Path, progress: Progress) -> PolicySet:
    loader = _Loader(directory, progress)
    reader = loader.reader
    head = reader.mapping(loader.file("policyset.yaml"), required=_HEAD)
    reader.one_of(head["combining"], ["deny-overrides"])
    graph = _read_purposes(loader)
    gateways = _read_gateways(loader, graph)
    attributes = _close(_read_attributes(loader), graph, gateways)
    sources = _read_rules(loader, attributes)
    if graph is None:
        raise SourceError(reader.problems)
    fields = _read_catalogue(loader, graph)
    index = _index(reader, fields)
    ordered = tuple(fields[name.lower()] for name in index.ids)
    compiled = compile_rules(reader, sources, index, ordered, progress=progress)
    purposes = compile_purposes(graph, ordered)
    name = reader.ident(head["name"], ID)
    version = reader.integer(head["version"], minimum=1)
    description = reader.text(head["description"])
    effective_from = reader.instant(head["effective_from"])
    reader.finish()
    return PolicySet(
        name=name,
        version=version,
        description=description,
        effective_from=effective_from,
        digest=hashlib.sha256(canonical_json(loader.content)).hexdigest(),
        graph=graph,
        index=index,
        fields=ordered,
        classes=compile_classes(ordered),
        full=purposes.full,
        conditional=purposes.conditional,
        prohibited=purposes.prohibited,
        conditional_uses=purposes.uses,
        gateways=gateways,
        rules=compiled.rules,
        atoms=compiled.atoms,
        times=compiled.times,
    )


def _read_purposes(loader: _Loader) -> PurposeGraph | None:
    reader = loader.reader
    node = loader.file("purposes.yaml")
    top = reader.mapping(node, required={"root", "purposes"})
    table = reader.table(top["purposes"])
    places = top["purposes"].key_places
    purposes = []
    for name, entry in table.items():
        if ID.fullmatch(name) is None or "." in name:
            reader.fail(places[name], f"`{name}` is not a purpose id: lower-case letters, digits and -")
        fields = reader.mapping(
            entry, required={"label"}, optional={"parents", "requestable", "notice", "dpv", "about"}
        )
        reader.text(fields.get("about"))
        purposes.append(
            Purpose(
                id=name,
                label=reader.text(fields["label"]),
                parents=reader.texts(fields["parents"]) if "parents" in fields else (),
                requestable=reader.boolean(fields.get("requestable"), default=True),
                notice=reader.text(fields.get("notice")),
                dpv=reader.text(fields.get("dpv")),
            )
        )
    loader.content["purposes"] = plain(node) if table else None
    root = reader.text(top["root"])
    if isinstance(top["purposes"].value, dict) and not table:
        reader.fail(top["purposes"], "there must be at least one purpose, the root")
    if not purposes or not root:
        return None
    try:
        return PurposeGraph(purposes, root)
    except PurposeError as error:
        reader.fail(places.get(error.purpose, top["root"].place), str(error))
        return None


def _read_attributes(loader: _Loader) -> dict[str, Attribute]:
    node = loader.file("attributes.yaml")
    attributes = read_attributes(loader.reader, node)
    loader.content["attributes"] = sorted((_named(entry) for entry in loader.reader.entries(node)), key=_key)
    return {**DERIVED, **attributes}


def _close(
    attributes: dict[str, Attribute], graph: PurposeGraph | None, gateways: Gateways
) -> dict[str, Attribute]:
    """Give attributes that can only have values of this policy set their closed lists.

    A deny rule for a purpose that is misspelt would never deny, and nobody would see it.
    """
    known: dict[str, tuple[str, ...]] = {
        "action": tuple(Action),
        "gateway": tuple(gateways.by_id),
        "level": LEVELS,
        "sensitivity": LETTERS,
        "accreditation.level": tuple(AccreditationLevel),
        "accreditation.status": tuple(AccreditationStatus),
    }
    if graph is not None:
        known["purpose"] = known["purpose_within"] = graph.ids
    return {
        name: replace(attribute, values=attribute.values or known.get(name, ()))
        for name, attribute in attributes.items()
    }


def _read_gateways(loader: _Loader, graph: PurposeGraph | None) -> Gateways:
    node = loader.file("gateways.yaml")
    gateways = read_gateways(loader.reader, node, graph)
    loader.content["gateways"] = {
        "floor": gateways.min_cell_count_floor,
        "gateways": sorted(
            (_named(entry) for entry in loader.reader.entries(loader.reader.table(node).get("gateways"))),
            key=_key,
        ),
    }
    return gateways


def _read_rules(loader: _Loader, attributes: dict[str, Attribute]) -> list[RuleSource]:
    reader = loader.reader
    found: dict[str, RuleSource] = {}
    entries: list[Node] = []
    files = loader.files("rules")
    for number, file in enumerate(files, start=1):
        entries += reader.entries(loader.file(file))
        loader.progress("reading files of rules", number, len(files))
    for number, entry in enumerate(entries, start=1):
        rule = read_rule(reader, entry, attributes)
        loader.progress("checking rules", number, len(entries))
        if rule is None:
            continue
        if rule.uid in found:
            reader.fail(entry, f"rule `{rule.uid}` is already at {found[rule.uid].place}")
        found[rule.uid] = rule
    loader.content["rules"] = [found[uid].content for uid in sorted(found)]
    return list(found.values())


def _read_catalogue(loader: _Loader, graph: PurposeGraph) -> dict[str, Field]:
    """Return all fields by lower-case id."""
    reader = loader.reader
    files = loader.files("catalogue")
    defaults = Defaults()
    content: dict[str, Any] = {"tables": {}}
    if "catalogue/defaults.yaml" in files:
        files.remove("catalogue/defaults.yaml")
        node = loader.file("catalogue/defaults.yaml")
        defaults = read_defaults(reader, node, graph)
        content["defaults"] = plain(node)
    tables: dict[str, Place] = {}
    names: set[str] = set()
    found: dict[str, Field] = {}
    for file in files:
        node = loader.file(file)
        for field in read_table(reader, node, graph, defaults):
            names.add(field.table)
            key = field.table.lower()
            if tables.setdefault(key, node.place) != node.place:
                reader.fail(node, f"table `{field.table}` is already in {tables[key].file}")
                break
            found.setdefault(field.id.lower(), field)
        content["tables"][file] = plain(node) if isinstance(node.value, dict) else None
    content["tables"] = sorted(content["tables"].values(), key=lambda table: str((table or {}).get("table")))
    _refuse_near_misses(reader, defaults, names)
    loader.content["catalogue"] = content
    return found


def _refuse_near_misses(reader: Reader, defaults: Defaults, tables: set[str]) -> None:
    """Refuse a default whose table is misspelt: its prohibitions would hold for nothing.

    A default for a table that is not imported is fine, so only names close to a table without one are.
    """
    bare = {name.casefold(): name for name in tables - defaults.tables.keys()}
    for name, place in defaults.table_places.items():
        close = get_close_matches(name.casefold(), list(bare), n=1, cutoff=0.85)
        if name not in tables and close:
            reader.fail(place, f"the catalogue has no table `{name}`; did you mean `{bare[close[0]]}`?")


def _index(reader: Reader, fields: dict[str, Field]) -> FieldIndex:
    """Give the fields their positions; a clash of names is a mistake and costs a field its columns."""
    usable = {field.id: field.columns for field in fields.values() if "." in field.id}
    while True:
        try:
            return FieldIndex(usable)
        except NameClash as clash:
            place = fields[clash.second.lower()].place
            reader.fail(place, f"{clash}; a name must mean one field")
            usable[clash.second] = ()
        except ValueError:
            # The id or pattern at fault is on record since it was read.
            usable = {name: () for name in usable if name.count(".") == 1 and all(name.split("."))}


def _named(node: Node) -> dict[str, Any]:
    value = plain(node)
    return value if isinstance(value, dict) else {"name": str(value)}


def _key(entry: dict[str, Any]) -> str:
    return str(entry.get("name", entry.get("id")))
