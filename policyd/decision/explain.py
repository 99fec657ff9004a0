"""Explain a decision: every check that took part, in order, read from the evaluation that decided.

Nothing is worked out a second time: gates 4 to 9 leave an ``Examination`` behind, of which the decision
takes the first check that fails and the explanation shows all. Nothing is said of what else would do:
a data service must not learn which purpose to declare (AMENDMENTS.md item 10), so rules that are about
another purpose, action, setting, gateway or agreement than the question's are counted and not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from typing import NamedTuple

from policyd.decision.asked import year_screen
from policyd.decision.combine import ORDER, Trial
from policyd.decision.decide import decide
from policyd.decision.entitlement import Entitlement, Examination, examine, settle
from policyd.decision.gates import ADMISSION
from policyd.decision.snapshot import Snapshot
from policyd.errors import Place
from policyd.model import Claimed, Decision, Effect, FieldMask, Instant, Request, VerdictGroup
from policyd.policy.attributes import Part
from policyd.policy.conditions import ERROR, FALSE, MISSING, TRUE, Truth
from policyd.policy.policyset import Rule
from policyd.policy.rules import Atom, WhereAtom, spell_atom
from policyd.reasons import GATE_OF, Reason

MAX_RULES = 200
"""Rules shown over all groups of one explanation; those that decide are always shown."""

VISA = "visa"
"""The source of what is known of an accreditation by visa, in place of the one that the policy set states."""

_VOUCHED = frozenset({"accreditation.level", "accreditation.status", "accreditation.until"})
_MAX_VALUE = 200
_ADMISSION_GATES = (1, 1, 2, 2, 2, 3, 3, 3)
_LATE = frozenset({Reason.SUPPRESSED, Reason.OBLIGATION_CONFLICT, Reason.USED_FIELD_WITHHELD})
"""Reasons that come of what was granted, once nothing else withholds it."""


class Result(StrEnum):
    """What came of one check: it failed for some field at least, or for none."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    """A rule's condition has no answer: a denial then denies, and a permission grants nothing."""
    NOT_APPLICABLE = "not-applicable"
    """A rule whose conditions do not hold, or a check of what something before it withholds."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a rule on anything but the field, the value it saw, and what came of it.

    The rule needs one alternative of each clause, and of an alternative all conditions. ``result`` is
    ``true``, ``false`` or ``error``; ``value`` is empty where the request has none.
    """

    attribute: str
    text: str
    value: str
    source: str
    result: str
    clause: int
    alternative: int


