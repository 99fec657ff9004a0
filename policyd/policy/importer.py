"""Turn the department's published data tables (CSV) into catalogue files that the strict loader reads."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from policyd.errors import Place, Problem, SourceError
from policyd.fieldset import FieldIndex, NameClash, pattern_problem

HEADER = (
    "table",
    "section",
    "field",
    "concept_group",
    "years",
    "default_or_by_request",
    "identification_risk",
    "sensitivity",
)
"""Columns that the CSV must have; others (`collection_term`, `classification_status`) are not read."""

STRICTEST_RISK, STRICTEST_LETTER = 1, "A"
"""What a field is taken to be whose published class is missing: it never leaves the department."""

_BY_REQUEST: Mapping[str, bool | None] = {"by request": True, "default": False, "": None}
_TABLE = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_WHEN = re.compile(r"\s+in\s+\d{4}/\d{2,4}$", re.ASCII)
_NO_ALIAS = re.compile(r"^N/A:", re.IGNORECASE)
_YEAR_SUFFIX = re.compile(r"_?(?:\[term\]|AUT|SPR|SUM|ab|ex)\[yy\]$", re.IGNORECASE)
_FOREIGN = re.compile(r"_*[^A-Za-z0-9_]+_*", re.ASCII)
_WORDS = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+|\d+", re.ASCII)
_YEAR = re.compile(r"(\d{4})/\d{2,4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Years:
    """When a field was collected: academic years by first calendar year; None is open or not stated."""

    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class ImportedField:
    """One field as it will stand in a catalogue file."""

    name: str
    columns: tuple[str, ...]
    label: str
    identification_risk: int
    sensitivity: tuple[str, ...]
    by_request: bool | None
    years: Years
    sections: tuple[str, ...]
    concept: str
    withdrawn: str


@dataclass(frozen=True, slots=True)
class ImportedTable:
    """One table, its fields sorted by name without regard to case."""

    name: str
    level: str
    fields: tuple[ImportedField, ...]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import found; ``warnings`` say where the published tables had to be interpreted."""

    tables: tuple[ImportedTable, ...]
    rows_read: int
    warnings: tuple[str, ...]

    @property
    def fields_written(self) -> int:
        """Return how many fields the rows came to."""
        return sum(len(table.fields) for table in self.tables)

    @property
    def duplicates_merged(self) -> int:
        """Return how many rows were merged into a field of the same table and name."""
        return self.rows_read - self.fields_written


@dataclass(frozen=True, slots=True)
class _Row:
    """One published row; ``patterns`` are its name and former names, ``risk`` 0 where none is given."""

    place: Place
    table: str
    section: str
    patterns: tuple[str, ...]
    concept: str
    years: str
    by_request: bool | None
    risk: int
    letters: frozenset[str]

    @property
    def called(self) -> str:
        return f"`{self.table}.{self.patterns[0]}` ({self.place.file}:{self.place.line})"

    @property
    def classified(self) -> str:
        return f"{self.risk or '-'}{''.join(sorted(self.letters)) or '-'}"


def import_catalogue(source: Path) -> ImportResult:
    """Read the published data tables in ``source``.

    Rows of one table and name become one field with all their sections, the lowest risk and the union
    of the sensitivities. A missing class is taken as the strictest. The result does not depend on the
    order of the rows, the places in its warnings aside.

    Raises:
        SourceError: the file cannot be read, lacks a column, or has rows that cannot be understood;
            every such row is reported.
    """
    warnings: list[str] = []
    grouped: dict[str, dict[str, list[_Row]]] = {}
    rows_read = 0
    for row in _read_rows(source):
        rows_read += 1
        grouped.setdefault(row.table.lower(), {}).setdefault(row.patterns[0].lower(), []).append(row)
    tables = []
    for _, members in sorted(grouped.items()):
        name = min(row.table for rows in members.values() for row in rows)
        fields = _unique(name, [_merge(rows, warnings) for rows in members.values()], warnings)
        level = "school" if name.lower().endswith("_schools") else "pupil"
        tables.append(ImportedTable(name, level, fields))
    _refuse_ambiguity(source, tables)
    return ImportResult(tuple(tables), rows_read, tuple(warnings))


def write_catalogue(result: ImportResult, out: Path) -> tuple[Path, ...]:
    """Write one YAML file a table into ``out``, made if absent, and return their paths.

    Files of the same name are replaced; others, such as `defaults.yaml`, are left as they are.

    Raises:
        SourceError: a file cannot be written.
    """
    written = []
    for table in result.tables:
        path = out / f"{table.name}.yaml"
        try:
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(render_table(table), encoding="utf-8", newline="\n")
        except OSError as error:
            why = f"cannot be written: {error.strerror or error}"
            raise SourceError([Problem(Place(str(path)), why)]) from error
        written.append(path)
    return tuple(written)


