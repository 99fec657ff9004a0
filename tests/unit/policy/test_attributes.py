"""The closed list of attributes, and the one form of path that names them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.tiny_policy import attributes

from policyd.policy.attributes import DERIVED, Part, Type, path_name, read_attributes
from policyd.policy.reader import Reader
from policyd.policy.source import read_text


def test_the_whole_list_reads_as_what_is_derived() -> None:
    """A file that lists every derived attribute gives exactly those, in any order."""
    reader = Reader()

    found = read_attributes(reader, read_text(attributes(), "attributes.yaml"))

    assert reader.problems == []
    assert found == {name: replace(each, source="registry") for name, each in DERIVED.items()}


def test_a_closed_list_of_values_is_the_authors() -> None:
    """`values` and `about` may be anything; they are kept for the check of conditions."""
    reader = Reader()
    text = attributes().replace("name: setting\n", "name: setting\n  values: [secure, open]\n")

    found = read_attributes(reader, read_text(text, "attributes.yaml"))

    assert reader.problems == []
    assert found["setting"].values == ("secure", "open")


def test_several_missing_attributes_are_named_together() -> None:
    """A file without two attributes says which."""
    reader = Reader()
    entries = attributes().split("- name: ")
    kept = "- name: ".join(each for each in entries if not each.startswith(("now\n", "roles\n")))

    read_attributes(reader, read_text(kept, "attributes.yaml"))

    assert [str(each) for each in reader.problems] == [
        "attributes.yaml:1:1: attributes are missing: now, roles"
    ]


def test_every_derived_attribute_has_a_path_of_its_own() -> None:
    """`$.` and the name is a path, and its name is the attribute's."""
    for name, attribute in DERIVED.items():
        assert attribute.name == name
        assert path_name(f"$.{name}") == name
        assert attribute.part in Part
        assert attribute.type in Type


@pytest.mark.parametrize(
    "path", ["", "$", "$.", "$.a.", "$..a", "a", "$.A", "$.a b", "$.a\n", "$.1a", "$.a[0]", "$.a-b"]
)
def test_anything_else_is_no_path(path: str) -> None:
    """Only `$.name(.name)*` in small letters, digits and `_`; tests/vectors/policy_errors has evil ones."""
    assert path_name(path) is None
