"""Run the tests against every mutant of a file, and list the mutants that no test notices (docs/mutants.md).

Each mutant has a process of its own, forked from one that has imported everything but policyd. There
an import hook gives the mutant instead of the module, and the test files that run its line, quickest
first, run until a test fails. All of it happens in a copy of the tree, which may be edited meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType

import coverage
import hypothesis
import pytest
from mutation import Mutant, mutants, names

HERE = Path(__file__).parents[1]
ARGUED = "docs/mutants.md"
COPIED = ("policyd", "tests", "proto", "clients", "policies", "docs", "pyproject.toml")
TARGETS = (
    "policyd/purpose.py",
    "policyd/policy/compile.py",
    "policyd/policy/conditions.py",
    "policyd/decision",
)
FLOOR_1 = ("purpose", "fieldset", "canonical", "transform", "obligation")
TESTS = (
    *(f"tests/unit/test_{name}.py" for name in FLOOR_1),
    "tests/unit/policy",
    "tests/unit/decision",
    "tests/property",
)
LEFT_OUT = {"tests/property/test_reference.py"}  # draws worlds for half a minute: far over SLOW_S
PRELOADED = ("yaml", "jwt", "py_abac", "cryptography.hazmat.primitives.asymmetric.ed25519", "sqlite3")
REWRITE = "ignore::pytest.PytestAssertRewriteWarning"
"""The first process has imported hypothesis, whose own assertions need no rewriting."""
SHARE_TO_KILL = 0.95
SLOW_S = 1.0
"""Tests that take longer are left out: a rule that only they hold deserves a test of its own."""
CPU_S_TO_START = 5
SHOWN_S = 60
START_S = 0.2
"""About what one more test file costs."""
WALL_S = 900
"""For one mutant: only one that waits for ever takes it, one that is busy runs out of processor time."""
MAX_BYTES = 4 << 30
KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"


@dataclass(frozen=True, slots=True)
class TestFile:
    """What one test file does on the code as it is.

    ``seconds`` a test; ``lines``, by source file and test, that only this test runs, and under "" those
    that run when the file is imported and its fixtures are made, on which every test of it may depend.
    """

    path: str
    seconds: Mapping[str, float]
    lines: Mapping[str, Mapping[str, Sequence[int]]]

    def on(self, source: str, lines: range) -> dict[str, float]:
        """Return the tests, but for slow ones, that may notice a change of ``lines``, and their seconds."""
        by_test = self.lines.get(source, {})
        whole = not set(lines).isdisjoint(by_test.get("", ()))
        return {
            test: seconds
            for test, seconds in self.seconds.items()
            if seconds <= SLOW_S and (whole or not set(lines).isdisjoint(by_test.get(test, ())))
        }


@dataclass(slots=True)
class Tally:
    """Mutants of one file by what became of them; survivors are kept."""

    counts: dict[str, int] = field(default_factory=lambda: {KILLED: 0, SURVIVED: 0, TIMEOUT: 0})
    survivors: list[Mutant] = field(default_factory=list)

    @property
    def made(self) -> int:
        return sum(self.counts.values())


def main() -> int:
    """Run; the exit code is 1 when too many mutants survive, or one of which docs/mutants.md says nothing."""
    parser = argparse.ArgumentParser(description="Find the faults that no test would notice.")
    parser.add_argument("paths", nargs="*", default=TARGETS, help=f"files or folders (default: {TARGETS})")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="mutants of functions whose name holds this text")
    options = parser.parse_args()
    for name in PRELOADED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="policyd-mutants-") as scratch, contextlib.chdir(scratch):
        root = Path(scratch).resolve()
        _copy(root)
        sys.path[:0] = [str(root / each) for each in ("", "proto", "clients/python", "tests")]
        return _search(options.paths, processes=options.processes, only=options.only)


def _copy(root: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in COPIED:
        if (HERE / name).is_dir():
            shutil.copytree(HERE / name, root / name, ignore=ignored)
        else:
            shutil.copy(HERE / name, root / name)


def _search(paths: Sequence[str], *, processes: int, only: str) -> int:
    sources = list(_files(paths))
    start = time.monotonic()
    tests = measure(sources, processes=processes)
    print(f"{len(tests)} test files measured in {time.monotonic() - start:.0f} s", flush=True)
    argued = Path(ARGUED).read_text(encoding="utf-8") if Path(ARGUED).exists() else ""
    unargued, total = 0, Tally()
    for source in sources:
        tally = run(source, tests, processes=processes, only=only)
        counts = ", ".join(f"{count} {what}" for what, count in tally.counts.items())
        print(f"{source}: {tally.made} mutants, {counts} ({time.monotonic() - start:.0f} s)", flush=True)
        for mutant, name in zip(tally.survivors, names(tally.survivors), strict=True):
            known = f"* {name}" in argued
            unargued += not known
            print(f"  {source}:{mutant.line}: {'argued' if known else 'NOT ARGUED'}: {name}", flush=True)
        total.survivors += tally.survivors
        for what, count in tally.counts.items():
            total.counts[what] += count
    share = 1 - total.counts[SURVIVED] / (total.made or 1)
    print(
        f"{total.made} mutants, {share:.1%} killed, {len(total.survivors)} survivors, {unargued} not argued"
    )
    return 1 if unargued or share < SHARE_TO_KILL else 0


def _files(paths: Sequence[str]) -> Iterator[str]:
    for path in map(Path, paths):
        found = sorted(path.glob("*.py")) if path.is_dir() else [path]
        yield from (each.as_posix() for each in found if each.stat().st_size)


def measure(sources: Sequence[str], *, processes: int) -> list[TestFile]:
    """Run every test file on the code as it is, under coverage; quickest first.

    Raises:
        SystemExit: a test fails without any mutant.
    """
    paths: list[str] = []
    for pattern in TESTS:
        path = Path(pattern)
        paths += [str(path)] if path.is_file() else sorted(map(str, path.rglob("test_*.py")))
    paths = [each for each in paths if each not in LEFT_OUT]
    with tempfile.TemporaryDirectory(prefix="policyd-mutants-") as scratch:
        notes = {path: Path(scratch) / f"{number}.json" for number, path in enumerate(paths)}
        jobs = [Job(path, _Measure(path, sources, note)) for path, note in notes.items()]
        for job, status in _in_turn(jobs, processes=processes):
            if status != 0:
                raise SystemExit(f"{job.name} fails on the code as it is; run: make test ARGS={job.name}")
        read = {path: json.loads(note.read_text()) for path, note in notes.items()}
    return [TestFile(path, each["seconds"], each["lines"]) for path, each in read.items()]


def run(source: str, tests: Sequence[TestFile], *, processes: int, only: str) -> Tally:
    """Try every mutant of one file."""
    found = [each for each in mutants(Path(source).read_text(encoding="utf-8")) if only in each.where]
    kills: Counter[str] = Counter()

    def job(mutant: Mutant) -> Job:
        lines = range(mutant.line, mutant.last_line + 1)
        chosen = {each.path: seconds for each in tests if (seconds := each.on(source, lines))}
        # What killed others is likely to kill this one; what is quick costs little to try.
        order = sorted(chosen, key=lambda path: (START_S + sum(chosen[path].values())) / (1 + kills[path]))
        return Job(mutant, _Try(source, mutant, [(path, chosen[path]) for path in order]))

    tally, shown = Tally(), time.monotonic()
    for done, status in _in_turn(map(job, found), processes=processes):
        assert isinstance(done.name, Mutant) and isinstance(done.task, _Try)  # noqa: S101, PT018
        code = os.waitstatus_to_exitcode(status)
        what = SURVIVED if code == 0 else TIMEOUT if code in (-signal.SIGPROF, -signal.SIGKILL) else KILLED
        tally.counts[what] += 1
        if what == SURVIVED:
            tally.survivors.append(done.name)
        elif 0 < code <= len(done.task.tests):
            kills[done.task.tests[code - 1][0]] += 1
        if time.monotonic() - shown > SHOWN_S:
            shown = time.monotonic()
            print(f"  {source}: {tally.made} of {len(found)}", flush=True)
    tally.survivors.sort(key=lambda each: each.line)
    return tally


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do in a process of its own, whose exit status is its answer."""

    name: str | Mutant
    task: _Measure | _Try


