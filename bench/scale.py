"""Measures a node with a registry of national size beside one with a small registry, and writes its section.

Usage: PYTHONPATH=tests python bench/scale.py [--divide N] [--changes N] [--directory DIR] [--out PAGE]
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import grpc
from national.made import NATIONAL, Size, models_of, parts, seal
from national.report import Measured, targets, write
from pbac.v1 import seal_pb2, seal_pb2_grpc
from peers.page import put_section
from support.server import Process, Site, registry_text, stub

from policyd import clock
from policyd.decision.entitlement import entitle
from policyd.devsetup import propose, put_in_force, set_up
from policyd.model import Action, Agreement, Claimed, Registry, Request, Status, Token, Verified
from policyd.policy.load import load_policy_set
from policyd.registry.change import State
from policyd.registry.document import read_registry_text
from policyd.registry.store import StateStore
from policyd.state import current_of, open_store

POLICY = Path("policies/npd")
MODEL = "DS00101"
WHO, AGREEMENT, SERVICE = "researcher-0", "DS000000", "npd-0"
"""The first of each is the same at every size, and so is the question about it."""
FIELDS, YEAR = 20, 2018
SMALL = 1_000
"""By how much the small registry is smaller."""
STREAMS = 8
CALLS = 300


def resident_mib(pid: int) -> tuple[float, float]:
    """Return the resident memory of a process in MiB, now and at its highest."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines())
    now, peak = (int(status[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    return now, peak


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def append(site: Site, store: StateStore, changes: Registry, before: State) -> State:
    """Make one change, and return the state after it."""
    store.append(propose(site.config, changes, state=before, why="for the bench"), before.epoch)
    return after(store, before)


def after(store: StateStore, before: State) -> State:
    """Return the state that a change just made has led to."""
    with store.follow(before) as follower:
        update = follower.poll(0.0)
    if update is None:
        raise SystemExit("a change that was made is not there")
    return update.state


def fill(site: Site, store: StateStore, size: Size, fields: Sequence[str], *, seed: int) -> int:
    """Register everybody, and return the epoch."""
    models = models_of(read_registry_text(registry_text(), "model.yaml"), agreement=MODEL, fields=fields)
    state, done = store.load(), 0
    for count, part in parts(size, models, seed=seed):
        state, done = append(site, store, part, state), done + count
    print(f"  made {done:,} entries in {state.epoch} changes", flush=True)
    return state.epoch


def watch(channel: grpc.Channel) -> Any:
    """Begin to watch the seals of a data service."""
    make: Any = seal_pb2_grpc.SealServiceStub
    return make(channel).WatchSeals(seal_pb2.WatchSealsRequest(), timeout=600)


def whole(stream: Any) -> int:
    """Take all parts of the snapshot, and return how many tokens there are."""
    count = 0
    for message in stream:
        count += len(message.snapshot.tokens)
        if message.snapshot.complete:
            return count
    raise SystemExit("the stream ended before the list was whole")


def heard_s(stream: Any, epoch: int) -> float:
    """Wait until the stream tells of an epoch, and return when."""
    for message in stream:
        kind = message.WhichOneof("event")
        if getattr(message, kind).epoch >= epoch:
            return perf_counter()
    raise SystemExit(f"the stream ended before epoch {epoch}")


def visible_ms(
    site: Site, channel: grpc.Channel, store: StateStore, changes: Iterator[Registry], *, count: int
) -> list[float]:
    """Make changes one by one, and return how long each took to be heard of from when it was sent."""
    stream, state = watch(channel), store.load()
    whole(stream)
    taken = []
    for _ in range(count):
        proposal = propose(site.config, next(changes), state=state, why="for the bench")
        begun_s = perf_counter()
        epoch = store.append(proposal, state.epoch)
        taken.append((heard_s(stream, epoch) - begun_s) * 1e3)
        state = after(store, state)
    stream.cancel()
    return taken


def new_seals(size: Size) -> Iterator[Registry]:
    """Yield changes of one new seal each."""
    number = size.seals
    while True:
        each = seal(number, size.services)
        yield Registry(seals={each.id: each})
        number += 1


def suspensions(agreement: Agreement) -> Iterator[Registry]:
    """Yield changes that suspend an agreement and let it go on again, in turn."""
    while True:
        for status in (Status.SUSPENDED, Status.ACTIVE):
            yield Registry(agreements={agreement.id: replace(agreement, status=status)})


def engine_us(sites: Sequence[Site], *, runs: int) -> list[tuple[float, float]]:
    """Return what a decision takes in this process with each registry, warm and cold: processor time.

    By turns, so that what else the machine does meets all of them alike; the best of ``runs``.
    """
    policy = load_policy_set(POLICY)
    work: list[tuple[Callable[[], object], Callable[[], object]]] = []
    for site in sites:
        with open_store(site.config) as store:
            state = store.load()
        decider = current_of(policy, state).decider
        names = tuple(sorted(state.registry.agreements[AGREEMENT].fields)[:FIELDS])
        requester = state.registry.requesters[WHO]
        token = Token(requester.issuer, requester.subject, bytes(32), clock.now() + 3_600_000)
        claimed = Claimed("q", AGREEMENT, ("academic-research",), Action.RELEASE, names, years=(YEAR,))
        request, now = Request(claimed, Verified(site.spiffe_id(SERVICE), token)), clock.now()
        if decider.decide(request, now).agreement != AGREEMENT:
            raise SystemExit("the question of the bench is refused before its agreement is looked at")
        cold = partial(entitle, decider.snapshot, request, now=now)
        work.append((partial(decider.decide, request, now), cold))
    gc.collect()
    gc.freeze()
    best = [[float("inf"), float("inf")] for _ in sites]
    for _ in range(runs):
        for have, pair in zip(best, work, strict=True):
            for at, times in enumerate((2_000, 200)):
                begun_s = thread_time()
                for _ in range(times):
                    pair[at]()
                have[at] = min(have[at], (thread_time() - begun_s) / times * 1e6)
    gc.unfreeze()
    return [(warm, cold) for warm, cold in best]


def calls_ms(site: Site, channel: grpc.Channel, fields: Sequence[str]) -> float:
    """Return the median of single calls of `Check`."""
    token = site.token(WHO, service=SERVICE)
    check, taken = stub(channel).Check, []
    for number in range(CALLS):
        question = site.question(
            number, requester_token=token, agreement_id=AGREEMENT, fields=fields, years=[YEAR]
        )
        begun_s = perf_counter()
        check(question, timeout=30)
        taken.append((perf_counter() - begun_s) * 1e3)
    return median(taken)


def lists(site: Site, address: str, want: int) -> float:
    """Take the whole list once, then several at once, and return how long the first one took."""
    with site.channel(address, service=SERVICE) as channel:
        begun_s = perf_counter()
        stream = watch(channel)
        count = whole(stream)
        taken_s = perf_counter() - begun_s
        stream.cancel()
        if count != want:
            raise SystemExit(f"{count} tokens came, and {want} are under seal")
        streams = [watch(channel) for _ in range(STREAMS)]
        threads = [threading.Thread(target=whole, args=(each,)) for each in streams]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in streams:
            each.cancel()
    return taken_s


def measure(directory: Path, size: Size, *, seed: int, changes: int) -> tuple[Site, Measured]:
    """Make a registry, start a node on it, and ask, change and watch."""
    print(f"{size.requesters:,} requesters, {size.agreements:,} agreements, {size.seals:,} seals", flush=True)
    site = Site(set_up(directory, policy=POLICY, address="127.0.0.1:0"))
    put_in_force(site.config)
    fields = load_policy_set(POLICY).index.ids
    with open_store(site.config) as store:
        begun_s = perf_counter()
        epoch = fill(site, store, size, fields, seed=seed)
        made_s = perf_counter() - begun_s
    begun_s = perf_counter()
    with Process(site) as process:
        start_s, start_cpu_s = perf_counter() - begun_s, processor_s(process.pid)
        told = [line.strip() for line in process.lines if " of " in line]
        process.line_with("state at epoch")
        now_mib, peak_mib = resident_mib(process.pid)
        print(
            f"  serves after {start_s:.1f} s ({start_cpu_s:.1f} s of processor), {now_mib:.0f} MiB",
            flush=True,
        )
        with open_store(site.config) as store, site.channel(process.address, service=SERVICE) as channel:
            state = store.load()
            names = sorted(state.registry.agreements[AGREEMENT].fields)[:FIELDS]
            call_ms = calls_ms(site, channel, names)
            seals_ms = visible_ms(site, channel, store, new_seals(size), count=changes)
            turns = suspensions(state.registry.agreements["DS000001"])
            entries_ms = visible_ms(site, channel, store, turns, count=changes)
            print(
                f"  visible after {median(seals_ms):.0f} ms (seal), {median(entries_ms):.0f} ms (agreement)"
            )
        watch_s = lists(site, process.address, size.seals + changes)
        watch_mib, _ = resident_mib(process.pid)
        print(f"  the whole list of tokens in {watch_s:.2f} s; {watch_mib:.0f} MiB afterwards", flush=True)
        process.terminate()
    return site, Measured(
        size=size,
        changes=epoch,
        state_mib=site.config.state.stat().st_size / 2**20,
        made_s=made_s,
        start_s=start_s,
        start_cpu_s=start_cpu_s,
        told=told,
        resident_mib=now_mib,
        peak_mib=peak_mib,
        call_ms=call_ms,
        seals_ms=seals_ms,
        entries_ms=entries_ms,
        watch_s=watch_s,
        watch_mib=watch_mib,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--divide", type=int, default=1, help="by how much the large registry is smaller")
    parser.add_argument("--changes", type=int, default=200, help="of each kind, to be heard of")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to be measured")
    parser.add_argument("--out", type=Path, default=Path("docs/performance.md"))
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        measured = [
            measure(
                Path(name) / str(number),
                NATIONAL.divided(by),
                seed=options.seed,
                changes=options.changes,
            )
            for number, by in enumerate((max(SMALL, options.divide), options.divide))
        ]
        engine = engine_us([site for site, _ in measured], runs=options.runs)
    small, large = (
        replace(each, warm_us=warm_us, cold_us=cold_us)
        for (_, each), (warm_us, cold_us) in zip(measured, engine, strict=True)
    )
    text = write(
        small,
        large,
        date=clock.format_instant(clock.now())[:10],
        load=load,
        cores=os.cpu_count() or 1,
        seed=options.seed,
    )
    put_section(options.out, "bench/scale.py", text)
    print(text)
    if missed := [what for what, met in targets(small, large) if not met]:
        print(f"{len(missed)} targets missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
