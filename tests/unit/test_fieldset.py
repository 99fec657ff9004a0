"""Fields as bits, and names resolved to exactly one of them (tests/vectors/fieldset)."""

from __future__ import annotations

import csv
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd import fieldset
from policyd.fieldset import FieldIndex, NameClash, academic_year, pattern_problem, positions
from policyd.policy.load import load_policy_set

_VECTORS = Path(__file__).parents[1] / "vectors" / "fieldset"
_RESOLVE = yaml.safe_load((_VECTORS / "resolve.yaml").read_text(encoding="utf-8"))
_REFUSED = yaml.safe_load((_VECTORS / "refused.yaml").read_text(encoding="utf-8"))
_REPOSITORY = Path(__file__).parents[2]
_FACTS = _REPOSITORY.parent / "shared" / "facts" / "npd_fields.csv"


def resolved(index: FieldIndex, name: str) -> list[Any] | None:
    column = index.resolve(name)
    return None if column is None else [index.ids[column.position], column.term, column.year]


@pytest.mark.parametrize("case", _RESOLVE["cases"], ids=lambda case: ascii(case["name"]))
def test_a_name_resolves_to_exactly_one_field_or_to_none(case: dict[str, Any]) -> None:
    """Each vector's name means its field, term and academic year, the second time as the first."""
    index = FieldIndex(_RESOLVE["fields"])

    assert resolved(index, case["name"]) == case["is"]
    assert resolved(index, case["name"]) == case["is"], "the memo gives another answer"


@pytest.mark.parametrize("case", _REFUSED, ids=lambda case: case["why"])
def test_a_catalogue_in_which_a_name_means_two_fields_has_no_index(case: dict[str, Any]) -> None:
    """What could make a name ambiguous, or never match, is refused when the index is built."""
    with pytest.raises(ValueError) as caught:
        FieldIndex(case["fields"])

    assert case["message"] in str(caught.value)


def test_a_clash_names_both_fields() -> None:
    """The error of an ambiguous name carries the two ids, so that a loader can point at them."""
    with pytest.raises(NameClash) as caught:
        FieldIndex({"A.X": ["Old"], "A.Y": ["OLD"]})

    assert {caught.value.first, caught.value.second} == {"A.X", "A.Y"}


def test_positions_depend_on_ids_and_not_on_their_order() -> None:
    """Two catalogues with the same fields in another order have the same positions."""
    names = {"b.Z": ["Z1"], "A.y": [], "A.X": ["X_[term][yy]"], "a.W": []}

    forward, backward = FieldIndex(names), FieldIndex(dict(reversed(names.items())))

    assert forward.ids == backward.ids == ("a.W", "A.X", "A.y", "b.Z")
    assert len(forward) == 4
    assert forward.all == 0b1111


def test_masks_and_names_are_inverse() -> None:
    """A mask gives back the ids that made it, in position order; unknown ids are named."""
    index = FieldIndex(_RESOLVE["fields"])

    mask, unknown = index.mask(["SC_Pupil.UPN", "No.Such", "absence.sessions", "SC_Pupil.UPN"])

    assert index.names(mask) == ("Absence.Sessions", "SC_Pupil.UPN")
    assert unknown == ("No.Such",)
    assert list(positions(mask)) == [index.position(name) for name in index.names(mask)]


@pytest.mark.parametrize(
    "name", ["UniquePupilNumber", "SC_Pupil.UniquePupilNumber", "SC_Pupil.UPN_SPR19", ""]
)
def test_a_column_is_no_field_id(name: str) -> None:
    """Agreements and targets name ids; a former name or a concrete column has no position."""
    assert FieldIndex(_RESOLVE["fields"]).position(name) is None


def test_an_id_that_only_folds_to_a_known_one_has_no_position() -> None:
    """The KELVIN SIGN becomes a k in lower case and still names nothing."""
    index = FieldIndex(_RESOLVE["fields"])

    assert index.position("KS4.KS4_ATT8") is not None
    assert index.position("\u212aS4.KS4_ATT8") is None
    assert index.mask(["\u212aS4.KS4_ATT8"]) == (0, ("\u212aS4.KS4_ATT8",))


def test_the_memo_is_bounded_and_keeps_no_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither spellings of a known name nor a flood of unknown ones fill the memory."""
    monkeypatch.setattr(fieldset, "_MEMO_LIMIT", 50)
    index = FieldIndex({"A.X": ["C_[n]_SPR[yy]"]})

    for number in range(1, 41):
        for year in range(10):
            assert index.resolve(f"A.C_{number}_SPR{year:02}") is not None
            assert index.resolve(f"A.unknown_{number}_{year}") is None
            assert len(index._memo) <= 50


def test_marks_of_lists_met_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of lists that never come again fills no memory, and one that does is still resolved alike."""
    monkeypatch.setattr(fieldset, "_MEMO_LIMIT", 50)
    index = FieldIndex({"A.X": ["C_[n]_SPR[yy]"]})
    lists = [(f"A.C_{number}_SPR{year:02}",) for number in range(1, 41) for year in range(5)]

    first = [index.resolve_all(names) for names in lists]
    for _ in range(3):
        assert [index.resolve_all(names) for names in lists] == first
        assert len(index._met) <= 50