@dataclass(frozen=True, slots=True)
class Checked:
    """One check that took part; ``fields`` are how many of the group it concerns or, if it failed, fails.

    ``check`` is the uid of a rule or ``gate:<number>:<check>``. Place and conditions are of rules.
    """

    check: str
    result: Result
    reason: Reason = Reason.NONE
    why: str = ""
    purpose: str = ""
    fields: int = 0
    place: Place | None = None
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Explained:
    """One verdict group and the checks of its fields, in the order in which they decide."""

    group: VerdictGroup
    checks: tuple[Checked, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, the checks on the whole question, and those on each group of its fields.

    The first check with a reason, of the question and then of the group, is the one that decided. A
    question that is refused as a whole has no checks on fields. ``not_shown`` counts rules left
    out: those about other questions, and those beyond ``MAX_RULES``.
    """

    decision: Decision
    question: tuple[Checked, ...]
    groups: tuple[Explained, ...]
    valid_until: Instant
    """The first instant at which time alone could change the decision."""
    not_shown: int = 0


def explain(snapshot: Snapshot, request: Request, now: Instant) -> Explanation:
    """Return the decision on ``request`` at ``now``, as ``decide`` gives it, and how it came about."""
    seen = examine(snapshot, request, now=now)
    entitlement = settle(snapshot, request, seen, now=now)
    decision = decide(snapshot, request, now, entitlement=entitlement)
    question = [*_admission(seen), *_findings(seen)]
    whole = entitlement.refusal is not None
    if any(group.reason is Reason.FIELD_WILDCARD for group in decision.groups):
        question.append(_gate(6, "wildcard", Reason.FIELD_WILDCARD))
        whole = True
    visa = seen.admitted.standing.visa if seen.admitted is not None else ""
    groups, left, hidden = [], MAX_RULES, 0
    for group in decision.groups:
        checks: list[Checked] = []
        for check in () if whole else _of_group(snapshot, seen, entitlement, request.claimed, group):
            if isinstance(check, Checked):
                checks.append(check)
            elif check.rule.uid == group.rule:
                checks.append(_show(snapshot, check, visa=visa))
            elif left > 0 and not _elsewhere(snapshot, check):
                left -= 1
                checks.append(_show(snapshot, check, visa=visa))
            else:
                hidden += 1
        groups.append(Explained(group, tuple(checks)))
    return Explanation(decision, tuple(question), tuple(groups), entitlement.valid_until, hidden)


class _Touching(NamedTuple):
    """A rule that concerns some field of a group, before it is spelt out."""

    trial: Trial
    rule: Rule
    result: Result
    fields: FieldMask
    reason: Reason = Reason.NONE


def _elsewhere(snapshot: Snapshot, seen: _Touching) -> bool:
    """Return whether a rule does not hold because of what the question is, and not of who asks it."""
    if seen.result not in (Result.PASSED, Result.NOT_APPLICABLE):
        return False
    atoms, truth = snapshot.policy.atoms, seen.trial.rules.truth
    return any(
        all(any(truth(number) == FALSE for number in numbers) for numbers in alternatives)
        and any(atoms[number].attribute.part is not Part.SUBJECT for number in chain(*alternatives))
        for alternatives in seen.rule.dynamic
    )


def _gate(
    gate: int,
    check: str,
    reason: Reason,
    *,
    why: str = "",
    purpose: str = "",
    fields: int = 0,
) -> Checked:
    result = Result.PASSED if reason is Reason.NONE else Result.FAILED
    return Checked(f"gate:{gate}:{check}", result, reason, why or WHY.get(check, ""), purpose, fields)


def _admission(seen: Examination) -> Iterator[Checked]:
    """Yield the checks of gates 1 to 3, up to the one that refused."""
    for gate, check in zip(_ADMISSION_GATES, ADMISSION, strict=True):
        refusal = seen.refusal
        if refusal is not None:
            named = "token" if refusal.reason is Reason.REQUESTER_UNVERIFIED else refusal.check
            if named == check:
                yield _gate(gate, refusal.check, refusal.reason, why=WHY[check])
                return
        yield _gate(gate, check, Reason.NONE)


def _findings(seen: Examination) -> Iterator[Checked]:
    """Yield the checks of gates 4 and 5 on the whole question: all that hold and all that do not."""
    vouched: dict[str, str] = {}
    if seen.admitted is not None:
        vouched["accredited_person"] = seen.admitted.standing.visa
        vouched["accredited_project"] = seen.admitted.project_visa
    for each in seen.findings:
        source = vouched.get(each.check)
        why = f"{WHY[each.check]}, and a visa of `{source}` says so" if source else ""
        yield _gate(each.gate, each.check, each.reason, why=why, purpose=each.purpose)


def _of_group(
    snapshot: Snapshot, seen: Examination, entitlement: Entitlement, claimed: Claimed, group: VerdictGroup
) -> Iterator[Checked | _Touching]:
    sets = (*group.released, *group.used)
    if not sets:
        yield _gate(6, "field", Reason.FIELD_UNKNOWN, fields=len(group.names))
        return
    mask = 0
    for columns in sets:
        mask |= columns.mask
    yield _gate(6, "field", Reason.NONE, fields=mask.bit_count())
    found = list(
        chain.from_iterable(_screens(trial, mask, first=not n) for n, trial in enumerate(seen.trials))
    )
    outside, reason = 0, Reason.YEAR_NOT_IN_AGREEMENT
    for columns in sets:
        grade, late = year_screen(entitlement, claimed, columns.year)
        if hit := columns.mask & late:
            outside, reason = outside | hit, grade.reason
    found.append((ORDER[reason], "", _screen(7, "years", reason, hit=outside, of=mask)))
    for trial in seen.trials:
        found += _rules(trial, mask)
    found.append((ORDER[Reason.SUPPRESSED], "", _late(snapshot, group, mask)))
    for _, _, check in sorted(found, key=lambda each: each[:2]):
        yield check


_Ranked = tuple[int, str, Checked | _Touching]
"""A check with its place in the order that decides: by reason, then by rule."""


def _screen(
    gate: int, check: str, reason: Reason, *, hit: FieldMask, of: FieldMask, purpose: str = ""
) -> Checked:
    given = reason if hit else Reason.NONE
    why = WHY.get(reason, "")
    return _gate(gate, check, given, why=why, purpose=purpose, fields=(hit or of).bit_count())


def _screens(trial: Trial, mask: FieldMask, *, first: bool) -> Iterator[_Ranked]:
    """Yield the gates over fields; those that do not depend on the purpose once only."""
    for screen in trial.screens:
        gate = GATE_OF[screen.reason]
        if screen.rule is None and (first or gate > 7):
            purpose = trial.purpose if gate > 7 else ""
            hit = screen.fields & mask
            yield (
                ORDER[screen.reason],
                "~" if gate == 9 else "",  # after the rules that it sums up
                _screen(gate, screen.check, screen.reason, hit=hit, of=mask, purpose=purpose),
            )


def _rules(trial: Trial, mask: FieldMask) -> Iterator[_Ranked]:
    """Yield the rules whose resource side is not false on every field of ``mask``."""
    failing: dict[str, list[tuple[Reason, FieldMask]]] = {}
    for screen in trial.screens:
        if screen.rule is not None and (hit := screen.fields & mask):
            failing.setdefault(screen.check, []).append((screen.reason, hit))
    for rule, truth in trial.rules.every_rule():
        touched = (rule.true_mask | rule.error_mask) & mask
        if not touched:
            continue
        if rule.allow:
            granted = rule.true_mask & mask if truth == TRUE else 0
            result = Result.NOT_APPLICABLE if truth < ERROR else Result.PASSED if granted else Result.ERROR
            yield ORDER[Reason.NO_RULE_ALLOWS], rule.uid, _Touching(trial, rule, result, granted or touched)
        elif rule.uid not in failing:
            yield ORDER[Reason.DENIED_BY_RULE], rule.uid, _Touching(trial, rule, Result.PASSED, touched)
        for reason, hit in failing.get(rule.uid, ()):
            result = Result.ERROR if reason is Reason.RULE_ERROR else Result.FAILED
            yield ORDER[reason], rule.uid, _Touching(trial, rule, result, hit, reason)


def _show(snapshot: Snapshot, seen: _Touching, *, visa: str) -> Checked:
    """Spell out a rule with its conditions; ``visa`` is what the accreditation rests on, if on one."""
    rule, trial = seen.rule, seen.trial
    conditions = tuple(
        _condition(
            trial, snapshot.policy.atoms[number], trial.rules.truth(number), clause, alternative, visa=visa
        )
        for clause, alternatives in enumerate(rule.dynamic)
        for alternative, numbers in enumerate(alternatives)
        for number in numbers
    )
    return Checked(
        rule.uid,
        seen.result,
        seen.reason,
        rule.why,
        trial.purpose,
        seen.fields.bit_count(),
        _place(rule),
        conditions,
    )


def _condition(
    trial: Trial, atom: Atom | WhereAtom, truth: Truth, clause: int, alternative: int, *, visa: str
) -> Condition:
    attribute = atom.attribute
    value = _spell(trial.values.get(attribute.name, MISSING))
    result = "true" if truth == TRUE else "error" if truth == ERROR else "false"
    source = VISA if visa and attribute.name in _VOUCHED else attribute.source
    return Condition(attribute.name, spell_atom(atom), value, source, result, clause, alternative)


def _late(snapshot: Snapshot, group: VerdictGroup, mask: FieldMask) -> Checked:
    """Return what came of the grants: whether what the rules leave can be combined and met."""
    if group.reason not in _LATE:
        result = Result.NOT_APPLICABLE if group.effect is Effect.WITHHOLD else Result.PASSED
        return Checked("gate:9:obligations", result, why=WHY["obligations"], fields=mask.bit_count())
    rule = next((each for each in snapshot.policy.rules if each.uid == group.rule), None)
    why = WHY[group.reason]
    place = None if rule is None else _place(rule)
    return Checked(group.rule, Result.FAILED, group.reason, why, "", mask.bit_count(), place)


def _place(rule: Rule) -> Place:
    """Return where a rule is written, in the policy set and not on the node's disk."""
    # SECURITY: callers must not learn how the node's file system is laid out.
    name = rule.place.file.replace("\\", "/").rsplit("/", 1)[-1]
    return replace(rule.place, file=f"rules/{name}")


def _spell(value: object) -> str:
    if value is MISSING:
        return ""
    if isinstance(value, frozenset):
        text = "[" + ", ".join(sorted(map(str, value))) + "]"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = str(value)
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"


WHY = {
    "operator": "the organisation that runs the data service is active and verified",
    "data-service": "the data service is registered and active",
    "token": "the requester's token holds",
    "requester": "the requester is registered and active",
    "organisation": "the requester's organisation is active and verified",
    "agreement": "the agreement is in force for this requester and data service",
    "setting": "the agreement names the data service's setting",
    "action": "the agreement names the action",
    "purpose": "the purpose exists, may be declared, and is at or below one of the agreement",
    "gateway": "the agreement's legal gateway is in force",
    "accredited_person": "the gateway asks for an accredited person",
    "accredited_project": "the gateway asks for an accredited project",
    "accredited_setting": "the gateway asks for an accredited setting",
    "organisation_kind": "the gateway is for certain kinds of organisation",
    "not_individual_decision": "the gateway is not for decisions about one person",
    "deidentified": "the gateway admits de-identified fields only",
    "article9": "special category data need a condition of UK GDPR Article 9 in the agreement",
    "wildcard": "fields are named one by one",
    "field": "the name is a field of the catalogue",
    "withdrawn": "the field is still supplied",
    "never-external": "the field may leave the department",
    "agreement-fields": "the field is in the agreement",
    "years": "the year is stated, and in the agreement for this field",
    "rules": "a rule allows it",
    "obligations": "what the rules leave can be combined and met",
    Reason.PURPOSE_PROHIBITED: "nothing in the catalogue prohibits the field for the purpose",
    Reason.PURPOSE_NOT_ALLOWED: "all that the catalogue says of the field permits the purpose",
    Reason.SUPPRESSED: "what the rules grant cannot be combined, so nothing is left",
    Reason.OBLIGATION_CONFLICT: "nobody could meet the obligations together, or not in this setting",
    Reason.USED_FIELD_WITHHELD: "the query filters, joins or groups on a field that is withheld",
}
"""What each check of a gate asks, for people."""