def render_table(table: ImportedTable) -> str:
    """Return the text of one catalogue file; equal tables give equal bytes."""
    lines = [
        "# Imported from published data tables: labels are made from the published names.",
        f"table: {_scalar(table.name)}",
        f"label: {_scalar(f'{table.name}, as in the published data tables')}",
        f"level: {table.level}",
        "fields:",
    ]
    for field in table.fields:
        lines += [f"  - name: {_scalar(field.name)}", *(f"    {line}" for line in _field_lines(field))]
    return "\n".join(lines) + "\n"


def _field_lines(field: ImportedField) -> Iterator[str]:
    if field.columns != (field.name,):
        yield f"columns: {_list(field.columns)}"
    yield f"label: {_scalar(field.label)}"
    yield f"identification_risk: {field.identification_risk}"
    yield f"sensitivity: {_list(field.sensitivity)}"
    if field.by_request is not None:
        yield f"by_request: {'true' if field.by_request else 'false'}"
    bounds = [("from", field.years.first), ("until", field.years.last)]
    if stated := [f"{key}: {year}" for key, year in bounds if year is not None]:
        yield f"years: {{{', '.join(stated)}}}"
    if field.sections:
        yield f"sections: {_list(field.sections)}"
    if field.concept:
        yield f"concept: {_scalar(field.concept)}"
    if field.withdrawn:
        yield f"withdrawn: {_scalar(field.withdrawn)}"


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(_scalar(value) for value in values)}]"


def _scalar(text: str) -> str:
    # A JSON string is a YAML double-quoted scalar, and never a number, a boolean or an anchor.
    plain = _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def _read_rows(source: Path) -> list[_Row]:
    problems: list[Problem] = []
    rows: list[_Row] = []
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in HEADER if name not in (reader.fieldnames or ())]
            if missing:
                why = f"has no column {', '.join(f'`{name}`' for name in missing)}; the first line names them"
                raise SourceError([Problem(Place(str(source)), why)])
            line = reader.line_num + 1
            for record in reader:
                row = _read_row(record, Place(str(source), line), problems)
                rows += [row] if row else []
                line = reader.line_num + 1
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SourceError([Problem(Place(str(source)), f"cannot be read as CSV: {why}")]) from error
    if not rows and not problems:
        problems.append(Problem(Place(str(source)), "holds no rows"))
    if problems:
        raise SourceError(problems)
    return rows


def _read_row(record: Mapping[str | None, object], place: Place, problems: list[Problem]) -> _Row | None:
    before = len(problems)

    def fail(message: str) -> None:
        problems.append(Problem(place, message))

    if None in record or any(record[name] is None for name in HEADER):
        fail("has more or fewer cells than the first line names")
        return None
    cells = {name: str(record[name]).strip() for name in HEADER}
    table = cells["table"]
    if not _TABLE.fullmatch(table) or table.lower() == "defaults":
        fail(f"`{_one_line(table)}` cannot be a table; letters, digits and _, and not `defaults`")
    patterns = _patterns(cells["field"])
    if not patterns:
        fail("`field` is empty")
    for pattern in patterns:
        if problem := pattern_problem(pattern):
            fail(problem)
        elif not pattern.isascii() or not _name(pattern):
            fail(f"`{_one_line(pattern)}` gives no field id; it needs ASCII letters or digits")
    risk, letters = cells["identification_risk"], cells["sensitivity"]
    if risk not in {"", "1", "2", "3", "4", "5"}:
        fail(f"identification_risk `{_one_line(risk)}` is not 1 to 5")
    if not re.fullmatch(r"[A-E, ]*", letters):
        fail(f"sensitivity `{_one_line(letters)}` is not of the letters A to E")
    if cells["default_or_by_request"].lower() not in _BY_REQUEST:
        fail(f"default_or_by_request `{_one_line(cells['default_or_by_request'])}` is unknown")
    if len(problems) > before:
        return None
    return _Row(
        place=place,
        table=table,
        section=_one_line(cells["section"].split(". ")[0]).rstrip(".:"),
        patterns=patterns,
        concept=_one_line(cells["concept_group"]),
        years=_one_line(cells["years"]),
        by_request=_BY_REQUEST[cells["default_or_by_request"].lower()],
        risk=int(risk or 0),
        letters=frozenset(letters) & frozenset("ABCDE"),
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _patterns(cell: str) -> tuple[str, ...]:
    """Return the name in a cell and the former names that stand below it, as column patterns."""
    lines = (_WHEN.sub("", line.strip()) for line in cell.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line))


