"""The closed list of attributes that rules may look at; `attributes.yaml` is held against it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from policyd.policy.reader import Reader, nearest
from policyd.policy.source import Node

SOURCES = ("token", "registry", "catalogue", "request", "clock", "policy")


class Part(StrEnum):
    """py-abac's four parts of an access request."""

    SUBJECT = "subject"
    RESOURCE = "resource"
    ACTION = "action"
    CONTEXT = "context"


class Type(StrEnum):
    """The type of an attribute's values; ``strings`` is a set of string."""

    STRING = "string"
    INT = "int"
    BOOL = "bool"
    INSTANT = "instant"
    STRINGS = "strings"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: ``always`` means that every request has it; ``values`` its closed list, if any.

    ``source`` is where its value comes from, one of ``SOURCES``; empty until a policy set says.
    """

    name: str
    part: Part
    type: Type
    always: bool = True
    values: tuple[str, ...] = ()
    source: str = ""


def _attribute(name: str, part: Part, kind: Type, *, always: bool = True) -> tuple[str, Attribute]:
    return name, Attribute(name, part, kind, always)


DERIVED: Mapping[str, Attribute] = dict(
    (
        _attribute("requester.id", Part.SUBJECT, Type.STRING),
        _attribute("organisation.id", Part.SUBJECT, Type.STRING),
        _attribute("organisation.kind", Part.SUBJECT, Type.STRING),
        _attribute("organisation.commercial", Part.SUBJECT, Type.BOOL),
        _attribute("accreditation.scheme", Part.SUBJECT, Type.STRING),
        _attribute("accreditation.level", Part.SUBJECT, Type.STRING, always=False),
        _attribute("accreditation.status", Part.SUBJECT, Type.STRING),
        _attribute("accreditation.until", Part.SUBJECT, Type.INSTANT, always=False),
        _attribute("roles", Part.SUBJECT, Type.STRINGS),
        _attribute("field", Part.RESOURCE, Type.STRING),
        _attribute("table", Part.RESOURCE, Type.STRING),
        _attribute("level", Part.RESOURCE, Type.STRING),
        _attribute("sections", Part.RESOURCE, Type.STRINGS),
        _attribute("identification_risk", Part.RESOURCE, Type.INT),
        _attribute("sensitivity", Part.RESOURCE, Type.STRINGS),
        _attribute("by_request", Part.RESOURCE, Type.BOOL, always=False),
        _attribute("action", Part.ACTION, Type.STRING),
        _attribute("data_service.id", Part.CONTEXT, Type.STRING),
        _attribute("setting", Part.CONTEXT, Type.STRING),
        _attribute("purpose", Part.CONTEXT, Type.STRING),
        _attribute("purpose_within", Part.CONTEXT, Type.STRINGS),
        _attribute("purpose_notice", Part.CONTEXT, Type.BOOL),
        _attribute("gateway", Part.CONTEXT, Type.STRING),
        _attribute("agreement.id", Part.CONTEXT, Type.STRING),
        _attribute("agreement.basis", Part.CONTEXT, Type.STRING),
        _attribute("agreement.article9", Part.CONTEXT, Type.STRING),
        _attribute("agreement.compatibility", Part.CONTEXT, Type.STRING),
        _attribute("agreement.exemption", Part.CONTEXT, Type.STRING),
        _attribute("now", Part.CONTEXT, Type.INSTANT),
    )
)
"""What this version of policyd derives for every decision, by name (docs/policy-set.md)."""


def read_attributes(reader: Reader, node: Node) -> dict[str, Attribute]:
    """Read `attributes.yaml`: every derived attribute with its part, type and presence, none other."""
    found: dict[str, Attribute] = {}
    for entry in reader.entries(node):
        fields = reader.mapping(
            entry, required={"name", "part", "type", "source", "about"}, optional={"always", "values"}
        )
        name = reader.text(fields["name"])
        reader.text(fields["about"])
        source = reader.one_of(fields["source"], SOURCES)
        derived = DERIVED.get(name)
        if derived is None:
            if name:
                reader.fail(fields["name"], f"policyd derives no attribute `{name}`{nearest(name, DERIVED)}")
            continue
        if name in found:
            reader.fail(fields["name"], f"attribute `{name}` is listed twice")
        _must_be(reader, fields["part"], "part", derived.part.value)
        _must_be(reader, fields["type"], "type", derived.type.value)
        if reader.boolean(fields.get("always"), default=True) != derived.always:
            wanted = "true" if derived.always else "false"
            reader.fail(fields.get("always", fields["name"]), f"`always` of `{name}` is {wanted}")
        values = reader.texts(fields["values"]) if "values" in fields else ()
        found[name] = replace(derived, values=values, source=source)
    missing = sorted(set(DERIVED) - set(found))
    if missing and not reader.problems:
        reader.fail(node, f"attributes are missing: {', '.join(missing)}")
    return found


def _must_be(reader: Reader, node: Node, key: str, wanted: str) -> None:
    have = reader.text(node)
    if have and have != wanted:
        reader.fail(node, f"`{key}` is `{wanted}`, not `{have}`")


_PATH = re.compile(r"\$((?:\.[a-z][a-z0-9_]*)+)", re.ASCII)


def path_name(path: str) -> str | None:
    """Return the attribute that ``$.name(.name)*`` names; None for any other ObjectPath expression.

    SECURITY: py-abac's own validator executes paths (trust.md 0.3 of the style study), so nothing but
    this form may reach it.
    """
    match = _PATH.fullmatch(path)
    return match[1][1:] if match else None