def _in_turn(jobs: Iterable[Job], *, processes: int) -> Iterator[tuple[Job, int]]:
    """Yield each job with its wait status, as they end; at most ``processes`` at a time."""
    waiting, running = iter(jobs), dict[int, tuple[Job, float]]()
    while True:
        while len(running) < processes and (job := next(waiting, None)) is not None:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                _child(job)
            running[pid] = (job, time.monotonic())
        if not running:
            return
        for pid, (job, started) in list(running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del running[pid]
                yield job, status
            elif time.monotonic() - started > WALL_S:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _child(job: Job) -> None:
    """Do the job in this process, and end it."""
    code = 255
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
        with tempfile.TemporaryDirectory(prefix="policyd-mutant-") as scratch:
            code = job.task(Path(scratch))
    finally:
        os._exit(code)  # never back into the parent's loop, whatever was raised


@dataclass(frozen=True, slots=True)
class _Measure:
    path: str
    sources: Sequence[str]
    note: Path

    def __call__(self, scratch: Path) -> int:
        tracer = coverage.Coverage(
            data_file=None, config_file=False, include=[*map(os.path.realpath, self.sources)]
        )
        clock = _Clock(tracer=tracer)
        tracer.start()
        passed = _passes(self.path, clock, scratch)
        tracer.stop()
        data = tracer.get_data()
        lines: dict[str, dict[str, list[int]]] = {each: defaultdict(list) for each in self.sources}
        for source, by_test in lines.items():
            for line, by in data.contexts_by_lineno(os.path.realpath(source)).items():
                for test in by:
                    by_test[test].append(line)
        self.note.write_text(json.dumps({"seconds": clock.seconds, "lines": lines}))
        return 0 if passed else 1


@dataclass(frozen=True, slots=True)
class _Try:
    source: str
    mutant: Mutant
    tests: Sequence[tuple[str, Mapping[str, float]]]

    def __call__(self, scratch: Path) -> int:
        """Return 0, or the place in ``tests`` (from 1) of the file that noticed the mutant."""
        module = self.source.removesuffix(".py").replace("/", ".")
        sys.meta_path.insert(0, _Finder(module, Path(self.source).resolve(), self.mutant.source))
        signal.setitimer(signal.ITIMER_PROF, CPU_S_TO_START)
        for number, (path, seconds) in enumerate(self.tests, start=1):
            if not _passes(path, _Clock(seconds), scratch):
                return number
        return 0


def _passes(path: str, clock: _Clock, scratch: Path) -> bool:
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", REWRITE, f"--basetemp={scratch / 'pytest'}"]
    return pytest.main([*options, path], plugins=[clock]) == pytest.ExitCode.OK


class _Clock:
    """Keeps the tests that are known, the quickest first, or else notes how long each takes, and where."""

    def __init__(
        self, known: Mapping[str, float] | None = None, *, tracer: coverage.Coverage | None = None
    ) -> None:
        self._known = known
        self._tracer = tracer
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        # How a failing example is made small is of no interest here, and takes long.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutants", hypothesis.settings.get_profile("policyd"), phases=phases
        )
        hypothesis.settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._known is not None:
            known = self._known
            items[:] = sorted((each for each in items if each.nodeid in known), key=lambda x: known[x.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        if self._tracer is not None:
            self._tracer.switch_context(item.nodeid)
        if self._known is not None:
            # The default of SIGPROF ends the process, however deep in C it is.
            signal.setitimer(signal.ITIMER_PROF, CPU_S_TO_START + 10 * self._known[item.nodeid])
        start = time.process_time()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - start
            if self._tracer is not None:
                self._tracer.switch_context("")
            if self._known is not None:
                signal.setitimer(signal.ITIMER_PROF, CPU_S_TO_START)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module in a text instead of its file."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        self._module, self._path, self._source = module, path, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        loader = _Loader(fullname, str(self._path), self._source)
        return importlib.util.spec_from_file_location(fullname, self._path, loader=loader)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The same tests must see the same sets in the same order, or a survivor may be killed next time.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606
    sys.exit(main())
