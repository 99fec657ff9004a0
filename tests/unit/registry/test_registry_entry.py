"""Entries in storage: one form each, and no other is read."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from policyd.canonical import canonical_json
from policyd.clock import parse_instant
from policyd.model import (
    Accreditation,
    AccreditationLevel,
    Action,
    Agreement,
    DataService,
    Organisation,
    Registry,
    Requester,
    Seal,
    Status,
)
from policyd.registry.entry import from_dict, to_dict

AT = parse_instant("2026-03-01T10:00:00Z")
FULL = Registry(
    organisations={
        "o": Organisation(
            "o", "local-authority", False, Status.ACTIVE, "O", AT, AT + 1, frozenset({"302", "301"})
        ),
        "p": Organisation("p", "school", True, Status.SUSPENDED, "P \u00e9", AT),
    },
    requesters={"r": Requester("r", "o", "i", "s", Status.ACTIVE, frozenset({"b", "a"}))},
    accreditations={
        "a": Accreditation(
            "a", "r", "o", "s", AccreditationLevel.PROVISIONAL, AT, AT + 9, Status.ACTIVE, "x", "q"
        ),
    },
    data_services={"d": DataService("d", "spiffe://policyd.test/d", "o", "secure", Status.ACTIVE)},
    agreements={
        "g": Agreement(
            id="g",
            organisation="o",
            requesters=frozenset({"r"}),
            data_services=frozenset({"d"}),
            purposes=frozenset({"p"}),
            fields=frozenset({"T.b", "T.a", "U.c"}),
            years=frozenset({2019, 2018}),
            setting="secure",
            actions=frozenset({Action.VERIFY, Action.COUNT}),
            gateway="G",
            scheme="none",
            from_at=AT,
            until_at=AT + 2,
            destroy_by=AT + 3,
            status=Status.ACTIVE,
            table_years=(("T", frozenset({2018})), ("U", frozenset({2001, 2000}))),
            basis="art-6-1-e",
            project_accredited=True,
        )
    },
    seals={"S": Seal("S", (("d", b"\x01" * 32), ("e", b"\x02" * 32)))},
)


def test_every_entry_comes_back_as_it_was() -> None:
    """Written and read through canonical JSON, a registry with every member in use is the same."""
    assert from_dict(json.loads(canonical_json(to_dict(FULL)))) == FULL


def test_sets_are_written_sorted_and_defaults_not_at_all() -> None:
    """Equal registries give equal bytes, whatever order they were made in."""
    have: Any = to_dict(FULL)

    assert have["organisations"]["o"]["local_authorities"] == ["301", "302"]
    assert "changed_at" not in have["organisations"]["p"]
    assert have["agreements"]["g"]["table_years"] == {"T": [2018], "U": [2000, 2001]}
    assert "article9" not in have["agreements"]["g"]
    assert to_dict(Registry()) == {}


EDITS: list[tuple[list[str], object, str]] = [
    (["organisations"], [], "organisations: must be a mapping"),
    (["people"], {}, "unknown section `people`"),
    (["organisations", "o"], [], "organisation `o`: must be a mapping"),
    (["organisations", "o", "kind"], None, "organisation `o`: kind: has another type"),
    (["organisations", "o", "commercial"], 0, "organisation `o`: commercial: has another type"),
    (["organisations", "o", "verified_at"], True, "organisation `o`: verified_at: has another type"),
    (["organisations", "o", "verified_at"], 1 << 52, "verified_at: is before 1900 or after 9999"),
    (["organisations", "o", "verified_at"], "2026-01-01", "verified_at: has another type"),
    (["organisations", "o", "changed_at"], None, "changed_at: has another type"),
    (["organisations", "o", "status"], "Active", "status: unknown word"),
    (["organisations", "o", "id"], "o", "unknown member `id`"),
    (["organisations", "o", "note"], "x", "unknown member `note`"),
    (["organisations", "o", "local_authorities"], ["302", "301"], "not in canonical form"),
    (["organisations", "o", "local_authorities"], ["301", "301"], "not in canonical form"),
    (["organisations", "o", "local_authorities"], [], "not in canonical form"),
    (["organisations", "o", "local_authorities"], "301", "local_authorities: must be a list"),
    (["organisations", "o", "local_authorities"], [301], "local_authorities: has another type"),
    (["accreditations", "a", "supervisor"], 1, "supervisor: has another type"),
    (["accreditations", "a", "level"], "half", "level: unknown word"),
    (["agreements", "g", "actions"], ["peek"], "actions: unknown word"),
    (["agreements", "g", "years"], ["2018"], "years: has another type"),
    (["agreements", "g", "years"], [True], "years: has another type"),
    (["agreements", "g", "years"], [1 << 53], r"years: is beyond 2\*\*53 - 1"),
    (["agreements", "g", "years"], [-(1 << 53)], r"years: is beyond 2\*\*53 - 1"),
    (["agreements", "g", "years"], 2018, "years: must be a list"),
    (["agreements", "g", "organisation"], 7, "organisation: has another type"),
    (["agreements", "g", "table_years"], [["T", [2018]]], "table_years: must be a mapping"),
    (["agreements", "g", "table_years"], {"T": [2019, 2018]}, "not in canonical form"),
    (["agreements", "g", "basis"], "none", "not in canonical form"),
    (["agreements", "g", "project_accredited"], False, "not in canonical form"),
    (["seals", "S", "tokens"], {"d": "zz"}, "non-hexadecimal"),
    (["seals", "S", "tokens"], {"d": "AB"}, "not in canonical form"),
    (["seals", "S", "tokens"], {"d": "a b"}, "hexadecimal"),
    (["seals", "S", "tokens"], {"d": 7}, "tokens: has another type"),
]


@pytest.mark.parametrize(("path", "value", "message"), EDITS)
def test_another_form_is_refused(path: list[str], value: object, message: str) -> None:
    """A member of another type or spelling is named, and the whole registry refused."""
    edited: Any = json.loads(canonical_json(to_dict(FULL)))
    place = edited
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    with pytest.raises(ValueError, match=message):
        from_dict(edited)


def test_a_member_that_is_lost_is_missed_or_was_optional() -> None:
    """With any member removed the entry is refused, or is one that says less."""
    whole: Any = json.loads(canonical_json(to_dict(FULL)))
    optional = set()
    for section, entries in whole.items():
        for id_, members in entries.items():
            for name in members:
                edited = json.loads(json.dumps(whole))
                del edited[section][id_][name]
                try:
                    from_dict(edited)
                    optional.add(name)
                except ValueError as error:
                    assert f"member `{name}` is missing" in str(error)  # noqa: PT017  # also not raising is right

    assert optional == {
        *(
            "changed_at",
            "local_authorities",
            "roles",
            "supervisor",
            "table_years",
            "basis",
            "project_accredited",
        )
    }


def test_random_values_are_refused_and_never_crash() -> None:
    """Values of any JSON shape in any place give ValueError or the registry that they spell, nothing else."""
    seed = 20260301
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311  # seeded test data
    values: list[object] = [
        None,
        True,
        0,
        -1,
        1 << 53,
        "",
        "x",
        "301",
        [],
        {},
        [[]],
        {"a": {}},
        {"a": None},
        ["a", 1],
    ]
    for _ in range(3000):
        edited: Any = json.loads(canonical_json(to_dict(FULL)))
        place, depth = edited, chance.randrange(1, 4)
        for _ in range(depth - 1):
            place = place[chance.choice(sorted(place))]
        place[chance.choice(sorted(place))] = chance.choice(values)
        try:
            assert to_dict(from_dict(edited)) == {key: entries for key, entries in edited.items() if entries}
        except ValueError:
            continue
