"""A rewritten query sees what was decided and nothing else."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from guarded import PSEUDONYM_KEY, RELEASE, SEAL_KEY, change, run_guarded
from policyd_client import Effect, Obligations, SealState, Step, StepKind, Verdict

from policyd.demo.dataservice import DataService
from policyd.demo.rewrite import rewrite
from policyd.demo.statement import Kind, fields_of
from policyd.demo.syntax import Refused
from policyd.demo.tables import SCHEMA
from policyd.demo.transforms import pseudonymiser

SEED = 20260301
CASES = yaml.safe_load(Path(__file__).with_name("statements.yaml").read_text("utf-8"))
COUNTS = [case["sql"] for case in CASES["understood"] if case["action"] == "count"]
RUNNABLE = [case["sql"] for case in CASES["understood"] if "*" not in "".join(case["fields"])]
WITHHOLD = Verdict(Effect.WITHHOLD, "FIELD_NOT_IN_AGREEMENT", "gate:7:agreement")


def transform(*steps: Step) -> Verdict:
    return Verdict(Effect.TRANSFORM, "NONE", "rule", steps)


TO_YEAR = transform(Step(StepKind.GENERALISE, "year"))
TO_BAND = transform(Step(StepKind.BAND, amount=10))
PSEUDONYM = transform(Step(StepKind.PSEUDONYMISE))


@pytest.mark.parametrize("sql", RUNNABLE)
def test_when_all_is_released_the_result_is_that_of_the_plain_query(sql: str, database: Path) -> None:
    """With every verdict RELEASE and every year asked, the rewriting changes nothing."""
    with closing(sqlite3.connect(database)) as connection:
        want = connection.execute(sql).fetchall()

    assert sorted(run_guarded(sql, database, years=range(2000, 2030)), key=repr) == sorted(want, key=repr)


@pytest.mark.parametrize("sql", RUNNABLE)
def test_sealed_is_the_same_as_absent(sql: str, database: Path, tmp_path: Path) -> None:
    """With ten pupils sealed, the result is that of a database in which they never were."""
    with closing(sqlite3.connect(database)) as connection:
        sealed = [
            row[0] for row in connection.execute("SELECT KS4_PupilMatchingRefAnonymous FROM KS4 LIMIT 10")
        ]
    absent = change(
        database,
        tmp_path / "absent.db",
        *(f'DELETE FROM "{t.name}" WHERE "{t.pupil}" IN ({", ".join("?" * 10)})' for t in SCHEMA.tables),  # noqa: S608
        values=sealed,
    )

    have, want = run_guarded(sql, database, sealed=sealed), run_guarded(sql, absent)

    assert have == want
    assert run_guarded("SELECT COUNT(*) FROM KS4", database, sealed=sealed) != run_guarded(
        "SELECT COUNT(*) FROM KS4", database
    )


def test_rows_of_other_authorities_and_years_do_not_exist(database: Path) -> None:
    """A table with its own authority column, one without, and one with years are all limited."""
    with closing(sqlite3.connect(database)) as connection:
        (held,) = connection.execute("SELECT count(*) FROM SC_Pupil WHERE LA_LGR_SPR19 = '301'").fetchone()
        (tested,) = connection.execute(
            "SELECT count(*) FROM KS4 WHERE KS4_LA = '301' AND KS4_ACADYR = '2017/2018'"
        ).fetchone()
    own = Obligations(row_local_authorities=frozenset({"301"}))

    assert run_guarded("SELECT COUNT(*) FROM SC_Pupil", database, obligations=own) == [(held,)]
    assert run_guarded("SELECT COUNT(*) FROM SC_Addresses", database, obligations=own) == [(held,)]
    assert run_guarded("SELECT COUNT(*) FROM KS4", database, obligations=own, years=[2017]) == [(tested,)]
    assert 0 < tested < held


@pytest.mark.parametrize(
    "obligations",
    [
        Obligations(row_local_authorities=frozenset()),
        Obligations(row_years=frozenset()),
        Obligations(row_years=frozenset({2011})),
    ],
)
def test_limits_that_admit_nothing_give_nothing(obligations: Obligations, database: Path) -> None:
    """An empty list admits no row, and a census of another year has none."""
    assert run_guarded("SELECT URN_SPR19 FROM SC_Pupil", database, obligations=obligations) == []
    assert run_guarded("SELECT KS4_URN FROM KS4", database, obligations=obligations) == []


def test_a_row_without_a_pupil_reference_is_left_out(database: Path, tmp_path: Path) -> None:
    """Whether such a row is sealed cannot be known, so it is treated as if it were."""
    orphan = change(
        database,
        tmp_path / "orphan.db",
        "UPDATE SC_Pupil SET PupilMatchingRefAnonymous_SPR19 = NULL WHERE rowid = 7",
    )

    assert run_guarded("SELECT COUNT(*) FROM SC_Pupil", orphan) == [(599,)]


def test_a_table_with_years_gives_none_that_were_not_asked(database: Path) -> None:
    """Without years in the question there are no rows of a table whose columns name none."""
    assert run_guarded("SELECT KS4_URN FROM KS4", database, years=[]) == []


def test_a_transformed_field_is_filtered_grouped_and_joined_in_its_transformed_form(database: Path) -> None:
    """A filter on the day of birth finds nothing, one on the year does; groups are years."""
    verdicts = {"SC_Pupil.DOB_SPR19": TO_YEAR}
    with closing(sqlite3.connect(database)) as connection:
        (born, day) = connection.execute(
            "SELECT substr(DOB_SPR19, 1, 4), DOB_SPR19 FROM SC_Pupil LIMIT 1"
        ).fetchone()
        want = connection.execute(
            "SELECT substr(DOB_SPR19, 1, 4), count(*) FROM SC_Pupil GROUP BY 1 ORDER BY 1"
        ).fetchall()
    by_day = f"SELECT URN_SPR19 FROM SC_Pupil WHERE DOB_SPR19 = '{day}'"  # noqa: S608
    by_year = f"SELECT URN_SPR19 FROM SC_Pupil WHERE DOB_SPR19 = '{born}'"  # noqa: S608
    grouped = "SELECT DOB_SPR19, COUNT(*) FROM SC_Pupil GROUP BY DOB_SPR19 ORDER BY DOB_SPR19"

    assert run_guarded(by_day, database, verdicts=verdicts) == []
    assert len(run_guarded(by_year, database, verdicts=verdicts)) > 1
    assert run_guarded(grouped, database, verdicts=verdicts) == want


def test_pseudonyms_still_join(database: Path) -> None:
    """Two references under one pseudonym key join as the references do, and none comes out."""
    sql = (
        "SELECT p.PupilMatchingRefAnonymous_SPR19 AS pupil, k.KS4_ATT8 FROM SC_Pupil p "
        "JOIN KS4 k ON k.KS4_PupilMatchingRefAnonymous = p.PupilMatchingRefAnonymous_SPR19"
    )
    plain = run_guarded(sql, database)
    have = run_guarded(
        sql,
        database,
        verdicts={
            "SC_Pupil.PupilMatchingRefAnonymous_SPR19": PSEUDONYM,
            "KS4.KS4_PupilMatchingRefAnonymous": PSEUDONYM,
        },
    )

    assert sorted(score for _, score in have) == sorted(score for _, score in plain)
    assert not {pupil for pupil, _ in have} & {pupil for pupil, _ in plain}


def test_steps_are_applied_in_their_order(database: Path) -> None:
    """Capping at 60 and then rounding to 25 gives 50 and never 75."""
    verdict = transform(Step(StepKind.TOP_CODE, amount=60), Step(StepKind.ROUND, amount=25))
    have = run_guarded("SELECT DISTINCT KS4_ATT8 FROM KS4", database, verdicts={"KS4.KS4_ATT8": verdict})

    assert {value for (value,) in have} <= {0, 25, 50}


def test_a_withheld_output_is_cut_and_the_rest_comes(database: Path) -> None:
    """An output made of a withheld field is left out whole."""
    statement = fields_of("SELECT URN_SPR19, COALESCE(UPN_SPR19, Gender_SPR19) AS who FROM SC_Pupil", SCHEMA)
    verdicts = dict.fromkeys(statement.fields, RELEASE) | {"SC_Pupil.UPN_SPR19": WITHHOLD}
    have = rewrite(statement, SCHEMA, verdicts=verdicts, obligations=Obligations(), years=())

    assert have.cut == ("who",)
    assert "UPN" not in have.sql
    assert ("SC_Pupil", "UPN_SPR19") not in have.reads


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT URN_SPR19 FROM SC_Pupil WHERE UPN_SPR19 = 'x'", "filters, joins, groups or sorts"),
        ("SELECT URN_SPR19 FROM SC_Pupil ORDER BY UPN_SPR19", "filters, joins, groups or sorts"),
        ("SELECT UPN_SPR19 FROM SC_Pupil", "every column"),
        ("SELECT URN_SPR19, COUNT(UPN_SPR19) FROM SC_Pupil GROUP BY URN_SPR19", "every column"),
        ("SELECT * FROM SC_Pupil", "cannot run"),
    ],
)
def test_nothing_runs_on_a_withheld_field(sql: str, says: str) -> None:
    """A use of a withheld field, or nothing left to show, refuses the whole query."""
    statement = fields_of(sql, SCHEMA)
    verdicts = {"SC_Pupil.URN_SPR19": RELEASE, "SC_Pupil.UPN_SPR19": WITHHOLD}

    with pytest.raises(Refused, match=says):
        rewrite(statement, SCHEMA, verdicts=verdicts, obligations=Obligations(), years=())


@pytest.mark.parametrize(
    ("sql", "withheld"),
    [
        ("SELECT k.KS4_ATT8, c.CIN_UPN FROM KS4 k JOIN CIN c ON k.KS4_ATT8 >= 90", "CIN.CIN_UPN"),
        ("SELECT 1 AS c, CIN_UPN FROM CIN c", "CIN.CIN_UPN"),
        ("SELECT COUNT(*), COUNT(c.CIN_UPN) FROM CIN c", "CIN.CIN_UPN"),
    ],
)
def test_a_table_with_nothing_left_is_not_joined(sql: str, withheld: str, database: Path) -> None:
    """When all columns that were named of a table are withheld, its rows do not shape the result either."""
    with pytest.raises(Refused, match="every column of `c`"):
        run_guarded(sql, database, verdicts={withheld: WITHHOLD})


@pytest.mark.parametrize(
    "verdict",
    [
        None,
        transform(),
        transform(Step(StepKind.GENERALISE, "decade")),
        transform(Step(StepKind.BAND, amount=0)),
        transform(Step(StepKind.GENERALISE, "year"), Step(StepKind.ROUND, amount=1)),
    ],
    ids=str,
)
def test_a_verdict_that_is_missing_or_not_understood_is_withheld(verdict: Verdict | None) -> None:
    """No verdict, a transform without steps, and a step that is not known all withhold."""
    verdicts = {} if verdict is None else {"SC_Pupil.DOB_SPR19": verdict}

    with pytest.raises(Refused, match="every column"):
        rewrite(
            fields_of("SELECT DOB_SPR19 FROM SC_Pupil", SCHEMA),
            SCHEMA,
            verdicts=verdicts,
            obligations=Obligations(),
            years=(),
        )


def test_no_withheld_value_ever_comes_out(database: Path, tmp_path: Path) -> None:
    """With random verdicts on every statement, no canary of a withheld column is in any result."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)  # noqa: S311  (cases, not secrets)
    ran = 0
    for number in range(30):
        withheld = {
            f"{table.name}.{column}"
            for table in SCHEMA.tables
            for column in table.columns
            if rng.random() < 0.25
        }
        keys = {f"{t.name}.{c}" for t in SCHEMA.tables for c in (t.pupil, t.local_authority, t.year_column)}
        canaries = [name.split(".") for name in sorted(withheld - keys)]
        marked = change(
            database,
            tmp_path / "canary.db",
            *(f'UPDATE "{t}" SET "{c}" = \'CANARY \' || rowid' for t, c in canaries),  # noqa: S608
        )
        verdicts = dict.fromkeys(withheld, WITHHOLD)
        for sql in RUNNABLE:
            try:
                rows = run_guarded(sql, marked, verdicts=verdicts)
            except Refused:
                continue
            ran += 1
            assert "CANARY" not in repr(rows), f"round {number}: {sql}"
    assert ran > 100


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT UPN_SPR19 FROM main.SC_Pupil",
        "SELECT p.UPN_SPR19 FROM (SELECT 1) q JOIN SC_Pupil p",
        "WITH x(u) AS (VALUES ('A')) SELECT x.u FROM SC_Pupil p JOIN x ON p.UPN_SPR19 = x.u",
        "SELECT sql FROM sqlite_master",
        "SELECT KS4_ATT8 FROM KS4",
        "PRAGMA table_info(SC_Pupil)",
        "ATTACH ':memory:' AS other",
        "DELETE FROM temp.sealed_token",
        "UPDATE SC_Pupil SET URN_SPR19 = 1",
        "CREATE TEMP VIEW v AS SELECT 1",
        "SELECT hex(zeroblob(9))",
    ],
)
def test_the_database_refuses_what_the_rewriting_would_not_write(sql: str, database: Path) -> None:
    """On the connection of a guarded query, SQLite itself denies everything else."""
    statement = fields_of("SELECT URN_SPR19 FROM SC_Pupil", SCHEMA)
    guarded = rewrite(
        statement, SCHEMA, verdicts={"SC_Pupil.URN_SPR19": RELEASE}, obligations=Obligations(), years=()
    )
    service = DataService(
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        database=database,
        schema=SCHEMA,
        setting="secure-research",
        seal_key=SEAL_KEY,
        pseudonym_key=PSEUDONYM_KEY,
    )
    state = SealState(live=True, epoch=1, tokens=frozenset())
    with closing(service._open(guarded, state, pseudonymiser(PSEUDONYM_KEY, "DS1"))) as connection:
        assert connection.execute(guarded.sql, guarded.values).fetchone()
        with pytest.raises(sqlite3.DatabaseError, match=r"not authorized|prohibited"):
            connection.execute(sql).fetchall()


