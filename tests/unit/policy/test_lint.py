"""Each lint check finds what it is for, and no other check reports the same fault (docs/lint.md)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from support.tiny_policy import Files, load_files, tiny_files

from policyd.policy.lint import CHECKS, EDUCATION, NEVER_EDUCATION, Finding, Severity, lint
from policyd.policy.load import load_policy_set

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "lint.md"
PURPOSE = "    context: {$.purpose: {condition: Equals, value: academic}}\n"
RISK = "    resource: {$.identification_risk: {condition: Lte, value: 1}}\n"


def rule(uid: str, *, why: str, effect: str = "allow", target: str, conditions: str, grant: str) -> str:
    """Return the text of one rule."""
    lines = [f"- uid: {uid}", f"  why: {why}", f"  effect: {effect}", f"  targets: {{resource_id: {target}}}"]
    text = "\n".join(lines) + f"\n  rules:{' {}' if not conditions else ''}\n{conditions}"
    return text + (f"  grant: {grant}\n" if effect == "allow" else "")


def _replace(files: Files, name: str, old: str, new: str) -> None:
    assert old in files[name]
    files[name] = files[name].replace(old, new)


def plant_excluded(files: Files) -> None:
    _replace(
        files,
        "purposes.yaml",
        "  marketing: {label: Marketing, parents: [any]}\n",
        f"  {EDUCATION}: {{label: Education, parents: [any]}}\n"
        f"  marketing: {{label: Marketing, parents: [{EDUCATION}]}}\n",
    )


def plant_silent(files: Files) -> None:
    _replace(files, "catalogue/defaults.yaml", "allowed: [any], ", "")


def plant_ungrantable(files: Files) -> None:
    files["rules/more.yaml"] = rule(
        "x10", why="Opens it.", target="Pupil.Secret", conditions=PURPOSE, grant="release"
    )


def plant_dead(files: Files) -> None:
    files["rules/more.yaml"] = rule(
        "x20", why="Opens it.", target="School.*", conditions=RISK + PURPOSE, grant="release"
    )


def plant_no_purpose(files: Files) -> None:
    files["rules/more.yaml"] = rule(
        "x30", why="Opens it.", target="School.Size", conditions="", grant="{round: {to: 5}}"
    )


def plant_identifiers(files: Files) -> None:
    files["rules/more.yaml"] = rule(
        "x40", why="Opens it.", target="Pupil.Upn", conditions=PURPOSE, grant="release"
    )


def plant_copied(files: Files) -> None:
    files["rules/more.yaml"] = rule(
        "x50",
        why="suspended  People get nothing.",
        effect="deny",
        target="School.Size",
        conditions=PURPOSE,
        grant="",
    )


def plant_contradiction(files: Files) -> None:
    files["catalogue/School.yaml"] += (
        "  - {name: Score, label: Score, identification_risk: 4, sensitivity: [C]}\n"
    )


PLANTED = {
    "excluded-below-education": plant_excluded,
    "silent-field": plant_silent,
    "grants-the-ungrantable": plant_ungrantable,
    "dead-rule": plant_dead,
    "allow-without-purpose": plant_no_purpose,
    "identifiers-anywhere": plant_identifiers,
    "copied-why": plant_copied,
    "class-contradiction": plant_contradiction,
}


def findings_of(directory: Path, files: Files) -> Counter[tuple[str, str]]:
    return Counter((each.check, each.message) for each in lint(load_files(directory, files)))


def test_every_check_has_a_planted_fault() -> None:
    """A new check comes with the fault that it finds."""
    assert PLANTED.keys() == CHECKS.keys()


@pytest.mark.parametrize("check", PLANTED)
def test_a_planted_fault_is_found_by_its_check_alone(tmp_path: Path, check: str) -> None:
    """What is new against the policy set without the fault is reported by one check."""
    files = tiny_files()
    before = findings_of(tmp_path / "before", files)

    PLANTED[check](files)
    new = findings_of(tmp_path / "after", files) - before

    assert {found for found, _ in new} == {check}


@pytest.mark.parametrize("name", NEVER_EDUCATION)
def test_no_excluded_purpose_may_lie_below_education(tmp_path: Path, name: str) -> None:
    """Each of the purposes of domain item 17, and also where it lies further down."""
    files = tiny_files()
    own = f"  {name}: {{label: It, parents: [any]}}\n"
    text = re.sub(rf"^  {name}: .*\n", "", files["purposes.yaml"], flags=re.MULTILINE)
    middle = f"  {EDUCATION}: {{label: E, parents: [any]}}\n  middle: {{label: M, parents: [{EDUCATION}]}}\n"
    files["purposes.yaml"] = text + middle + own.replace("[any]", "[any, middle]")

    found = [each for each in lint(load_files(tmp_path, files)) if each.check == "excluded-below-education"]

    assert [f"`{name}`" in each.message for each in found if f"`{name}`" in each.message] == [True]
    assert {each.severity for each in found} == {Severity.ERROR}


def test_a_rule_for_the_department_may_allow_what_never_leaves(tmp_path: Path) -> None:
    """Sensitivity A is for use inside; a rule bound to the kind of organisation is no mistake."""
    inside = (
        "    subject: {$.organisation.kind: {condition: Equals, value: department}}\n"
        "    context: {$.purpose: {condition: Equals, value: academic}}\n"
    )
    files = tiny_files()
    files["rules/more.yaml"] = rule(
        "x10", why="Opens it.", target="Pupil.Secret", conditions=inside, grant="release"
    )

    assert "grants-the-ungrantable" not in {each.check for each in lint(load_files(tmp_path, files))}


def test_errors_come_before_warnings_and_each_has_a_place(tmp_path: Path) -> None:
    """The order is severity, then place; a finding prints as place, severity, message and check."""
    files = tiny_files()
    for plant in PLANTED.values():
        if plant is not plant_ungrantable:
            before = files.pop("rules/more.yaml", "")
            plant(files)
            files["rules/more.yaml"] = before + files.get("rules/more.yaml", "")
    found = lint(load_files(tmp_path, files))

    ranks = [(each.severity is not Severity.ERROR, each.place, each.check) for each in found]
    assert ranks == sorted(ranks)
    assert len({each.severity for each in found}) == 2
    for each in found:
        place = f"{each.place.file}:{each.place.line}:{each.place.column}"
        assert str(each) == f"{place}: {each.severity}: {each.message} [{each.check}]"


def test_the_shipped_policy_set_has_no_error() -> None:
    """policies/npd may have warnings, each of which its authors have looked at, and no errors."""
    found = lint(load_policy_set(ROOT / "policies" / "npd"))

    assert [str(each) for each in found if each.severity is Severity.ERROR] == []


def test_the_page_explains_every_check_with_its_severity(tmp_path: Path) -> None:
    """docs/lint.md has a section for each check id, in the order of the code."""
    sections = re.findall(r"^### `([a-z-]+)` \((error|warning)\)$", PAGE.read_text("utf-8"), re.MULTILINE)
    files = tiny_files()
    severities: dict[str, Severity] = {}
    for number, (check, plant) in enumerate(PLANTED.items()):
        changed = dict(files)
        plant(changed)
        for each in _of(check, lint(load_files(tmp_path / str(number), changed))):
            severities[check] = each.severity

    assert [name for name, _ in sections] == list(CHECKS)
    assert {name: Severity(word) for name, word in sections} == severities


def _of(check: str, found: list[Finding]) -> list[Finding]:
    return [each for each in found if each.check == check]


def test_a_purpose_that_is_only_compared_with_an_attribute_is_not_named(tmp_path: Path) -> None:
    """`$.purpose_within` includes `$.purpose` whatever the purpose is; only a constant narrows a rule."""
    files = tiny_files()
    files["rules/more.yaml"] = (
        rule("x90", why="Sizes are for all.", target="School.Size", conditions="", grant="release")
        + "  where: {context: {$.purpose_within: {condition: Includes, attribute: $.purpose}}}\n"
    )

    found = lint(load_files(tmp_path, files))

    assert [each.check for each in found if "`x90`" in each.message] == ["allow-without-purpose"]
