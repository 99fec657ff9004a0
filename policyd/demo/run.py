"""Put every scenario to policyd through the demo data services, print what happened, and check it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from policyd_client import PolicyClient, Withheld

from policyd.demo.cast import SETTINGS, sealed_pupil
from policyd.demo.dataservice import Answer, DataService
from policyd.demo.proof import check
from policyd.demo.scenarios import SCENARIOS, SCHOOL, Scenario
from policyd.demo.story import Story
from policyd.demo.syntax import Refused
from policyd.demo.tables import SCHEMA

SEALS_READY_S = 10.0
"""How long the data services may take at the start to learn which records are sealed."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """How many questions were put, decisions came back and releases were reported, and what was wrong."""

    scenarios: int
    decisions: int
    reports: int
    failures: tuple[str, ...]


def run_scenarios(
    *,
    clients: Mapping[str, PolicyClient],
    database: Path,
    mint_token: Callable[[str, str], str],
    seal_keys: Mapping[str, bytes],
    pseudonym_key: bytes,
    out: TextIO,
) -> DemoResult:
    """Run all scenarios on ``database`` and print them to ``out``.

    ``clients`` and ``seal_keys`` hold, for every data service in ``cast.SETTINGS``, a client that
    connects with its certificate, and its own key for seal tokens. ``mint_token`` makes the token that
    a data service (second) brings on behalf of a requester (first), both by id. The registry of
    ``cast.registry_text`` has to be in force. A scenario that does not come out as it has to is
    printed, listed in the result, and does not stop the others.

    Raises:
        Withheld: a data service does not learn which records are under seal.
    """
    story = Story(out)
    _, school = sealed_pupil(database)
    failures: list[str] = []
    decisions = reports = 0
    with _data_services(clients, database, seal_keys, pseudonym_key) as services:
        for number, scenario in enumerate(SCENARIOS, start=1):
            sql = scenario.sql.replace(SCHOOL, str(school))
            story.question(number, scenario, sql, setting=SETTINGS[scenario.data_service])
            try:
                answer = services[scenario.data_service].ask(
                    sql,
                    requester_token=mint_token(scenario.requester, scenario.data_service),
                    agreement=scenario.agreement,
                    purposes=(scenario.purpose,),
                    years=scenario.years,
                    action=scenario.action,
                )
            except Refused as refused:
                story.not_asked(str(refused))
                wrong = [] if scenario.outcome == "not-asked" else ["the statement was refused"]
            except Withheld as withheld:
                wrong = [f"no decision: {withheld}"]
            else:
                decisions += 1
                reports += answer.report is not None
                story.answer(answer)
                findings = () if answer.withheld else check(scenario.proof, answer, database)
                story.findings(findings)
                wrong = [*differences(scenario, answer), *(f.line for f in findings if not f.holds)]
            for why in wrong:
                story.failure(why)
                failures.append(f"{number} {scenario.title}: {why}")
    story.line("")
    story.line(
        f"{len(SCENARIOS)} questions, {decisions} decisions, {reports} reports of what was done, "
        f"{len(failures)} not as expected"
    )
    story.line("each proof was checked by the data service itself, against the pinned key of the log")
    return DemoResult(len(SCENARIOS), decisions, reports, tuple(failures))


def differences(scenario: Scenario, answer: Answer) -> list[str]:
    """Return in which ways an answer is not what the scenario says it has to be."""
    decision = answer.decision
    changed = {str(step) for steps in decision.transformed.values() for step in steps}
    wrong = []
    if decision.unexpected:
        wrong.append(f"the answer could not be trusted: {decision.unexpected}")
    if decision.outcome.value != scenario.outcome:
        wrong.append(f"outcome {decision.outcome.value}, not {scenario.outcome}")
    reasons = set(decision.withheld.values())
    if reasons != scenario.reasons:
        wrong.append(f"withheld for {sorted(reasons)}, not {sorted(scenario.reasons)}")
    if changed != scenario.changed:
        wrong.append(f"changed by {sorted(changed)}, not {sorted(scenario.changed)}")
    if decision.receipt is None:
        wrong.append("the decision came without the proof that it is recorded")
    if (scenario.outcome in ("release", "partial")) != (answer.report is not None):
        wrong.append("what was done after the decision was not reported")
    if (scenario.outcome == "withhold") != bool(answer.withheld):
        wrong.append(f"rows came back: {not answer.withheld} ({answer.withheld or 'query ran'})")
    if scenario.outcome != "withhold" and not answer.rows:
        wrong.append("no row came back")
    return wrong


@contextmanager
def _data_services(
    clients: Mapping[str, PolicyClient], database: Path, seal_keys: Mapping[str, bytes], pseudonym_key: bytes
) -> Iterator[dict[str, DataService]]:
    with ExitStack() as stack:
        services = {}
        watches = {}
        for name, setting in SETTINGS.items():
            watches[name] = stack.enter_context(clients[name].watch_seals())
            services[name] = DataService(
                clients[name],
                watches[name],
                database=database,
                schema=SCHEMA,
                setting=setting,
                seal_key=seal_keys[name],
                pseudonym_key=pseudonym_key,
            )
        for watch in watches.values():
            watch.take(wait_s=SEALS_READY_S)
        yield services
