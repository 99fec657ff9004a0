"""The synthetic database is the same each time, large enough, and about nobody."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from policyd.demo.cast import SETTINGS, registry_text, sealed_pupil
from policyd.demo.synthetic import AUTHORITIES, PUPILS, make_database
from policyd.demo.tables import SCHEMA
from policyd.policy.source import read_text


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_the_same_seed_gives_the_same_pupils(tmp_path: Path) -> None:
    """Two databases of one seed are equal row by row, one of another seed is not."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_database(tmp_path / name, pupils=200, seed=seed)

    assert dump(tmp_path / "a") == dump(tmp_path / "b") != dump(tmp_path / "c")


def test_it_holds_ten_thousand_pupils_in_at_least_six_tables(tmp_path: Path) -> None:
    """Every table has the rows that were reported, every pupil is in the census once."""
    counts = make_database(tmp_path / "npd.db")
    with closing(sqlite3.connect(tmp_path / "npd.db")) as connection:
        held = {
            table.name: connection.execute(
                f'SELECT count(*), count(DISTINCT "{table.pupil}") FROM "{table.name}"'  # noqa: S608
            ).fetchone()
            for table in SCHEMA.tables
        }

    assert len(counts) >= 6
    assert counts["SC_Pupil"] == PUPILS >= 10_000
    assert held == {name: (rows, rows) for name, rows in counts.items()}
    assert min(counts.values()) > 20


def test_shares_are_plausible(database: Path) -> None:
    """Free meals, support for special needs and absence lie where schools have them, roughly."""
    with closing(sqlite3.connect(database)) as connection:
        poor, needs = connection.execute(
            "SELECT avg(FSMeligible_SPR19), avg(SENprovision_SPR19 <> 'N') FROM SC_Pupil"
        ).fetchone()
        (absence,) = connection.execute(
            "SELECT 1.0 * sum(OverallAbsence_Annual_ab19) / sum(SessionsPossible_Annual_ab19) FROM Absence"
        ).fetchone()
        rich, lacking = (
            connection.execute("SELECT avg(KS4_ATT8) FROM KS4 WHERE KS4_FSM6 = ?", (flag,)).fetchone()[0]
            for flag in (0, 1)
        )

    assert 0.10 < poor < 0.22
    assert 0.10 < needs < 0.20
    assert 0.03 < absence < 0.08
    assert rich > lacking


def test_no_pupil_number_is_anyones(database: Path) -> None:
    """The check letter of every number is wrong (weights 2 to 13, modulo 23)."""
    letters = "ABCDEFGHJKLMNPQRTUVWXYZ"
    with closing(sqlite3.connect(database)) as connection:
        numbers = [upn for (upn,) in connection.execute("SELECT UPN_SPR19 FROM SC_Pupil")]

    for upn in numbers:
        right = letters[sum(int(digit) * weight for weight, digit in enumerate(upn[1:], start=2)) % 23]
        assert upn[0] != right


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    """A second run on the same path says so."""
    (tmp_path / "npd.db").write_text("mine", "utf-8")

    with pytest.raises(FileExistsError, match="is there already"):
        make_database(tmp_path / "npd.db")


def test_the_registry_is_strict_yaml_with_a_seal_for_every_service(database: Path) -> None:
    """Dates are filled in, and the sealed pupil appears only as one token for each data service."""
    keys = {service: service.encode() for service in SETTINGS}
    text = registry_text(now=1_772_000_000_000, database=database, seal_keys=keys)
    reference, _ = sealed_pupil(database)
    top = read_text(text, "registry.yaml").value
    assert isinstance(top, dict)
    seals = top["seals"].value
    assert isinstance(seals, tuple)
    assert isinstance(seals[0].value, dict)
    tokens = seals[0].value["tokens"].value
    assert isinstance(tokens, dict)

    assert "$" not in text
    assert reference not in text
    assert set(tokens) == set(SETTINGS)
    assert len({token.value for token in tokens.values()}) == len(SETTINGS)
    assert sum(share for _, share, _ in AUTHORITIES) == 100
