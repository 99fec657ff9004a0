"""Make a synthetic pupil database: invented pupils in tables and columns that really exist.

The same seed gives the same database. All figures are plausible, none is official. No value can be
anyone's: postcode areas are unallocated, pupil numbers carry a wrong check letter, names are numbers.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from policyd.demo.tables import CENSUS_YEAR, SCHEMA

PUPILS = 10_000
SEED = 20190117  # the day of the spring census 2019

AUTHORITIES: tuple[tuple[str, int, str], ...] = (
    ("301", 16, "ZA"),
    ("330", 24, "ZB"),
    ("352", 18, "ZC"),
    ("383", 14, "ZD"),
    ("850", 12, "ZE"),
    ("873", 9, "ZF"),
    ("908", 7, "ZG"),
)
"""Local authority code, share of pupils in percent, postcode area."""

_SCHOOLS_EACH = 6
_UPN_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"

ETHNICITIES: tuple[tuple[str, str, float], ...] = (
    ("WBRI", "WHIT", 64.0),
    ("WOTH", "WHIT", 7.0),
    ("WROM", "WHIT", 0.3),
    ("APKN", "ASIA", 4.5),
    ("AIND", "ASIA", 3.3),
    ("ABAN", "ASIA", 1.8),
    ("AOTH", "ASIA", 1.9),
    ("BAFR", "BLAC", 3.9),
    ("BCRB", "BLAC", 1.1),
    ("MOTH", "MIXD", 6.2),
    ("CHNE", "CHIN", 0.5),
    ("OOTH", "AOEG", 2.0),
    ("NOBT", "UNCL", 3.5),
)
"""Ethnic group, major group, share in percent."""

SEN_TYPES: tuple[tuple[str, float], ...] = (
    ("SPLD", 16),
    ("MLD", 22),
    ("SEMH", 19),
    ("SLCN", 24),
    ("ASD", 12),
    ("PD", 7),
)
NEEDS: tuple[tuple[str, float], ...] = (
    ("N1", 54),
    ("N2", 9),
    ("N3", 3),
    ("N4", 9),
    ("N5", 15),
    ("N6", 4),
    ("N7", 2),
    ("N8", 4),
)
REASONS: tuple[tuple[str, float], ...] = (
    ("DB", 32),
    ("PP", 18),
    ("PA", 7),
    ("VA", 17),
    ("DM", 3),
    ("OT", 23),
)


@dataclass(frozen=True, slots=True)
class _Pupil:
    """What the tables have in common about one invented child; ``ability`` is a standard normal score."""

    number: int
    reference: str
    upn: str
    born: str
    school_year: int
    gender: str
    ethnicity: tuple[str, str]
    language: str
    poor: bool
    sen: str
    sen_type: str | None
    rank: int
    authority: str
    urn: int
    postcode: str
    ability: float


def make_database(path: Path, *, pupils: int = PUPILS, seed: int = SEED) -> dict[str, int]:
    """Write a database to a new file and return the number of rows of each table.

    Takes about a second for 10,000 pupils.

    Raises:
        FileExistsError: the file is there already.
    """
    if path.exists():
        raise FileExistsError(f"`{path}` is there already; remove it or name another file")
    rng = random.Random(seed)  # noqa: S311  (the same invented pupils each time, no secrets)
    people = [_make_pupil(rng, number) for number in range(1, pupils + 1)]
    makers = {
        "SC_Pupil": _census,
        "SC_Addresses": _addresses,
        "KS2": _key_stage_2,
        "KS4": _key_stage_4,
        "Absence": _absence,
        "Exclusions_0506_on": _exclusions,
        "CIN": _in_need,
        "CLA": _looked_after,
    }
    counts = {}
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for table in SCHEMA.tables:
            columns = ", ".join(f'"{column}"' for column in table.columns)
            connection.execute(f'CREATE TABLE "{table.name}" ({columns})')
            rows = list(makers[table.name](rng, people))
            marks = ", ".join("?" * len(table.columns))
            connection.executemany(f'INSERT INTO "{table.name}" VALUES ({marks})', rows)  # noqa: S608  (constants)
            connection.execute(f'CREATE INDEX "{table.name}_pupil" ON "{table.name}" ("{table.pupil}")')
            counts[table.name] = len(rows)
        connection.commit()
    return counts


def _pick(rng: random.Random, shares: Sequence[tuple[str, float]]) -> str:
    return rng.choices([value for value, _ in shares], [share for _, share in shares])[0]


def _make_pupil(rng: random.Random, number: int) -> _Pupil:
    place = rng.choices(range(len(AUTHORITIES)), [share for _, share, _ in AUTHORITIES])[0]
    authority, _, area = AUTHORITIES[place]
    age = rng.randint(4, 17)
    # ages count on 31 August before the school year
    born = date(CENSUS_YEAR - age, 8, 31) - timedelta(days=rng.randrange(365))
    group = rng.choices(ETHNICITIES, [share for _, _, share in ETHNICITIES])[0]
    poor = rng.random() < 0.16
    sen = _pick(rng, (("N", 85.1), ("K", 11.8), ("E", 3.1)))
    other_language = rng.random() < (0.07 if group[0] == "WBRI" else 0.45)
    serial = f"{rng.randrange(10**12):012d}"
    # remainder of the weighted digits names the check letter; the next one is wrong for this number
    remainder = sum(int(digit) * weight for weight, digit in enumerate(serial, start=2)) % len(_UPN_LETTERS)
    return _Pupil(
        number=number,
        reference=f"{rng.getrandbits(64):016X}",
        upn=_UPN_LETTERS[(remainder + 1) % len(_UPN_LETTERS)] + serial,
        born=born.isoformat(),
        school_year=age - 4,
        gender=rng.choice("FM"),
        ethnicity=(group[0], group[1]),
        language="2_OTH" if other_language else "1_ENG",
        poor=poor,
        sen=sen,
        sen_type=None if sen == "N" else _pick(rng, SEN_TYPES),
        rank=max(1, min(32844, int(rng.triangular(1, 32844, 4000 if poor else 20000)))),
        authority=authority,
        urn=900000 + place * 100 + (0 if age < 11 else 50) + rng.randrange(_SCHOOLS_EACH),
        postcode=f"{area}{rng.randint(1, 9)} {rng.randint(1, 9)}{''.join(rng.choices('ABDEFGHJLN', k=2))}",
        ability=rng.gauss(-0.35 if poor else 0.07, 1) - {"N": 0.0, "K": 0.6, "E": 1.2}[sen],
    )


Rows = Iterator[tuple[object, ...]]


def _census(_: random.Random, pupils: Sequence[_Pupil]) -> Rows:
    for p in pupils:
        yield (
            p.reference,
            p.upn,
            f"Surname {p.number}",
            f"Forename {p.number}",
            p.born,
            p.school_year + 4,
            p.gender,
            *p.ethnicity,
            p.language,
            int(p.poor),
            int(p.poor or p.number % 13 == 0),
            p.sen,
            p.sen_type,
            p.rank,
            p.postcode,
            p.authority,
            p.urn,
            "R" if p.school_year == 0 else str(p.school_year),
            None,  # collected 2016 to 2018, destroyed 2020
        )


def _addresses(rng: random.Random, pupils: Sequence[_Pupil]) -> Rows:
    for p in pupils:
        flat = f"Flat {rng.randint(1, 40)}" if rng.random() < 0.2 else None
        yield p.reference, p.postcode, 900_000_000_000 + rng.randrange(10**8), flat, str(rng.randint(1, 180))


def _academic_year(first: int) -> str:
    return f"{first}/{first + 1}"


def _key_stage_2(rng: random.Random, pupils: Sequence[_Pupil]) -> Rows:
    for p in pupils:
        taken = CENSUS_YEAR - (p.school_year - 6)
        if p.school_year < 6 or taken < 2015:  # scaled scores began in 2015/16
            continue
        scores = [max(80, min(120, round(104.5 + 7 * p.ability + rng.gauss(0, 3)))) for _ in range(3)]
        yield p.reference, _academic_year(taken), *scores, int(min(scores) >= 100), p.authority, p.urn


def _key_stage_4(rng: random.Random, pupils: Sequence[_Pupil]) -> Rows:
    for p in pupils:
        if p.school_year < 11:
            continue
        attainment = max(0.0, min(90.0, round(2 * (46.5 + 17 * p.ability + rng.gauss(0, 6))) / 2))
        progress = round(max(-4.0, min(3.0, 0.5 * p.ability + rng.gauss(0, 0.9))), 2)
        yield (
            p.reference,
            _academic_year(CENSUS_YEAR - (p.school_year - 11)),
            p.born,
            p.gender,
            int(p.poor),
            attainment,
            progress,
            int(attainment >= 42),
            p.authority,
            p.urn,
        )


def _absence(rng: random.Random, pupils: Sequence[_Pupil]) -> Rows:
    for p in pupils:
        if not 1 <= p.school_year <= 11:
            continue
        possible = rng.randint(300, 380)
        authorised = min(possible, int(rng.expovariate(1 / (16 if p.poor else 10))))
        unauthorised = min(possible - authorised, int(rng.expovariate(1 / (9 if p.poor else 3))))
        yield p.reference, p.authority, p.urn, possible, authorised, unauthorised, authorised + unauthorised


def _exclusions(rng: random.Random, pupils: Sequence[_Pupil]) -> Rows:
    for p in pupils:
        chance = 0.01 if p.school_year < 7 else 0.06
        if rng.random() >= chance * (2.2 if p.poor else 0.8):
            continue
        permanent = rng.random() < 0.02
        times = 1 + int(rng.expovariate(1 / 1.2))
        yield (
            p.reference,
            p.authority,
            "PERM" if permanent else "FIXD",
            _pick(rng, REASONS),
            times,
            sum(rng.choice((1, 2, 2, 4, 6, 10)) for _ in range(times)),
            int(permanent),
        )


def _in_need(rng: random.Random, pupils: Sequence[_Pupil]) -> Rows:
    for p in pupils:
        if rng.random() < (0.09 if p.poor else 0.025):
            yield (
                p.reference,
                _academic_year(CENSUS_YEAR),
                p.authority,
                p.upn,
                f"{p.authority}-{rng.randrange(10**6):06d}",
                p.born,
                p.gender,
                _pick(rng, NEEDS),
                int(rng.random() < 0.13),
                p.postcode,
            )


def _looked_after(rng: random.Random, pupils: Sequence[_Pupil]) -> Rows:
    for p in pupils:
        if rng.random() < (0.02 if p.poor else 0.005):
            placement = _pick(rng, (("U4", 55), ("U1", 17), ("K2", 11), ("P1", 7), ("A5", 10)))
            yield p.reference, p.authority, p.upn, p.gender, p.school_year + 4, _pick(rng, NEEDS), placement
