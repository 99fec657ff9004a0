"""Compile a policy set: purposes, classes and rules become masks over the catalogue's fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from policyd.fieldset import FieldIndex
from policyd.model import FieldMask
from policyd.policy.attributes import Part
from policyd.policy.catalogue import LETTERS, Field, Intended
from policyd.policy.conditions import MISSING
from policyd.policy.grants import Duties
from policyd.policy.policyset import Classes, ConditionalUse, Rule, Tie, solve
from policyd.policy.progress import Progress, silent
from policyd.policy.reader import Reader, nearest
from policyd.policy.rules import Alternatives, Atom, Effect, RuleSource, WhereAlternatives, WhereAtom, glob
from policyd.policy.where import Times, times
from policyd.purpose import PurposeGraph, combine
from policyd.transform import SUPPRESS, describe, join


@dataclass(frozen=True, slots=True)
class Purposes:
    """Intended purposes of all fields, turned round: masks of fields by purpose."""

    full: tuple[FieldMask, ...]
    conditional: tuple[FieldMask, ...]
    prohibited: tuple[FieldMask, ...]
    uses: tuple[ConditionalUse, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """Rules in order of uid, the distinct conditions that they number, and when those may change."""

    rules: tuple[Rule, ...]
    atoms: tuple[Atom | WhereAtom, ...]
    times: Times


def compile_classes(fields: Sequence[Field]) -> Classes:
    """Turn the classes of ``fields`` (in position order) into masks."""
    risk = [0] * 6
    letters = dict.fromkeys(LETTERS, 0)
    withdrawn = 0
    for position, field in enumerate(fields):
        bit = 1 << position
        risk[field.identification_risk] |= bit
        for letter in field.sensitivity:
            letters[letter] |= bit
        if field.withdrawn:
            withdrawn |= bit
    return Classes(tuple(risk), letters, withdrawn)


def compile_purposes(graph: PurposeGraph, fields: Sequence[Field]) -> Purposes:
    """Combine the levels of every field; fields that share their levels are combined once."""
    by_levels: dict[tuple[Intended, ...], FieldMask] = {}
    for position, field in enumerate(fields):
        by_levels[field.levels] = by_levels.get(field.levels, 0) | 1 << position
    full, conditional, prohibited = ([0] * len(graph.ids) for _ in range(3))
    uses: dict[tuple[int, Duties], FieldMask] = {}
    for levels, mask in by_levels.items():
        permitted = combine(graph, [each.level for each in levels])
        for number in range(len(graph.ids)):
            bit = 1 << number
            if permitted.full & bit:
                full[number] |= mask
            elif permitted.conditional & bit:
                conditional[number] |= mask
            elif permitted.prohibited & bit:
                prohibited[number] |= mask
        for each in levels:
            for use in each.conditions:
                uses[use] = uses.get(use, 0) | mask
    return Purposes(
        tuple(full),
        tuple(conditional),
        tuple(prohibited),
        tuple(ConditionalUse(purposes, mask, duties) for (purposes, duties), mask in uses.items()),
    )


def compile_rules(
    reader: Reader,
    sources: Iterable[RuleSource],
    index: FieldIndex,
    fields: Sequence[Field],
    *,
    progress: Progress = silent,
) -> Compiled:
    """Solve the resource side of every rule, and number the distinct conditions of the other sides."""
    values = _values_by_attribute(fields)
    numbers: dict[str, int] = {}
    atoms: list[Atom | WhereAtom] = []

    def number(atom: Atom | WhereAtom) -> int:
        if atom.key not in numbers:
            numbers[atom.key] = len(atoms)
            atoms.append(atom)
        return numbers[atom.key]

    rules: list[Rule] = []
    shared: dict[Duties, Duties] = {}  # equal duties are one object: what is the same is merged at no cost
    ordered = sorted(sources, key=lambda source: source.uid)
    for done, source in enumerate(ordered, start=1):
        progress("compiling rules", done, len(ordered))
        aimed = _aimed(reader, source, index)
        on_fields = source.parts.get(Part.RESOURCE, ((),))
        splits = [[(atom.test, values.get(atom.attribute.name, {})) for atom in each] for each in on_fields]
        true_mask, not_false = solve(splits, index.all)
        conditions: list[tuple[Part, Alternatives | WhereAlternatives]] = [
            *source.parts.items(),
            *source.where.items(),
        ]
        dynamic = tuple(
            tuple(tuple(number(atom) for atom in alternative) for alternative in alternatives)
            for part, alternatives in conditions
            if part is not Part.RESOURCE and alternatives != ((),)
        )
        rules.append(
            Rule(
                uid=source.uid,
                why=source.why,
                allow=source.effect is Effect.ALLOW,
                grant=source.grant,
                duties=shared.setdefault(source.duties, source.duties),
                true_mask=true_mask & aimed,
                error_mask=not_false & ~true_mask & aimed,
                dynamic=dynamic,
                place=source.place,
                ties=tuple(
                    tuple(Tie(atom.test, values.get(atom.attribute.name, {})) for atom in alternative)
                    for alternative in source.where.get(Part.RESOURCE, ())
                ),
            )
        )
    _refuse_conflicts(reader, rules, {source.uid: source for source in ordered}, index)
    edges = (edge for atom in atoms if isinstance(atom, WhereAtom) for edge in atom.edges)
    return Compiled(tuple(rules), tuple(atoms), times(edges))


def _values_by_attribute(fields: Sequence[Field]) -> dict[str, dict[object, FieldMask]]:
    """Return, for each resource attribute, which fields have each of its distinct values."""
    found: dict[str, dict[object, FieldMask]] = {}
    for position, field in enumerate(fields):
        resource: dict[str, object] = {
            "field": field.id,
            "table": field.table,
            "level": field.table_level,
            "sections": field.sections,
            "identification_risk": field.identification_risk,
            "sensitivity": field.sensitivity,
            "by_request": MISSING if field.by_request is None else field.by_request,
        }
        for name, value in resource.items():
            masks = found.setdefault(name, {})
            masks[value] = masks.get(value, 0) | 1 << position
    return found


def _aimed(reader: Reader, source: RuleSource, index: FieldIndex) -> FieldMask:
    """Return the fields that the rule's resource targets name."""
    mask = 0
    for pattern in source.resource_ids:
        if pattern == "*":
            return index.all
        match = glob(pattern)
        hit = 0
        for position, name in enumerate(index.ids):
            if match.fullmatch(name):
                hit |= 1 << position
        if not hit:
            hint = "" if "*" in pattern else nearest(pattern, index.ids)
            reader.fail(source.place, f"rule `{source.uid}`: target `{pattern}` names no field{hint}")
        mask |= hit
    return mask


