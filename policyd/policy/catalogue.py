"""The catalogue: tables and fields with their classes, and intended purposes level by level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from policyd.errors import Place
from policyd.fieldset import pattern_problem
from policyd.policy.grants import YEARS, Duties, read_duties
from policyd.policy.reader import WORD, Reader, nearest
from policyd.policy.source import Node
from policyd.purpose import Level, PurposeError, PurposeGraph

LETTERS = ("A", "B", "C", "D", "E")
LEVELS = ("pupil", "school")


@dataclass(frozen=True, slots=True)
class Intended:
    """Intended purposes as one level states them, with the duties of its conditional purposes."""

    level: Level
    conditions: tuple[tuple[int, Duties], ...] = ()
    """Pairs of (closed purpose mask, duties)."""


@dataclass(frozen=True, slots=True)
class Field:
    """One data item. ``levels`` are all the levels that speak of it, from the catalogue down to itself."""

    id: str
    table: str
    table_level: str
    label: str
    columns: tuple[str, ...]
    identification_risk: int
    sensitivity: frozenset[str]
    by_request: bool | None
    sections: frozenset[str]
    withdrawn: str
    concept: str
    levels: tuple[Intended, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class ClassDefault:
    """Intended purposes of all fields of some class; an empty side of the match admits any."""

    risks: frozenset[int]
    letters: frozenset[str]
    intended: Intended

    def matches(self, risk: int, letters: frozenset[str]) -> bool:
        """Return whether a field of this class is meant."""
        return (not self.risks or risk in self.risks) and (not self.letters or bool(self.letters & letters))


@dataclass(frozen=True, slots=True)
class Defaults:
    """`catalogue/defaults.yaml`: what holds for the whole catalogue, for classes and for tables."""

    catalogue: Intended | None = None
    classes: tuple[ClassDefault, ...] = ()
    tables: Mapping[str, Intended] = field(default_factory=dict)
    table_places: Mapping[str, Place] = field(default_factory=dict)


def read_intended(reader: Reader, node: Node, graph: PurposeGraph) -> Intended:
    """Read one `purposes:` mapping."""
    fields = reader.mapping(node, optional={"allowed", "prohibited", "conditional"})
    conditional, conditions = 0, []
    for entry in reader.entries(fields["conditional"]) if "conditional" in fields else ():
        parts = reader.mapping(entry, required={"purpose", "obligations"})
        bit = _purposes(reader, (parts["purpose"],), graph)
        conditional |= bit
        conditions.append((graph.down(bit), read_duties(reader, parts["obligations"])))
    level = Level(
        allowed=_purposes(reader, _listed(reader, fields, "allowed"), graph),
        conditional=conditional,
        prohibited=_purposes(reader, _listed(reader, fields, "prohibited"), graph),
        states="allowed" in fields or "conditional" in fields,
    )
    return Intended(level, tuple(conditions))


def _listed(reader: Reader, fields: Mapping[str, Node], key: str) -> tuple[Node, ...]:
    return reader.entries(fields[key]) if key in fields else ()


def _purposes(reader: Reader, nodes: tuple[Node, ...], graph: PurposeGraph) -> int:
    mask = 0
    for node in nodes:
        name = reader.text(node)
        if not name:
            continue
        try:
            mask |= graph.bit(name)
        except PurposeError as error:
            reader.fail(node, f"{error}{nearest(name, graph.ids)}")
    return mask


def read_defaults(reader: Reader, node: Node, graph: PurposeGraph) -> Defaults:
    """Read `catalogue/defaults.yaml`."""
    top = reader.mapping(node, optional={"catalogue", "classes", "tables"})
    classes = []
    for entry in _listed(reader, top, "classes"):
        parts = reader.mapping(entry, required={"match", "purposes"})
        match = reader.mapping(parts["match"], optional={"identification_risk", "sensitivity"})
        if not match:
            reader.fail(parts["match"], "name `identification_risk`, `sensitivity` or both")
        risks = match.get("identification_risk")
        classes.append(
            ClassDefault(
                risks=frozenset(reader.integers(risks, minimum=1, maximum=5) if risks else ()),
                letters=_letters(reader, match.get("sensitivity")),
                intended=read_intended(reader, parts["purposes"], graph),
            )
        )
    tables: dict[str, Intended] = {}
    places: dict[str, Place] = {}
    for entry in _listed(reader, top, "tables"):
        parts = reader.mapping(entry, required={"table", "purposes"})
        table = reader.ident(parts["table"], WORD)
        if table in tables:
            reader.fail(parts["table"], f"table `{table}` is listed twice; write its purposes once")
        tables[table] = read_intended(reader, parts["purposes"], graph)
        places[table] = parts["table"].place
    catalogue = read_intended(reader, top["catalogue"], graph) if "catalogue" in top else None
    return Defaults(catalogue, tuple(classes), tables, places)


def read_table(reader: Reader, node: Node, graph: PurposeGraph, defaults: Defaults) -> tuple[Field, ...]:
    """Read the file of one table; ids are unique within it, ignoring case."""
    top = reader.mapping(
        node, required={"table", "label", "level", "fields"}, optional={"purposes", "sections", "about"}
    )
    table = reader.ident(top["table"], WORD)
    table_level = reader.one_of(top["level"], LEVELS)
    reader.text(top["label"])
    reader.text(top.get("about"))
    above = [defaults.catalogue] if defaults.catalogue else []
    below = [defaults.tables[table]] if table in defaults.tables else []
    if "purposes" in top:
        below.append(read_intended(reader, top["purposes"], graph))
    sections = _read_sections(reader, _listed(reader, top, "sections"), graph)
    found: dict[str, Field] = {}
    for entry in reader.entries(top["fields"]):
        item = _read_field(reader, entry, graph, table, table_level)
        classes = [
            default.intended
            for default in defaults.classes
            if default.matches(item.identification_risk, item.sensitivity)
        ]
        within = [sections[name][1] for name in sorted(item.sections) if name in sections]
        levels = (*above, *classes, *below, *within, *item.levels)
        item = replace(item, levels=levels)
        key = item.id.lower()
        if key in found:
            reader.fail(entry, f"field `{item.id}` is given twice, first on line {found[key].place.line}")
        found[key] = item
    used = {name for item in found.values() for name in item.sections}
    for name, (place, _) in sections.items():
        if name and found and name not in used:
            reader.fail(place, f"no field of this table is in section `{name}`{nearest(name, used)}")
    return tuple(found.values())


def _read_sections(
    reader: Reader, nodes: tuple[Node, ...], graph: PurposeGraph
) -> dict[str, tuple[Node, Intended]]:
    found: dict[str, tuple[Node, Intended]] = {}
    for entry in nodes:
        parts = reader.mapping(entry, required={"name", "purposes"})
        name = reader.text(parts["name"])
        if name and name in found:
            reader.fail(parts["name"], f"section `{name}` is listed twice; write its purposes once")
        found[name] = (parts["name"], read_intended(reader, parts["purposes"], graph))
    return found


_FIELD_KEYS = {"by_request", "columns", "concept", "purposes", "sections", "withdrawn", "years"}


def _read_field(reader: Reader, node: Node, graph: PurposeGraph, table: str, table_level: str) -> Field:
    parts = reader.mapping(
        node, required={"name", "label", "identification_risk", "sensitivity"}, optional=_FIELD_KEYS
    )
    name = reader.ident(parts["name"], WORD)
    columns = reader.texts(parts["columns"]) if "columns" in parts else (name,)
    for pattern in columns:
        if problem := pattern_problem(pattern):
            reader.fail(parts["columns"], problem)
    years = reader.mapping(parts.get("years"), optional={"from", "until"})
    for bound in years.values():
        reader.integer(bound, minimum=YEARS[0], maximum=YEARS[1])
    letters = _letters(reader, parts["sensitivity"])
    if not letters and isinstance(parts["sensitivity"].value, tuple):
        reader.fail(parts["sensitivity"], "needs at least one letter; write [E] for other")
    return Field(
        id=f"{table}.{name}",
        table=table,
        table_level=table_level,
        label=reader.text(parts["label"]),
        columns=columns,
        identification_risk=reader.integer(parts["identification_risk"], minimum=1, maximum=5, default=1),
        sensitivity=letters,
        by_request=reader.boolean(parts["by_request"]) if "by_request" in parts else None,
        sections=frozenset(reader.texts(parts["sections"]) if "sections" in parts else ()),
        withdrawn=reader.text(parts.get("withdrawn")),
        concept=reader.text(parts.get("concept")),
        levels=(read_intended(reader, parts["purposes"], graph),) if "purposes" in parts else (),
        place=node.place,
    )


def _letters(reader: Reader, node: Node | None) -> frozenset[str]:
    return frozenset() if node is None else frozenset(reader.each(node, _letter(reader)))


def _letter(reader: Reader) -> Callable[[Node], str]:
    return lambda entry: reader.one_of(entry, LETTERS)
