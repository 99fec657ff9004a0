"""What every run shares: one seed in its header, the seconds of each suite, and what was skipped."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import settings

# pytest puts the folder of this file on the path, so that tests may import `support`.
SEED = int(os.environ.get("POLICYD_SEED", "20261124"))

settings.register_profile("policyd", deadline=None, database=None, print_blob=True)
settings.load_profile("policyd")


class Suites:
    """Adds up, by the first folder below tests/, how many tests ran and for how long."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.tests: Counter[str] = Counter()
        self.skips: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        suite = Path(report.location[0]).parts[1]
        self.seconds[suite] += report.duration
        self.tests[suite] += report.when == "call"
        if report.skipped:
            self.skips[_reason(report)] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:  # a whole module
            self.skips[_reason(report)] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("suites")
        for suite, seconds in sorted(self.seconds.items()):
            terminalreporter.write_line(f"{suite:<12}{self.tests[suite]:>6} tests {seconds:>7.1f} s")
        listed = "; ".join(f"{count} ({reason})" for reason, count in sorted(self.skips.items()))
        terminalreporter.write_line(f"skipped: {listed or 'nothing'}")


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(SEED)
    config.pluginmanager.register(Suites(), "policyd-suites")


def pytest_report_header() -> str:
    return f"property tests: seed {SEED}; set POLICYD_SEED for another"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    why = report.longrepr
    return str(why[2] if isinstance(why, tuple) else why).removeprefix("Skipped: ")