def _refuse_conflicts(
    reader: Reader, rules: Sequence[Rule], sources: Mapping[str, RuleSource], index: FieldIndex
) -> None:
    """Refuse two allow rules whose transforms cannot be combined on a field that both can reach."""
    allows = [rule for rule in rules if rule.grant and rule.grant != SUPPRESS]  # a deny rule grants nothing
    for at, first in enumerate(allows):
        for second in allows[at + 1 :]:
            both = (first.true_mask | first.error_mask) & (second.true_mask | second.error_mask)
            if not both or join(first.grant, second.grant) != SUPPRESS:
                continue
            if _exclusive(sources[first.uid], sources[second.uid]):
                continue
            reader.fail(
                second.place,
                f"rule `{second.uid}` grants `{describe(second.grant)}` and rule `{first.uid}` "
                f"`{describe(first.grant)}` on `{index.names(both)[0]}`; nothing protects as much as both, "
                "so give them different fields, purposes or settings",
            )


def _exclusive(first: RuleSource, second: RuleSource) -> bool:
    """Return whether some attribute that has one value a request would need two for both to hold."""
    ours, theirs = _only(first), _only(second)
    return any(ours[name].isdisjoint(theirs[name]) for name in ours.keys() & theirs.keys())


def _only(source: RuleSource) -> dict[str, frozenset[str]]:
    """Return the values that single-valued attributes must have for the rule to hold."""
    found: dict[str, frozenset[str]] = {}
    for part, alternatives in source.parts.items():
        if part is Part.RESOURCE or len(alternatives) != 1:
            continue
        for atom in alternatives[0]:
            if atom.only is not None:  # a target has none, so no attribute has two
                found[atom.attribute.name] = atom.only
    return found
