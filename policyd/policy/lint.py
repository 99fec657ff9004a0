"""Checks beyond validity: a policy set that loads may still say something nobody meant.

Each check has an id, which docs/lint.md explains, and a severity: an error fails `policy lint`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from policyd.errors import Place
from policyd.fieldset import positions
from policyd.policy.catalogue import Field
from policyd.policy.policyset import PolicySet, Rule
from policyd.policy.rules import Atom


class Severity(StrEnum):
    """Whether a finding fails the lint."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: which check, where, and what to do."""

    check: str
    severity: Severity
    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.severity}: {self.message} [{self.check}]"


NEVER_EDUCATION = (
    "immigration-enforcement",
    "age-verification",
    "marketing",
    "credit-checking",
    "employment-screening",
    "individual-decision",
)
"""Purposes that must not be reachable from an education purpose (domain.md section 8, item 17)."""

EDUCATION = "education-wellbeing"


def lint(policy: PolicySet) -> list[Finding]:
    """Return every finding, errors first, then by place."""
    found = [finding for check in CHECKS.values() for finding in check(policy)]
    return sorted(found, key=lambda each: (each.severity is not Severity.ERROR, each.place, each.check))


def _excluded_below_education(policy: PolicySet) -> Iterator[Finding]:
    graph = policy.graph
    if EDUCATION not in graph.purposes:
        return
    below = graph.names(graph.down(graph.bit(EDUCATION)))
    for name in NEVER_EDUCATION:
        if name in below:
            message = f"purpose `{name}` lies below `{EDUCATION}`, so what permits education permits it"
            yield Finding("excluded-below-education", Severity.ERROR, _start(policy), message)


def _silent_field(policy: PolicySet) -> Iterator[Finding]:
    for field in policy.fields:
        if not any(each.level.states for each in field.levels):
            message = f"no level states intended purposes for `{field.id}`, so nobody can ever have it"
            yield Finding("silent-field", Severity.ERROR, field.place, message)


def _grants_the_ungrantable(policy: PolicySet) -> Iterator[Finding]:
    never = policy.classes.withdrawn | policy.classes.sensitivity["A"]
    for rule in policy.rules:
        if rule.allow and rule.true_mask and not rule.true_mask & ~never and not _inside(policy, rule):
            message = f"rule `{rule.uid}` allows only fields that are withdrawn or of sensitivity A"
            yield Finding("grants-the-ungrantable", Severity.ERROR, rule.place, message)


def _dead_rule(policy: PolicySet) -> Iterator[Finding]:
    for rule in policy.rules:
        if not rule.true_mask | rule.error_mask:
            message = f"rule `{rule.uid}` matches no field of the catalogue"
            yield Finding("dead-rule", Severity.ERROR, rule.place, message)


def _allow_without_purpose(policy: PolicySet) -> Iterator[Finding]:
    for rule in policy.rules:
        if rule.allow and not _looks_at(policy, rule, "purpose"):
            message = (
                f"rule `{rule.uid}` allows for any purpose; name one with `$.purpose` or `$.purpose_within`"
            )
            yield Finding("allow-without-purpose", Severity.ERROR, rule.place, message)


def _identifiers_without_setting(policy: PolicySet) -> Iterator[Finding]:
    identifying = policy.classes.risk[1] | policy.classes.risk[2]
    for rule in policy.rules:
        if rule.allow and not rule.grant and rule.true_mask & identifying:
            if any(
                _looks_at(policy, rule, name) for name in ("setting", "organisation.", "agreement.exemption")
            ):
                continue
            first = policy.index.ids[next(positions(rule.true_mask & identifying))]
            message = (
                f"rule `{rule.uid}` releases identifiers (`{first}`) without naming setting or organisation"
            )
            yield Finding("identifiers-anywhere", Severity.WARNING, rule.place, message)


def _copied_why(policy: PolicySet) -> Iterator[Finding]:
    first: dict[str, Rule] = {}
    for rule in policy.rules:
        other = first.setdefault(" ".join(rule.why.casefold().split()), rule)
        if other is not rule:
            message = f"rule `{rule.uid}` has the `why:` of rule `{other.uid}`; say what this one is for"
            yield Finding("copied-why", Severity.WARNING, rule.place, message)


def _class_contradiction(policy: PolicySet) -> Iterator[Finding]:
    by_name: dict[str, list[Field]] = {}
    for field in policy.fields:
        by_name.setdefault(_bare_name(field), []).append(field)
    for fields in by_name.values():
        classes: dict[str, Field] = {}
        for field in fields:
            classes.setdefault(_class(field), field)
        if len(classes) > 1:
            last = max(classes.values(), key=lambda field: field.place)
            listed = ", ".join(f"`{field.id}` {text}" for text, field in sorted(classes.items()))
            message = f"one name, several classes: {listed}; decisions go by each field's own"
            yield Finding("class-contradiction", Severity.WARNING, last.place, message)


CHECKS: dict[str, Callable[[PolicySet], Iterator[Finding]]] = {
    "excluded-below-education": _excluded_below_education,
    "silent-field": _silent_field,
    "grants-the-ungrantable": _grants_the_ungrantable,
    "dead-rule": _dead_rule,
    "allow-without-purpose": _allow_without_purpose,
    "identifiers-anywhere": _identifiers_without_setting,
    "copied-why": _copied_why,
    "class-contradiction": _class_contradiction,
}


def _start(policy: PolicySet) -> Place:
    return Place(policy.rules[0].place.file if policy.rules else "purposes.yaml")


def _looks_at(policy: PolicySet, rule: Rule, prefix: str) -> bool:
    numbers = {number for part in rule.dynamic for alternative in part for number in alternative}
    atoms = [policy.atoms[number] for number in numbers]
    # Only constants narrow: that a purpose is the same as some other attribute may hold of any purpose.
    return any(isinstance(atom, Atom) and atom.attribute.name.startswith(prefix) for atom in atoms)


def _inside(policy: PolicySet, rule: Rule) -> bool:
    return _looks_at(policy, rule, "organisation.kind")


def _class(field: Field) -> str:
    # Social care data is B throughout because of the table it is in; that alone contradicts nothing.
    letters = "".join(sorted(field.sensitivity - {"B"})) or "E"
    return f"{field.identification_risk}{letters}"


def _bare_name(field: Field) -> str:
    """Return the field's name without the prefix that its table puts before all (`KS4_`, `CIN_`)."""
    name = field.id.split(".", 1)[1].casefold()
    head, _, rest = name.partition("_")
    return rest if rest and (head in field.table.casefold() or head in _TABLE_PREFIXES) else name


_TABLE_PREFIXES = frozenset({"ap", "eyc", "fsp", "pl", "pru"})
