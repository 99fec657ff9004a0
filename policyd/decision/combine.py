"""Combine gates 5 to 9 for one declared purpose: the whole catalogue, sorted by verdict.

Deny overrides: a field on which any deny rule is true or in error is withheld; the rest needs an allow
rule that is true; of several transforms the join leaves, and obligations accumulate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from policyd.decision.gates import Admitted, gateway_fields
from policyd.decision.residual import Residual
from policyd.decision.snapshot import Snapshot
from policyd.fieldset import positions
from policyd.model import NO_OBLIGATIONS, Action, Effect, FieldMask, Obligations, Transform
from policyd.obligation import merge
from policyd.policy.conditions import TRUE, Truth
from policyd.policy.policyset import Rule
from policyd.reasons import GATE_OF, Reason
from policyd.transform import SUPPRESS, describe, join

DEPARTMENT = "department"
"""The organisation kind inside which fields of sensitivity A may stay (domain.md section 2)."""


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict that many fields share, with the obligations that come with it.

    ``verdict`` spells all but the obligations: what names are grouped by, and quick to compare.
    """

    effect: Effect
    reason: Reason
    rule: str
    transform: Transform = ()
    obligations: Obligations = NO_OBLIGATIONS
    verdict: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        spelled = f"{self.effect} {self.reason} {self.rule} {describe(self.transform)}"
        object.__setattr__(self, "verdict", spelled)  # the way of frozen dataclasses

    @property
    def gate(self) -> int:
        """The number of the gate that decided."""
        return GATE_OF[self.reason]


@dataclass(frozen=True, slots=True)
class Part:
    """One block of a partition of the catalogue."""

    mask: FieldMask
    grade: Grade


def refused(reason: Reason, check: str) -> Grade:
    return Grade(Effect.WITHHOLD, reason, f"gate:{GATE_OF[reason]}:{check}")


class Screen(NamedTuple):
    """One check over the whole catalogue: the fields that do not pass it, and why.

    ``check`` is the uid of ``rule`` where a rule decides, the name of the gate's check elsewhere.
    """

    fields: FieldMask
    reason: Reason
    check: str
    rule: Rule | None = None

    @property
    def grade(self) -> Grade:
        """The verdict on what does not pass."""
        if self.rule is None:
            return refused(self.reason, self.check)
        return Grade(Effect.WITHHOLD, self.reason, self.check)


@dataclass(frozen=True, slots=True)
class Trial:
    """Gates 5 to 9 worked out for one purpose: what the decision and its explanation are both read from.

    ``screens`` in the order in which they decide; ``rules`` as they are for ``values``.
    """

    purpose: str
    values: Mapping[str, object]
    rules: Residual
    screens: Sequence[Screen]


def weigh(snapshot: Snapshot, admitted: Admitted, purpose: str, values: Mapping[str, object]) -> Trial:
    """Work out every check over fields for one purpose, and every rule."""
    policy = snapshot.policy
    number = policy.graph.ids.index(purpose)
    screens = [
        Screen(mask, Reason.GATEWAY_PRECONDITION, check) for check, mask in gateway_fields(snapshot, admitted)
    ]
    external = admitted.organisation.kind != DEPARTMENT
    permitted = policy.full[number] | policy.conditional[number]
    screens += (
        Screen(policy.classes.withdrawn, Reason.FIELD_WITHDRAWN, "withdrawn"),
        Screen(
            policy.classes.sensitivity["A"] if external else 0, Reason.FIELD_NEVER_EXTERNAL, "never-external"
        ),
        Screen(~admitted.agreement.fields, Reason.FIELD_NOT_IN_AGREEMENT, "agreement-fields"),
        Screen(policy.prohibited[number], Reason.PURPOSE_PROHIBITED, "intended-purposes"),
        Screen(~permitted, Reason.PURPOSE_NOT_ALLOWED, "intended-purposes"),
    )
    rules = snapshot.residuals.of(values)
    granted = 0
    unsure: list[Screen] = []
    for rule, truth in rules.held.values():
        if rule.allow:
            if truth == TRUE:
                granted |= rule.true_mask
        elif truth == TRUE:
            screens.append(Screen(rule.true_mask, Reason.DENIED_BY_RULE, rule.uid, rule))
            unsure.append(Screen(rule.error_mask, Reason.RULE_ERROR, rule.uid, rule))
        else:
            unsure.append(Screen(rule.true_mask | rule.error_mask, Reason.RULE_ERROR, rule.uid, rule))
    screens += unsure
    screens.append(Screen(~granted, Reason.NO_RULE_ALLOWS, "rules"))
    return Trial(purpose, values, rules, screens)


def decide_trial(snapshot: Snapshot, admitted: Admitted, action: Action, trial: Trial) -> list[Part]:
    """Sort the whole catalogue by verdict: the first screen that a field fails, or what rules grant."""
    policy = snapshot.policy
    parts: list[Part] = []
    left = policy.index.all
    for screen in trial.screens:
        if hit := screen.fields & left:
            parts.append(Part(hit, screen.grade))
            left &= ~hit
    start = _Block(left, (), NO_OBLIGATIONS)
    if action is Action.COUNT:
        start = replace(start, obligations=Obligations(min_cell_count=policy.gateways.min_cell_count_floor))
    number = policy.graph.ids.index(trial.purpose)
    return parts + _grant(snapshot, admitted, number, start, trial.rules.held.values())


