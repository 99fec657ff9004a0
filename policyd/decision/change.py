"""Changes of single facts that could make a decision come out otherwise, and what each says in words.

A fact is something that somebody may decide: a member of a registry entry, or what the question claims. Who
a person, an organisation or a data service is, and what time it is, are none, and no change touches them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol

from policyd.model import (
    Accreditation,
    AccreditationLevel,
    Action,
    Claimed,
    Instant,
    Registry,
    Status,
)

NEW_ACCREDITATION = "PROPOSED"
"""The id of an accreditation that would be new."""
QUESTION = "question"
"""What is changed where it is no registry entry."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What changes are made to: the registry entries that a question touches, and what it claims."""

    registry: Registry
    claimed: Claimed


class Terms(NamedTuple):
    """A change in plain values: ``member`` of entry ``id`` would be ``values`` or, a list, also hold them.

    ``entry`` is the kind of registry entry, or ``QUESTION`` without an id; members are spelled as in
    registry files. ``text`` says what would be so, as a sentence without its full stop. ``part`` is what
    of the member is set, where several changes can set different parts of it.
    """

    entry: str
    id: str
    member: str
    values: tuple[str, ...]
    text: str
    part: str = ""


class Change(Protocol):
    """One fact replaced. Changes of one set are listed and made in the order of ``rank``."""

    rank: ClassVar[int]

    @property
    def terms(self) -> Terms:
        """The change in plain values."""

    def make(self, facts: Facts) -> Facts:
        """Return the facts with this one replaced."""


ChangeSet = tuple[Change, ...]
"""Changes that have to be made together, sorted by ``order``."""


def order(change: Change) -> tuple[object, ...]:
    """Return what changes are sorted by."""
    return change.rank, change.terms


def slot(change: Change) -> tuple[str, ...]:
    """Return what a change sets: two changes of one slot contradict each other."""
    terms = change.terms
    return terms.entry, terms.id, terms.member, terms.part


def make_all(facts: Facts, changes: Iterable[Change]) -> Facts:
    """Make every change, in their one order."""
    for change in sorted(changes, key=order):
        facts = change.make(facts)
    return facts


_SECTIONS = {
    "data service": "data_services",
    "requester": "requesters",
    "organisation": "organisations",
    "accreditation": "accreditations",
    "agreement": "agreements",
}


def edit(facts: Facts, entry: str, id_: str, **members: Any) -> Facts:
    """Replace members of one registry entry."""
    section = _SECTIONS[entry]
    known = getattr(facts.registry, section)
    changed = {**known, id_: replace(known[id_], **members)}
    return replace(facts, registry=replace(facts.registry, **{section: changed}))


def claim(facts: Facts, **parts: Any) -> Facts:
    return replace(facts, claimed=replace(facts.claimed, **parts))


def spell_years(years: Iterable[int]) -> str:
    """Return academic years with runs joined: `2015/16 to 2018/19, 2020/21`."""
    runs: list[list[int]] = []
    for year in sorted(years):
        if runs and year == runs[-1][1] + 1:
            runs[-1][1] = year
        else:
            runs.append([year, year])
    return ", ".join(
        _year(first) if first == last else f"{_year(first)} to {_year(last)}" for first, last in runs
    )


def _year(first: int) -> str:
    return f"{first}/{(first + 1) % 100:02}"


@dataclass(frozen=True, slots=True)
class Reinstated:
    """An entry that is suspended is active again."""

    rank: ClassVar[int] = 1
    entry: str
    id: str

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        text = f"{self.entry} `{self.id}` is no longer suspended"
        return Terms(self.entry, self.id, "status", (Status.ACTIVE.value,), text)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the entry active."""
        return edit(facts, self.entry, self.id, status=Status.ACTIVE)


@dataclass(frozen=True, slots=True)
class OrganisationVerified:
    """An organisation whose name or control changed has been verified since."""

    rank: ClassVar[int] = 2
    id: str
    at: Instant

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        text = f"organisation `{self.id}` is verified again, after its change of name or control"
        return Terms("organisation", self.id, "verified_at", (str(self.at),), text)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the organisation verified."""
        return edit(facts, "organisation", self.id, verified_at=self.at)


