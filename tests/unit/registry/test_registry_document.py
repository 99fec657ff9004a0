"""Registry files: what is read, and every mistake with its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from policyd.clock import parse_instant
from policyd.errors import SourceError
from policyd.model import (
    AccreditationLevel,
    Action,
    Organisation,
    Registry,
    Status,
)
from policyd.registry.check import add_years, check
from policyd.registry.document import read_registry, read_registry_text
from policyd.registry.state import merge

TOKEN = "5a" * 32
VECTORS = Path(__file__).parents[2] / "vectors" / "registry"
GOOD = (VECTORS / "good.yaml").read_text(encoding="utf-8")
MISTAKES: list[dict[str, str]] = yaml.safe_load((VECTORS / "mistakes.yaml").read_text(encoding="utf-8"))


def _problems(text: str, *, base: Registry | None = None) -> list[str]:
    with pytest.raises(SourceError) as caught:
        read_registry_text(text, "r.yaml", base=base)
    return [str(problem) for problem in caught.value.problems]


def _edited(old: str, new: str) -> str:
    assert GOOD.count(old) >= 1, old
    return GOOD.replace(old, new, 1)


def _place(text: str, fragment: str) -> str:
    """Return where `fragment` first stands in `text`, as messages write it."""
    before = text[: text.index(fragment)]
    return f"r.yaml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def test_a_file_gives_its_entries() -> None:
    """Every member of every kind of entry is read into the model."""
    have = read_registry_text(GOOD, "r.yaml")

    university, authority = have.organisations["org-university-1"], have.organisations["org-authority-1"]
    assert university.changed_at == parse_instant("2026-02-01T09:30:00Z")
    assert (authority.status, authority.local_authorities) == (Status.SUSPENDED, frozenset({"301", "302"}))
    assert (have.requesters["researcher-1"].issuer, have.requesters["researcher-1"].subject) == (
        "policyd-dev",
        "r1",
    )
    assert have.accreditations["ACC-1"].level is AccreditationLevel.PROVISIONAL
    assert have.accreditations["ACC-1"].supervisor == "researcher-9"
    assert have.accreditations["ACC-9"].until_at == parse_instant("2029-03-01")
    assert have.data_services["npd-direct"].setting == "direct-supply"
    agreement = have.agreements["DS00101"]
    assert agreement.years == set(range(2015, 2020))
    assert agreement.table_years == (("KS4", frozenset({2018})),)
    assert agreement.actions == {Action.RELEASE, Action.COUNT}
    assert (agreement.project_accredited, agreement.compatibility, agreement.exemption) == (
        True,
        "none",
        "none",
    )
    assert have.seals["SEAL-1"].tokens == (("npd-direct", b"\xa5" * 32), ("npd-secure", b"\x5a" * 32))


def test_the_documented_example_is_read(tmp_path: Path) -> None:
    """What docs/registry.md shows loads, once its comments' examples are made to agree with each other."""
    docs = Path(__file__).parents[3] / "docs" / "registry.md"
    block = re.search(r"```yaml\n(.*?)```", docs.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    lines = block[1].replace("<64 hex digits>", TOKEN).splitlines()
    example = "\n".join(
        line for line in lines if "local_authorities" not in line and "supervisor: " not in line
    )
    department = Organisation("org-department", "department", False, Status.ACTIVE, "The Department", 0)

    have = read_registry_text(example, "example", base=Registry(organisations={"org-department": department}))

    assert set(have.agreements) == {"DS00101"}


def test_an_empty_section_and_a_missing_one_are_alike() -> None:
    """A file may name as little as one entry, or none."""
    assert read_registry_text("organisations: []", "r.yaml") == Registry()


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case["says"])
def test_a_mistake_is_reported_where_it_stands(case: dict[str, str]) -> None:
    """Each mistake gives a message at the very word, saying what is wrong and what would be right."""
    text = _edited(case["edit"], case["to"])

    problems = _problems(text)

    want = f"{_place(text, case['at'])}: "
    assert any(problem.startswith(want) and case["says"] in problem for problem in problems), problems


def test_every_mistake_of_a_file_is_reported_at_once() -> None:
    """Several mistakes in several entries come in one error, in the order of the file."""
    text = GOOD.replace("kind: department", "kind: ministry").replace("level: full", "level: half")
    text = text.replace("[release, count]", "[peek]").replace("2027-12-31", "2027-13-31")

    problems = _problems(text)

    assert len(problems) == 4
    assert [
        word in problem for word, problem in zip(("ministry", "half", "peek", "13"), problems, strict=True)
    ]
    lines = [int(problem.split(":")[1]) for problem in problems]
    assert lines == sorted(lines)


