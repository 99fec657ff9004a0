"""Read the documents of a policy set as plain dicts (docs/policy-set.md), trusting that they load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Field:
    """One field as written, with the name and level of its table and all that is said of its purposes."""

    id: str
    table: str
    table_level: str
    text: Document
    intended: tuple[Document, ...]

    @property
    def risk(self) -> int:
        return int(self.text["identification_risk"])

    @property
    def letters(self) -> set[str]:
        return set(self.text["sensitivity"])


@dataclass(frozen=True)
class Source:
    """The documents of one policy set. ``rules`` are in order of uid, ``fields`` by id."""

    purposes: Document
    gateways: dict[str, Document]
    cell_floor: int
    rules: tuple[Document, ...]
    fields: dict[str, Field]


def read_directory(directory: Path) -> Source:
    """Read the YAML files below a directory."""
    paths = sorted(directory.rglob("*.yaml"))
    return read_texts({path.relative_to(directory).as_posix(): path.read_text("utf-8") for path in paths})


def read_texts(texts: Mapping[str, str]) -> Source:
    """Read a policy set from the texts of its files, by name."""
    # S506: a safe loader; the linter does not see through the name
    documents = {
        name: yaml.load(text, Loader=_LOADER)  # noqa: S506
        for name, text in texts.items()
        if not name.startswith("tests/")
    }
    gateways = documents["gateways.yaml"]
    defaults = documents.get("catalogue/defaults.yaml", {})
    fields: dict[str, Field] = {}
    rules: list[Document] = []
    for name, document in documents.items():
        if name.startswith("rules/"):
            rules += document
        elif name.startswith("catalogue/") and name != "catalogue/defaults.yaml":
            for each in document["fields"]:
                field = _field(document, each, defaults)
                fields[field.id] = field
    return Source(
        purposes=documents["purposes.yaml"]["purposes"],
        gateways={gateway["id"]: gateway for gateway in gateways["gateways"]},
        cell_floor=gateways["min_cell_count_floor"],
        rules=tuple(sorted(rules, key=lambda rule: str(rule["uid"]))),
        fields=fields,
    )


def _field(table: Document, field: Document, defaults: Document) -> Field:
    """Collect every level that speaks of a field: catalogue, classes, table (twice), sections, itself."""
    name = table["table"]
    levels = [defaults.get("catalogue")]
    for each in defaults.get("classes", []):
        match = each["match"]
        risk_fits = field["identification_risk"] in match.get("identification_risk", range(1, 6))
        letter_fits = "sensitivity" not in match or set(match["sensitivity"]) & set(field["sensitivity"])
        if risk_fits and letter_fits:
            levels.append(each["purposes"])
    levels += [each["purposes"] for each in defaults.get("tables", []) if each["table"] == name]
    levels.append(table.get("purposes"))
    own_sections = field.get("sections", [])
    levels += [each["purposes"] for each in table.get("sections", []) if each["name"] in own_sections]
    levels.append(field.get("purposes"))
    return Field(
        id=f"{name}.{field['name']}",
        table=name,
        table_level=table["level"],
        text=field,
        intended=tuple(level for level in levels if level is not None),
    )


def instant(value: object) -> int:
    """Turn a date or time of a document into milliseconds since the epoch; a date is midnight UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    elif isinstance(value, date):
        moment = datetime.combine(value, time(), tzinfo=UTC)
    else:
        raise TypeError(f"`{value!r}` is no date")
    return int(moment.timestamp() * 1000)
