"""Every system call of a log killed, or made to fail: no answer is lost, and a failed log stays shut."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from ledger_child import KEY, ORIGIN
from stage_child import STAGES
from sweeps import WHOLE, make_log, quick_directory, some
from test_ledger_faults import assert_opens_again, assert_recorded, whole_lines

from policyd.errors import LedgerClosed, LedgerCorrupt
from policyd.ledger import store
from policyd.ledger.verify import verify
from policyd.ledger.writer import Ledger

CHILD = Path(__file__).with_name("stage_child.py")
STRACE = shutil.which("strace")
FILES = (
    *(f"{store.DATABASE}{suffix}" for suffix in ("", "-wal", "-shm")),
    store.ANCHOR,
    f"{store.ANCHOR}.new",
    store.LOCK,
    "",
)
WRITES = frozenset({"pwrite64", "write", "fsync", "fdatasync", "ftruncate", "fallocate", "rename", "unlink"})
READS = frozenset({"pread64", "read"})
_LINES = re.compile(r"^(\d+) +(\w+)\((?:\d+<([^>]*)>)?", re.MULTILINE)

_FORKING = threading.Lock()
"""A process that is being started shares the locks of this one until it runs: not while a log is checked."""
needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed")


@dataclass(frozen=True)
class Point:
    """The n-th time that a thread makes a system call on a file of the log, in a stage of its life."""

    stage: str
    call: str
    number: int
    on_directory: bool = False

    def __str__(self) -> str:
        return f"{self.stage}: {self.call} {self.number}"


@dataclass(frozen=True)
class Run:
    """How a child ended, and what it was answered."""

    code: int
    given: list[tuple[int, str, str]]


@dataclass(frozen=True)
class Scene:
    """A closed log to copy, a quick directory to copy it to, and all system calls of its life."""

    directory: Path
    template: Path
    points: list[Point]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with quick_directory() as directory:
        template = make_log(directory / "template", 3)
        found = list(count_calls(template, directory)) if STRACE is not None else []
        yield Scene(directory, template, found)


def run_child(log: Path, stage: str, *, options: Sequence[str] = (), limit_bytes: int = 0) -> Run:
    """Run a child on a log, from its stage on with a file limit, or with strace and these options."""
    command = [sys.executable, str(CHILD), str(log), stage, str(limit_bytes)]
    with _FORKING:
        started = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    with started as child:
        assert child.stdin is not None
        assert child.stdout is not None
        output = b""
        while (line := child.stdout.readline()) != b"ready\n":
            assert line, f"the child ended with {child.wait()} before it came to {stage}"
            output += line
        with attached(child.pid, log, options) if options else nullcontext():
            child.stdin.write(b"\n")
            child.stdin.close()
            output += child.stdout.read()
    return Run(child.returncode, whole_lines(output))


@contextmanager
def attached(pid: int, log: Path, options: Sequence[str]) -> Iterator[None]:
    """Have strace look at a process, at its calls on the files of the log alone."""
    paths = [part for name in FILES for part in ("-P", str(log / name) if name else str(log))]
    command = [str(STRACE), "-f", *paths, *options, "-p", str(pid)]
    with _FORKING:
        started = subprocess.Popen(command, stderr=subprocess.PIPE)
    with started as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        assert b"attached" in said, said
        yield
        tracer.stderr.read()


def count_calls(template: Path, directory: Path) -> Iterator[Point]:
    """Run a log's life once undisturbed, and list every system call that it makes on its files."""
    for stage in STAGES:
        log, trace = shutil.copytree(template, directory / f"count-{stage}"), directory / f"trace-{stage}"
        run = run_child(log, stage, options=("-y", "-o", str(trace)))
        assert (run.code, len(run.given)) == (0, 6)
        made: Counter[tuple[str, str]] = Counter()
        found: dict[tuple[str, int], bool] = {}
        for thread, call, path in _LINES.findall(trace.read_text("utf-8", "replace")):
            made[thread, call] += 1
            place = call, made[thread, call]
            found[place] = found.get(place, False) or path == str(log)
        yield from (Point(stage, *place, on_directory) for place, on_directory in sorted(found.items()))


