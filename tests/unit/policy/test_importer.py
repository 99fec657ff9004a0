"""The importer turns published rows into catalogue files that load, and says where it had to choose."""

from __future__ import annotations

import csv
import random
import shutil
from pathlib import Path

import pytest

from policyd.errors import SourceError
from policyd.fieldset import FieldIndex
from policyd.policy.importer import (
    HEADER,
    ImportedField,
    ImportResult,
    Years,
    import_catalogue,
    render_table,
    write_catalogue,
)
from policyd.policy.load import load_policy_set
from policyd.policy.policyset import PolicySet

ROOT = Path(__file__).parents[3]
NPD = ROOT / "policies" / "npd"
PUBLISHED = ROOT.parent / "shared" / "facts" / "npd_fields.csv"

NO_NOTICE = """\
- uid: no-notice
  why: A rule that fits any catalogue.
  effect: deny
  rules: {context: {$.purpose_notice: {condition: IsIn, values: [false]}}}
"""

Cells = dict[str, str]


def cells(field: str, **others: str) -> Cells:
    """Return one published row of table KS9, ordinary unless told otherwise."""
    row = dict.fromkeys(HEADER, "")
    row.update(table="KS9", field=field, identification_risk="5", sensitivity="E")
    return row | others


def write_csv(path: Path, rows: list[Cells]) -> Path:
    """Write rows as the department would publish them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=HEADER)
        writer.writeheader()
        writer.writerows(rows)
    return path


def imported(tmp_path: Path, *rows: Cells) -> ImportResult:
    """Import rows."""
    return import_catalogue(write_csv(tmp_path / "published.csv", list(rows)))


def only_field(result: ImportResult) -> ImportedField:
    """Return the one field of a result."""
    ((field,),) = (table.fields for table in result.tables)
    return field


def problems_of(tmp_path: Path, *rows: Cells) -> str:
    """Import rows that must fail, and return what is said of them."""
    with pytest.raises(SourceError) as caught:
        imported(tmp_path, *rows)
    return str(caught.value)


def load_with(result: ImportResult, tmp_path: Path, *, rules: str = "") -> PolicySet:
    """Load the shipped policy set, or its purposes and other ``rules``, over an imported catalogue."""
    directory = tmp_path / "set"
    shutil.copytree(NPD, directory)
    if rules:
        shutil.rmtree(directory / "rules")
        (directory / "rules").mkdir()
        (directory / "rules" / "only.yaml").write_text(rules, encoding="utf-8")
        # The shipped defaults name tables that the rows of a small test lack.
        (directory / "catalogue" / "defaults.yaml").write_text("catalogue: {allowed: [npd]}\n", "utf-8")
    for path in (directory / "catalogue").glob("*.yaml"):
        if path.name != "defaults.yaml":
            path.unlink()
    write_catalogue(result, directory / "catalogue")
    return load_policy_set(directory)


@pytest.mark.parametrize(
    ("published", "name", "columns"),
    [
        ("Ethnicity_[term][yy]", "Ethnicity", ("Ethnicity_[term][yy]",)),
        ("PRU_UPN_SPR[yy]", "PRU_UPN", ("PRU_UPN_SPR[yy]",)),
        ("UPN_ab[yy]", "UPN", ("UPN_ab[yy]",)),
        ("Reason_[n]_ex[yy]", "Reason_n", ("Reason_[n]_ex[yy]",)),
        ("KS4_ATT8", "KS4_ATT8", ("KS4_ATT8",)),
        ("cla_LEGAL STATUS", "cla_LEGAL_STATUS", ("cla_LEGAL STATUS",)),
        ("cla.CLA_OC3", "cla_CLA_OC3", ("cla.CLA_OC3",)),
        ("LSOA11 _school_ab[yy]", "LSOA11_school", ("LSOA11 _school_ab[yy]",)),
        ("N/A:RecordID", "RecordID", ("N/A:RecordID",)),
        (
            "Boarder_[term][yy]\n\nBoarderInd_[term][yy] in 2001/02",
            "Boarder",
            ("Boarder_[term][yy]", "BoarderInd_[term][yy]"),
        ),
    ],
)
def test_published_names_become_ids_and_keep_their_patterns(
    tmp_path: Path, published: str, name: str, columns: tuple[str, ...]
) -> None:
    """Years leave the id, odd characters become underscores, former names in a cell become columns."""
    field = only_field(imported(tmp_path, cells(published)))

    assert (field.name, field.columns) == (name, columns)


def test_rows_of_one_table_and_name_merge_strictly_and_warn(tmp_path: Path) -> None:
    """The lowest risk, all letters, all sections, the widest years, and one warning that says why."""
    result = imported(
        tmp_path,
        cells("KS9_LA", section="Pupil", years="2010/11 -", default_or_by_request="default"),
        cells(
            "ks9_la",
            section="Exam",
            years="2005/06 - 2012/13",
            identification_risk="4",
            sensitivity="D",
            default_or_by_request="by request",
        ),
    )

    field = only_field(result)
    assert (field.identification_risk, field.sensitivity) == (4, ("D", "E"))
    assert (field.sections, field.by_request, field.years) == (("Exam", "Pupil"), True, Years(2005, None))
    assert (result.rows_read, result.fields_written, result.duplicates_merged) == (2, 1, 1)
    (warning,) = result.warnings
    assert "classes differ: 4D, 5E" in warning
    assert "published.csv:2" in warning


def test_rows_of_one_class_merge_without_a_warning(tmp_path: Path) -> None:
    """A duplicate that contradicts nothing is counted and not complained of."""
    result = imported(tmp_path, cells("KS9_UPN", section="Pupil"), cells("KS9_UPN", section="Exam"))

    assert (result.duplicates_merged, result.warnings) == (1, ())


@pytest.mark.parametrize(
    ("missing", "want"),
    [
        ({"identification_risk": ""}, (1, ("E",))),
        ({"sensitivity": ""}, (5, ("A",))),
        ({"identification_risk": "", "sensitivity": ""}, (1, ("A",))),
    ],
)
def test_a_missing_class_is_taken_as_the_strictest_and_said(
    tmp_path: Path, missing: Cells, want: tuple[int, tuple[str, ...]]
) -> None:
    """What nobody classified never leaves the department by accident."""
    result = imported(tmp_path, cells("KS9_COHORT", **missing))

    field = only_field(result)
    assert (field.identification_risk, field.sensitivity) == want
    (warning,) = result.warnings
    assert "no class is given" in warning


def test_a_duplicate_without_a_class_makes_the_field_strict(tmp_path: Path) -> None:
    """One row of two without a class counts like a row of the strictest class."""
    field = only_field(
        imported(tmp_path, cells("KS9_X"), cells("KS9_X", identification_risk="", sensitivity=""))
    )

    assert (field.identification_risk, field.sensitivity) == (1, ("A", "E"))


@pytest.mark.parametrize(
    ("years", "want", "warned"),
    [
        ("", Years(), False),
        ("2007/08 -", Years(2007, None), False),
        ("2006/07-", Years(2006, None), False),
        ("2005/2006 -", Years(2005, None), False),
        ("2008/2009 only", Years(2008, 2008), False),
        ("2010/11", Years(2010, 2010), False),
        ("2009/10 (A) - 2012/13", Years(2009, 2012), False),
        ("2003/04 - 2004/05, 2008/09 - 2012/13", Years(2003, 2012), True),
        ("2008/2009, 2012/2013 -", Years(2008, None), True),
        ("2001/02 2005/06 -", Years(2001, None), True),
        ("always", Years(), True),
    ],
)
def test_published_years_become_a_span(tmp_path: Path, years: str, want: Years, *, warned: bool) -> None:
    """Open, single and broken spans are read; what the span cannot say is warned of."""
    result = imported(tmp_path, cells("KS9_X", years=years))

    assert only_field(result).years == want
    assert bool(result.warnings) is warned


def test_two_names_that_come_to_one_id_get_suffixes_of_their_own(tmp_path: Path) -> None:
    """Ids stay unique ignoring case, and do not depend on which row came first."""
    rows = [cells("KS9_A b"), cells("KS9_A.B")]
    forward = imported(tmp_path, *rows)
    backward = imported(tmp_path, *reversed(rows))

    names = [field.name for field in forward.tables[0].fields]
    assert len({name.lower() for name in names}) == 2
    assert all(name.lower().startswith("ks9_a_b_") for name in names)
    assert forward.tables == backward.tables
    assert len(forward.warnings) == 2


def test_the_order_of_the_rows_changes_no_byte(tmp_path: Path) -> None:
    """Shuffled rows give the same files."""
    rows = [
        cells("Reason_[n]_ex[yy]", section="Each case", years="2005/06 -"),
        cells("Reason_ex[yy]", concept_group="Absence and exclusion > Exclusions"),
        cells("KS9_LA", section="Pupil"),
        cells("KS9_la", section="Exam", identification_risk="4"),
        cells("LA_[term][yy]", table="KS9_Schools"),
    ]
    want = [render_table(table) for table in imported(tmp_path, *rows).tables]
    for seed in range(20):
        shuffled = rows[:]
        random.Random(seed).shuffle(shuffled)  # noqa: S311  # the seed is in the message below

        have = [render_table(table) for table in imported(tmp_path, *shuffled).tables]

        assert have == want, f"seed {seed}"


def test_written_files_load_with_everything_that_was_imported(tmp_path: Path) -> None:
    """The strict loader reads back names, classes, columns, sections and withdrawal, odd characters too."""
    result = imported(
        tmp_path,
        cells('Say "no"', concept_group='Odd: # & "quoted" > No', section="Yes"),
        cells("n", table="y"),
        cells("Nationality", section="withdrawn", identification_risk="4", sensitivity="AD"),
        cells("LA_[term][yy]", table="KS9_Schools", years="2006/07 -", default_or_by_request="default"),
    )

    fields = {field.id: field for field in load_with(result, tmp_path, rules=NO_NOTICE).fields}

    assert set(fields) == {"KS9.Say_no", "KS9.Nationality", "y.n", "KS9_Schools.LA"}
    assert fields["KS9.Say_no"].columns == ('Say "no"',)
    assert fields["KS9.Say_no"].sections == {"Yes", "No"}
    assert fields["KS9.Say_no"].concept == 'Odd: # & "quoted" > No'
    assert fields["KS9.Nationality"].withdrawn
    assert fields["KS9.Nationality"].sensitivity == {"A", "D"}
    assert (fields["KS9_Schools.LA"].table_level, fields["KS9_Schools.LA"].by_request) == ("school", False)


def test_writing_leaves_other_files_alone(tmp_path: Path) -> None:
    """`defaults.yaml` belongs to the author; a second import writes the same bytes."""
    out = tmp_path / "catalogue"
    out.mkdir()
    (out / "defaults.yaml").write_text("catalogue: {allowed: [npd]}\n", encoding="utf-8")
    result = imported(tmp_path, cells("KS9_X"), cells("Y", table="CIN"))

    first = [path.read_bytes() for path in write_catalogue(result, out)]
    second = [path.read_bytes() for path in write_catalogue(result, out)]

    assert first == second
    assert sorted(path.name for path in out.iterdir()) == ["CIN.yaml", "KS9.yaml", "defaults.yaml"]
    assert (out / "defaults.yaml").read_text(encoding="utf-8") == "catalogue: {allowed: [npd]}\n"


def test_every_bad_row_is_reported_at_its_line(tmp_path: Path) -> None:
    """Lines count from 1 and include those inside quoted cells."""
    said = problems_of(
        tmp_path,
        cells("A_[term][yy]\nAInd_[term][yy] in 2001/02"),
        cells("KS9_X", identification_risk="6"),
        cells("KS9_Y", sensitivity="Z"),
        cells(""),
        cells("KS9_Z", table="no table"),
        cells("KS9_[q]"),
        cells("?"),
        cells("KS9_É"),
        cells("KS9_W", default_or_by_request="perhaps"),
    )

    lines = [line.split(": ", 1) for line in said.splitlines()]
    assert [place.rsplit(":", 2)[1] for place, _ in lines] == ["4", "5", "6", "7", "8", "9", "10", "11"]
    assert "identification_risk `6` is not 1 to 5" in said


@pytest.mark.parametrize("table", ["defaults", "Defaults", "", "../KS9"])
def test_a_table_cannot_name_another_file(tmp_path: Path, table: str) -> None:
    """The name of a table is the name of a file, so it is letters, digits and underscores."""
    assert "cannot be a table" in problems_of(tmp_path, cells("KS9_X", table=table))


def test_a_name_that_could_mean_two_fields_is_refused(tmp_path: Path) -> None:
    """A catalogue in which one column means two fields would not load, so none is made."""
    said = problems_of(tmp_path, cells("Reason_[n]_ex[yy]"), cells("Reason_7_ex[yy]"))

    assert "could mean" in said


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    """Missing columns, no rows, broken quotes, another encoding and an absent file each say what is wrong."""
    path = tmp_path / "published.csv"
    said = {}
    for case, content in {
        "columns": b"table,field\nKS9,X\n",
        "rows": (",".join(HEADER) + "\n").encode(),
        "cells": (",".join(HEADER) + "\nKS9,X\n").encode(),
        "quotes": (",".join(HEADER) + '\nKS9,"X\n').encode(),
        "encoding": b"\xff\xfe\x00",
    }.items():
        path.write_bytes(content)
        with pytest.raises(SourceError) as caught:
            import_catalogue(path)
        said[case] = str(caught.value)
    with pytest.raises(SourceError) as caught:
        import_catalogue(tmp_path / "absent.csv")
    said["absent"] = str(caught.value)

    assert "has no column `section`" in said["columns"]
    assert "holds no rows" in said["rows"]
    assert "more or fewer cells" in said["cells"]
    assert all("cannot be read as CSV" in said[case] for case in ("quotes", "encoding", "absent"))


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A file where the folder should be is a mistake of the user, not a crash."""
    (tmp_path / "out").write_text("", encoding="utf-8")
    result = imported(tmp_path, cells("KS9_X"))

    with pytest.raises(SourceError, match="cannot be written"):
        write_catalogue(result, tmp_path / "out")


