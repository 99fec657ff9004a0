"""`policyd policy explain`: why a question comes out as it does, and what would have to change; no node."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from types import MappingProxyType

import click
from pbac.v1 import decision_pb2 as pb
from policyd_client import Decision, Obligations, Outcome
from policyd_client.explaining import read_explanation
from policyd_client.model import Life
from policyd_client.obligations import read_obligations
from policyd_client.reading import OUTCOMES, read_verdict

from policyd import clock
from policyd.cli.check import obligation_lines, show_verdicts, verdict_document
from policyd.cli.exits import Exit
from policyd.cli.explanation import (
    counterfactual_document,
    explanation_document,
    show_counterfactuals,
    show_explanation,
)
from policyd.cli.options import json_option, print_json
from policyd.clock import format_instant, parse_instant
from policyd.decision.counterfactual import counterfactuals
from policyd.decision.explain import explain
from policyd.decision.snapshot import Snapshot, build_snapshot
from policyd.model import Action, Claimed, Instant, Registry, Request, Status
from policyd.policy.load import load_policy_set
from policyd.policy.reader import nearest
from policyd.policytest.cases import CaseFile, read_case_files
from policyd.policytest.run import question, request_of
from policyd.registry.document import read_registry
from policyd.service.answer import write_answer
from policyd.service.explanation import write_counterfactuals, write_explanation

_MAX_SEARCH_MS = 600_000


@click.command(name="explain")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--case", "case_name", help="Name of a case in DIRECTORY/tests: its question and its registry.")
@click.option(
    "--registry",
    "registry_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Registry file, as for `registry apply`. Default: DIRECTORY/tests/registry.yaml.",
)
@click.option("--agreement", help="The approved data share.")
@click.option(
    "--purpose", "purposes", multiple=True, help="Declared purpose; repeat for several, all must comply."
)
@click.option(
    "--field", "fields", multiple=True, help="Field that leaves: Table.Field or a column. Repeatable."
)
@click.option("--used-field", "used_fields", multiple=True, help="Field only filtered, joined or grouped on.")
@click.option("--year", "years", multiple=True, type=int, help="Academic year: 2018 is 2018/19.")
@click.option(
    "--action",
    type=click.Choice([each.value for each in Action]),
    help="What is done with the fields. Default: release.",
)
@click.option("--requester", help="Registered id of the person who asks.")
@click.option("--data-service", help="Registered id of the data service. Default: the agreement's first.")
@click.option("--setting", help="Instead of --data-service: the agreement's first in this setting.")
@click.option(
    "--now", "now_text", help="Instant of the question, such as 2026-02-05T09:30:00Z. Default: now."
)
@click.option(
    "--search-ms",
    type=click.IntRange(0, _MAX_SEARCH_MS),
    default=500,
    show_default=True,
    help="Milliseconds to search for what would have to change.",
)
@json_option
def explain_command(
    *,
    directory: Path,
    case_name: str | None,
    registry_file: Path | None,
    agreement: str | None,
    purposes: Sequence[str],
    fields: Sequence[str],
    used_fields: Sequence[str],
    years: Sequence[int],
    action: str | None,
    requester: str | None,
    data_service: str | None,
    setting: str | None,
    now_text: str | None,
    search_ms: int,
    as_json: bool,
) -> None:
    """Explain a question to the policy set in DIRECTORY, and what would have to change.

    For policy authors and auditors: it reads files and asks no node, and it names what else would do, which
    no data service is told. The question is that of a case, or one put together from options. Ends with 0
    when nothing is withheld and 3 when something is.
    """
    asked = (registry_file, agreement, purposes, fields, used_fields, years, action, requester)
    if case_name is not None and any((*asked, data_service, setting, now_text)):
        raise click.UsageError("`--case` brings its whole question; give it alone or leave it out")
    now = _instant(now_text)
    policy = load_policy_set(directory)
    if case_name is not None:
        file, number = _find_case(read_case_files(directory), case_name)
        case = file.cases[number]
        snapshot, now = build_snapshot(policy, file.registry, epoch=1), case.now
        request = request_of(snapshot, case)
    else:
        registry = _read_registry(directory, registry_file)
        snapshot = build_snapshot(policy, registry, epoch=1)
        claimed = Claimed(
            request_id="explain",
            agreement=_known("agreement", agreement, registry.agreements),
            purposes=tuple(purposes),
            action=Action(action or Action.RELEASE),
            fields=tuple(fields),
            used_fields=tuple(used_fields),
            years=tuple(years),
        )
        if not (fields or used_fields):
            raise click.UsageError("name a field with `--field` or `--used-field`, or a case with `--case`")
        service = _data_service(registry, claimed.agreement, data_service, setting=setting)
        person = _known("requester", requester, registry.requesters)
        request = question(snapshot, claimed, data_service=service, requester=person, now=now)
    response = _explain(snapshot, request, now, search_ms=search_ms)
    decision = _read(response.answer)
    if as_json:
        print_json(_document(decision, response, now))
    else:
        click.echo(f"{decision.outcome.value.upper()}  at {format_instant(now)}, recorded nowhere")
        show_verdicts(decision)
        show_explanation(read_explanation(decision, response))
        show_counterfactuals(response.counterfactuals)
    if decision.withheld:
        raise SystemExit(Exit.WITHHELD)


def _instant(text: str | None) -> Instant:
    if text is None:
        return clock.now()
    try:
        return parse_instant(text)
    except ValueError as error:
        raise click.UsageError(f"--now: {error}") from error


def _find_case(files: Sequence[CaseFile], name: str) -> tuple[CaseFile, int]:
    found = [(file, number) for file in files for number, case in enumerate(file.cases) if case.name == name]
    if len(found) > 1:
        places = ", ".join(str(file.cases[number].place) for file, number in found)
        raise click.UsageError(f"case `{name}` is there more than once: {places}; give one another name")
    if not found:
        names = [case.name for file in files for case in file.cases]
        raise click.UsageError(f"unknown case `{name}`{nearest(name, names) or '; there are no cases'}")
    return found[0]


def _read_registry(directory: Path, named: Path | None) -> Registry:
    path = named or directory / "tests" / "registry.yaml"
    if named is None and not path.is_file():
        raise click.UsageError(f"`{path}` is not there; name a registry file with `--registry`")
    return read_registry(path)


def _known(noun: str, name: str | None, known: Collection[str]) -> str:
    """Return the id of a registered entry that an option names."""
    if name is None:
        raise click.UsageError(f"name the {noun} with `--{noun.replace(' ', '-')}`, or a case with `--case`")
    if name not in known:
        raise click.UsageError(f"no {noun} `{name}` in the registry file{nearest(name, known)}")
    return name


def _data_service(registry: Registry, agreement: str, named: str | None, *, setting: str | None) -> str:
    """Return the data service that asks: as named, in a setting, or the agreement's first that may."""
    if named is not None and setting is not None:
        raise click.UsageError("`--data-service` and `--setting` both say who asks; give one")
    if named is not None:
        return _known("data service", named, registry.data_services)
    share = registry.agreements[agreement]
    known = [each for each in registry.data_services.values() if setting is None or each.setting == setting]
    if not known:
        settings = {each.setting for each in registry.data_services.values()}
        raise click.UsageError(
            f"no data service runs in the setting `{setting}`{nearest(str(setting), settings)}"
        )
    # The one that is most likely meant: of the agreement, in its setting, and active.
    return min(
        known,
        key=lambda each: (
            each.id not in share.data_services,
            each.setting != share.setting,
            each.status is not Status.ACTIVE,
            each.id,
        ),
    ).id