def _name(pattern: str) -> str:
    """Return the pattern as a field name: no year, `[n]` as `n`, other characters as `_`."""
    stem = _YEAR_SUFFIX.sub("", _NO_ALIAS.sub("", pattern).replace("[n]", "n"))
    return _FOREIGN.sub("_", stem).strip("_")


def _merge(rows: list[_Row], warnings: list[str]) -> ImportedField:
    first = min(rows, key=lambda row: (row.patterns, row.section))
    classes = sorted({row.classified for row in rows})
    if len(classes) > 1:
        warnings.append(f"{rows[0].called}: classes differ: {', '.join(classes)}; lowest risk, all letters")
    for row in rows:
        if not row.risk or not row.letters:
            taken = f"{STRICTEST_RISK if not row.risk else ''}{STRICTEST_LETTER if not row.letters else ''}"
            warnings.append(f"{row.called}: no class is given; taken as the strictest, {taken}")
    concepts = sorted({row.concept for row in rows if row.concept})
    withdrawn = any(row.section.lower() == "withdrawn" for row in rows)
    asked = {row.by_request for row in rows}
    return ImportedField(
        name=_name(first.patterns[0]),
        columns=_distinct(pattern for row in (first, *rows) for pattern in row.patterns),
        label=_label(first.patterns[0], concepts),
        identification_risk=min(row.risk or STRICTEST_RISK for row in rows),
        sensitivity=tuple(sorted(set().union(*(row.letters or {STRICTEST_LETTER} for row in rows)))),
        by_request=True if True in asked else False if False in asked else None,
        years=_years(rows, warnings),
        sections=_sections(rows, concepts),
        concept=concepts[0] if concepts else "",
        withdrawn="Listed as withdrawn in the published data tables." if withdrawn else "",
    )


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(text.lower(), text)
    return tuple(found.values())


def _sections(rows: list[_Row], concepts: list[str]) -> tuple[str, ...]:
    """Return the published sections and the subjects (the last step of a concept), for rules to aim at."""
    published = sorted(row.section for row in rows if row.section and row.section.lower() != "withdrawn")
    return tuple(sorted(_distinct([*published, *(concept.split(" > ")[-1] for concept in concepts)])))


def _label(pattern: str, concepts: list[str]) -> str:
    words = " ".join(_WORDS.findall(_name(pattern))) or pattern
    return f"{words} ({concepts[0].split(' > ')[-1]})" if concepts else words


def _years(rows: list[_Row], warnings: list[str]) -> Years:
    """Return the span from the earliest to the latest year that any row states."""
    spans = []
    for row in rows:
        found = [int(year) for year in _YEAR.findall(row.years)]
        if row.years and not found:
            warnings.append(f"{row.called}: years `{row.years}` are not understood and left out")
        if not found:
            continue
        if len(found) > 2 or (len(found) == 2 and not re.search(r"-\s*\d", row.years)):
            warnings.append(
                f"{row.called}: years `{row.years}` have a gap; the span from first to last is kept"
            )
        spans.append(Years(min(found), None if row.years.endswith("-") else max(found)))
    if not spans:
        return Years()
    last = [span.last for span in spans]
    ends = [year for year in last if year is not None]
    return Years(
        min(span.first for span in spans if span.first is not None),
        max(ends) if len(ends) == len(last) else None,
    )


def _unique(table: str, fields: list[ImportedField], warnings: list[str]) -> tuple[ImportedField, ...]:
    """Sort fields by name; those that came to one name get a suffix that depends on their pattern alone."""
    by_name: dict[str, list[ImportedField]] = {}
    for field in fields:
        by_name.setdefault(field.name.lower(), []).append(field)
    found: list[ImportedField] = []
    for _, same in sorted(by_name.items()):
        for field in sorted(same, key=lambda each: each.columns):
            if len(same) == 1:
                found.append(field)
                continue
            suffix = hashlib.sha256(field.columns[0].lower().encode()).hexdigest()[:6]
            renamed = f"{field.name}_{suffix}"
            warnings.append(
                f"`{table}.{field.columns[0]}`: its id `{field.name}` is taken; named `{renamed}`"
            )
            found.append(replace(field, name=renamed))
    return tuple(sorted(found, key=lambda each: each.name.lower()))


def _refuse_ambiguity(source: Path, tables: Iterable[ImportedTable]) -> None:
    """Report every name that could mean two fields, which no catalogue may hold."""
    usable = {f"{table.name}.{field.name}": field.columns for table in tables for field in table.fields}
    problems: list[Problem] = []
    while True:
        try:
            FieldIndex(usable)
        except NameClash as clash:
            problems.append(Problem(Place(str(source)), f"{clash}; rename one of the two in the table"))
            del usable[clash.second]
            continue
        if problems:
            raise SourceError(problems)
        return