@dataclass(frozen=True, slots=True)
class _Block:
    """Granted fields that share what was imposed on them, and the rules that granted them."""

    mask: FieldMask
    transform: Transform
    obligations: Obligations
    rules: tuple[Rule, ...] = ()


def _grant(
    snapshot: Snapshot, admitted: Admitted, purpose: int, start: _Block, held: Iterable[tuple[Rule, Truth]]
) -> list[Part]:
    """Split the granted fields by transform, obligations and deciding rule."""
    policy = snapshot.policy
    authorities = admitted.organisation.local_authorities
    blocks = [start] if start.mask else []
    for use in policy.conditional_uses:
        if use.purposes >> purpose & 1:
            mask = use.fields & policy.conditional[purpose]
            blocks = _refine(blocks, _Block(mask, (), use.duties.resolve(authorities)))
    for rule, truth in held:
        if not rule.allow or not (rule.true_mask | rule.error_mask) & start.mask:
            continue
        # In error a rule grants nothing, and still imposes what it would have imposed.
        duties = rule.duties.resolve(authorities)
        sure = rule.true_mask if truth == TRUE else 0
        unsure = (rule.true_mask | rule.error_mask) & ~sure
        blocks = _refine(blocks, _Block(sure, rule.grant, duties, (rule,)))
        blocks = _refine(blocks, _Block(unsure, rule.grant, duties))
    return _merged([Part(block.mask, _granted(admitted, block)) for block in blocks])


def _merged(parts: list[Part]) -> list[Part]:
    """Make one part of those with equal grades: different rules often come to the same."""
    if len(parts) < 2:
        return parts
    masks: dict[Grade, FieldMask] = {}
    for part in parts:
        masks[part.grade] = masks.get(part.grade, 0) | part.mask
    return [Part(mask, grade) for grade, mask in masks.items()]


def _refine(blocks: list[_Block], imposed: _Block) -> list[_Block]:
    """Impose a transform and obligations on the fields of ``imposed``, splitting blocks where it ends."""
    if not imposed.mask:
        return blocks
    result = []
    for block in blocks:
        inside = block.mask & imposed.mask
        if not inside:
            result.append(block)
            continue
        if outside := block.mask ^ inside:
            result.append(replace(block, mask=outside))
        result.append(
            _Block(
                inside,
                join(block.transform, imposed.transform),
                merge((block.obligations, imposed.obligations)),
                block.rules + imposed.rules,
            )
        )
    return result


def _granted(admitted: Admitted, block: _Block) -> Grade:
    """Name the deciding rule: the first uid among those that gave the verdict as it came out."""
    transform, obligations = block.transform, block.obligations
    first = next((rule for rule in block.rules if rule.grant == transform), block.rules[0])
    if transform == SUPPRESS:
        return Grade(Effect.WITHHOLD, Reason.SUPPRESSED, first.uid)
    if obligations.setting is not None and admitted.service.setting not in obligations.setting:
        return Grade(Effect.WITHHOLD, Reason.OBLIGATION_CONFLICT, first.uid)
    effect = Effect.TRANSFORM if transform else Effect.RELEASE
    return Grade(effect, Reason.NONE, first.uid, transform, obligations)


def cross(several: Sequence[list[Part]]) -> list[Part]:
    """Combine the verdicts of several purposes at once: withheld stays withheld, transforms join.

    At once, and not two by two: which rule decided must not depend on the order of the purposes.
    """
    if len(several) == 1:
        return several[0]
    blocks: list[tuple[FieldMask, tuple[Grade, ...]]] = [(part.mask, (part.grade,)) for part in several[0]]
    for parts in several[1:]:
        blocks = [
            (mask, (*grades, part.grade))
            for had, grades in blocks
            for part in parts
            if (mask := had & part.mask)
        ]
    return _merged([Part(mask, _worst(grades)) for mask, grades in blocks])


def _worst(grades: tuple[Grade, ...]) -> Grade:
    withheld = [grade for grade in grades if grade.effect is Effect.WITHHOLD]
    if withheld:
        return min(withheld, key=lambda grade: (ORDER[grade.reason], grade.rule))
    transform: Transform = ()
    for grade in grades:
        transform = join(transform, grade.transform)
    first = min(grade.rule for grade in grades)
    if transform == SUPPRESS:
        return Grade(Effect.WITHHOLD, Reason.SUPPRESSED, first)
    rule = min((grade.rule for grade in grades if grade.transform == transform), default=first)
    # Each admits the setting of the data service, so what they leave together is never empty.
    obligations = merge(grade.obligations for grade in grades)
    return Grade(Effect.TRANSFORM if transform else Effect.RELEASE, Reason.NONE, rule, transform, obligations)


ORDER = {reason: number for number, reason in enumerate(Reason)}
"""Reasons in the order of their gates, so that the order of the purposes changes nothing."""


def spread(parts: Sequence[Part], size: int) -> Sequence[int]:
    """Turn a partition round: the number of its part for each position.

    ``format`` writes a mask as text in C, and adding the parts as one big number each costs no loop
    over fields. Beyond 255 parts, which no real policy set comes near, a plain list is made.
    """
    if len(parts) > 255:
        slow = [0] * size
        for number, part in enumerate(parts):
            for position in positions(part.mask):
                slow[position] = number
        return slow
    total = 0
    for number, part in enumerate(parts):
        digits = format(part.mask, f"0{size}b").encode()
        total += int.from_bytes(digits.translate(_ONES), "big") * number
    return total.to_bytes(size, "little")


_ONES = bytes(1 if value == ord("1") else 0 for value in range(256))
