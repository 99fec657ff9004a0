"""A requester's standing: one record, the latest of the scheme; suspensions win; supervisors count."""

from __future__ import annotations

import pytest
from support import tiny_registry as tiny
from support.tiny_policy import load_tiny
from support.tiny_registry import NOW, SCHEME, accreditation, organisation, requester

from policyd.decision.accreditation import Standing, boundaries, standing
from policyd.decision.snapshot import Snapshot
from policyd.model import Accreditation, AccreditationLevel, AccreditationStatus, Requester, Status
from policyd.policy.policyset import PolicySet

FULL, PROVISIONAL = AccreditationLevel.FULL, AccreditationLevel.PROVISIONAL
LAPSED = AccreditationStatus.SUPERVISOR_LAPSED
VALID = AccreditationStatus.VALID


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return load_tiny(tmp_path_factory.mktemp("tiny"))


def standing_of(policy: PolicySet, *entries: object, now: int = NOW, scheme: str = SCHEME) -> Standing:
    snapshot = tiny.snapshot(policy, *entries)
    return standing(snapshot, snapshot.requesters_by_id["researcher-1"], scheme, now=now)


def test_without_a_record_of_the_scheme_there_is_no_standing(policy: PolicySet) -> None:
    """A record of another scheme, or one that has yet to start, is none."""
    assert standing_of(policy, scheme="other") == Standing(AccreditationStatus.NONE)
    assert standing_of(policy, scheme="none").status is AccreditationStatus.NONE
    assert standing_of(policy, accreditation(from_at=NOW + 1)).status is AccreditationStatus.NONE


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({}, VALID),
        ({"until_at": NOW}, AccreditationStatus.EXPIRED),
        ({"until_at": NOW + 1}, VALID),
        ({"from_at": NOW}, VALID),
        ({"status": Status.SUSPENDED}, AccreditationStatus.SUSPENDED),
        ({"organisation": "dept"}, AccreditationStatus.ORGANISATION_CHANGED),
        ({"organisation": "dept", "until_at": NOW}, AccreditationStatus.EXPIRED),
        ({"level": PROVISIONAL}, LAPSED),
    ],
)
def test_one_record_alone(changes: dict[str, object], want: AccreditationStatus, policy: PolicySet) -> None:
    """What each change of the record makes of it."""
    assert standing_of(policy, accreditation(**changes)).status is want


def test_the_latest_record_that_has_started_counts(policy: PolicySet) -> None:
    """An older record that would still be valid does not stand in for a later one that is not."""
    older = accreditation("ACC-0", from_at=NOW - 2000, until_at=NOW + 9000)
    later = accreditation("ACC-1", from_at=NOW - 1000, until_at=NOW - 500)
    future = accreditation("ACC-2", from_at=NOW + 1, until_at=NOW + 9000)

    assert standing_of(policy, older, later, future).record == later
    assert standing_of(policy, older, later, future).status is AccreditationStatus.EXPIRED
    assert standing_of(policy, older, later, future, now=NOW + 1).record == future
    assert standing_of(policy, later, older, future, now=NOW - 1001).record == older


@pytest.mark.parametrize(
    "suspended",
    [
        accreditation("ACC-9", status=Status.SUSPENDED, scheme="other"),
        accreditation("ACC-9", status=Status.SUSPENDED, from_at=NOW + 9, until_at=NOW + 99),
        accreditation("ACC-9", status=Status.SUSPENDED, from_at=0, until_at=1),
    ],
    ids=["of another scheme", "still to start", "long over"],
)
def test_an_open_suspension_wins_over_every_valid_record(suspended: Accreditation, policy: PolicySet) -> None:
    """Whatever scheme or time it is of, it is a suspension of the person."""
    found = standing_of(policy, suspended)

    assert found == Standing(AccreditationStatus.SUSPENDED, suspended)


def test_a_suspension_of_somebody_else_is_nothing(policy: PolicySet) -> None:
    """Records belong to one person."""
    other = accreditation("ACC-9", requester="researcher-2", status=Status.SUSPENDED)

    assert standing_of(policy, requester("researcher-2"), other).status is VALID


SUPERVISOR = requester("researcher-9")
OWN = accreditation("ACC-9", requester="researcher-9")
PUPIL = accreditation(level=PROVISIONAL, supervisor="researcher-9")


