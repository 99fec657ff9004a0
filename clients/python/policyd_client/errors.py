"""Everything the client raises instead of releasing; all of it is a kind of ``Withheld``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class Withheld(Exception):
    """Nothing may be released. ``reasons`` gives a reason for each name that is withheld."""

    def __init__(
        self, message: str, *, reasons: Mapping[str, str] | None = None, decision_id: str = ""
    ) -> None:
        super().__init__(message)
        self.reasons: Mapping[str, str] = MappingProxyType(dict(reasons or {}))
        self.decision_id = decision_id


class NoDecision(Withheld):
    """No answer came, so no decision is known. ``code`` is a gRPC status name, ``attempts`` counts calls."""

    def __init__(self, message: str, *, code: str, attempts: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.attempts = attempts


class AlreadyUsed(Withheld):
    """The decision has been used for a query; ask again for the next one."""


class Expired(Withheld):
    """The decision's life is over; ask again."""


class NotReported(Withheld):
    """A release is not on record, as far as is known; hand nothing on, and report again.

    ``code`` is a gRPC status name, ``UNEXPECTED`` when the answer to the report was not as it has to be.
    """

    def __init__(self, message: str, *, code: str, decision_id: str = "") -> None:
        super().__init__(message, decision_id=decision_id)
        self.code = code


class AlreadyReported(Withheld):
    """What was released after this decision is on record already."""


class SealsNotLive(Withheld):
    """It is not known now which records are under seal, or not up to the epoch that the decision needs."""
