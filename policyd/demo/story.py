"""Print what happened to one question, in 100 columns; colour only on a terminal."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from typing import TextIO, TypeVar

from policyd_client import Effect, Receipt

from policyd.demo.dataservice import Answer
from policyd.demo.proof import Finding
from policyd.demo.scenarios import Scenario
from policyd.demo.transforms import Value

WIDTH = 100
SAMPLE_ROWS = 3

_LABEL = 15
_SAID = {Effect.RELEASE: "released", Effect.TRANSFORM: "changed", Effect.WITHHOLD: "withheld"}
_COLOURS = {
    "release": "32",
    "partial": "33",
    "transform": "33",
    "withhold": "31",
    "not-asked": "31",
    "title": "1",
}

T = TypeVar("T")


class Story:
    """Writes to one stream."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._coloured = out.isatty() and "NO_COLOR" not in os.environ

    def question(self, number: int, scenario: Scenario, sql: str, *, setting: str) -> None:
        """Print who asks what."""
        self._write()
        self._write(self._colour(f"{number:2}  {scenario.title}", "title"))
        for line in textwrap.wrap(scenario.why, WIDTH - 4):
            self._write(f"    {line}")
        self._wrapped("who", f"{scenario.requester}, through {scenario.data_service} ({setting})")
        self._wrapped("under", f"agreement {scenario.agreement}, for {scenario.purpose}")
        for first, line in _labelled("asked", sql.splitlines()):
            self._labelled(first, line)

    def not_asked(self, why: str) -> None:
        """Print that the data service refused the statement itself."""
        self._wrapped("answer", f"NOT ASKED: {why}", kind="not-asked")

    def answer(self, answer: Answer) -> None:
        """Print the decision, field by field, and what came back."""
        decision = answer.decision
        outcome = decision.outcome.value
        self._wrapped(
            "answer",
            f"{outcome.upper()} to {answer.action.value}, policy {decision.policy_version}, "
            f"epoch {decision.epoch}",
            kind=outcome,
        )
        for (effect, how, rule), names in _by_verdict(answer).items():
            self._wrapped(_SAID[effect], f"{how} [{rule}]", kind=effect.value)
            for line in textwrap.wrap(", ".join(names), WIDTH - _LABEL - 2, break_on_hyphens=False):
                self._labelled("", f"  {line}")
        if answer.cut:
            self._wrapped("cut", ", ".join(answer.cut))
        if answer.terms:
            self._wrapped("on terms", "; ".join(answer.terms))
        if answer.withheld:
            self._wrapped("nothing", answer.withheld)
        else:
            self._rows(answer)
        self._wrapped("decision", f"{decision.decision_id}  trace {decision.trace_id}")
        self._wrapped("ledger", _place(decision.ledger_origin, decision.ledger_index, decision.receipt))
        if answer.report is not None:
            shown = f"{len(answer.rows)} row{'' if len(answer.rows) == 1 else 's'}, in the ledger at "
            self._wrapped("reported", shown + _place("", answer.report.index, answer.report))

    def findings(self, findings: Iterable[Finding]) -> None:
        """Print what the whole database says about the answer."""
        for finding in findings:
            kind = "release" if finding.holds else "withhold"
            self._wrapped("checked", f"{'yes' if finding.holds else 'NO'}: {finding.line}", kind=kind)

    def failure(self, why: str) -> None:
        """Print that something came out other than it had to."""
        self._wrapped("WRONG", why, kind="withhold")

    def line(self, text: str) -> None:
        """Print one line of its own."""
        self._write(text)

    def _rows(self, answer: Answer) -> None:
        count = len(answer.rows)
        self._labelled(
            "came back", f"{count} row{'' if count == 1 else 's'}{', such as' if count > SAMPLE_ROWS else ''}"
        )
        table = [answer.labels, *([_shown(value) for value in row] for row in answer.rows[:SAMPLE_ROWS])]
        room = (WIDTH - _LABEL) // max(1, len(answer.labels)) - 2
        widths = [min(room, max(len(cell) for cell in column)) for column in zip(*table, strict=True)]
        for row in table:
            cells = (_fit(cell, width) for cell, width in zip(row, widths, strict=True))
            self._labelled("", "  ".join(cells).rstrip())

    def _wrapped(self, label: str, text: str, *, kind: str = "") -> None:
        for first, line in _labelled(label, textwrap.wrap(text, WIDTH - _LABEL, break_on_hyphens=False)):
            self._labelled(first, line, kind=kind)

    def _labelled(self, label: str, text: str, *, kind: str = "") -> None:
        shown = f"    {label:<{_LABEL - 4}}"
        self._write(f"{self._colour(shown, kind)}{text}".rstrip())

    def _colour(self, text: str, kind: str) -> str:
        code = _COLOURS.get(kind)
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured and code else text

    def _write(self, text: str = "") -> None:
        self._out.write(f"{text}\n")


def _by_verdict(answer: Answer) -> dict[tuple[Effect, str, str], list[str]]:
    """Group the names of a question by what was decided on them, and by which rule."""
    groups: dict[tuple[Effect, str, str], list[str]] = {}
    for effect in Effect:
        for name, verdict in answer.decision.verdicts.items():
            if verdict.effect is effect:
                how = " then ".join(str(step) for step in verdict.steps)
                reason = "as it is" if effect is Effect.RELEASE else verdict.reason
                groups.setdefault((effect, how or reason, verdict.rule), []).append(name)
    return groups


def _place(origin: str, index: int, receipt: Receipt | None) -> str:
    where = f"{origin} index {index}".strip()
    if receipt is None:
        return f"{where}, not proved"
    return f"{where}, proved in the signed checkpoint of {receipt.checkpoint.size} records"


def _labelled(label: str, items: Iterable[T]) -> Iterable[tuple[str, T]]:
    return ((label if number == 0 else "", item) for number, item in enumerate(items))


def _shown(value: Value) -> str:
    return "-" if value is None else str(value)


def _fit(text: str, width: int) -> str:
    return f"{text:<{width}}" if len(text) <= width else f"{text[: width - 2]}.."
