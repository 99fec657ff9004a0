"""What an allow rule grants and obliges: `grant:` and `obligations:` read from YAML."""

from __future__ import annotations

from dataclasses import dataclass, replace

from policyd.model import NO_OBLIGATIONS, Obligations, Step, Transform, TransformKind
from policyd.policy.reader import ID, Reader, nearest
from policyd.policy.source import Node
from policyd.transform import SUPPRESS, UNITS

YEARS = (1900, 2200)
"""Academic years that make sense, both included."""


@dataclass(frozen=True, slots=True)
class Duties:
    """Obligations as a policy states them; ``own_authorities`` is filled in for each requester."""

    fixed: Obligations = NO_OBLIGATIONS
    own_authorities: bool = False

    def resolve(self, authorities: frozenset[str]) -> Obligations:
        """Return the obligations for a requester whose organisation is these local authorities."""
        if not self.own_authorities:
            return self.fixed
        return replace(self.fixed, row_local_authorities=authorities)


NO_DUTIES = Duties()

DUTIES = (
    "min_cell_count",
    "output_check",
    "publish_in_register",
    "retention_days",
    "round_to",
    "rows",
    "setting",
)
_AMOUNT = {TransformKind.BAND: "width", TransformKind.ROUND: "to", TransformKind.TOP_CODE: "at"}


def read_grant(reader: Reader, node: Node | None) -> Transform:
    """Read ``release`` or one transform; the empty transform is a plain release."""
    if node is None or node.value == "release":
        return ()
    if node.value == TransformKind.SUPPRESS.value:
        return SUPPRESS
    if node.value == TransformKind.PSEUDONYMISE.value:
        return (Step(TransformKind.PSEUDONYMISE),)
    kinds = {kind.value: kind for kind in (*_AMOUNT, TransformKind.GENERALISE)}
    table = reader.table(node) if not isinstance(node.value, str) else {}
    if len(table) != 1 or next(iter(table)) not in kinds:
        written = node.value if isinstance(node.value, str) else next(iter(table), "")
        known = ["release", "suppress", "pseudonymise", *kinds]
        reader.fail(node, f"unknown grant `{written}`{nearest(str(written), known)}")
        return ()
    kind = kinds[next(iter(table))]
    inner = table[kind.value]
    if kind is TransformKind.GENERALISE:
        unit = reader.mapping(inner, required={"to"})["to"]
        return (Step(kind, to=reader.one_of(unit, sorted(UNITS))),)
    key = _AMOUNT[kind]
    minimum = 1 if kind is TransformKind.TOP_CODE else 2
    amount = reader.integer(reader.mapping(inner, required={key})[key], minimum=minimum, maximum=2**31)
    return (Step(kind, amount=amount),)


def read_duties(reader: Reader, node: Node | None) -> Duties:
    """Read a mapping of obligations (DESIGN.md section 3.5)."""
    if node is None:
        return NO_DUTIES
    found = reader.mapping(node, optional=DUTIES)
    if not found and isinstance(node.value, dict):
        reader.fail(node, "`obligations` is empty; leave it out")
    rows = reader.mapping(found.get("rows"), optional={"years", "local_authority"})
    if "local_authority" in rows:
        reader.one_of(rows["local_authority"], ["own"])
    for flag in ("output_check", "publish_in_register"):
        if flag in found and not reader.boolean(found[flag], default=True):
            reader.fail(found[flag], f"`{flag}: false` asks for nothing; leave it out")
    fixed = Obligations(
        row_years=frozenset(reader.integers(rows["years"], minimum=YEARS[0], maximum=YEARS[1]))
        if "years" in rows
        else None,
        min_cell_count=_whole(reader, found.get("min_cell_count"), minimum=1),
        round_to=_whole(reader, found.get("round_to"), minimum=2),
        retention_days=_whole(reader, found.get("retention_days"), minimum=1),
        output_check="output_check" in found,
        publish_in_register="publish_in_register" in found,
        setting=frozenset({reader.ident(found["setting"], ID)}) if "setting" in found else None,
    )
    return Duties(fixed, own_authorities="local_authority" in rows)


def _whole(reader: Reader, node: Node | None, *, minimum: int) -> int | None:
    return None if node is None else reader.integer(node, minimum=minimum, maximum=2**31 - 1, default=minimum)
