"""Read the cases of `tests/*.yaml` (docs/policy-set.md): a question, an instant, and what must come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from policyd.errors import Place, SourceError
from policyd.model import Action, Claimed, Instant, Outcome, Registry
from policyd.policy.grants import DUTIES
from policyd.policy.reader import CODE, ID, Reader
from policyd.policy.source import Node
from policyd.registry.document import parse_registry


@dataclass(frozen=True, slots=True)
class Case:
    """One case. ``verdicts`` and ``rules`` are by name as asked; obligations are those that must be there."""

    name: str
    data_service: str
    requester: str
    claimed: Claimed
    now: Instant
    outcome: Outcome
    verdicts: Mapping[str, str]
    rules: Mapping[str, str]
    obligations: Mapping[str, object]
    place: Place


@dataclass(frozen=True, slots=True)
class CaseFile:
    """The cases of one file and the registry that they are asked against."""

    path: Path
    registry: Registry
    cases: tuple[Case, ...]


def read_case_files(directory: Path) -> list[CaseFile]:
    """Read every case file in the `tests` folder of a policy set; files without `cases:` are registries.

    Raises:
        SourceError: mistakes in any of them, all at once.
    """
    reader = Reader()
    registries: dict[Path, Registry] = {}
    found = []
    for path in sorted((directory / "tests").glob("*.yaml")):
        node = reader.file(path)
        if "cases" not in (node.value if isinstance(node.value, dict) else {}):
            continue
        top = reader.mapping(node, required={"registry", "cases"})
        named = reader.text(top["registry"])
        registry = (
            _registry(reader, top["registry"], path.parent / named, registries) if named else Registry()
        )
        cases = tuple(_case(reader, entry, registry) for entry in reader.entries(top["cases"]))
        found.append(CaseFile(path, registry, cases))
    reader.finish()
    return found


def _registry(reader: Reader, node: Node, path: Path, known: dict[Path, Registry]) -> Registry:
    if path not in known:
        if not path.is_file():
            reader.fail(node, f"no file `{path.name}` beside this one")
            return Registry()
        problems = len(reader.problems)
        content = reader.file(path)
        known[path] = Registry()
        if len(reader.problems) == problems:
            try:
                known[path] = parse_registry(content)
            except SourceError as error:
                reader.problems.extend(error.problems)
    return known[path]


def _case(reader: Reader, node: Node, registry: Registry) -> Case:
    top = reader.mapping(node, required={"name", "ask", "now", "want"}, optional={"about"})
    ask = reader.mapping(
        top["ask"],
        required={"data_service", "requester", "agreement", "purposes", "fields"},
        optional={"action", "used_fields", "years"},
    )
    want = reader.mapping(top["want"], required={"outcome", "verdicts"}, optional={"rule", "obligations"})
    data_service = reader.ident(ask["data_service"], ID)
    if data_service and registry.data_services and data_service not in registry.data_services:
        data_service = _unregistered(reader, ask["data_service"], data_service)
    claimed = Claimed(
        request_id="case",
        agreement=reader.ident(ask["agreement"], CODE),
        purposes=reader.texts(ask["purposes"]),
        action=reader.one_of(ask["action"], Action) if "action" in ask else Action.RELEASE,
        fields=reader.texts(ask["fields"]),
        used_fields=reader.texts(ask["used_fields"]) if "used_fields" in ask else (),
        years=reader.integers(ask["years"], minimum=1900, maximum=2200) if "years" in ask else (),
    )
    verdicts = {name: reader.text(value) for name, value in reader.table(want["verdicts"]).items()}
    asked = {*claimed.fields, *claimed.used_fields}
    for name in sorted(set(verdicts) ^ asked):
        problem = "is not asked for" if name in verdicts else "has no wanted verdict"
        reader.fail(want["verdicts"], f"field `{name}` {problem}")
    rules = reader.table(want["rule"]) if "rule" in want else {}
    for name in sorted(set(rules) - asked):
        reader.fail(rules[name], f"field `{name}` is not asked for")
    return Case(
        name=reader.text(top["name"]),
        data_service=data_service,
        requester=reader.ident(ask["requester"], CODE),
        claimed=claimed,
        now=reader.instant(top["now"]),
        outcome=reader.one_of(want["outcome"], Outcome),
        verdicts=verdicts,
        rules={name: reader.text(value) for name, value in rules.items()},
        obligations=_obligations(reader, want.get("obligations")),
        place=node.place,
    )


UNKNOWN_SERVICE = "unregistered"
UNKNOWN_REQUESTER = "nobody"
UNVERIFIED_REQUESTER = "unverified"
"""Ids in cases that stand for a caller or requester that is not known, or whose token did not hold."""


def _unregistered(reader: Reader, node: Node, name: str) -> str:
    if name != UNKNOWN_SERVICE:
        message = f"data service `{name}` is not in the registry; `{UNKNOWN_SERVICE}` stands for none"
        reader.fail(node, message)
    return name


def _obligations(reader: Reader, node: Node | None) -> dict[str, object]:
    if node is None:
        return {}
    found: dict[str, object] = {}
    for name, value in reader.mapping(node, optional=DUTIES).items():
        if name == "rows":
            rows = reader.mapping(value, optional={"years", "local_authority"})
            if "years" in rows:
                found["row_years"] = frozenset(reader.integers(rows["years"]))
            if "local_authority" in rows:
                found["row_local_authorities"] = frozenset(reader.texts(rows["local_authority"]))
        elif name == "setting":
            found[name] = frozenset({reader.text(value)})
        elif name in {"output_check", "publish_in_register"}:
            found[name] = reader.boolean(value)
        else:
            found[name] = reader.integer(value, minimum=1)
    return found
