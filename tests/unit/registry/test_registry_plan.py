"""A plan says what a change would do, entry by entry and member by member."""

from __future__ import annotations

from dataclasses import replace

from policyd.clock import parse_instant
from policyd.model import Organisation, Registry, Requester, Seal, Status
from policyd.registry.state import Effect, merge, plan, render

AT = parse_instant("2026-03-01T10:00:00Z")
SCHOOL = Organisation("org-school-1", "school", False, Status.ACTIVE, "School 1", parse_instant("2026-01-10"))
PERSON = Requester("researcher-1", "org-school-1", "policyd-dev", "r1", Status.ACTIVE, frozenset({"a", "b"}))
BASE = Registry(organisations={SCHOOL.id: SCHOOL}, requesters={PERSON.id: PERSON})

DIFF = """\
+ organisation org-b
    kind         press
    commercial   true
    status       active
    legal_name   B
    verified_at  2026-03-01T10:00:00Z
~ organisation org-school-1
    status      active -> suspended
    changed_at  none -> 2026-03-01T10:00:00Z
1 added, 1 changed, 1 unchanged
"""


def test_a_plan_reads_like_a_diff() -> None:
    """Added entries list what they state, changed ones each step, unchanged ones are only counted."""
    changes = Registry(
        organisations={
            SCHOOL.id: replace(SCHOOL, status=Status.SUSPENDED, changed_at=AT),
            "org-b": Organisation("org-b", "press", True, Status.ACTIVE, "B", AT),
        },
        requesters={PERSON.id: PERSON},
    )

    assert f"{render(plan(BASE, changes))}\n" == DIFF


def test_a_set_shows_what_leaves_and_what_comes() -> None:
    """Of a long list only the difference is shown; before and after stay to be had whole."""
    changed = replace(PERSON, roles=frozenset({"b", "c"}))

    (difference,) = plan(BASE, Registry(requesters={PERSON.id: changed}))

    (member,) = difference.members
    assert (member.before, member.after, member.step) == ("[a, b]", "[b, c]", "- [a] + [c]")


def test_a_long_set_is_cut_short() -> None:
    """An entry with hundreds of values does not fill the screen."""
    many = replace(PERSON, id="researcher-2", subject="r2", roles=frozenset(f"role-{n}" for n in range(400)))

    (difference,) = plan(BASE, Registry(requesters={many.id: many}))

    assert "and 394 more]" in difference.members[-1].step


def test_a_plan_never_shows_a_seal_token() -> None:
    """The services of a seal are shown, the tokens are not, and a changed token is a change all the same."""
    seal = Seal("SEAL-1", (("npd-secure", b"\x5a" * 32),))
    other = Seal("SEAL-1", (("npd-secure", b"\xa5" * 32),))

    added = plan(BASE, Registry(seals={seal.id: seal}))
    changed = plan(merge(BASE, Registry(seals={seal.id: seal})), Registry(seals={seal.id: other}))

    assert (added[0].effect, changed[0].effect) == (Effect.ADDED, Effect.CHANGED)
    text = render(added) + render(changed) + repr(added) + repr(changed)
    assert "npd-secure" in text
    assert "5a5a" not in text
    assert "a5a5" not in text


def test_a_plan_of_what_is_there_changes_nothing() -> None:
    """Applying the registry to itself is all unchanged."""
    assert {difference.effect for difference in plan(BASE, BASE)} == {Effect.UNCHANGED}


def test_a_plan_tells_what_merging_does() -> None:
    """After the merge, a second plan of the same changes has nothing left to do."""
    changes = Registry(organisations={SCHOOL.id: replace(SCHOOL, legal_name="School One")})

    assert plan(BASE, changes)[0].effect is Effect.CHANGED
    assert plan(merge(BASE, changes), changes)[0].effect is Effect.UNCHANGED


def test_a_plan_shows_what_a_terminal_would_obey() -> None:
    """A name that could clear the screen or start a line of its own is shown spelled out."""
    evil = replace(SCHOOL, id="org\x1b[2J", legal_name="A\n= nothing else", kind="\x1b[1A")

    told = render(plan(Registry(), Registry(organisations={evil.id: evil})))

    assert "\x1b" not in told
    assert r"+ organisation 'org\x1b[2J'" in told
    assert r"'A\n= nothing else'" in told
    assert len(told.splitlines()) == 7