def _explain(snapshot: Snapshot, request: Request, now: Instant, *, search_ms: int) -> pb.ExplainResponse:
    """Return everything as it would go over the wire, with no id and no receipt: nothing is recorded."""
    explanation = explain(snapshot, request, now)
    answer = write_answer(
        explanation.decision,
        request_id=request.claimed.request_id,
        decision_id="",
        trace_id=b"",
        valid_for_ms=0,
        receipt=pb.Receipt(),
    )
    response = write_explanation(explanation, answer)
    until = clock.monotonic() + search_ms / 1000
    found = counterfactuals(snapshot, request, now, more=lambda: clock.monotonic() < until)
    response.counterfactuals.extend(write_counterfactuals(found))
    return response


def _read(answer: pb.CheckResponse) -> Decision:
    """Return the answer as the client has it, without anything that would let a program act on it."""
    outcome = OUTCOMES[answer.outcome]
    withheld = outcome is Outcome.WITHHOLD
    return Decision(
        request_id=answer.request_id,
        decision_id="",
        trace_id="",
        outcome=outcome,
        verdicts=MappingProxyType(
            {name: read_verdict(group) for group in answer.verdicts for name in group.fields}
        ),
        obligations=Obligations() if withheld else read_obligations(answer, outcome),
        policy_digest=answer.policy_digest,
        policy_version=answer.policy_version,
        epoch=answer.epoch,
        identification_risk=answer.identification_risk,
        sensitivity=answer.sensitivity,
        ledger_origin="",
        ledger_index=0,
        expires_at_s=0.0,
        life=Life(clock.monotonic, 0.0),
    )


def _document(decision: Decision, response: pb.ExplainResponse, now: Instant) -> dict[str, object]:
    withheld = decision.outcome is Outcome.WITHHOLD
    return {
        "outcome": decision.outcome.value,
        "now": format_instant(now),
        "verdicts": {name: verdict_document(verdict) for name, verdict in decision.verdicts.items()},
        "obligations": [] if withheld else obligation_lines(decision.obligations),
        "policy_digest": decision.policy_digest,
        "policy_version": decision.policy_version,
        "explanation": explanation_document(read_explanation(decision, response)),
        "counterfactuals": counterfactual_document(response.counterfactuals),
    }