@pytest.mark.parametrize(
    ("supervisor", "own", "want"),
    [
        (SUPERVISOR, OWN, VALID),
        (requester("researcher-9", status=Status.SUSPENDED), OWN, LAPSED),
        (requester("researcher-9", organisation="dept"), OWN, LAPSED),
        (SUPERVISOR, accreditation("ACC-9", requester="researcher-9", until_at=NOW), LAPSED),
        (SUPERVISOR, accreditation("ACC-9", requester="researcher-9", from_at=NOW + 1), LAPSED),
        (SUPERVISOR, accreditation("ACC-9", requester="researcher-9", status=Status.SUSPENDED), LAPSED),
        (SUPERVISOR, accreditation("ACC-9", requester="researcher-9", organisation="dept"), LAPSED),
        (SUPERVISOR, accreditation("ACC-9", requester="researcher-9", scheme="other"), LAPSED),
        (SUPERVISOR, accreditation("ACC-9", requester="researcher-9", level=PROVISIONAL), LAPSED),
        (SUPERVISOR, accreditation("ACC-9", requester="researcher-8"), LAPSED),
        (requester("researcher-8"), OWN, LAPSED),
    ],
)
def test_the_provisional_stand_while_their_supervisor_does(
    supervisor: Requester, own: Accreditation, want: AccreditationStatus, policy: PolicySet
) -> None:
    """A supervisor is active, of the same organisation, and fully accredited in the same scheme, now."""
    assert standing_of(policy, PUPIL, supervisor, own).status is want


def test_nobody_supervises_himself(policy: PolicySet) -> None:
    """A provisional record that names its own person as supervisor has lapsed."""
    own = accreditation(level=PROVISIONAL, supervisor="researcher-1")

    assert standing_of(policy, own).status is LAPSED


@pytest.mark.parametrize("length", [2, 3, 50])
def test_a_circle_of_supervisors_ends(length: int, policy: PolicySet) -> None:
    """Provisional people who supervise each other in a circle are all lapsed, and the answer comes."""
    people = [requester(f"researcher-{number}") for number in range(1, length + 1)]
    circle = [
        accreditation(
            f"ACC-{number}",
            requester=f"researcher-{number}",
            level=PROVISIONAL,
            supervisor=f"researcher-{number % length + 1}",
        )
        for number in range(1, length + 1)
    ]

    assert standing_of(policy, *people, *circle).status is LAPSED


def test_a_provisional_supervisor_of_good_standing_is_none(policy: PolicySet) -> None:
    """Only the fully accredited supervise, even where the supervisor has a supervisor."""
    middle = accreditation("ACC-9", requester="researcher-9", level=PROVISIONAL, supervisor="researcher-8")
    top = accreditation("ACC-8", requester="researcher-8")

    found = standing_of(policy, PUPIL, SUPERVISOR, middle, requester("researcher-8"), top)

    assert found.status is LAPSED


def test_who_moved_keeps_no_standing_even_if_the_supervisor_moved_too(policy: PolicySet) -> None:
    """Accreditations are given within an organisation and stay there."""
    moved = [
        requester(organisation="dept"),
        requester("researcher-9", organisation="dept"),
        organisation("dept", kind="department"),
    ]

    assert standing_of(policy, *moved, PUPIL, OWN).status is AccreditationStatus.ORGANISATION_CHANGED


def _statuses(snapshot: Snapshot, instants: list[int]) -> list[AccreditationStatus]:
    person = snapshot.requesters_by_id["researcher-1"]
    return [standing(snapshot, person, SCHEME, now=instant).status for instant in instants]


def test_a_standing_changes_by_itself_only_at_its_boundaries(policy: PolicySet) -> None:
    """Between two neighbouring boundaries, of the person or the supervisor, the status is one."""
    own = accreditation("ACC-9", requester="researcher-9", from_at=NOW + 10, until_at=NOW + 20)
    pupil = accreditation(level=PROVISIONAL, supervisor="researcher-9", from_at=NOW, until_at=NOW + 30)
    snapshot = tiny.snapshot(policy, SUPERVISOR, own, pupil)
    person = snapshot.requesters_by_id["researcher-1"]

    found = _statuses(snapshot, list(range(NOW - 5, NOW + 40)))

    changes = {NOW - 5 + at for at in range(1, len(found)) if found[at] is not found[at - 1]}
    assert changes == {NOW, NOW + 10, NOW + 20, NOW + 30}
    assert changes <= set(boundaries(snapshot, person))