@dataclass(frozen=True, slots=True)
class Accredited:
    """A requester holds a valid accreditation, in place of those under the scheme that are not suspended."""

    rank: ClassVar[int] = 3
    requester: str
    organisation: str
    scheme: str
    level: AccreditationLevel
    from_at: Instant
    until_at: Instant
    supervisor: str | None = None

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        under = f" and supervisor `{self.supervisor}`" if self.supervisor else ""
        text = (
            f"requester `{self.requester}` holds a valid accreditation under scheme `{self.scheme}`, "
            f"level `{self.level.value}`{under}"
        )
        values = (self.scheme, self.level.value, *([self.supervisor] if self.supervisor else []))
        return Terms("requester", self.requester, "accreditation", values, text, part=self.scheme)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the accreditation."""
        others = {
            each.id: each
            for each in facts.registry.accreditations.values()
            if each.requester != self.requester
            or each.scheme != self.scheme
            or each.status is Status.SUSPENDED
        }
        name = NEW_ACCREDITATION
        while name in others:
            name += "-"
        held = Accreditation(
            id=name,
            requester=self.requester,
            organisation=self.organisation,
            scheme=self.scheme,
            level=self.level,
            from_at=self.from_at,
            until_at=self.until_at,
            status=Status.ACTIVE,
            source="proposed",
            supervisor=self.supervisor,
        )
        return replace(facts, registry=replace(facts.registry, accreditations={**others, name: held}))


@dataclass(frozen=True, slots=True)
class RoleGiven:
    """A requester has one more role."""

    rank: ClassVar[int] = 4
    requester: str
    role: str

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        text = f"requester `{self.requester}` has the role `{self.role}`"
        return Terms("requester", self.requester, "roles", (self.role,), text, part=self.role)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the role."""
        person = facts.registry.requesters[self.requester]
        return edit(facts, "requester", self.requester, roles=person.roles | {self.role})


@dataclass(frozen=True, slots=True)
class ServiceSetting:
    """A data service runs in another setting."""

    rank: ClassVar[int] = 5
    id: str
    setting: str

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        text = f"data service `{self.id}` runs in the setting `{self.setting}`"
        return Terms("data service", self.id, "setting", (self.setting,), text)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the setting."""
        return edit(facts, "data service", self.id, setting=self.setting)


@dataclass(frozen=True, slots=True)
class AgreementCited:
    """The question is asked under another agreement."""

    rank: ClassVar[int] = 10
    agreement: str

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        text = f"the question is asked under agreement `{self.agreement}`"
        return Terms(QUESTION, "", "agreement", (self.agreement,), text)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the claim."""
        return claim(facts, agreement=self.agreement)


@dataclass(frozen=True, slots=True)
class PurposeDeclared:
    """The question declares ``purpose``; ``instead`` of which one, empty when none is declared.

    Without a purpose the other is left out.
    """

    rank: ClassVar[int] = 11
    purpose: str
    instead: str

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        text = f"the question declares the purpose `{self.purpose}`" if self.purpose else "the question"
        if self.instead:
            text += f" instead of `{self.instead}`" if self.purpose else f" leaves out `{self.instead}`"
        values = (self.purpose,) if self.purpose else ()
        return Terms(QUESTION, "", "purposes", values, text, part=self.instead)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the claim."""
        declared = facts.claimed.purposes or ("",)
        new = [self.purpose if each == self.instead else each for each in declared]
        return claim(facts, purposes=tuple(dict.fromkeys(each for each in new if each)))


@dataclass(frozen=True, slots=True)
class ActionAsked:
    """The question is for another action."""

    rank: ClassVar[int] = 12
    action: Action

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        text = f"the question is for the action `{self.action.value}`"
        return Terms(QUESTION, "", "action", (self.action.value,), text)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the claim."""
        return claim(facts, action=self.action)


@dataclass(frozen=True, slots=True)
class YearsStated:
    """The question states other academic years for columns that carry none."""

    rank: ClassVar[int] = 13
    years: tuple[int, ...]

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        text = f"the question states the academic years {spell_years(self.years)}"
        return Terms(QUESTION, "", "years", tuple(map(str, self.years)), text)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the claim."""
        return claim(facts, years=self.years)