def test_a_message_about_a_seal_never_shows_its_token() -> None:
    """A token that is one digit short is not repeated in the error."""
    assert TOKEN[:20] not in "".join(_problems(_edited(TOKEN, TOKEN[:-1])))


def test_references_may_lead_to_what_is_registered_already() -> None:
    """A file that names one agreement is checked against the registry that it will be merged into."""
    base = read_registry_text(GOOD, "r.yaml")
    start, end = GOOD.index("agreements:"), GOOD.index("seals:")
    alone = GOOD[start:end].replace("DS00101", "DS00102")

    assert set(read_registry_text(alone, "r.yaml", base=base).agreements) == {"DS00102"}
    assert "unknown organisation `org-university-1`" in _problems(alone)[0]


def test_an_entry_may_be_replaced_but_not_doubled_by_another_id() -> None:
    """The person who is registered keeps their identity; under another id it is refused."""
    base = read_registry_text(GOOD, "r.yaml")
    again = "requesters:\n  - {id: ID, organisation: org-university-1, status: suspended, identity: {issuer: policyd-dev, subject: r1}}\n"  # noqa: E501  # one line on purpose

    assert read_registry_text(again.replace("ID", "researcher-1"), "r.yaml", base=base).requesters
    assert (
        "requester `researcher-1` has this issuer"
        in _problems(again.replace("ID", "researcher-2"), base=base)[0]
    )


def test_the_same_subject_of_another_issuer_is_another_person() -> None:
    """A subject means something only together with its issuer."""
    text = _edited("issuer: policyd-dev, subject: r9", "issuer: other, subject: r1")

    assert len(read_registry_text(text, "r.yaml").requesters) == 2


def test_a_file_is_named_as_the_caller_calls_it(tmp_path: Path) -> None:
    """Messages carry the name given, by default the path."""
    path = tmp_path / "registry.yaml"
    path.write_text("organisations: 7\n", encoding="utf-8")

    with pytest.raises(SourceError, match=r"^shown\.yaml:1:16: must be a list"):
        read_registry(path, name="shown.yaml")
    with pytest.raises(SourceError, match=re.escape(f"{path}:1:16: ")):
        read_registry(path)
    with pytest.raises(SourceError, match="cannot be read"):
        read_registry(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    "text", ["[]", "7", "null", '""', "organisations: {}", "organisations: [7]", "seals: null"]
)
def test_another_shape_is_a_mistake_and_never_a_crash(text: str) -> None:
    """A file of the wrong shape is reported like any other mistake."""
    assert all(problem.startswith("r.yaml:1:") for problem in _problems(text))


def test_a_lost_line_is_a_mistake_or_leaves_less() -> None:
    """With any one line removed, the file is refused, or its entries still hold together."""
    lines = GOOD.splitlines(keepends=True)
    refused = 0
    for number in range(len(lines)):
        text = "".join(lines[:number] + lines[number + 1 :])
        try:
            entries = read_registry_text(text, "r.yaml")
        except SourceError:
            refused += 1
            continue
        assert check(entries) == []
    assert refused > len(lines) / 2


@pytest.mark.parametrize(
    ("start", "years", "want"),
    [
        ("2024-01-01", 5, "2029-01-01"),
        ("2024-02-29", 5, "2029-03-01"),
        ("2024-02-29", 3, "2027-03-01"),
        ("2024-02-29", 4, "2028-02-29"),
        ("2023-02-28", 5, "2028-02-28"),
        ("2025-06-30T10:11:12Z", 3, "2028-06-30T10:11:12Z"),
        ("9998-01-01", 5, "9999-01-01"),
    ],
)
def test_years_are_counted_on_the_calendar(start: str, years: int, want: str) -> None:
    """An accreditation ends on the same day of the calendar; one from 29 February on 1 March."""
    assert add_years(parse_instant(start), years) == parse_instant(want)


def test_merging_a_file_leaves_everything_else() -> None:
    """A merge adds and replaces by id, and removes nothing."""
    base = read_registry_text(GOOD, "r.yaml")
    changes = Registry(
        organisations={"org-x": Organisation("org-x", "press", True, Status.ACTIVE, "X", 0)},
    )
    before = dict(base.organisations)

    have = merge(base, changes)

    assert have.organisations == {**before, **changes.organisations}
    assert have.agreements == base.agreements
    assert base.organisations == before
