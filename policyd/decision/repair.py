"""Repairs: for each check that withholds some names, the single changes without one of which it still fails.

They are found from what the engine looked at, and may be too many but never too few: a set of changes that
makes it release has one of the repairs of every check that fails. Whether a set does, the engine says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import or_

from policyd.decision.change import (
    ActionAsked,
    AgreementCited,
    Change,
    OrganisationVerified,
    Reinstated,
    ServiceSetting,
    YearsStated,
)
from policyd.decision.change_agreement import AgreementInForce, AgreementNames, AgreementTerm, AgreementYears
from policyd.decision.combine import Screen, Trial
from policyd.decision.gates import Admitted, Finding
from policyd.decision.lever import (
    ATTRIBUTES,
    DAY_MS,
    State,
    accreditations,
    permits,
    pulls,
    purposes,
    settings,
    terms,
)
from policyd.fieldset import positions
from policyd.model import Agreement, FieldMask, Instant, Organisation, Status
from policyd.policy.conditions import TRUE, Truth
from policyd.policy.policyset import Rule
from policyd.policy.rules import Atom, WhereAtom, attributes_of
from policyd.reasons import Reason

Repairs = tuple[Change, ...]
"""Changes of which one at least is needed; none at all means that nothing helps."""

_BEYOND_REPAIR = frozenset(
    {
        Reason.FIELD_WITHDRAWN,
        Reason.FIELD_NEVER_EXTERNAL,
        Reason.FIELD_UNKNOWN,
        Reason.FIELD_WILDCARD,
    }
)
_OF_ALL = frozenset({Reason.SUPPRESSED, Reason.OBLIGATION_CONFLICT})
"""Reasons that come of several grants together, so that a change of any of them may help."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Names that are to be released, and what they are: ``columns`` are their fields by academic year.

    Year 0 stands for columns that name none. ``mask`` are all their fields.
    """

    names: tuple[str, ...]
    columns: tuple[tuple[int, FieldMask], ...]
    mask: FieldMask
    known: bool


def fewest(several: Sequence[Repairs]) -> Repairs:
    """Return the shortest, the first of several."""
    return min(several, key=len, default=())


def wanted(state: State, names: Iterable[str]) -> Wanted:
    """Resolve names; ``known`` is whether all of them are fields."""
    asked = tuple(dict.fromkeys(names))
    by_year: dict[int, FieldMask] = {}
    known = True
    for column in map(state.policy.index.resolve, asked):
        if column is None:
            known = False
        else:
            by_year[column.year] = by_year.get(column.year, 0) | column.bit
    mask = 0
    for each in by_year.values():
        mask |= each
    return Wanted(asked, tuple(sorted(by_year.items())), mask, known)


def repairs(state: State, want: Wanted) -> Iterator[Repairs]:
    """Yield the repairs of each check that fails for ``want``, as far as the engine looked."""
    if not want.known or any(group.reason is Reason.FIELD_WILDCARD for group in state.decision.groups):
        yield ()
    elif state.seen.refusal is not None:
        yield tuple(_of_parties(state))
    elif any(each.reason is not Reason.NONE for each in state.seen.findings):
        for finding in state.seen.findings:
            if finding.reason is not Reason.NONE:
                yield tuple(_of_finding(state, want, finding))
    else:
        yield from _of_fields(state, want)


def _of_parties(state: State) -> Iterator[Change]:
    """Yield repairs of gates 1 to 3: what the caller, the person or the agreement lacks."""
    refusal, parties = state.seen.refusal, state.seen.parties
    service, requester, organisation = parties.service, parties.requester, parties.organisation
    agreement = state.facts.registry.agreements.get(state.facts.claimed.agreement)
    match refusal.reason if refusal else Reason.NONE:
        case Reason.DATA_SERVICE_SUSPENDED if service:
            if service.status is not Status.ACTIVE:
                yield Reinstated("data service", service.id)
            elif operator := state.facts.registry.organisations.get(service.organisation):
                yield _usable_again(operator, state.now)
        case Reason.REQUESTER_SUSPENDED if requester:
            yield Reinstated("requester", requester.id)
        case Reason.ORGANISATION_SUSPENDED if organisation:
            yield _usable_again(organisation, state.now)
        case Reason.AGREEMENT_UNKNOWN | Reason.AGREEMENT_NOT_YOURS if service and requester and organisation:
            for other in state.facts.registry.agreements.values():
                if is_theirs(other, organisation.id, requester.id, service.id):
                    yield AgreementCited(other.id)
            if agreement is not None and agreement.organisation == organisation.id:
                if requester.id not in agreement.requesters:
                    yield AgreementNames(agreement.id, "requesters", (requester.id,))
                if service.id not in agreement.data_services:
                    yield AgreementNames(agreement.id, "data_services", (service.id,))
        case Reason.AGREEMENT_SUSPENDED if agreement:
            yield Reinstated("agreement", agreement.id)
        case Reason.AGREEMENT_NOT_STARTED if agreement:
            yield AgreementInForce(agreement.id, "from", state.now)
        case Reason.AGREEMENT_EXPIRED if agreement:
            yield AgreementInForce(agreement.id, "until", state.now + DAY_MS)
        case Reason.SETTING_NOT_APPROVED if agreement and service:
            yield ServiceSetting(service.id, agreement.setting)
            yield AgreementTerm(agreement.id, "setting", service.setting)
        case Reason.ACTION_NOT_APPROVED if agreement:
            yield from map(ActionAsked, sorted(agreement.actions))
            yield AgreementNames(agreement.id, "actions", (state.facts.claimed.action.value,))


def _usable_again(organisation: Organisation, now: Instant) -> Change:
    if organisation.status is not Status.ACTIVE:
        return Reinstated("organisation", organisation.id)
    return OrganisationVerified(organisation.id, now)


def is_theirs(agreement: Agreement, organisation: str, requester: str, service: str) -> bool:
    """Return whether an agreement is for these three."""
    return (
        agreement.organisation == organisation
        and requester in agreement.requesters
        and service in agreement.data_services
    )


def _of_finding(state: State, want: Wanted, finding: Finding) -> Iterator[Change]:
    """Yield repairs of gates 4 and 5 on the whole question."""
    admitted = state.admitted
    agreement = admitted.agreement.agreement
    if finding.gate == 4:
        if finding.reason is Reason.PURPOSE_NOT_IN_AGREEMENT and permits(
            state.policy, finding.purpose, want.mask
        ):
            yield AgreementNames(agreement.id, "purposes", (finding.purpose,))
        yield from purposes(state, finding.purpose, mask=want.mask)
        return
    yield from terms(state, admitted, "gateway")
    match finding.check:
        case "accredited_person":
            yield from (change for change, _ in accreditations(state, admitted))
        case "accredited_project":
            yield AgreementTerm(agreement.id, "project_accredited", "true")
        case "accredited_setting":
            yield from (change for change, _ in settings(state, admitted))
        case "not_individual_decision":
            yield from purposes(state, finding.purpose, mask=want.mask)


def _of_fields(state: State, want: Wanted) -> Iterator[Repairs]:
    admitted = state.admitted
    for number, trial in enumerate(state.seen.trials):
        for screen in trial.screens:
            hit = screen.fields & want.mask
            if hit and screen.rule is not None:
                yield _of_deny_rule(state, trial, screen.rule, want.mask)
            elif hit and screen.reason is Reason.NO_RULE_ALLOWS:
                yield _of_no_rule(state, trial, hit, want.mask)
            elif hit and (number == 0 or screen.reason in _OF_PURPOSE):
                yield tuple(_of_screen(state, admitted, trial, screen, want))
    yield from _of_years(state, admitted, want)
    reasons = {group.reason for group in state.decision.groups if set(group.names) & set(want.names)}
    if reasons & _OF_ALL:
        yield _of_grants(state, want)


_OF_PURPOSE = frozenset({Reason.PURPOSE_PROHIBITED, Reason.PURPOSE_NOT_ALLOWED})


def _of_screen(
    state: State, admitted: Admitted, trial: Trial, screen: Screen, want: Wanted
) -> Iterator[Change]:
    """Yield repairs of a gate over fields."""
    if screen.reason in _OF_PURPOSE:
        yield from purposes(state, trial.purpose, mask=want.mask)
    elif screen.reason is Reason.FIELD_NOT_IN_AGREEMENT:
        names = state.policy.index.names(screen.fields & want.mask)
        yield AgreementNames(admitted.agreement.agreement.id, "fields", names)
    elif screen.reason is Reason.GATEWAY_PRECONDITION:
        yield from terms(state, admitted, "gateway")
        if screen.check == "article9":
            yield from terms(state, admitted, "agreement.article9")
    elif screen.reason not in _BEYOND_REPAIR:
        raise AssertionError(f"no repairs are known for {screen.reason}")


def _of_years(state: State, admitted: Admitted, want: Wanted) -> Iterator[Repairs]:
    """Yield repairs of the check of years: columns of a year and columns without are two checks."""
    agreement, stated = admitted.agreement.agreement, state.facts.claimed.years
    lacking: list[dict[str, set[int]]] = []
    for year, mask in want.columns:
        found: dict[str, set[int]] = {}
        for table in _tables(state, mask):
            key, approved = _approved(agreement, table)
            if outside := ({year} if year else set(stated)) - approved:
                found.setdefault(key, set()).update(outside)
        lacking.append(found)
    all_years = _more_years(agreement, lacking)
    for (year, mask), found in zip(want.columns, lacking, strict=True):
        missing = not year and not stated
        if not found and not missing:
            continue
        options: list[Change] = []
        if found:
            options += all_years
            options += (each for each in _more_years(agreement, [found]) if each not in options)
        if not year:
            common = set.intersection(*(set(_approved(agreement, each)[1]) for each in _tables(state, mask)))
            years = sorted(common & set(stated) or common)
            options += [YearsStated(tuple(years))] if years else []
        yield tuple(options)


def _tables(state: State, mask: FieldMask) -> list[str]:
    return sorted({state.policy.fields[position].table for position in positions(mask)})


def _approved(agreement: Agreement, table: str) -> tuple[str, frozenset[int]]:
    """Return the years for a table; the empty name where the agreement says nothing of its own for it."""
    own = [years for name, years in agreement.table_years if name.lower() == table.lower()]
    return (table, own[-1]) if own else ("", agreement.years)


def _more_years(agreement: Agreement, lacking: Iterable[dict[str, set[int]]]) -> list[Change]:
    total: dict[str, set[int]] = {}
    for found in lacking:
        for table, years in found.items():
            total.setdefault(table, set()).update(years)
    years_by_table = tuple((table, tuple(sorted(years))) for table, years in sorted(total.items()))
    return [AgreementYears(agreement.id, years_by_table)] if years_by_table else []


def _of_deny_rule(state: State, trial: Trial, rule: Rule, mask: FieldMask) -> Repairs:
    """Return changes that make some condition of a rule that denies less true."""
    found: dict[Change, None] = {}
    for atom in _atoms(state, rule):
        truth = atom.truth(trial.values)
        for change, after in _pulls(state, atom, trial, mask):
            if after is None or after < truth:
                found[change] = None
    if rule.ties:
        found.update(dict.fromkeys(_any(state, trial, ATTRIBUTES, mask)))
    return tuple(found)


def _of_no_rule(state: State, trial: Trial, hit: FieldMask, mask: FieldMask) -> Repairs:
    """Return changes that bring one of the rules that could allow the first field in ``hit`` closer to it.

    Of each rule only the clause with the fewest is looked at, as all its clauses must hold.
    """
    first = hit & -hit
    found: dict[Change, None] = {}
    for rule in state.policy.rules:
        if not rule.allow or not rule.true_mask & first:
            continue
        clauses = [_of_clause(state, trial, clause, mask) for clause in rule.dynamic]
        failing = [clause for clause in clauses if clause is not None]
        if rule.ties and () not in failing:
            found.update(dict.fromkeys(_any(state, trial, ATTRIBUTES, mask)))
        else:
            found.update(dict.fromkeys(fewest(failing)))
    return tuple(found)


def _of_clause(
    state: State, trial: Trial, clause: Sequence[Sequence[int]], mask: FieldMask
) -> Repairs | None:
    """Return changes that bring a clause closer to true; None when it is.

    It is an *or* of *ands*: of each alternative, the condition with the fewest.
    """
    found: dict[Change, None] = {}
    for alternative in clause:
        atoms = [state.policy.atoms[number] for number in alternative]
        failing = [atom for atom in atoms if atom.truth(trial.values) != TRUE]
        if not failing:
            return None
        options = [
            tuple(change for change, after in _pulls(state, atom, trial, mask) if after in (None, TRUE))
            for atom in failing
        ]
        found.update(dict.fromkeys(fewest(options)))
    return tuple(found)


def _pulls(
    state: State, atom: Atom | WhereAtom, trial: Trial, mask: FieldMask
) -> Iterator[tuple[Change, Truth | None]]:
    """Yield changes of what a condition reads, and its truth after each; None where that is not known.

    A condition on two attributes may need both changed, so its truth after one says nothing.
    """
    read = attributes_of(atom)
    for attribute in sorted(read):
        for change, after in pulls(state, attribute, purpose=trial.purpose, mask=mask):
            known = bool(after) and len(read) == 1
            yield change, atom.truth({**trial.values, **after}) if known else None


def _of_grants(state: State, want: Wanted) -> Repairs:
    """Return every change of what the rules that allow the names read: together they grant too little.

    Obligations are those of the whole question, so names that share the reason count as well.
    """
    mask = want.mask
    for group in state.decision.groups:
        if group.reason in _OF_ALL:
            mask = reduce(or_, (columns.mask for columns in (*group.released, *group.used)), mask)
    allowing = [rule for rule in state.policy.rules if rule.allow and rule.true_mask & mask]
    # Whose setting an obligation names, and which duties a purpose brings, no condition says.
    read = {"setting", "purpose"}
    for rule in allowing:
        for atom in _atoms(state, rule):
            read |= attributes_of(atom)
        if rule.ties:
            read.update(ATTRIBUTES)
    found: dict[Change, None] = {}
    for trial in state.seen.trials:
        found.update(dict.fromkeys(_any(state, trial, sorted(read), want.mask)))
    rows = [each for rule in allowing if (each := rule.duties.fixed.row_years) is not None]
    if rows:
        rows.append(frozenset.intersection(*rows))
    found.update(dict.fromkeys(YearsStated(tuple(sorted(each))) for each in rows if each))
    return tuple(found)


def _any(state: State, trial: Trial, attributes: Iterable[str], mask: FieldMask) -> Iterator[Change]:
    for attribute in attributes:
        for change, _ in pulls(state, attribute, purpose=trial.purpose, mask=mask):
            yield change


def _atoms(state: State, rule: Rule) -> list[Atom | WhereAtom]:
    return [state.policy.atoms[number] for number in chain(*chain(*rule.dynamic))]
