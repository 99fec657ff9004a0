"""Entries on the wire: each reads back as itself, and what is unknown is a mistake with a place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pbac.v1 import registry_pb2 as pb
from support.admin import sent

from policyd.errors import InvalidRequest
from policyd.model import Organisation, Registry, Seal, Status
from policyd.registry.document import read_registry
from policyd.registry.draft import Proposal, draft_change
from policyd.registry.entry import entries
from policyd.service.change_wire import read_change, write_change
from policyd.service.registry_wire import named_in, read_entries, write_entry

SHIPPED = Path(__file__).parents[3] / "policies" / "npd" / "tests" / "registry.yaml"


def test_every_entry_reads_back_as_itself() -> None:
    """The whole shipped registry over the wire and back is the same, in the same order."""
    registry = read_registry(SHIPPED)
    registry = replace(registry, seals={})

    again, problems = read_entries(sent(registry), base=None)
    checked, faults = read_entries(sent(registry), base=Registry())

    assert problems == faults == []
    assert again == checked == registry
    assert list(named_in(sent(registry))) == [(section.key, each.id) for section, each in entries(registry)]


def test_optional_parts_are_kept_apart_from_absent_ones() -> None:
    """A change of name that is known, a supervisor, and their absence, are told from each other."""
    registry = read_registry(SHIPPED)
    changed = [each for each in registry.organisations.values() if each.changed_at is not None]
    supervised = [each for each in registry.accreditations.values() if each.supervisor is not None]

    assert changed
    assert supervised
    for each in (*changed, *supervised):
        assert write_entry(each) == write_entry(replace(each))
    bare = replace(changed[0], changed_at=None)
    read, _ = read_entries([write_entry(bare)], base=None)
    assert read.organisations[bare.id] == bare != changed[0]


def test_a_date_outside_the_calendar_is_a_mistake() -> None:
    """Instants that no date stands for are told with their part; the largest and smallest do not break it."""
    for instant in (2**63 - 1, -(2**63), 253_402_300_800_000):
        entry = pb.Entry(organisation=pb.Organisation(id="org-1", verified_at_ms=instant))
        _, problems = read_entries([entry], base=Registry())
        assert "verified_at" in {each.part for each in problems}


def test_names_that_nobody_may_have_are_mistakes() -> None:
    """Ids with spaces, control characters or nothing at all are refused as in a file."""
    good = Organisation(
        "org-1", "university", commercial=False, status=Status.ACTIVE, legal_name="A", verified_at=1
    )
    for id_ in ("", " ", "Org 1", "org\n1", "x" * 64, "\u202eorg"):
        entry = write_entry(good)
        entry.organisation.id = id_
        _, problems = read_entries([entry], base=Registry())
        assert [(each.kind, each.part) for each in problems] == [(pb.ENTRY_KIND_ORGANISATION, "id")]


def test_a_seal_is_not_shown() -> None:
    """What names children under protection has no form among the entries."""
    with pytest.raises(ValueError, match="seals are not read here"):
        write_entry(Seal("SEAL-1", (("npd-secure", bytes(32)),)))


def test_a_signed_change_reads_back_as_itself() -> None:
    """Every part that was signed comes through; without them it is nobody's change."""
    content = replace(read_registry(SHIPPED), seals={})
    draft = draft_change(
        content, who="registrar-1", why="a reason", at=1_700_000_000_123, change_id="c1", planned_on=bytes(32)
    )

    assert read_change(write_change(Proposal(draft)), content) == Proposal(draft)
    with pytest.raises(InvalidRequest, match="cannot be recorded"):
        read_change(pb.Change(), content)
