"""Check answers of the demo against the whole database, which only the holder of the data can do."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from policyd.demo.cast import sealed_pupil
from policyd.demo.dataservice import Answer
from policyd.demo.scenarios import Proof
from policyd.demo.transforms import round_half_up

_OWN = "301"
_YEAR = "2018/2019"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, in one line, and whether it holds."""

    holds: bool
    line: str


def check(proof: Proof, answer: Answer, database: Path) -> tuple[Finding, ...]:
    """Return what the whole database says about an answer."""
    if proof is Proof.NONE:
        return ()
    with closing(sqlite3.connect(database)) as connection:
        match proof:
            case Proof.OWN_AUTHORITY:
                return _own_authority(answer, connection)
            case Proof.SEALED_ROWS:
                return _sealed_rows(answer, connection, *sealed_pupil(database))
            case Proof.SEALED_COUNTS:
                return _sealed_counts(answer, connection, *sealed_pupil(database))


def _own_authority(answer: Answer, connection: sqlite3.Connection) -> tuple[Finding, ...]:
    held = Counter(
        authority
        for (authority,) in connection.execute(
            "SELECT LA_LGR_SPR19 FROM SC_Pupil WHERE SENprovision_SPR19 = 'E'"
        )
    )
    theirs = {row[answer.labels.index("LA_LGR_SPR19")] for row in answer.rows}
    return (
        Finding(
            theirs == {_OWN} and len(answer.rows) == held[_OWN],
            f"{sum(held.values())} pupils match in all authorities, {held[_OWN]} in authority {_OWN}: "
            f"{len(answer.rows)} came back, all of {', '.join(sorted(map(str, theirs)))}",
        ),
    )


def _sealed_rows(
    answer: Answer, connection: sqlite3.Connection, sealed: str, school: int
) -> tuple[Finding, ...]:
    scores = Counter(
        dict(
            connection.execute(
                """
                SELECT KS4_ATT8, count(*) FROM KS4
                JOIN SC_Pupil ON PupilMatchingRefAnonymous_SPR19 = KS4_PupilMatchingRefAnonymous
                WHERE URN_SPR19 = ? AND KS4_ACADYR = ? GROUP BY KS4_ATT8
                """,
                (school, _YEAR),
            ).fetchall()
        )
    )
    (missing,) = connection.execute(
        "SELECT KS4_ATT8 FROM KS4 WHERE KS4_PupilMatchingRefAnonymous = ?", (sealed,)
    ).fetchone()
    came = Counter(row[answer.labels.index("KS4_ATT8")] for row in answer.rows)
    return (
        Finding(
            scores - came == Counter({missing: 1}) and not came - scores,
            f"the database holds {scores.total()} of these rows, {came.total()} came back; "
            "the one that is missing is the sealed pupil's",
        ),
    )


def _sealed_counts(
    answer: Answer, connection: sqlite3.Connection, sealed: str, school: int
) -> tuple[Finding, ...]:
    duties = answer.decision.obligations
    least, base = duties.min_cell_count or 1, duties.round_to
    groups = connection.execute(
        """
        SELECT EthnicGroupMajor_SPR19, count(*), sum(PupilMatchingRefAnonymous_SPR19 = ?) FROM SC_Pupil
        WHERE URN_SPR19 = ? GROUP BY EthnicGroupMajor_SPR19
        """,
        (sealed, school),
    ).fetchall()
    without = {group: held - hidden for group, held, hidden in groups}
    want = {
        group: pupils if base is None else round_half_up(pupils, base)
        for group, pupils in without.items()
        if pupils >= least
    }
    ((group, held),) = [(group, held) for group, held, hidden in groups if hidden]
    shown = {row[0]: row[1] for row in answer.rows}
    return (
        Finding(
            shown == want,
            f"group {group}: the database holds {held}, without the sealed pupil {without[group]}; "
            f"shown: {shown.get(group, 'left out')!s}",
        ),
        Finding(
            len(shown) + answer.suppressed == len(groups),
            f"{len(groups)} groups in the database, {answer.suppressed} of them under {least} and left out",
        ),
    )
