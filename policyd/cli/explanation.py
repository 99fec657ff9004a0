"""Print an explanation, for people and as plain values."""

from __future__ import annotations

from dataclasses import asdict

import click
from policyd_client import ExplainedCheck, Explanation

_NAMES_SHOWN = 3


def show_explanation(explanation: Explanation) -> None:
    """Print the checks on the whole question, then those on each group of names."""
    if explanation.question:
        click.echo("the question")
        _show(explanation.question)
    for group in explanation.groups:
        if group.checks:
            more = len(group.names) - _NAMES_SHOWN
            shown = ", ".join(group.names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
            click.echo(shown)
            _show(group.checks)
    if explanation.not_shown:
        click.echo(f"not shown: {explanation.not_shown} rules about other questions, or beyond the first 200")


def _show(checks: tuple[ExplainedCheck, ...]) -> None:
    for check in checks:
        parts = [f"  {check.result:<14}  {check.check}"]
        if check.reason != "NONE":
            parts.append(check.reason)
        details = [f"fields: {check.fields}"] * bool(check.fields) + [check.purpose] * bool(check.purpose)
        if details:
            parts.append(f"({', '.join(details)})")
        if check.place:
            parts.append(check.place)
        click.echo("  ".join(parts))
        click.echo(f"      {check.why}")
        for each in check.conditions:
            saw = f"saw {each.value}" if each.value else "there is none"
            source = f" ({each.source})" if each.source else ""
            click.echo(f"      {each.result:<5} $.{each.attribute} {each.condition}: {saw}{source}")


def explanation_document(explanation: Explanation) -> dict[str, object]:
    """Return an explanation as plain values for JSON, without the decision in it."""
    return {
        "question": [asdict(check) for check in explanation.question],
        "groups": [
            {"names": list(group.names), "checks": [asdict(check) for check in group.checks]}
            for group in explanation.groups
        ],
        "not_shown": explanation.not_shown,
    }
