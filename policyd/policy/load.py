"""Load a policy set from its directory: every mistake at once, and either all of it or nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from policyd.canonical import canonical_json
from policyd.errors import Place
from policyd.fieldset import FieldIndex, NameClash
from policyd.policy.attributes import DERIVED, Attribute, read_attributes
from policyd.policy.catalogue import Defaults, Field, read_defaults, read_table
from policyd.policy.compile import compile_classes, compile_purposes, compile_rules
from policyd.policy.gateways import Gateways, read_gateways
from policyd.policy.policyset import PolicySet
from policyd.policy.reader import ID, Reader
from policyd.policy.rules import RuleSource, read_rule
from policyd.policy.source import Node, plain
from policyd.purpose import Purpose, PurposeError, PurposeGraph

_HEAD = {"name", "version", "description", "effective_from", "combining"}


class _Loader:
    """Reads the files of one directory and keeps their content for the digest."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reader = Reader()
        self.content: dict[str, Any] = {}

    def file(self, name: str) -> Node:
        """Read one file, called by its path as the user gave it."""
        path = self.directory / name
        return self.reader.file(path, name=str(path))

    def files(self, folder: str) -> list[str]:
        """Return the YAML files of a folder, by name; an empty or missing folder is a mistake."""
        found = sorted(path.name for path in (self.directory / folder).glob("*.yaml"))
        if not found:
            place = Place(str(self.directory / folder))
            self.reader.fail(place, "holds no .yaml file; is this a policy set?")
        return [f"{folder}/{name}" for name in found]


def load_policy_set(directory: Path) -> PolicySet:
    """Read, check and compile the policy set in ``directory``.

    Raises:
        SourceError: it has mistakes; all of them are in ``problems``, sorted by place.
    """
    loader = _Loader(directory)
    reader = loader.reader
    head = reader.mapping(loader.file("policyset.yaml"), required=_HEAD)
    reader.one_of(head["combining"], ["deny-overrides"])
    graph = _read_purposes(loader)
    attributes = _read_attributes(loader)
    gateways = _read_gateways(loader)
    sources = _read_rules(loader, attributes)
    if graph is None:
        reader.finish()
        raise AssertionError("a purpose graph that does not load leaves a problem")
    fields = _read_catalogue(loader, graph)
    index = _index(reader, fields)
    ordered = tuple(fields[name.lower()] for name in index.ids)
    rules, atoms = compile_rules(reader, sources, index, ordered)
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
        rules=rules,
        atoms=atoms,
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


def _read_gateways(loader: _Loader) -> Gateways:
    node = loader.file("gateways.yaml")
    gateways = read_gateways(loader.reader, node)
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
    for file in loader.files("rules"):
        for entry in reader.entries(loader.file(file)):
            rule = read_rule(reader, entry, attributes)
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
    found: dict[str, Field] = {}
    for file in files:
        node = loader.file(file)
        for field in read_table(reader, node, graph, defaults):
            key = field.table.lower()
            if tables.setdefault(key, node.place) != node.place:
                reader.fail(node, f"table `{field.table}` is already in {tables[key].file}")
                break
            found.setdefault(field.id.lower(), field)
        content["tables"][file] = plain(node) if isinstance(node.value, dict) else None
    content["tables"] = sorted(content["tables"].values(), key=lambda table: str((table or {}).get("table")))
    loader.content["catalogue"] = content
    return found


def _index(reader: Reader, fields: dict[str, Field]) -> FieldIndex:
    """Give the fields their positions; a clash of names leaves the later field out and is a mistake."""
    usable = {field.id: field.columns for field in fields.values() if "." in field.id}
    while True:
        try:
            return FieldIndex(usable)
        except NameClash as clash:
            place = fields[clash.second.lower()].place
            reader.fail(place, f"{clash}; a name must mean one field")
            del usable[clash.second]
        except ValueError:
            # The id or pattern at fault is on record since it was read.
            usable = {name: () for name in usable if name.count(".") == 1 and all(name.split("."))}


def _named(node: Node) -> dict[str, Any]:
    value = plain(node)
    return value if isinstance(value, dict) else {"name": str(value)}


def _key(entry: dict[str, Any]) -> str:
    return str(entry.get("name", entry.get("id")))
