"""The catalogue: fields with their classes, and intended purposes level by level."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.tiny_policy import load_files, tiny_files

from policyd.fieldset import positions
from policyd.policy.policyset import PolicySet

_INTENDED = yaml.safe_load(
    (Path(__file__).parents[2] / "vectors" / "decision" / "intended.yaml").read_text(encoding="utf-8")
)


def load(directory: Path, table: dict[str, Any], defaults: dict[str, Any]) -> PolicySet:
    files = tiny_files()
    files["catalogue/Pupil.yaml"] = json.dumps(table)
    files["catalogue/defaults.yaml"] = json.dumps(defaults)
    files["rules/rules.yaml"] = "[]"
    return load_files(directory, files)


def purposes_of(policy: PolicySet, field: str, masks: tuple[int, ...]) -> set[str]:
    position = policy.index.position(field)
    assert position is not None
    return {name for name, mask in zip(policy.graph.ids, masks, strict=True) if mask >> position & 1}


@pytest.mark.parametrize("case", _INTENDED, ids=lambda case: case["why"])
def test_intended_purposes_combine_level_by_level(case: dict[str, Any], tmp_path: Path) -> None:
    """Catalogue, class, table, section and field: permitted by all that speak, prohibited by any."""
    field = {
        "name": "X",
        "label": "x",
        "identification_risk": 5,
        "sensitivity": ["E"],
        **case.get("field", {}),
    }
    table = {"table": "Pupil", "label": "x", "level": "pupil", "fields": [field], **case.get("table", {})}

    policy = load(tmp_path, table, case.get("defaults", {}))

    assert purposes_of(policy, "Pupil.X", policy.full) == set(case.get("full", []))
    assert purposes_of(policy, "Pupil.X", policy.conditional) == set(case.get("conditional", []))
    assert purposes_of(policy, "Pupil.X", policy.prohibited) == set(case.get("prohibited", []))


def test_the_three_sets_of_a_purpose_share_no_field(tmp_path: Path) -> None:
    """A field is full, conditional or prohibited for a purpose, or none of them."""
    policy = load_files(tmp_path, tiny_files())
    for full, conditional, prohibited in zip(policy.full, policy.conditional, policy.prohibited, strict=True):
        assert not full & conditional
        assert not (full | conditional) & prohibited


def test_classes_are_masks_of_their_fields(tmp_path: Path) -> None:
    """Risks partition the catalogue, letters overlap, and withdrawn fields stay in it."""
    policy = load_files(tmp_path, tiny_files())
    names = policy.index.names

    assert sum(policy.classes.risk) == policy.index.all
    assert names(policy.classes.risk[1]) == ("Pupil.Name",)
    assert names(policy.classes.sensitivity["D"]) == ("Pupil.Ethnicity", "Pupil.Nationality")
    assert names(policy.classes.sensitivity["A"]) == ("Pupil.Secret",)
    assert names(policy.classes.withdrawn) == ("Pupil.Nationality",)
    for field, position in zip(policy.fields, positions(policy.index.all), strict=True):
        assert policy.index.ids[position] == field.id
        letters = {letter for letter, mask in policy.classes.sensitivity.items() if mask >> position & 1}
        assert letters == field.sensitivity
        assert policy.classes.risk[field.identification_risk] >> position & 1
