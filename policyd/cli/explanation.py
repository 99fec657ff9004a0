"""Print an explanation and counterfactuals, for people and as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import click
from pbac.v1 import decision_pb2 as pb
from policyd_client import ExplainedCheck, Explanation

_NAMES_SHOWN = 3


def show_explanation(explanation: Explanation) -> None:
    """Print the checks on the whole question, then those on each group of names."""
    if explanation.question:
        click.echo("the question")
        _show(explanation.question)
    for group in explanation.groups:
        if group.checks:
            click.echo(_names(group.names))
            _show(group.checks)
    if explanation.not_shown:
        click.echo(f"not shown: {explanation.not_shown} rules about other questions, or beyond the first 200")


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


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


_SEARCH: Mapping[int, tuple[str, str]] = {
    pb.COUNTERFACTUAL_SEARCH_ALL: ("all", "each of these would release it, and nothing smaller would"),
    pb.COUNTERFACTUAL_SEARCH_SOME: ("some", "each of these would release it; there may be more as small"),
    pb.COUNTERFACTUAL_SEARCH_NOTHING: ("nothing", "nothing that anybody may change would release it"),
    pb.COUNTERFACTUAL_SEARCH_LARGER: ("larger", "no 3 changes would release it; more were not searched"),
    pb.COUNTERFACTUAL_SEARCH_STOPPED: ("stopped", "more not searched; give it longer with --search-ms"),
}
"""How a search ended: its word in JSON, and what it says to people."""


def show_counterfactuals(found: Iterable[pb.Counterfactual]) -> None:
    """Print what would have to change for each group of names; a number a set, a line a change."""
    for each in found:
        click.echo(f"what would have to change for {_names(each.fields)}")
        click.echo(f"  {_SEARCH[each.search][1]}")
        for number, changes in enumerate(each.sets, start=1):
            for place, change in enumerate(changes.changes):
                click.echo(f"  {f'{number}.' if not place else '':<4}{'and ' * bool(place)}{change.text}")


def counterfactual_document(found: Iterable[pb.Counterfactual]) -> list[dict[str, object]]:
    """Return counterfactuals as plain values for JSON."""
    return [
        {
            "fields": list(each.fields),
            "search": _SEARCH[each.search][0],
            "sets": [[_change(change) for change in changes.changes] for changes in each.sets],
        }
        for each in found
    ]


def _change(change: pb.FactChange) -> dict[str, object]:
    return {
        "entry": change.entry,
        "id": change.id,
        "member": change.member,
        "values": list(change.values),
        "text": change.text,
    }
