"""What is left of a policy set's rules for one request, found without looking at each rule.

A rule needs all its conditions, so one false condition settles it. For every value that an attribute
has had, the rules which that value makes false are kept as bits: thousands of rules then cost one ``|``
an attribute, and only the few that are left are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from policyd.fieldset import positions
from policyd.policy.conditions import ERROR, FALSE, MISSING, PYTHON, TRUE, Truth
from policyd.policy.policyset import Rule
from policyd.policy.rules import Atom, WhereAtom
from policyd.policy.where import Values

RuleMask = int
"""A set of rules as bits, by their place in the policy set."""

MAX_VALUES = 1024
"""Values of one attribute that are kept; attributes such as an agreement's id have many."""


class Failing(NamedTuple):
    """The rules that one value of an attribute makes false, and those that it makes an error."""

    false: RuleMask
    error: RuleMask


class _Watched:
    """One attribute, the conditions on it, and the rules that need each of them."""

    def __init__(self, atom: Atom) -> None:
        self.name = atom.attribute.name
        self.type = PYTHON[atom.attribute.type]
        self.needed: list[tuple[Atom, RuleMask]] = []
        self.seen: dict[object, Failing] = {}

    def failing(self, value: object) -> Failing:
        # What has the wrong type is not kept: it may equal a value that has the right one, as True does 1.
        if type(value) is not self.type and value is not MISSING:
            return self._evaluate(value)
        failing = self.seen.get(value)
        if failing is None:
            failing = self._evaluate(value)
            if len(self.seen) >= MAX_VALUES:
                self.seen.clear()
            self.seen[value] = failing
        return failing

    def _evaluate(self, value: object) -> Failing:
        false = error = 0
        for atom, rules in self.needed:
            truth = atom.test(value)
            if truth == FALSE:
                false |= rules
            elif truth == ERROR:
                error |= rules
        return Failing(false, error)


class Residuals:
    """The rules of one policy set, by the conditions that they need. Safe to share between threads."""

    def __init__(self, rules: Sequence[Rule], atoms: Sequence[Atom | WhereAtom]) -> None:
        self.rules, self.atoms = rules, atoms
        self._all: RuleMask = (1 << len(rules)) - 1
        # Rules of which more is to be found out: conditions that look at several attributes or at the
        # clock, whose values never come again, and alternatives, of which one false settles nothing.
        self._open: RuleMask = 0
        needing: dict[int, RuleMask] = {}
        for at, rule in enumerate(rules):
            for alternatives in rule.dynamic:
                numbers = alternatives[0] if len(alternatives) == 1 else ()
                for number in numbers:
                    needing[number] = needing.get(number, 0) | 1 << at
                if not numbers or any(isinstance(atoms[number], WhereAtom) for number in numbers):
                    self._open |= 1 << at
        self._watched = _watch(atoms, needing)

    def of(self, values: Values) -> Residual:
        """Evaluate the part of every rule that does not concern the field."""
        false = error = 0
        for watched in self._watched:
            failing = watched.failing(values.get(watched.name, MISSING))
            false |= failing.false
            error |= failing.error
        residual = Residual(self, values)
        for at in positions(self._all & ~false):
            rule = self.rules[at]
            truth = ERROR if error >> at & 1 else TRUE
            if self._open >> at & 1:
                truth = residual.evaluate(rule)
            if truth != FALSE:
                residual.held[at] = (rule.tied(values) if rule.ties else rule, truth)
        return residual


def _watch(atoms: Sequence[Atom | WhereAtom], needing: Mapping[int, RuleMask]) -> list[_Watched]:
    """Gather the conditions on single attributes, with the rules that need each, by attribute."""
    found: dict[str, _Watched] = {}
    for number, rules in needing.items():
        atom = atoms[number]
        if isinstance(atom, Atom):
            found.setdefault(atom.attribute.name, _Watched(atom)).needed.append((atom, rules))
    return list(found.values())


class Residual:
    """The rules as they are for one request. Belongs to one thread: it is worked out further when asked."""

    def __init__(self, residuals: Residuals, values: Values) -> None:
        self._residuals, self._values = residuals, values
        self._truths: dict[int, Truth] = {}
        self.held: dict[int, tuple[Rule, Truth]] = {}
        """The rules that are not false and how true they are, in order, by place in the policy set."""

    def truth(self, number: int) -> Truth:
        """Return the truth of one condition of the policy set."""
        truth = self._truths.get(number)
        if truth is None:
            truth = self._truths[number] = self._residuals.atoms[number].truth(self._values)
        return truth

    def evaluate(self, rule: Rule) -> Truth:
        """Return the truth of a rule's part that does not concern the field: an *and* of *ors* of *ands*."""
        result = TRUE
        for alternatives in rule.dynamic:
            best = FALSE
            for numbers in alternatives:
                best = max(best, min((self.truth(number) for number in numbers), default=TRUE))
            result = min(result, best)
            if result == FALSE:
                break
        return result

    def every_rule(self) -> Iterator[tuple[Rule, Truth]]:
        """Yield all rules of the policy set in order, those that are false as well."""
        for at, rule in enumerate(self._residuals.rules):
            held = self.held.get(at)
            yield held or (rule.tied(self._values) if rule.ties else rule, FALSE)
