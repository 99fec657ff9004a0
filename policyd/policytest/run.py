"""Run policy cases: decide each on its own frozen instant, and say what came out otherwise than wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from policyd.decision.decide import decide
from policyd.decision.snapshot import Snapshot, build_snapshot
from policyd.model import Claimed, Decision, Effect, Instant, Request, Token, Verified
from policyd.policy.policyset import PolicySet
from policyd.policytest.cases import (
    UNKNOWN_REQUESTER,
    UNVERIFIED_REQUESTER,
    Case,
    CaseFile,
)
from policyd.transform import describe


@dataclass(frozen=True, slots=True)
class Result:
    """One case and what differed; no differences means that it passed."""

    file: CaseFile
    case: Case
    decision: Decision
    differences: tuple[str, ...]


def run_cases(policy: PolicySet, files: Iterable[CaseFile]) -> Iterator[Result]:
    """Yield the result of each case, in order."""
    for file in files:
        snapshot = build_snapshot(policy, file.registry, epoch=1)
        for case in file.cases:
            decision = decide(snapshot, request_of(snapshot, case), case.now)
            yield Result(file, case, decision, tuple(_differences(case, decision)))


def spell_verdicts(decision: Decision) -> dict[str, str]:
    """Return the verdict on each name as policy tests write it."""
    found = {}
    for group in decision.groups:
        if group.effect is Effect.TRANSFORM:
            text = f"transform {describe(group.transform)}"
        elif group.effect is Effect.WITHHOLD:
            text = f"withhold {group.reason}"
        else:
            text = group.effect.value
        found.update(dict.fromkeys(group.names, text))
    return found


def request_of(snapshot: Snapshot, case: Case) -> Request:
    """Return the question that a case puts, with the token that its requester would have brought."""
    return question(
        snapshot, case.claimed, data_service=case.data_service, requester=case.requester, now=case.now
    )


def question(
    snapshot: Snapshot, claimed: Claimed, *, data_service: str, requester: str, now: Instant
) -> Request:
    """Return a question that a registered data service puts for a registered requester, by their ids.

    Ids that are not registered stand for a caller or a requester that nobody knows.
    """
    spiffe_id = next((each.spiffe_id for each in snapshot.services.values() if each.id == data_service), "")
    if requester == UNVERIFIED_REQUESTER:
        return Request(claimed, Verified(spiffe_id, None, "signature"))
    person = snapshot.requesters_by_id.get(requester)
    if person is None:
        return Request(claimed, Verified(spiffe_id, _token("case", UNKNOWN_REQUESTER, now)))
    return Request(claimed, Verified(spiffe_id, _token(person.issuer, person.subject, now)))


def _token(issuer: str, subject: str, now: Instant) -> Token:
    """Return the claims that a token of this requester would have given, had it been verified."""
    return Token(issuer, subject, digest=bytes(32), expires_at=now + 60_000)


def _differences(case: Case, decision: Decision) -> Iterator[str]:
    if decision.outcome is not case.outcome:
        yield f"outcome: want {case.outcome}, have {decision.outcome}"
    yield from _compare("", case.verdicts, spell_verdicts(decision))
    rules = {name: group.rule for group in decision.groups for name in group.names}
    yield from _compare("rule of ", case.rules, rules)
    for name, wanted in case.obligations.items():
        have = getattr(decision.obligations, name)
        if have != wanted:
            yield f"obligation {name}: want {_plain(wanted)}, have {_plain(have)}"


def _compare(what: str, want: Mapping[str, str], have: Mapping[str, str]) -> Iterator[str]:
    for name, wanted in want.items():
        if have.get(name) != wanted:
            yield f"{what}{name}: want `{wanted}`, have `{have.get(name)}`"


def _plain(value: object) -> str:
    return str(sorted(value)) if isinstance(value, frozenset) else str(value)