def test_small_groups_and_cells_are_left_out_and_the_rest_rounded(database: Path) -> None:
    """Groups under ten are not there, a count of everybody is blank, the others go to the nearest five."""
    duties = Obligations(min_cell_count=10, round_to=5)
    with closing(sqlite3.connect(database)) as connection:
        groups = dict(connection.execute("SELECT URN_SPR19, count(*) FROM SC_Pupil GROUP BY 1").fetchall())
        (urn,) = [urn for urn, size in groups.items() if size == min(groups.values())][:1]
    have = run_guarded(
        "SELECT URN_SPR19, COUNT(*) FROM SC_Pupil GROUP BY URN_SPR19", database, obligations=duties
    )
    alone = run_guarded(
        f"SELECT COUNT(*), COUNT(IDACIRank_SPR19) FROM SC_Pupil WHERE URN_SPR19 = {urn}",  # noqa: S608
        database,
        obligations=duties,
    )

    assert dict(have) == {urn: (size + 2) // 5 * 5 for urn, size in groups.items() if size >= 10}
    assert 0 < len(have) < len(groups)
    assert alone == [(None, None)]


def test_a_cell_about_few_pupils_is_blank_in_a_large_group(database: Path, tmp_path: Path) -> None:
    """A count of three pupils who have a value is suppressed among hundreds who have none."""
    sparse = change(
        database,
        tmp_path / "sparse.db",
        "UPDATE SC_Pupil SET IDACIRank_SPR19 = NULL WHERE rowid > 3",
    )
    duties = Obligations(min_cell_count=10)

    have = run_guarded("SELECT COUNT(*), COUNT(IDACIRank_SPR19) FROM SC_Pupil", sparse, obligations=duties)

    assert have == [(600, None)]


def test_a_small_number_of_different_values_is_blank(database: Path) -> None:
    """That hundreds of pupils share two values, or one, would tell about a pupil added to the filter."""
    sql = "SELECT COUNT(DISTINCT Gender_SPR19), COUNT(DISTINCT URN_SPR19) FROM SC_Pupil"
    ((two, schools),) = run_guarded(sql, database)

    assert two == 2
    assert isinstance(schools, int)
    assert schools > 10
    assert run_guarded(sql, database, obligations=Obligations(min_cell_count=10)) == [(None, schools)]


@pytest.mark.parametrize("case", CASES["attacks"], ids=lambda case: case["name"])
def test_an_attack_on_counts_is_refused(case: dict[str, str], database: Path) -> None:
    """Even when every field is released, nothing of it runs."""
    with pytest.raises(Refused) as caught:
        run_guarded(case["sql"], database, obligations=Obligations(min_cell_count=10, round_to=5))

    assert case["says"] in str(caught.value)


@pytest.mark.parametrize("sql", COUNTS)
def test_no_count_is_under_the_minimum_or_unrounded(sql: str, database: Path) -> None:
    """Each cell of every count in the vectors is blank, or a multiple of five that is ten or more."""
    duties = Obligations(min_cell_count=10, round_to=5)
    plain = sql.partition(" ORDER BY ")[0]
    kinds = [output.kind for output in fields_of(plain, SCHEMA).outputs]

    cells = [
        cell
        for row in run_guarded(plain, database, obligations=duties)
        for kind, cell in zip(kinds, row, strict=True)
        if kind is Kind.AGGREGATE
    ]

    assert cells
    assert all(cell is None or (isinstance(cell, int) and cell >= 10 and cell % 5 == 0) for cell in cells)


def test_a_count_counts_each_pupil_once(database: Path, tmp_path: Path) -> None:
    """Three rows of a pupil weigh as one, alone and in a join."""
    copies = "INSERT INTO Exclusions_0506_on SELECT * FROM Exclusions_0506_on"
    tripled = change(
        database, tmp_path / "tripled.db", f"{copies} WHERE rowid <= 7", f"{copies} WHERE rowid <= 7"
    )
    joined = (
        "SELECT COUNT(*), COUNT(k.KS4_ATT8), COUNT(e.Reason_ex19) FROM KS4 k LEFT JOIN Exclusions_0506_on e "
        "ON e.PupilMatchingRefAnonymous_ex19 = k.KS4_PupilMatchingRefAnonymous"
    )
    alone = "SELECT COUNT(*), COUNT(Reason_ex19) FROM Exclusions_0506_on"
    with closing(sqlite3.connect(database)) as connection:
        once = {sql: connection.execute(sql).fetchall() for sql in (joined, alone)}
    with closing(sqlite3.connect(tripled)) as connection:
        rows = {sql: connection.execute(sql).fetchall() for sql in (joined, alone)}

    for sql in (joined, alone):
        assert run_guarded(sql, tripled) == run_guarded(sql, database) == once[sql] != rows[sql]


def test_small_groups_are_not_there_whatever_is_shown(database: Path) -> None:
    """A row of blanks would say that there is a small group, and how many there are."""
    sql = "SELECT URN_SPR19 AS school, COUNT(SENprovision_SPR19) FROM SC_Pupil GROUP BY URN_SPR19"
    have = run_guarded(sql, database, obligations=Obligations(min_cell_count=10))

    assert 0 < len(have) < len(run_guarded(sql, database))
    assert all(isinstance(cell, int) and cell >= 10 for _, cell in have)
