"""Levers: which single changes could give an attribute of rules another value, and which value.

Only attributes that somebody may decide have levers. What a rule says of the others (who asks, through
what program, what kind of body, what time it is) no change can mend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from policyd.decision.accreditation import standing
from policyd.decision.change import (
    Accredited,
    ActionAsked,
    Change,
    Facts,
    PurposeDeclared,
    Reinstated,
    RoleGiven,
    ServiceSetting,
)
from policyd.decision.change_agreement import AgreementTerm
from policyd.decision.entitlement import Examination
from policyd.decision.gates import Admitted
from policyd.decision.snapshot import Snapshot
from policyd.model import (
    AccreditationLevel,
    AccreditationStatus,
    Action,
    Decision,
    FieldMask,
    Instant,
    Requester,
    Status,
)
from policyd.policy.policyset import PolicySet
from policyd.policy.rules import words_of

DAY_MS = 86_400_000
_TERM_MS = {
    AccreditationLevel.FULL: 5 * 365 * DAY_MS,
    AccreditationLevel.PROVISIONAL: 3 * 365 * DAY_MS,
}
"""How long an accreditation runs at most, by level (Research Code of Practice and Accreditation Criteria)."""

_TERMS = {
    "gateway": "gateway",
    "agreement.basis": "basis",
    "agreement.article9": "article9",
    "agreement.compatibility": "compatibility",
    "agreement.exemption": "exemption",
}
_ARTICLE9 = tuple(f"art-9-2-{letter}" for letter in "abcdefghij")
"""The conditions of UK GDPR Art 9(2), for policy sets that list none."""


@dataclass(slots=True)
class Vocabulary:
    """The words that a policy set has for each attribute: its closed list, and what conditions name."""

    policy: PolicySet
    _known: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, attribute: str) -> tuple[str, ...]:
        """Return the words for an attribute, sorted."""
        if attribute not in self._known:
            found: set[str] = set()
            for atom in self.policy.atoms:
                if atom.attribute.name == attribute:
                    found.update((*atom.attribute.values, *words_of(atom)))
            self._known[attribute] = tuple(sorted(found))
        return self._known[attribute]

    @property
    def tell_provisional(self) -> bool:
        """Whether any condition could tell a provisional accreditation from a full one."""
        return any(atom.attribute.name == "accreditation.level" for atom in self.policy.atoms)


@dataclass(frozen=True, slots=True)
class State:
    """The facts after some changes, and what the engine made of them."""

    facts: Facts
    snapshot: Snapshot
    seen: Examination
    decision: Decision
    now: Instant
    words: Vocabulary

    @property
    def admitted(self) -> Admitted:
        """The parties; to be asked for only where gates 1 to 3 have passed."""
        return cast("Admitted", self.seen.admitted)

    @property
    def policy(self) -> PolicySet:
        """The policy set."""
        return self.snapshot.policy


Pull = tuple[Change, Mapping[str, object]]
"""A change and the attributes as rules would then see them; empty where that takes the engine to tell."""


def pulls(state: State, attribute: str, *, purpose: str, mask: FieldMask) -> Iterator[Pull]:
    """Yield each single change that could give ``attribute`` another value.

    ``purpose`` is the declared one that rules look at; another is only of use if the catalogue permits it
    for all of ``mask``.
    """
    admitted = state.admitted
    if attribute in _TERMS:
        for each in terms(state, admitted, attribute):
            yield each, {attribute: each.value}
    elif attribute == "action":
        for action in Action:
            if action is not state.facts.claimed.action:
                yield ActionAsked(action), {attribute: action.value}
    elif lever := _LEVERS.get(attribute):
        yield from lever(state, admitted)
    elif attribute in ("purpose", "purpose_within", "purpose_notice"):
        for change in purposes(state, purpose, mask=mask):
            yield change, _as_seen(state.policy, change.purpose)


def terms(state: State, admitted: Admitted, attribute: str) -> Iterator[AgreementTerm]:
    """Yield the other words that the agreement could state, `none` among them where there is such a word."""
    agreement, member = admitted.agreement.agreement, _TERMS[attribute]
    if member == "gateway":
        known = state.policy.gateways.by_id.values()
        choices: Iterable[str] = sorted(each.id for each in known if each.in_force(state.now))
    else:
        choices = state.words.of(attribute)
        if member == "article9" and not set(choices) - {"none"}:
            choices = _ARTICLE9
    for value in choices:
        if value != getattr(agreement, member):
            yield AgreementTerm(agreement.id, member, value)


def purposes(state: State, instead: str, *, mask: FieldMask) -> Iterator[PurposeDeclared]:
    """Yield other purposes that could be declared for fields, and that ``instead`` is left out."""
    declared, policy = state.facts.claimed.purposes, state.policy
    if len(declared) > 1:
        yield PurposeDeclared("", instead)
    for purpose in policy.graph.names(policy.graph.requestable):
        if purpose not in declared and permits(policy, purpose, mask):
            yield PurposeDeclared(purpose, instead)


def permits(policy: PolicySet, purpose: str, mask: FieldMask) -> bool:
    """Return whether the catalogue permits a purpose for all fields: if not, no change makes it do so."""
    number = policy.graph.ids.index(purpose)
    return not mask & ~(policy.full[number] | policy.conditional[number])


def _as_seen(policy: PolicySet, purpose: str) -> Mapping[str, object]:
    if not purpose:
        return {}
    graph = policy.graph
    return {
        "purpose": purpose,
        "purpose_within": frozenset(graph.names(graph.up(graph.bit(purpose)))),
        "purpose_notice": bool(graph.purposes[purpose].notice),
    }


def settings(state: State, admitted: Admitted) -> Iterator[Pull]:
    """Yield other settings that the data service could run in."""
    service = admitted.service
    asked = {
        value
        for gateway in state.policy.gateways.by_id.values()
        for precondition in gateway.preconditions
        if precondition.check == "accredited_setting"
        for value in precondition.values
    }
    for value in sorted({*state.words.of("setting"), *asked, admitted.agreement.agreement.setting}):
        if value != service.setting:
            yield ServiceSetting(service.id, value), {"setting": value}


def accreditations(state: State, admitted: Admitted) -> Iterator[Pull]:
    """Yield what could mend a requester's accreditation under the agreement's scheme.

    While one of the person's records is suspended, nothing else counts.
    """
    requester, agreement = admitted.requester, admitted.agreement.agreement
    own = admitted.standing
    if own.status is AccreditationStatus.SUSPENDED and own.record is not None:
        yield Reinstated("accreditation", own.record.id), {}
        return
    levels = [AccreditationLevel.FULL]
    supervisor = None
    if state.words.tell_provisional:
        supervisor = find_supervisor(state.snapshot, requester, agreement.scheme, now=state.now)
        levels += [AccreditationLevel.PROVISIONAL] * (supervisor is not None)
    for level in levels:
        until = state.now + _TERM_MS[level]
        held = Accredited(
            requester.id,
            requester.organisation,
            agreement.scheme,
            level,
            state.now,
            until,
            supervisor if level is AccreditationLevel.PROVISIONAL else None,
        )
        yield (
            held,
            {
                "accreditation.status": AccreditationStatus.VALID.value,
                "accreditation.level": level.value,
                "accreditation.until": until,
            },
        )
    for change, _ in schemes(state, admitted):
        yield change, {}


def schemes(state: State, admitted: Admitted) -> Iterator[Pull]:
    """Yield other schemes that the agreement could rely on: those of rules, and those of the requester."""
    agreement = admitted.agreement.agreement
    held = {each.scheme for each in state.snapshot.accreditations.get(admitted.requester.id, ())}
    for scheme in sorted({*state.words.of("accreditation.scheme"), *held}):
        if scheme != agreement.scheme:
            yield AgreementTerm(agreement.id, "scheme", scheme), {"accreditation.scheme": scheme}


def find_supervisor(snapshot: Snapshot, requester: Requester, scheme: str, *, now: Instant) -> str | None:
    """Return the first colleague by id who could supervise: active, and fully accredited now."""
    colleagues = (
        each
        for each in snapshot.requesters_by_id.values()
        if each.organisation == requester.organisation and each.status is Status.ACTIVE
    )
    for other in sorted(colleagues, key=lambda each: each.id):
        own = standing(snapshot, other, scheme, now=now)
        full = own.record is not None and own.record.level is AccreditationLevel.FULL
        if full and own.status is AccreditationStatus.VALID and other.id != requester.id:
            return other.id
    return None


def _roles(state: State, admitted: Admitted) -> Iterator[Pull]:
    requester = admitted.requester
    for role in state.words.of("roles"):
        if role not in requester.roles:
            yield RoleGiven(requester.id, role), {"roles": requester.roles | {role}}


_LEVERS: Mapping[str, Callable[[State, Admitted], Iterator[Pull]]] = {
    "setting": settings,
    "accreditation.status": accreditations,
    "accreditation.level": accreditations,
    "accreditation.until": accreditations,
    "accreditation.scheme": schemes,
    "roles": _roles,
}
ATTRIBUTES = (*_TERMS, *_LEVERS, "action", "purpose")
"""Every attribute that has a lever."""
