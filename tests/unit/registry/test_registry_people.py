"""Requesters and their identities stay in step, whatever is put, replaced and taken out."""

from __future__ import annotations

import random

from policyd.model import Requester, Status
from policyd.registry.people import Requesters

SEED = 20261124


def test_holders_are_all_who_go_by_an_identity() -> None:
    """Over random changes, the index says what going through everybody says, also for earlier maps."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)  # noqa: S311  # seeded test data
    have, kept = Requesters(), []
    for _ in range(60):
        edit = have.edit()
        for _ in range(chance.randrange(6)):
            name = f"researcher-{chance.randrange(12)}"
            if chance.random() < 0.3:
                edit.pop(name, None)
            else:
                subject = f"subject-{chance.randrange(8)}"
                edit[name] = Requester(name, "uni", f"issuer-{chance.randrange(2)}", subject, Status.ACTIVE)
        have = edit.done()
        kept.append((have, dict(have)))
    for made, people in kept:
        assert dict(made) == people
        for issuer in ("issuer-0", "issuer-1"):
            for subject in (f"subject-{number}" for number in range(9)):
                who = [
                    name
                    for name, each in sorted(people.items())
                    if (each.issuer, each.subject) == (issuer, subject)
                ]
                assert made.holders(issuer, subject) == tuple(who)
        assert Requesters(people).holders("issuer-0", "subject-0") == made.holders("issuer-0", "subject-0")
    assert have.edit().done() is have
