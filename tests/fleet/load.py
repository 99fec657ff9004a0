"""Data services under load: they ask, run their queries on real tables, and release rows; all is recorded."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from policyd_client import Decision, PolicyClient, SealState, SealWatch, Withheld

from fleet.harness import SERVICES, Fleet
from fleet.history import Answered, Asked, Began, History, Refused, Released, now
from policyd.demo.dataservice import DataService
from policyd.demo.syntax import Refused as NotRun
from policyd.demo.synthetic import make_database
from policyd.demo.tables import SCHEMA
from policyd.demo.transforms import pseudonymiser, seal_token

AGREEMENT = "DS00101"
SQL = "SELECT PupilMatchingRefAnonymous_SPR19, Gender_SPR19, FSMeligible_SPR19 FROM SC_Pupil"
"""Every pupil's row leaves, unless it is under seal."""

_TOKEN_S = 300.0
_FAILED_PAUSE_S = 0.01


class _Query(threading.local):
    """Which query this thread is working on."""

    client = ""
    query = ""
    began = False


class _Client(PolicyClient):
    """Tells the history of every question and its answer."""

    history: History
    query: _Query

    def check(self, **parts: Any) -> Decision:
        """Ask, as every data service does."""
        name, number = self.query.client, self.query.query
        self.history.add(Asked(now(), name, number))
        decision = super().check(**parts)
        if not decision.unexpected:
            node = decision.ledger_origin.rsplit("/", 1)[1]
            excludes = decision.obligations.exclude_sealed_epoch
            self.history.add(
                Answered(now(), name, number, node, decision.decision_id, decision.epoch, excludes)
            )
        return decision


class _Seals:
    """Tells the history of the table of seals that each query begins with."""

    def __init__(self, watch: SealWatch, history: History, query: _Query) -> None:
        self._watch = watch
        self._history = history
        self._query = query

    def take(self, at_least_epoch: int = 0, *, wait_s: float = 0.0) -> SealState:
        """Return the seals, as the watch does."""
        at = now()
        state = self._watch.take(at_least_epoch, wait_s=wait_s)
        if not self._query.began:
            self._query.began = True
            self._history.add(Began(at, self._query.client, self._query.query, state.epoch))
        return state


class Load:
    """Data services with certificates and keys of their own, each with clients that prefer each node.

    Use it in a `with`. One thread a client asks as fast as it is answered. ``problems`` is what a data
    service met that no fault explains.
    """

    def __init__(self, fleet: Fleet, directory: Path, *, pupils: int, seed: int) -> None:
        self.problems: list[BaseException] = []
        self._fleet = fleet
        self._history = fleet.history
        self._over = threading.Event()
        self._numbers = itertools.count(1)
        self._minting = threading.Lock()
        self._progress = threading.Condition()
        self._released: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._database = directory / "pupils.sqlite"
        make_database(self._database, pupils=pupils, seed=seed)
        self._keys = {service: service.encode().ljust(32, b"!") for service in (*SERVICES, "npd-closed")}
        with closing(sqlite3.connect(self._database)) as connection:
            rows = connection.execute("SELECT PupilMatchingRefAnonymous_SPR19 FROM SC_Pupil").fetchall()
        self.records: tuple[str, ...] = tuple(row[0] for row in rows)

    def tokens(self, record: str) -> dict[str, bytes]:
        """Return what names a record to each data service."""
        return {service: seal_token(key, record) for service, key in self._keys.items()}

    def __enter__(self) -> Load:
        """Start, and wait until each client has released rows once."""
        for service in SERVICES:
            for first in range(len(self._fleet.nodes)):
                name = f"{service}-{first + 1}"
                self._released[name] = 0
                self._threads.append(threading.Thread(target=self._work, args=(service, first, name)))
        for thread in self._threads:
            thread.start()
        try:
            self.expect_releases()
        except BaseException:
            self.__exit__()
            raise
        return self

    def expect_releases(self, timeout_s: float = 30.0) -> None:
        """Wait until every client has released rows of a query that it put from now on.

        Raises:
            AssertionError: one of them did not in time, or a data service failed.
        """
        with self._progress:
            # The query under way may have been put before.
            wanted = {name: count + 2 for name, count in self._released.items()}
            self._progress.wait_for(lambda: self.problems or not self._behind(wanted), timeout_s)
            behind = self._behind(wanted)
        assert not self.problems, self.problems
        assert not behind, f"no rows from {behind} in {timeout_s} s"

    def _behind(self, wanted: Mapping[str, int]) -> list[str]:
        return [name for name, count in wanted.items() if self._released[name] < count]

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _token(self, service: str) -> str:
        with self._minting:  # to open the issuer is to write its public key
            return self._fleet.site.token(service=service)

    def _work(self, service: str, first: int, name: str) -> None:
        try:
            with self._data_service(service, first, name) as ask:
                while not self._over.is_set():
                    if ask():
                        with self._progress:
                            self._released[name] += 1
                            self._progress.notify_all()
        except BaseException as error:  # noqa: BLE001  # the boundary of this thread; the test fails on it
            with self._progress:
                self.problems.append(error)
                self._progress.notify_all()

    @contextmanager
    def _data_service(self, service: str, first: int, name: str) -> Iterator[Callable[[], bool]]:
        """Yield what puts one query and says whether rows came."""
        query = _Query()
        history = self._history
        secret = b"pseudonyms of " + service.encode()
        pseudonymise = pseudonymiser(secret, AGREEMENT)
        known = {value: record for record in self.records for value in (record, str(pseudonymise(record)))}
        token, token_at = self._token(service), now()
        client = self._fleet.client(service, first=first, kind=_Client)
        assert isinstance(client, _Client)
        client.history, client.query = history, query
        with client, client.watch_seals() as watch:
            seals: Any = _Seals(watch, history, query)
            data_service = DataService(
                client,
                seals,
                database=self._database,
                schema=SCHEMA,
                setting="secure-research",
                seal_key=self._keys[service],
                pseudonym_key=secret,
            )

            def ask() -> bool:
                nonlocal token, token_at
                if now() - token_at > _TOKEN_S:
                    token, token_at = self._token(service), now()
                query.client, query.query, query.began = name, str(next(self._numbers)), False
                try:
                    answer = data_service.ask(
                        SQL,
                        requester_token=token,
                        agreement=AGREEMENT,
                        purposes=("academic-research",),
                        years=(2018,),
                    )
                except (Withheld, NotRun) as error:
                    history.add(Refused(now(), name, query.query, str(error)))
                    self._over.wait(_FAILED_PAUSE_S)
                    return False
                if answer.withheld:
                    history.add(Refused(now(), name, query.query, answer.withheld))
                    return False
                records = history.same(frozenset(known[str(row[0])] for row in answer.rows))
                history.add(Released(now(), name, query.query, records))
                return True

            yield ask