def sweep(scene: Scene, points: Sequence[Point], fault: str, *, lying: bool = False) -> dict[Point, int]:
    """Run each case on a copy of the log of its own, check what must hold, and return how each ended."""

    def one(point: Point) -> int:
        log = shutil.copytree(scene.template, scene.directory / f"{point}, {fault}".replace(" ", "-"))
        inject = f"inject={point.call}:{fault}:when={point.number}"
        run = run_child(
            log, point.stage, options=("-o", "/dev/null", "-e", f"trace={point.call}", "-e", inject)
        )
        with _FORKING:
            check(log, run, f"{point}, {fault}, ended with {run.code}", lying=lying)
        shutil.rmtree(log)
        return run.code

    with ThreadPoolExecutor(2) as pool:
        ended = dict(zip(points, pool.map(one, points), strict=True))
    print(fault, dict(Counter(ended.values())), "without effect:", *(f"{p}," for p in points if not ended[p]))
    return ended


def check(log: Path, run: Run, what: str, *, lying: bool = False) -> None:
    """Answers are in the ledger; a failed log stays shut until it has verified, and then it goes on.

    A disk that says that it wrote what it did not may leave a log that does not verify: that is said.
    """
    assert run.code in (0, 3, 5, -9), what
    failed = (log / store.MARKER).exists()
    assert failed or run.code != 3, what
    if failed:
        with pytest.raises(LedgerClosed, match="policyd audit verify"):
            Ledger.open(log, origin=ORIGIN, signing_key=KEY)
    if lying and not passes(log):
        return
    report = verify(log)
    assert report.passed, f"{what}: {report}"
    assert report.marker_cleared == failed, what
    assert_recorded(log, run.given)
    assert_opens_again(log)


def passes(log: Path) -> bool:
    copy = shutil.copytree(log, log.with_name(f"{log.name}-copy"))
    try:
        return verify(copy).passed
    except LedgerCorrupt:
        return False
    finally:
        shutil.rmtree(copy)


@needs_strace
def test_killed_at_any_system_call_no_answer_is_lost(scene: Scene) -> None:
    """SIGKILL at each call that opening, committing and closing make on the log's files."""
    assert {"pwrite64", "fdatasync", "fsync", "rename"} <= {point.call for point in scene.points}
    points = some(scene.points, 20)

    ended = sweep(scene, points, "signal=KILL")

    # A few numbers count calls of a thread that is not there yet when another one has made as many.
    assert sum(code == -9 for code in ended.values()) > 0.8 * len(points)


@needs_strace
@pytest.mark.parametrize("fault", ["error=EIO", "error=ENOSPC"])
def test_any_call_that_fails_closes_the_log_or_has_no_effect(scene: Scene, fault: str) -> None:
    """Each write, sync, truncation, renaming or read that fails: fail-stop, nothing lost, verify, go on."""
    calls = WRITES | READS if fault == "error=EIO" else WRITES

    ended = sweep(scene, some([point for point in scene.points if point.call in calls], 12), fault)

    for point, code in ended.items():
        # SQLite passes over a failed sync of the directory, which has been synced when the log was opened.
        passed_over = point.call == "unlink" or (point.call == "fdatasync" and point.on_directory)
        if point.stage in ("commit", "finish") and point.call in WRITES and not passed_over:
            assert code == 3, f"{point} failed and was passed over"


@needs_strace
def test_a_write_that_did_not_happen_is_found(scene: Scene) -> None:
    """The disk says of a write that it wrote a part that it did not: nothing is lost unseen."""
    writes = [point for point in scene.points if point.call in ("pwrite64", "write")]

    ended = sweep(scene, some(writes, 10), "retval=20", lying=True)

    if WHOLE:
        assert {3, 5} <= set(ended.values())


def test_a_write_cut_short_closes_the_log(scene: Scene) -> None:
    """No file may grow beyond a limit, wherever it is: the last write is short, the next one fails."""
    before = (scene.template / store.DATABASE).stat().st_size
    codes = Counter[int]()
    for limit_bytes in some(range(500, 2 * before, 501), 8):
        log = shutil.copytree(scene.template, scene.directory / f"limit-{limit_bytes}")
        run = run_child(log, "commit", limit_bytes=limit_bytes)
        # What has no room left cannot say so: the marker, too, is a file. An empty one does.
        check(log, run, f"limit {limit_bytes}, ended with {run.code}")
        codes[run.code] += 1
    print(dict(codes))
    assert codes[3] > 0