def test_an_academic_year_is_named_by_its_first_calendar_year() -> None:
    """Autumn starts the year that it names; everything else ends it."""
    have = {
        (term, yy): academic_year(term, yy) for term in ("AUT", "aut", "SPR", "SUM", "") for yy in (0, 19, 99)
    }

    assert all(
        year == (1999 if yy == 99 else 2000 + yy) for (t, yy), year in have.items() if t.upper() == "AUT"
    )
    assert all(
        year == (1998 if yy == 99 else 1999 + yy) for (t, yy), year in have.items() if t.upper() != "AUT"
    )


def test_every_column_of_the_shipped_catalogue_resolves_to_its_own_field() -> None:
    """Each pattern of policies/npd, made concrete in each term and at both ends of [n], comes back."""
    policy = load_policy_set(_REPOSITORY / "policies" / "npd")
    tried = 0
    for field in policy.fields:
        for pattern in field.columns:
            for term in ("AUT", "SPR", "SUM"):
                for number in ("1", "40"):
                    for spelling in (str.upper, str.lower, str):
                        column = pattern.replace("[term]", term).replace("[n]", number).replace("[yy]", "19")
                        have = policy.index.resolve(f"{field.table}.{spelling(column)}")
                        assert have is not None, column
                        assert policy.index.ids[have.position] == field.id
                        assert have.year == (
                            (2019 if term == "AUT" else 2018) if "[term]" in pattern else have.year
                        )
                        assert bool(have.year) or "[yy]" not in pattern
                        tried += 1
    assert tried > 10_000


@pytest.mark.skipif(not _FACTS.exists(), reason="the table of published names is not here")
def test_every_published_name_is_a_pattern_that_resolves_to_itself() -> None:
    """The published names of one table, one field each, all come back, made concrete or as they are."""
    with _FACTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = {(row["table"], row["field"].lower()): row["field"] for row in rows}
    patterns = {key: name for key, name in names.items() if not pattern_problem(name)}
    fields = {f"T{number}.F{number}": [name] for number, name in enumerate(patterns.values())}
    index = FieldIndex(fields)
    for number, name in enumerate(patterns.values()):
        concrete = name.replace("[term]", "SUM").replace("[n]", "33").replace("[yy]", "07")
        column = index.resolve(f"T{number}.{concrete}")
        assert column is not None, name
        assert index.ids[column.position] == f"T{number}.F{number}"
    assert len(patterns) > 3_000
    odd = sorted(set(names.values()) - set(patterns.values()))
    print(f"{len(patterns)} names; not patterns as published: {odd}")
    assert len(odd) < 20


@pytest.mark.parametrize("limit", [0, 40, 100_000])
def test_a_list_resolves_as_its_names_do(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a list came before, and however little room there is to keep it."""
    monkeypatch.setattr(fieldset, "_LISTS_LIMIT", limit)
    index = FieldIndex(_RESOLVE["fields"])
    names = [case["name"] for case in _RESOLVE["cases"]]
    seed = 20_261_124
    print(f"seed {seed}")
    rng = random.Random(seed)  # noqa: S311  (cases, not secrets)
    lists = [tuple(rng.choices(names, k=size)) for size in (0, 1, 2, 5, 9, 30)]
    fields = [name for name in names if index.resolve(name) is not None]
    lists += [tuple(rng.choices(fields, k=size)) for size in (1, 3, 8, 20)]
    for asked in lists * 4:
        found = index.resolve_all(tuple(name[:1] + name[1:] for name in asked))

        columns = [(name, column) for name in asked if (column := index.resolve(name)) is not None]
        sheets: dict[fieldset.Sheet, int] = {}
        for _, column in columns:
            sheets[column.sheet] = sheets.get(column.sheet, 0) | column.bit
        assert found.columns == tuple(name for name, _ in columns)
        assert found.positions == tuple(column.position for _, column in columns)
        assert found.sheets == tuple(sorted(sheets.items()))
        assert found.unknown == tuple(name for name in asked if index.resolve(name) is None)
        assert found.repeats or len(set(asked)) == len(asked) or found.unknown
        assert index._lists_weight == sum(fieldset._weight(*each) for each in index._lists.items()) <= limit


def test_a_list_is_kept_when_it_comes_again_and_all_of_it_is_known() -> None:
    """The third time is a look-up; a list with a name that is no field is never kept."""
    index = FieldIndex({"T.a": (), "T.b": ()})
    for asked in (("T.a", "T.b"), ("T.a", "nobody-17")):
        for _ in range(3):
            index.resolve_all(asked)

    assert list(index._lists) == [("T.a", "T.b")]
    assert index.resolve_all(("T.a", "T.b")) is index._lists["T.a", "T.b"]


def test_threads_that_fill_the_same_index_leave_its_weight_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads keep and push out lists at once; what is kept still weighs what the index says."""
    monkeypatch.setattr(fieldset, "_LISTS_LIMIT", 200)
    index = FieldIndex({f"T.f{number}": () for number in range(30)})

    def ask(start: int) -> bool:
        lists = [tuple(f"T.f{(start + shift + at) % 30}" for at in range(5)) for shift in range(30)]
        return all(index.resolve_all(asked).columns == asked for _ in range(20) for asked in lists)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))

    assert index._lists
    assert index._lists_weight == sum(fieldset._weight(*each) for each in index._lists.items()) <= 200
