"""Hold the two evaluators against each other for as long as one likes (docs/adr/0010-two-evaluators.md)."""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import yaml
from reference import replay
from reference.duel import Tally, run

from policyd.reasons import Reason

WORLDS_A_TASK = 40
QUESTIONS = 30
ROOT = Path(__file__).parents[1]
FAULTS = ROOT / "tests" / "reference" / "faults.yaml"
ENOUGH_FOR_A_FAULT = 400_000
FOUND, NOT_FOUND = "a difference was found", "no difference was found"
MAX_SAVED = 5


def main() -> int:
    """Run the fuzzer; the exit code is 1 when the evaluators differ or a reason was never reached."""
    parser = argparse.ArgumentParser(description="Compare the compiled and the reference evaluator.")
    parser.add_argument("--decisions", type=int, default=1_000_000, help="names to decide (default 1000000)")
    parser.add_argument("--seed", type=int, default=20261124, help="of everything that is drawn")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--save", type=Path, help="directory for failing questions (default: a new one)")
    parser.add_argument("--replay", type=Path, help="ask one saved question again, and nothing else")
    parser.add_argument(
        "--faults", action="store_true", help="plant known faults in a copy; each must be found"
    )
    parser.add_argument("--until-found", action="store_true", help="stop at the first difference")
    options = parser.parse_args()
    if options.faults:
        return _plant_faults(options.seed)
    if options.until_found:
        return _search(options.seed, options.decisions)
    if options.replay is not None:
        return _replay(options.replay)
    print(f"seed {options.seed}, {options.decisions:,} names on {options.processes} processes", flush=True)
    tally = Tally()
    start = shown = time.monotonic()
    for part in _parts(options.seed, options.decisions, options.processes):
        tally.add(part)
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            rate = tally.decisions / (shown - start)
            print(
                f"{tally.decisions:,} names, {rate:,.0f} a second, {len(tally.mismatches)} differ", flush=True
            )
    print("\n".join(tally.lines()))
    missing = [reason.value for reason in Reason if not _reached(tally, reason)]
    if missing:
        print(f"never reached: {', '.join(missing)}")
    if tally.mismatches:
        _save(tally, options.save or Path(tempfile.mkdtemp(prefix="policyd-fuzz-")))
    print(
        f"{len(tally.mismatches)} questions on which the evaluators differ; {time.monotonic() - start:.0f} s"
    )
    return 1 if tally.mismatches or missing else 0


def _parts(seed: int, decisions: int, processes: int) -> Iterator[Tally]:
    """Yield tallies until enough is decided; the tasks are the same for any number of processes."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        waiting = {pool.submit(_task, seed, number) for number in range(processes)}
        given, decided = processes, 0
        while waiting:
            done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                part = future.result()
                decided += part.decisions
                yield part
            while decided < decisions and len(waiting) < processes:
                waiting.add(pool.submit(_task, seed, given))
                given += 1


def _task(seed: int, number: int) -> Tally:
    tally = Tally()
    run(seed * 1_000_003 + number, worlds=WORLDS_A_TASK, questions=QUESTIONS, tally=tally)
    del tally.mismatches[100:]  # the first hundred of a task tell enough, and must travel between processes
    return tally


def _reached(tally: Tally, reason: Reason) -> bool:
    return any(verdict.split()[-1] == reason for verdict in tally.verdicts)


def _save(tally: Tally, directory: Path) -> None:
    for number, mismatch in enumerate(tally.mismatches[:MAX_SAVED]):
        small = replay.shrink(mismatch)
        place = directory / f"case-{number}"
        replay.save(small, place)
        print(f"{place}:")
        for line in small.differences:
            print(f"  {line}")
    print(f"again: python tools/fuzz.py --replay {directory}/case-0")


def _search(seed: int, decisions: int) -> int:
    """Look in this process until the evaluators differ; the last line says whether they did."""
    tally, number = Tally(), 0
    while tally.decisions < decisions and not tally.mismatches:
        run(seed * 1_000_003 + number, worlds=1, questions=QUESTIONS, tally=tally)
        number += 1
    print(f"{tally.decisions} names: {FOUND if tally.mismatches else NOT_FOUND}")
    return 1 if tally.mismatches else 0


def _plant_faults(seed: int) -> int:
    """Plant each fault in a fresh copy of policyd and look for it; also look where none was planted."""
    faults = yaml.safe_load(FAULTS.read_text(encoding="utf-8"))
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(_look_for, fault, seed) for fault in faults]
        for fault, task in zip(faults, tasks, strict=True):
            said = task.result()
            missed += not said.endswith(FOUND)
            print(f"{fault['name']}: {said}", flush=True)
    untouched = _look_for(None, seed)
    print(f"no fault at all: {untouched}")
    print(f"{len(faults) - missed} of {len(faults)} faults found")
    return 1 if missed or not untouched.endswith(NOT_FOUND) else 0


def _look_for(fault: dict[str, str] | None, seed: int) -> str:
    with tempfile.TemporaryDirectory(prefix="policyd-fault-") as scratch:
        copy = Path(scratch) / "policyd"
        shutil.copytree(ROOT / "policyd", copy, ignore=shutil.ignore_patterns("__pycache__"))
        if fault is not None:
            file = copy / fault["file"]
            text = file.read_text(encoding="utf-8")
            if text.count(fault["from"]) != 1:
                return f"its text stands {text.count(fault['from'])} times in {fault['file']}; write it anew"
            file.write_text(text.replace(fault["from"], fault["to"]), encoding="utf-8")
        decisions = ENOUGH_FOR_A_FAULT if fault is not None else ENOUGH_FOR_A_FAULT // 20
        search = [sys.executable, __file__, "--until-found", f"--seed={seed}", f"--decisions={decisions}"]
        environment = {**os.environ, "PYTHONPATH": scratch, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(  # noqa: S603  (this very file, with numbers)
            search, env=environment, capture_output=True, text=True, check=False
        )
        last = (done.stdout or done.stderr).strip().splitlines()[-1:]
        return last[0] if last else f"ended with {done.returncode}"


def _replay(directory: Path) -> int:
    found = replay.again(replay.read(directory))
    print("\n".join(found) if found else "the evaluators agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