@pytest.fixture(scope="module")
def published() -> ImportResult:
    """The published tables, where this checkout has them beside it."""
    if not PUBLISHED.is_file():
        pytest.skip("the published data tables (../shared/facts/npd_fields.csv) are not there")
    return import_catalogue(PUBLISHED)


def published_names() -> list[str]:
    """Return a concrete column for every published name and former name."""
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = []
    for row in rows:
        for line in row["field"].splitlines():
            pattern = line.removesuffix(" in 2001/02").strip()
            if pattern:
                concrete = pattern.replace("[term]", "SPR").replace("[yy]", "12").replace("[n]", "40")
                names.append(f"{row['table']}.{concrete}")
    return names


@pytest.mark.full
def test_the_published_tables_come_to_3802_fields(published: ImportResult) -> None:
    """3,838 rows, 36 of them duplicates; the two names whose published classes differ are warned of."""
    assert (published.rows_read, published.fields_written, published.duplicates_merged) == (3838, 3802, 36)
    differing = [warning for warning in published.warnings if "classes differ" in warning]
    assert [warning.split("`")[1] for warning in differing] == ["CIN.CIN_ACADYR", "KS4.KS4_LAESTAB"]


@pytest.mark.full
def test_every_published_name_resolves_to_one_imported_field(published: ImportResult) -> None:
    """No name is lost or doubled on the way: 3,840 names with the former ones, 3,802 fields."""
    index = FieldIndex(
        {f"{table.name}.{field.name}": field.columns for table in published.tables for field in table.fields}
    )

    columns = [index.resolve(name) for name in published_names()]

    assert len(columns) == 3840
    assert None not in columns
    assert len({column.position for column in columns if column}) == 3802


@pytest.mark.full
def test_the_shipped_rules_load_over_the_published_tables(published: ImportResult, tmp_path: Path) -> None:
    """The shipped rules fit the imported catalogue, and the shipped one agrees with it field by field."""
    everything = {field.id: field for field in load_with(published, tmp_path).fields}
    shipped = load_policy_set(NPD).fields

    assert len(everything) == 3802
    missing = {field.id for field in shipped if field.id not in everything}
    assert missing == {"CIN.CIN_LAchildID", "NCCIS.NCCIS_Cohort_Status"}
    for field in shipped:
        if field.id not in missing:
            other = everything[field.id]
            have = (field.identification_risk, field.sensitivity, set(field.columns), bool(field.withdrawn))
            want = (other.identification_risk, other.sensitivity, set(other.columns), bool(other.withdrawn))
            assert have == want, field.id
