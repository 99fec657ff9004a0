"""Changes of agreements that could make a decision come out otherwise (``policyd.decision.change``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from policyd.decision.change import Facts, Terms, edit, spell_years
from policyd.model import Action, Agreement, Instant

_MAX_LISTED = 3
_NOUNS = {
    "requesters": "requester",
    "data_services": "data service",
    "purposes": "purpose",
    "actions": "action",
    "fields": "field",
}


@dataclass(frozen=True, slots=True)
class AgreementNames:
    """An agreement names more requesters, data services, purposes, actions or fields than it does."""

    rank: ClassVar[int] = 6
    id: str
    member: str
    values: tuple[str, ...]

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        noun = _NOUNS[self.member] + "s" * (len(self.values) > 1)
        text = f"agreement `{self.id}` names the {noun} {_list(self.values)}"
        return Terms("agreement", self.id, self.member, self.values, text, part=self.values[0])

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the names in the agreement."""
        agreement = facts.registry.agreements[self.id]
        more = {Action(each) for each in self.values} if self.member == "actions" else set(self.values)
        return edit(facts, "agreement", self.id, **{self.member: getattr(agreement, self.member) | more})


@dataclass(frozen=True, slots=True)
class AgreementYears:
    """An agreement covers more academic years; ``years`` by table, of which the empty one stands for all."""

    rank: ClassVar[int] = 7
    id: str
    years: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        parts = [
            spell_years(years) + (f" for table `{table}`" if table else "") for table, years in self.years
        ]
        text = f"agreement `{self.id}` covers {' and '.join(parts)}"
        values = tuple(
            f"{table}:{year}" if table else str(year) for table, years in self.years for year in years
        )
        return Terms("agreement", self.id, "years", values, text)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the years in the agreement."""
        agreement = facts.registry.agreements[self.id]
        more = {table.lower(): frozenset(years) for table, years in self.years}
        by_table = tuple(
            (table, years | more.get(table.lower(), frozenset())) for table, years in agreement.table_years
        )
        years = agreement.years | more.get("", frozenset())
        return edit(facts, "agreement", self.id, years=years, table_years=by_table)


@dataclass(frozen=True, slots=True)
class AgreementTerm:
    """An agreement states another setting, gateway, scheme, basis, or other single word."""

    rank: ClassVar[int] = 8
    id: str
    member: str
    value: str

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        said = {
            "setting": f"approves the setting `{self.value}`",
            "gateway": f"rests on the gateway `{self.value}`",
            "scheme": f"relies on the accreditation scheme `{self.value}`",
            "article9": f"states the Article 9 condition `{self.value}`",
            "project_accredited": "is for an accredited project",
        }
        text = f"agreement `{self.id}` {said.get(self.member, f'states {self.member} `{self.value}`')}"
        return Terms("agreement", self.id, self.member, (self.value,), text)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the member as stated."""
        value: object = self.value == "true" if self.member == "project_accredited" else self.value
        return edit(facts, "agreement", self.id, **{self.member: value})


@dataclass(frozen=True, slots=True)
class AgreementInForce:
    """An agreement that has not started yet, or is over, is in force."""

    rank: ClassVar[int] = 9
    id: str
    member: str
    at: Instant

    @property
    def terms(self) -> Terms:
        """The change in plain values."""
        text = f"agreement `{self.id}` " + ("has started" if self.member == "from" else "has not ended yet")
        return Terms("agreement", self.id, self.member, (str(self.at),), text)

    def make(self, facts: Facts) -> Facts:
        """Return the facts with the date; what is kept is never to be destroyed before the end."""
        if self.member == "from":
            return edit(facts, "agreement", self.id, from_at=self.at)
        agreement: Agreement = facts.registry.agreements[self.id]
        destroy_by = max(agreement.destroy_by, self.at)
        return edit(facts, "agreement", self.id, until_at=self.at, destroy_by=destroy_by)


def _list(values: Iterable[str]) -> str:
    shown = list(values)
    more = f" and {len(shown) - _MAX_LISTED} more" if len(shown) > _MAX_LISTED else ""
    return ", ".join(f"`{each}`" for each in shown[:_MAX_LISTED]) + more
