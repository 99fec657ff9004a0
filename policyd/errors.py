"""Every error that policyd raises: what is wrong, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


class PolicydError(Exception):
    """Base of all errors that policyd raises on purpose; ``str()`` is fit to show to a user."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a source file; line and column count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a source file."""

    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class SourceError(PolicydError):
    """One or more files did not load; ``problems`` holds every mistake, sorted by place."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(p) for p in self.problems))


class InvalidRequest(PolicydError):
    """The question is malformed, so no decision was made (INVALID_ARGUMENT)."""


class NotPermitted(PolicydError):
    """The caller is known, but this call is not for it (PERMISSION_DENIED)."""


class NotFound(PolicydError):
    """What the caller names is not here, or not for it to see (NOT_FOUND)."""


class AlreadyReported(PolicydError):
    """What was released after this decision is on record already (ALREADY_EXISTS)."""


class NotServing(PolicydError):
    """This node may not decide now (UNAVAILABLE): state stale, below a required epoch, or closing."""


class LedgerClosed(PolicydError):
    """The ledger failed once and is closed until ``policyd audit verify`` has passed (UNAVAILABLE)."""


class TooLate(PolicydError):
    """The caller had given up when its call came; nothing was decided or recorded (DEADLINE_EXCEEDED)."""


class Busy(PolicydError):
    """Too many calls at once; nothing was decided or recorded (RESOURCE_EXHAUSTED)."""


class LedgerBusy(Busy):
    """The ledger's queue is full; nothing was recorded and nothing may be released (RESOURCE_EXHAUSTED)."""


class LedgerCorrupt(PolicydError):
    """Stored records, tree or checkpoint disagree; the message names the first record at fault."""


class LedgerForked(LedgerCorrupt):
    """A witness has cosigned another history of this log, or a longer one: this copy must not go on."""


class StateConflict(PolicydError):
    """The state moved on since the change was planned; plan again (ABORTED)."""


class NotAuthorised(PolicydError):
    """Those who signed a change of state may not make it, or did not sign it (PERMISSION_DENIED)."""


class ApprovalMissing(NotAuthorised):
    """A change of state takes the signature of one more person (PERMISSION_DENIED)."""


class ConfigError(PolicydError):
    """The configuration, a key or a certificate cannot be used."""


class StateCorrupt(PolicydError):
    """The stored state breaks its chain, a signature or its form; names the first change at fault."""


class StateAstray(StateCorrupt):
    """The store now holds less than this node applied, or another history; what the node knows is intact.

    The node decides nothing meanwhile, and goes on by itself once the store holds what it had applied.
    """


class StateUnfit(NotServing):
    """The store answers, but may not be relied on as it is: it evicts, or its clock is far from ours."""


class Unauthenticated(PolicydError):
    """The caller's certificate names no data service of this trust domain (UNAUTHENTICATED)."""


class TokenError(PolicydError):
    """The requester's token was refused; ``code`` is one word of docs/tokens.md and all there is to say."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(f"requester token refused: {code}")
