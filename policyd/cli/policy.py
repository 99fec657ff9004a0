"""`policyd policy`: what policy authors do with the files of a policy set."""

from __future__ import annotations

from pathlib import Path

import click

from policyd.cli.exits import Commands, Exit, Failure
from policyd.cli.options import json_option, print_json
from policyd.cli.policy_activate import activate_command
from policyd.cli.policy_explain import explain_command
from policyd.cli.progress import progress_on_stderr
from policyd.policy.lint import Severity, lint
from policyd.policy.load import load_policy_set
from policyd.policytest.cases import read_case_files
from policyd.policytest.run import run_cases, spell_verdicts

directory_argument = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))


@click.group(cls=Commands)
def policy() -> None:
    """Check, test and explain a policy set, and put it in force."""


policy.add_command(activate_command)
policy.add_command(explain_command)


@policy.command(name="lint")
@directory_argument
@json_option
def lint_command(directory: Path, *, as_json: bool) -> None:
    """Load the policy set in DIRECTORY and look for what nobody can have meant.

    Ends with 1 when it has a mistake or an error; warnings alone pass.
    """
    loaded = load_policy_set(directory, progress=progress_on_stderr())
    findings = lint(loaded)
    errors = sum(each.severity is Severity.ERROR for each in findings)
    if as_json:
        print_json(
            {
                "policy": loaded.name,
                "version": loaded.version,
                "digest": loaded.digest,
                "findings": [
                    {
                        "check": each.check,
                        "severity": each.severity.value,
                        "file": each.place.file,
                        "line": each.place.line,
                        "column": each.place.column,
                        "message": each.message,
                    }
                    for each in findings
                ],
            }
        )
    else:
        for each in findings:
            click.echo(str(each))
        click.echo(
            f"{loaded.name} version {loaded.version}, digest {loaded.digest[:16]}: "
            f"{len(loaded.fields)} fields, {len(loaded.rules)} rules, {len(loaded.graph.ids)} purposes, "
            f"{errors} errors, {len(findings) - errors} warnings"
        )
    if errors:
        raise Failure(f"{errors} errors; the policy set loads but does not mean what it should", Exit.FAILED)


@policy.command(name="test")
@directory_argument
@json_option
@click.option("--verbose", "-v", is_flag=True, help="Print every case with what came out.")
def test_command(directory: Path, *, as_json: bool, verbose: bool) -> None:
    """Run the cases in DIRECTORY/tests against the policy set.

    Ends with 1 when a case comes out otherwise than wanted, or when there are none.
    """
    loaded = load_policy_set(directory, progress=progress_on_stderr())
    results = list(run_cases(loaded, read_case_files(directory)))
    failed = [each for each in results if each.differences]
    if as_json:
        print_json(
            [
                {
                    "case": each.case.name,
                    "file": each.case.place.file,
                    "line": each.case.place.line,
                    "passed": not each.differences,
                    "differences": list(each.differences),
                    "outcome": each.decision.outcome.value,
                    "verdicts": spell_verdicts(each.decision),
                }
                for each in results
            ]
        )
    else:
        for each in results:
            if verbose or each.differences:
                click.echo(f"{'FAIL' if each.differences else 'ok  '} {each.case.place}: {each.case.name}")
            for difference in each.differences:
                click.echo(f"       {difference}")
            if verbose:
                for name, verdict in spell_verdicts(each.decision).items():
                    click.echo(f"       {name}: {verdict}")
        click.echo(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    if failed or not results:
        raise Failure("no cases were found" if not results else "cases failed", Exit.FAILED)
