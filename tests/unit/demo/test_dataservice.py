"""The data service releases only under a live decision, live seals and obligations that it can meet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from guarded import PSEUDONYM_KEY, RELEASE, SEAL_KEY
from policyd_client import (
    Action,
    Decision,
    NoDecision,
    NotReported,
    Obligations,
    Outcome,
    SealsNotLive,
    SealState,
)
from policyd_client.model import Life

from policyd.demo.dataservice import Answer, DataService
from policyd.demo.syntax import Refused
from policyd.demo.tables import SCHEMA

SQL = "SELECT URN_SPR19 FROM SC_Pupil LIMIT 3"
TOKEN = bytes(32)
REQUESTER = "signed token of a requester"


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class OneDecision:
    """Answers every question alike and keeps what was asked."""

    def __init__(
        self, obligations: Obligations, *, outcome: Outcome = Outcome.RELEASE, clock: Clock | None = None
    ) -> None:
        self.asked: list[dict[str, Any]] = []
        self._obligations = obligations
        self._outcome = outcome
        self._life = Life(clock or Clock(), 60.0)
        self.reports: list[dict[str, Any]] = []
        self.report_fails = False

    def report_release(self, decision: Decision, *, rows: int, **report: Any) -> None:
        decision.life.begin_report(decision.decision_id, rows=rows)
        self.reports.append({"rows": rows, **report})
        if self.report_fails:
            raise NotReported("the release is not recorded", code="UNAVAILABLE")

    def check(self, **question: Any) -> Decision:
        self.asked.append(question)
        return Decision(
            request_id="r",
            decision_id="d",
            trace_id="t",
            outcome=self._outcome,
            verdicts=dict.fromkeys((*question["fields"], *question["used_fields"]), RELEASE),
            obligations=self._obligations,
            policy_digest="",
            policy_version=1,
            epoch=1,
            identification_risk=4,
            sensitivity="E",
            ledger_origin="o",
            ledger_index=0,
            expires_at_s=60.0,
            life=self._life,
        )


class Seals:
    """Gives one state after another, and the last one for ever; None is not live."""

    def __init__(self, *states: SealState | None) -> None:
        self._states = list(states)

    def take(self, at_least_epoch: int = 0, *, wait_s: float = 0.0) -> SealState:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if state is None or state.epoch < at_least_epoch:
            raise SealsNotLive("not live")
        return state


LIVE = SealState(live=True, epoch=4, tokens=frozenset())


def ask(
    database: Path,
    client: Any,
    *,
    seals: Seals | None = None,
    sql: str = SQL,
    action: Action | None = None,
    years: Sequence[int] = (),
) -> Answer:
    service = DataService(
        client,
        seals or Seals(LIVE),  # type: ignore[arg-type]
        database=database,
        schema=SCHEMA,
        setting="secure-research",
        seal_key=SEAL_KEY,
        pseudonym_key=PSEUDONYM_KEY,
    )
    return service.ask(
        sql, requester_token=REQUESTER, agreement="DS1", purposes=("p",), years=years, action=action
    )


def test_what_the_statement_touches_is_what_is_asked(database: Path) -> None:
    """Fields, uses and action of the question come from the statement, the rest from the caller."""
    client = OneDecision(Obligations(exclude_sealed_epoch=4))
    answer = ask(database, client, sql="SELECT COUNT(*) FROM SC_Pupil WHERE URN_SPR19 > 1", years=[2018])

    assert answer.rows == ((600,),)
    assert client.asked == [
        {
            "agreement": "DS1",
            "purposes": ("p",),
            "fields": (),
            "used_fields": ("SC_Pupil.URN_SPR19",),
            "years": [2018],
            "action": Action.COUNT,
            "requester_token": REQUESTER,
        }
    ]


def test_each_joined_table_is_asked_about(database: Path) -> None:
    """A table that only multiplies rows is in the question, so it is decided and recorded."""
    client = OneDecision(Obligations(exclude_sealed_epoch=4))
    ask(database, client, sql="SELECT k.KS4_ATT8 FROM KS4 k JOIN CIN c ON k.KS4_ATT8 >= 90", years=[2018])

    (asked,) = client.asked
    assert "CIN.CIN_PupilMatchingRefAnonymous" in asked["used_fields"]


def test_an_order_that_rounding_hides_withholds_all_rows(database: Path) -> None:
    """The obligation comes with the decision, so the answer is withheld after asking."""
    sql = "SELECT URN_SPR19, COUNT(*) AS n FROM SC_Pupil GROUP BY URN_SPR19 ORDER BY n"
    exact = Obligations(exclude_sealed_epoch=4, min_cell_count=10)
    rounded = Obligations(exclude_sealed_epoch=4, min_cell_count=10, round_to=5)

    assert ask(database, OneDecision(exact), sql=sql).rows
    have = ask(database, OneDecision(rounded), sql=sql)
    assert have.rows == ()
    assert "which is rounded" in have.withheld


def test_a_statement_that_is_refused_is_never_asked(database: Path) -> None:
    """Nothing reaches policyd, so nothing is decided on half a question."""
    client = OneDecision(Obligations(exclude_sealed_epoch=4))
    for sql, action in (
        ("SELECT MAX(UPN_SPR19) FROM SC_Pupil", None),
        ("SELECT SUM(FSMeligible_SPR19) FROM SC_Pupil", None),
        ("SELECT COUNT(*) FROM SC_Pupil a JOIN SC_Pupil b ON a.URN_SPR19 = b.URN_SPR19", None),
        (SQL, Action.COUNT),
    ):
        with pytest.raises(Refused):
            ask(database, client, sql=sql, action=action)

    assert client.asked == []


def test_without_a_decision_there_is_no_answer(database: Path) -> None:
    """When nobody answers, the exception goes to the caller."""

    class Nobody:
        def check(self, **_: Any) -> Decision:
            raise NoDecision("no decision", code="UNAVAILABLE")

    with pytest.raises(NoDecision):
        ask(database, Nobody())


FOUR = Obligations(exclude_sealed_epoch=4)
SEALED_LATER = SealState(live=True, epoch=5, tokens=frozenset({TOKEN}))
ELSEWHERE = Obligations(exclude_sealed_epoch=4, settings=frozenset({"linkage"}))
BOTH = Obligations(exclude_sealed_epoch=4, settings=frozenset({"linkage", "secure-research"}))


@pytest.mark.parametrize(
    ("obligations", "seals", "says"),
    [
        pytest.param(Obligations(exclude_sealed_epoch=5), Seals(LIVE), "not live", id="behind"),
        pytest.param(FOUR, Seals(None), "not live", id="not live"),
        pytest.param(FOUR, Seals(LIVE, None), "not live", id="lost meanwhile"),
        pytest.param(FOUR, Seals(LIVE, SEALED_LATER), "came under seal", id="sealed meanwhile"),
        pytest.param(Obligations(), Seals(LIVE), "which seals", id="no seals named"),
        pytest.param(ELSEWHERE, Seals(LIVE), "only for the setting", id="elsewhere"),
        pytest.param(BOTH, Seals(LIVE), "only for the setting", id="both settings"),
    ],
)
def test_an_obligation_that_cannot_be_met_withholds_all_rows(
    obligations: Obligations, seals: Seals, says: str, database: Path
) -> None:
    """No row comes out, and the answer says why."""
    answer = ask(database, OneDecision(obligations), seals=seals)

    assert answer.rows == ()
    assert says in answer.withheld


def test_an_epoch_that_brought_no_seal_does_not_stop_a_query(database: Path) -> None:
    """Other changes of state may happen while a query runs."""
    later = SealState(live=True, epoch=9, tokens=frozenset())

    assert (
        len(ask(database, OneDecision(Obligations(exclude_sealed_epoch=4)), seals=Seals(LIVE, later)).rows)
        == 3
    )


def test_a_withheld_decision_runs_nothing(database: Path) -> None:
    """Even verdicts that say release do not count when the outcome is withhold."""
    answer = ask(database, OneDecision(Obligations(exclude_sealed_epoch=4), outcome=Outcome.WITHHOLD))

    assert (answer.rows, answer.sql) == ((), "")
    assert "did not run" in answer.withheld


def test_a_decision_serves_one_query(database: Path) -> None:
    """The second query on one decision gets nothing."""
    client = OneDecision(Obligations(exclude_sealed_epoch=4))

    assert ask(database, client).rows
    second = ask(database, client)
    assert second.rows == ()
    assert "used for a query already" in second.withheld


def test_what_leaves_is_reported_first(database: Path) -> None:
    """Rows, the obligations met here and a keyed digest of the result are on record before rows go on."""
    client = OneDecision(Obligations(exclude_sealed_epoch=4, retention_days=30))

    assert len(ask(database, client).rows) == 3
    (report,) = client.reports
    assert (report["rows"], report["obligations_met"]) == (3, ["exclude_sealed"])
    assert len(report["result_digest"]) == 32


def test_without_a_record_of_the_release_there_is_none(database: Path) -> None:
    """A report that does not arrive withholds the rows that the query found."""
    client = OneDecision(Obligations(exclude_sealed_epoch=4))
    client.report_fails = True
    answer = ask(database, client)

    assert answer.rows == ()
    assert answer.withheld == "the release is not recorded"


def test_a_query_that_was_given_up_is_reported_with_no_rows(database: Path) -> None:
    """Nothing stays open in the ledger because a data service changed its mind."""
    client = OneDecision(Obligations(exclude_sealed_epoch=4))

    assert ask(database, client, seals=Seals(None)).withheld
    assert client.reports == [{"rows": 0}]


def test_a_decision_that_is_too_old_serves_none(database: Path) -> None:
    """After its life nothing runs."""
    clock = Clock()
    client = OneDecision(Obligations(exclude_sealed_epoch=4), clock=clock)
    clock.now_s = 61.0

    assert "too old" in ask(database, client).withheld


def test_a_query_is_stopped_when_its_decision_runs_out(database: Path) -> None:
    """A statement that takes longer than the decision lives is interrupted by the database."""

    class Racing(Clock):
        def __call__(self) -> float:
            self.now_s += 20.0  # every look at the clock takes 20 s: two looks before the query starts
            return self.now_s

    client = OneDecision(Obligations(exclude_sealed_epoch=4), clock=Racing())
    answer = ask(
        database,
        client,
        sql="SELECT a.URN_SPR19 FROM SC_Pupil a JOIN SC_Pupil b ON a.UPN_SPR19 LIKE b.Surname_SPR19",
    )

    assert answer.rows == ()
    assert "SQLITE_INTERRUPT" in answer.withheld


def test_terms_go_to_the_recipient_with_the_rows(database: Path) -> None:
    """Obligations that the data service cannot meet itself are handed on in words."""
    answer = ask(
        database,
        OneDecision(
            Obligations(
                exclude_sealed_epoch=4,
                retention_days=30,
                output_check=True,
                publish_in_register=True,
                min_cell_count=10,
                round_to=5,
                settings=frozenset({"secure-research"}),
            )
        ),
    )

    assert len(answer.terms) == 5
    assert "delete within 30 days" in answer.terms
